//! Ugly mails in `tests/golden/*.eml` and what the walker makes of them in `*.structure`. `BLESS=1` rewrites the
//! latter; the difference is to be reviewed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gatepost::message::mime::wire_params;
use gatepost::message::{Listed, Part, Section, Shape, Structure, date, decode, header, search};

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
        let found = show(&std::fs::read(&mail).unwrap());
        let expected = mail.with_extension("structure");
        if bless {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}\n{found}", mail.display()));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 would change:\n{}", wrong.join("\n"));
}

/// The whole dump of a mail.
fn show(mail: &[u8]) -> String {
    let structure = Structure::scan(mail);
    let mut out = String::new();
    top(mail, &mut out);
    for (index, part) in structure.parts().iter().enumerate() {
        let number = number(&structure, index);
        check_sections(&structure, &number, part);
        let dotted: Vec<_> = number.iter().map(u32::to_string).collect();
        let dotted = if dotted.is_empty() { "-".to_owned() } else { dotted.join(".") };
        // Very deep ones would be all indentation.
        let indent = "  ".repeat(depth(&structure, part).min(10));
        show_part(mail, part, &dotted, &indent, &mut out);
    }
    out
}

/// What ENVELOPE would be made of.
fn top(mail: &[u8], out: &mut String) {
    for field in header::fields(mail) {
        let name = String::from_utf8_lossy(field.name()).to_ascii_lowercase();
        match name.as_str() {
            "from" | "sender" | "to" | "cc" | "bcc" | "reply-to" => {
                let _ = writeln!(out, "{name}:");
                for item in gatepost::message::header_addresses(field.value()) {
                    let _ = writeln!(out, "    {}", address(&item));
                }
            }
            "date" => {
                let moment = date::parse(field.value()).map_or("?".to_owned(), |d| format!("{} = {}", d.imap(), d.unix));
                let _ = writeln!(out, "date: {moment}");
            }
            "subject" => {
                let _ = writeln!(out, "subject: {}", decode::encoded_words(&header::unfold(field.value())).escape_debug());
            }
            _ => {
                let _ = writeln!(out, "{name} {:?}", field.whole);
            }
        }
    }
}

fn address(item: &Listed) -> String {
    let text = |octets: &[u8]| octets.escape_ascii().to_string();
    match item {
        Listed::GroupStart(name) => format!("group {}", text(name)),
        Listed::GroupEnd => "end of group".to_owned(),
        Listed::Mailbox(m) => {
            let name = m.name.as_deref().map_or("NIL".to_owned(), text);
            let route = m.adl.as_deref().map_or(String::new(), |adl| format!(" via {}", text(adl)));
            let strict = m.address().map_or("no address".to_owned(), |a| a.to_string());
            format!("{name} | {} | {}{route} ({strict})", text(&m.local), text(&m.domain))
        }
    }
}

fn show_part(mail: &[u8], part: &Part, number: &str, indent: &str, out: &mut String) {
    let (header, body) = (&part.header, &part.body);
    let _ = writeln!(out, "{indent}{number} {}/{} header {header:?} body {body:?} lines {}", part.kind, part.subtype, part.lines);
    let params = |params: &[gatepost::message::mime::Param]| {
        let pairs = wire_params(params).into_iter().map(|(name, value)| format!(" {name}={}", String::from_utf8_lossy(&value).escape_debug()));
        pairs.collect::<String>()
    };
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{indent}    {name}: {}", value.trim_start());
        }
    };
    let text = |octets: &Option<Vec<u8>>| octets.as_deref().map_or(String::new(), |o| o.escape_ascii().to_string());
    line("params", params(&part.params));
    line("encoding", if part.encoding == "7bit" { String::new() } else { part.encoding.clone() });
    line("id", text(&part.id));
    line("description", text(&part.description));
    line("md5", text(&part.md5));
    line("location", text(&part.location));
    line("disposition", part.disposition.as_ref().map_or(String::new(), |(kind, p)| format!("{kind}{}", params(p))));
    line("language", part.language.join(" "));
    line("filename", part.filename().unwrap_or_default());
    line("text", search::leaf_text(mail, part, 200).map_or(String::new(), |t| format!("\"{}\"", t.escape_debug())));
}

fn depth(structure: &Structure, part: &Part) -> usize {
    std::iter::successors(Some(part), |p| p.parent.and_then(|p| structure.part(p))).count() - 1
}

/// The IMAP number of a part; that of a message inside is its part's, and so is its multipart's.
fn number(structure: &Structure, index: usize) -> Vec<u32> {
    let mut path = Vec::new();
    let mut at = index;
    let is_message = |at: usize| structure.part(at).and_then(|p| p.parent).is_none_or(|p| structure.parts()[p].shape == Shape::Message);
    if is_message(at) && structure.parts()[at].shape != Shape::Multipart {
        path.push(1);
    }
    while let Some(parent) = structure.parts()[at].parent {
        let above = &structure.parts()[parent];
        if above.shape == Shape::Multipart {
            let before = above.children.iter().take_while(|child| **child != at).count();
            path.push(u32::try_from(before + 1).expect("few children"));
        } else if is_message(parent) {
            path.push(1);
        }
        at = parent;
    }
    path.reverse();
    path
}

/// Numbers lead back to the part.
fn check_sections(structure: &Structure, number: &[u32], part: &Part) {
    let found = structure.locate(number).expect("a number of its own");
    let same = std::ptr::eq(found, part);
    let inside = structure.nested(found).is_some_and(|nested| std::ptr::eq(nested, part));
    assert!(same || inside, "{number:?}");
    if inside {
        assert_eq!(structure.section(number, Section::Header), Some(part.header.clone()));
        assert_eq!(structure.section(number, Section::Text), Some(part.body.clone()));
    } else if !number.is_empty() {
        assert_eq!(structure.section(number, Section::Content), Some(part.body.clone()));
        assert_eq!(structure.section(number, Section::Mime), Some(part.header.clone()));
    }
}
