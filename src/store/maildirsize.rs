//! `maildirsize` beside INBOX: what an account keeps, as Maildir++ writes it and Dovecot (`quota = maildir`) and
//! Courier read it.
//!
//! The first line is the limits, `2147483648S,10000C`; each further one `BYTES COUNT` to be added up. Whoever files or
//! removes a message appends a line, in one write; who finds the file long, damaged or with other limits counts anew
//! and puts a file of two lines in its place. It may be deleted at any time, and is not fsynced: after a power cut it
//! may lack some lines, until it is counted anew.

use super::{
    Limits, Usage, events, file,
    scan::{self},
};
use crate::disk;
use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

const NAME: &str = "maildirsize";
/// A longer one is to be made anew, says Maildir++.
const LONG: usize = 5120;
/// So much is read of one that nobody made anew in time.
const READ_MAX: u64 = 64 * 1024;
/// Folders within folders, as `LAYOUT=fs` has them.
const DEPTH: usize = 32;
/// Of a folder that changes while it is counted.
const TRIES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// `None`: written in a way that we do not know.
    pub limits: Option<Limits>,
    pub usage: Usage,
    pub long: bool,
}

/// `None`: not there, or not to be believed.
pub(super) fn read(maildir: &Path) -> disk::Result<Option<Sizes>> {
    match disk::read_bounded(&maildir.join(NAME), READ_MAX) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(e) if e.is_not_found() || e.source.kind() == std::io::ErrorKind::FileTooLarge => Ok(None),
        Err(e) => Err(e),
    }
}

fn parse(bytes: &[u8]) -> Option<Sizes> {
    // A line that is not whole is one that a crash cut off.
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut lines = text.split('\n');
    let limits = limits(lines.next()?);
    let (mut size, mut count, mut any) = (0i64, 0i64, false);
    for line in lines {
        let mut numbers = line.split_ascii_whitespace();
        let (s, c) = (numbers.next()?, numbers.next()?);
        size = size.checked_add(s.parse().ok()?)?;
        count = count.checked_add(c.parse().ok()?)?;
        any = true;
        if numbers.next().is_some() {
            return None;
        }
    }
    let usage = Usage { bytes: u64::try_from(size).ok()?, messages: u64::try_from(count).ok()? };
    any.then_some(Sizes { limits, usage, long: bytes.len() >= LONG })
}

fn limits(line: &str) -> Option<Limits> {
    let mut limits = Limits::default();
    for part in line.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let number = |unit| part.strip_suffix(unit).and_then(|n| n.parse::<u64>().ok());
        match (number('S'), number('C')) {
            (Some(n), _) => limits.bytes = n,
            (_, Some(n)) => limits.messages = n,
            _ => return None,
        }
    }
    Some(limits)
}

/// What is not there is not made: then the next count counts this too. False: it was not there.
pub(super) fn append(maildir: &Path, bytes: i64, messages: i64) -> disk::Result<bool> {
    match disk::append_line(&maildir.join(NAME), format!("{bytes} {messages}\n").as_bytes()) {
        Err(e) if e.is_not_found() => Ok(false),
        done => done.map(|()| true),
    }
}

/// A new file of two lines; the limits as Dovecot writes them, which makes a file anew that says anything else.
pub(super) fn write(maildir: &Path, limits: Limits, usage: Usage) -> disk::Result<()> {
    let storage = (limits.bytes != 0 || limits.messages == 0).then(|| format!("{}S", limits.bytes));
    let messages = (limits.messages != 0).then(|| format!("{}C", limits.messages));
    let head: Vec<String> = storage.into_iter().chain(messages).collect();
    let text = format!("{}\n{} {}\n", head.join(","), usage.bytes, usage.messages);
    let tmp = maildir.join("tmp").join(format!("{NAME}.{:016x}", disk::unique()));
    let mut f = disk::create_new(&tmp, 0o600)?;
    let done = disk::write_all(&mut f, &tmp, text.as_bytes()).and_then(|()| disk::rename(&tmp, &maildir.join(NAME)));
    done.inspect_err(|_| drop(disk::remove_file(&tmp)))
}

