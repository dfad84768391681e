//! ENVELOPE, BODYSTRUCTURE and first words of the ugly mails in `tests/golden/*.eml`, in `*.imap` beside them. `BLESS=1` rewrites
//! those; the difference is to be reviewed.

use gatepost::{
    imapd::summary::{self, Summary},
    proto::imap::cursor::Cursor,
};
use std::path::{Path, PathBuf};

#[test]
fn golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("BLESS").is_some();
    let mut mails: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    mails.retain(|path| path.extension().is_some_and(|e| e == "eml"));
    mails.sort();
    assert!(mails.len() >= 25, "golden mails are missing");
    let mut wrong = Vec::new();
    for mail in mails {
        let found = show(&crlf(&std::fs::read(&mail).unwrap()));
        let expected = mail.with_extension("imap");
        if bless {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}\n{}", mail.display(), String::from_utf8_lossy(&found)));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 would change:\n{}", wrong.join("\n"));
}

/// As the store shows a file: lone LF as CRLF.
fn crlf(file: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(file.len());
    for &b in file {
        if b == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(b);
    }
    out
}

fn show(mail: &[u8]) -> Vec<u8> {
    let made = summary::make(mail);
    let summary = Summary::read(&made).expect("just made");
    well_formed(summary.envelope);
    well_formed(summary.structure);
    [b"ENVELOPE ", summary.envelope, b"\nBODYSTRUCTURE ", summary.structure, b"\nPREVIEW ", summary.preview, b"\n"].concat()
}

/// Strings and parentheses in order: a client reads the rest of its session by them.
fn well_formed(text: &[u8]) {
    let (mut c, mut depth) = (Cursor::new(text), 0u32);
    while let Some(b) = c.peek() {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).expect("no more closed than opened"),
            b'"' | b'{' => {
                c.string("a string").expect("a whole string");
                continue;
            }
            _ => assert!(b == b' ' || b.is_ascii_alphanumeric(), "{b:#x} outside of a string"),
        }
        c.eat(b);
    }
    assert_eq!(depth, 0);
}