/// Has the next who looks count anew. Removing needs no right to write the user's files, so root may do it too.
pub(super) fn remove(maildir: &Path) -> disk::Result<()> {
    match disk::remove_file(&maildir.join(NAME)) {
        Err(e) if e.is_not_found() => Ok(()),
        done => done,
    }
}

/// All messages of all folders, in both layouts; nothing where there is no Maildir. A folder that cannot be read
/// (another owner's) does not count.
pub(super) fn count(maildir: &Path) -> disk::Result<Usage> {
    let mut usage = Usage::default();
    for dir in folders(maildir)? {
        match count_folder(&dir) {
            Ok(more) => usage = usage.plus(more),
            Err(e) if dir == maildir => return Err(e),
            Err(e) => events::unreadable(&e),
        }
    }
    Ok(usage)
}

/// `Maildir/` itself, `.A.B` in it (Maildir++), and every folder below it without a dot (`LAYOUT=fs`).
fn folders(maildir: &Path) -> disk::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut work = vec![(maildir.to_owned(), 0)];
    while let Some((dir, depth)) = work.pop() {
        match disk::stat(&dir) {
            // A link may lead back.
            Ok(s) if s.is_dir && seen.insert((s.dev, s.ino)) => {}
            Err(e) if depth == 0 && !e.is_not_found() => return Err(e),
            _ => continue,
        }
        let dotted = dir.file_name().is_some_and(|n| n.as_bytes().starts_with(b"."));
        if depth == 0 || !dotted && depth < DEPTH {
            let entries = match disk::list(&dir) {
                Err(e) if depth > 0 => {
                    events::unreadable(&e);
                    Vec::new()
                }
                entries => entries?,
            };
            // Two dots: a folder on its way out.
            let is_folder = |n: &[u8]| {
                // In a tree links are not followed, see `layout`.
                !matches!(n, b"cur" | b"new" | b"tmp")
                    && !n.starts_with(b"..")
                    && (n.starts_with(b".") || disk::is_real_dir(&dir.join(OsStr::from_bytes(n))))
            };
            let below = entries.into_iter().filter(|(name, is_dir)| *is_dir && is_folder(name.as_bytes()));
            work.extend(below.map(|(name, _)| (dir.join(name), depth + 1)));
        }
        found.push(dir);
    }
    Ok(found)
}

/// `new/` and `cur/` of one directory; nothing where there are none.
pub(super) fn count_folder(dir: &Path) -> disk::Result<Usage> {
    let stamp = |sub| disk::stat(&dir.join(sub)).map(|s| s.ctime).ok();
    let mut tries = 0;
    loop {
        tries += 1;
        // Somebody who renames meanwhile makes files appear twice or not at all.
        let before = (stamp("new"), stamp("cur"));
        let usage = count_in(dir, true)?.plus(count_in(dir, false)?);
        if tries == TRIES || before == (stamp("new"), stamp("cur")) {
            return Ok(usage);
        }
    }
}

fn count_in(dir: &Path, is_new: bool) -> disk::Result<Usage> {
    let entries = match disk::list(&dir.join(if is_new { "new" } else { "cur" })) {
        Err(e) if e.is_not_found() => return Ok(Usage::default()),
        entries => entries?,
    };
    let mut usage = Usage::default();
    for (name, is_dir) in entries {
        let name = name.as_bytes();
        if !is_dir
            && !name.starts_with(b".")
            && let Some(bytes) = size(&scan::path(dir, is_new, name))?
        {
            usage = usage.plus(Usage::of(bytes));
        }
    }
    Ok(usage)
}

/// What a message's file counts: what its name says, or what it is. `None`: it is gone.
pub(super) fn size(path: &Path) -> disk::Result<Option<u64>> {
    let named = path.file_name().and_then(|n| file::sizes(n.as_bytes()).0);
    match named.map_or_else(|| disk::stat(path).map(|s| s.size), Ok) {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scratch, *};

    #[test]
    fn what_others_write_is_read() {
        type Case = (&'static str, Option<(Option<(u64, u64)>, u64, u64)>);
        const CASES: &[Case] = &[
            ("1000S,10C\n5 1\n", Some((Some((1000, 10)), 5, 1))),
            ("10C,1000S\n5 1\n  7   2\n-3 -1\n", Some((Some((1000, 10)), 9, 2))),
            ("0S\n0 0\n", Some((Some((0, 0)), 0, 0))),
            ("\n5 1\n", Some((Some((0, 0)), 5, 1))),
            ("10C\n5 1\n", Some((Some((0, 10)), 5, 1))),
            ("1000X\n5 1\n", Some((None, 5, 1))),
            ("", None),
            ("\n", None),
            ("1000S\n", None),
            ("1000S\n5 1", None),
            ("1000S\n5\n", None),
            ("1000S\n5 1 1\n", None),
            ("1000S\n5 1\n\n", None),
            ("1000S\n5 1\n-6 0\n", None),
            ("1000S\nfive 1\n", None),
            ("1000S\n5 1\n\0\0\0\n", None),
            ("1000S\n9223372036854775807 1\n1 0\n", None),
            ("1000S\n99999999999999999999 1\n", None),
        ];
        for (text, want) in CASES {
            let got = parse(text.as_bytes()).map(|s| (s.limits.map(|l| (l.bytes, l.messages)), s.usage.bytes, s.usage.messages));
            assert_eq!(got, *want, "{text:?}");
        }
        assert!(parse(b"1S\n\xff 1\n").is_none());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::sample::select(b"0123456789-SC, \n\0x".to_vec()), 0..60)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn written_as_dovecot_does_and_appended_to() {
        let dir = scratch::Dir::new("maildirsize");
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        const CASES: &[(u64, u64, &str)] = &[(0, 0, "0S\n5 1\n"), (9, 0, "9S\n5 1\n"), (0, 9, "9C\n5 1\n"), (8, 9, "8S,9C\n5 1\n")];
        assert!(!append(dir.path(), 1, 1).unwrap());
        for (bytes, messages, want) in CASES {
            let limits = Limits { bytes: *bytes, messages: *messages };
            write(dir.path(), limits, Usage { bytes: 5, messages: 1 }).unwrap();
            assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), *want);
            assert_eq!(read(dir.path()).unwrap().unwrap().limits, Some(limits));
        }
        for n in 0..1000 {
            assert!(append(dir.path(), 10, 1).unwrap());
            let s = read(dir.path()).unwrap().unwrap();
            assert_eq!((s.usage, s.long), (Usage { bytes: 15 + 10 * n, messages: 2 + n }, 10 + 5 * (n + 1) >= 5120));
        }
        std::fs::write(dir.path().join(NAME), vec![b'x'; 100_000]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        assert!(std::fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none());
        remove(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }

    #[test]
    fn both_layouts_are_counted() {
        let dir = scratch::Dir::new("count");
        let put = |path: &str, bytes: usize| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![b'x'; bytes]).unwrap();
        };
        put("new/1.a.h,S=100", 3);
        put("cur/2.a.h:2,S", 7);
        put("cur/.hidden", 9);
        put("tmp/3.a.h,S=5", 5);
        put(".Trash/cur/4.a.h,S=1000,W=1010:2,T", 1);
        put(".Lists.rust/new/5.a.h,S=x", 20);
        put("fs/cur/6.a.h,S=10000", 1);
        put("fs/below/cur/7.a.h,S=100000", 1);
        put("..gatepost-trash.1/cur/8.a.h,S=7777", 1);
        put("sieve/script", 50);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("fs/loop")).unwrap();
        assert_eq!(count(dir.path()).unwrap(), Usage { bytes: 111_127, messages: 6 });
        assert_eq!(count(&dir.path().join("nowhere")).unwrap(), Usage::default());
    }
}
