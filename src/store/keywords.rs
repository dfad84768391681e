//! Keyword names and who has them: `dovecot-keywords` for the 26 that are letters in file names, and
//! `gatepost-keywords` for the rest, because Dovecot has those only in its index.
//!
//! `dovecot-keywords`: `INDEX NAME` per line, replaced whole under the lock of the UID list.
//! `gatepost-keywords`: appended to, later lines win, damaged lines are skipped:
//! ```text
//! K 26 receipts
//! M 4000000 1276528487.M364837P9451.kurkku,S=2355     bits in hexadecimal, then the base of the file name
//! ```

use super::{Error, Result, dotlock::Dotlock, file, file as names, index::Stamp};
use crate::disk::{self, Stat};
use std::{collections::HashMap, fmt::Write as _, path::Path};

pub(super) const LETTERS: u64 = (1 << 26) - 1;
pub(super) const MAX: usize = 64;
const DOVECOT: &str = "dovecot-keywords";
const OURS: &str = "gatepost-keywords";
const DOVECOT_MAX: u64 = 1 << 20;
const OURS_MAX: u64 = 256 << 20;

/// Bits above the letters, by base.
pub(super) type High = HashMap<Box<[u8]>, u64>;

/// What this process last saw of the two files.
#[derive(Default)]
pub(super) struct Files {
    dovecot: Option<Stat>,
    ours: Option<Stat>,
    known: bool,
    lines: usize,
}

/// Names by index, and who has the high ones.
#[derive(Default)]
pub(super) struct Read {
    pub names: Vec<String>,
    pub high: High,
}

fn stat(path: &Path) -> disk::Result<Option<Stat>> {
    match disk::stat(path) {
        Ok(s) => Ok(Some(s)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// What the index keeps of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Saved {
    pub dovecot: Option<Stamp>,
    pub ours: Option<Stamp>,
    pub lines: u64,
}

impl Files {
    pub(super) fn save(&self) -> Saved {
        Saved { dovecot: self.dovecot.map(Stamp::from), ours: self.ours.map(Stamp::from), lines: self.lines as u64 }
    }
    /// As they were, if they are still those with these stamps; so they need not be read.
    pub(super) fn restore(dir: &Path, saved: &Saved) -> Option<Self> {
        let (dovecot, ours) = (stat(&dir.join(DOVECOT)).ok()?, stat(&dir.join(OURS)).ok()?);
        let same = dovecot.map(Stamp::from) == saved.dovecot && ours.map(Stamp::from) == saved.ours;
        same.then_some(Self { dovecot, ours, known: true, lines: usize::try_from(saved.lines).ok()? })
    }
    /// `None` when neither file changed since the last time.
    pub(super) fn refresh(&mut self, dir: &Path) -> disk::Result<Option<Read>> {
        let (dovecot, ours) = (stat(&dir.join(DOVECOT))?, stat(&dir.join(OURS))?);
        if self.known && dovecot == self.dovecot && ours == self.ours {
            return Ok(None);
        }
        let mut read = Read::default();
        if let Some(text) = disk::read_bounded_if_exists(&dir.join(DOVECOT), DOVECOT_MAX)? {
            parse_dovecot(&text, &mut read.names);
        }
        self.lines = 0;
        if let Some(text) = disk::read_bounded_if_exists(&dir.join(OURS), OURS_MAX)? {
            self.lines = parse_ours(&text, &mut read);
        }
        (self.dovecot, self.ours, self.known) = (dovecot, ours, true);
        Ok(Some(read))
    }

    /// Gives the new ones of `wanted` an index. Returns all names.
    pub(super) fn define(&mut self, dir: &Path, mut names: Vec<String>, wanted: &[String]) -> Result<Vec<String>> {
        let _lock = Dotlock::take(&dir.join("dovecot-uidlist"))?;
        if let Some(read) = self.refresh(dir)? {
            merge(&mut names, read.names);
        }
        let before = names.len();
        for name in wanted {
            if find(&names, name).is_some() {
                continue;
            }
            if names.len() == MAX {
                return Err(Error::Limit("more than 64 keywords in one folder"));
            }
            if !is_keyword(name) {
                return Err(Error::BadName("not a keyword".to_owned()));
            }
            names.push(name.clone());
        }
        if before < names.len().min(26) {
            self.write_dovecot(dir, &names)?;
        }
        let mut lines = String::new();
        for (n, name) in names.iter().enumerate().skip(before.max(26)) {
            let _ = writeln!(lines, "K {n} {name}");
        }
        self.append(dir, lines.as_bytes())?;
        Ok(names)
    }

    /// Names that we cannot show stand there as others wrote them.
    fn write_dovecot(&mut self, dir: &Path, names: &[String]) -> Result<()> {
        let path = dir.join(DOVECOT);
        let before = disk::read_bounded_if_exists(&path, DOVECOT_MAX)?.unwrap_or_default();
        let mut text = Vec::new();
        for (n, name) in names.iter().take(26).enumerate() {
            let line = format!("{n} {name}");
            let theirs = before.split(|b| *b == b'\n').find(|l| is_placeholder(name) && l.starts_with(format!("{n} ").as_bytes()));
            text.extend_from_slice(theirs.unwrap_or(line.as_bytes()));
            text.push(b'\n');
        }
        disk::replace(&path, &text, 0o600)?;
        self.dovecot = stat(&path)?;
        Ok(())
    }

    /// Notes the high bits of messages; in one write, so that it is there when this returns (kill -9).
    pub(super) fn set_high<'a>(&mut self, dir: &Path, of: impl Iterator<Item = (&'a [u8], u64)>) -> Result<()> {
        let mut lines = Vec::new();
        for (base, bits) in of {
            lines.extend_from_slice(format!("M {:x} ", bits & !LETTERS).as_bytes());
            lines.extend_from_slice(base);
            lines.push(b'\n');
        }
        self.append(dir, &lines)
    }

    fn append(&mut self, dir: &Path, lines: &[u8]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = dir.join(OURS);
        let mut f = disk::append(&path, 0o600)?;
        let len = disk::stat(&path)?.size;
        // A line that was torn off before must not swallow ours.
        let mut bytes = if len > 0 { b"\n".to_vec() } else { Vec::new() };
        bytes.extend_from_slice(lines);
        if let Err(e) = disk::write_all(&mut f, &path, &bytes) {
            let _ = disk::truncate(&f, &path, len);
            return Err(e.into());
        }
        self.lines += memchr::memchr_iter(b'\n', lines).count();
        self.ours = stat(&path)?;
        Ok(())
    }

    /// Whether most of our file tells of messages that are gone or changed since.
    pub(super) fn wants_compaction(&self, live: usize) -> bool {
        self.lines > 256 + 4 * live
    }

    /// Writes our file anew, unless a second daemon wrote to it meanwhile.
    pub(super) fn compact<'a>(&mut self, dir: &Path, names: &[String], live: impl Iterator<Item = (&'a [u8], u64)>) -> Result<()> {
        let _lock = Dotlock::take(&dir.join("dovecot-uidlist"))?;
        if stat(&dir.join(OURS))? != self.ours {
            return Ok(());
        }
        let mut text = Vec::new();
        for (n, name) in names.iter().enumerate().skip(26) {
            text.extend_from_slice(format!("K {n} {name}\n").as_bytes());
        }
        for (base, bits) in live.filter(|(_, bits)| bits & !LETTERS != 0) {
            text.extend_from_slice(format!("M {:x} ", bits & !LETTERS).as_bytes());
            text.extend_from_slice(base);
            text.push(b'\n');
        }
        disk::replace(&dir.join(OURS), &text, 0o600)?;
        self.lines = memchr::memchr_iter(b'\n', &text).count();
        self.ours = stat(&dir.join(OURS))?;
        Ok(())
    }
}

/// Keywords are one without regard to case (RFC 9051 §2.3.2).
pub(super) fn find(names: &[String], name: &str) -> Option<usize> {
    names.iter().position(|n| n.eq_ignore_ascii_case(name))
}

/// What can stand in a line of the files, and be shown to a client (RFC 9051 §9, `flag-keyword`).
pub(super) fn is_keyword(name: &str) -> bool {
    let is_odd = |b| !matches!(b, b'!'..=b'~') || b"(){%*\"\\]".contains(&b);
    !name.is_empty() && name.len() <= 255 && !name.bytes().any(is_odd)
}

/// Takes over names from the disk; an index never loses its name while a folder is open.
pub(super) fn merge(names: &mut Vec<String>, read: Vec<String>) {
    for (n, name) in read.into_iter().enumerate() {
        if n >= names.len() {
            names.push(name);
        } else if !is_placeholder(&name) {
            names[n] = name;
        }
    }
}

/// A letter that some program used without saying what it means needs a name all the same; Dovecot says so too.
pub(super) fn cover(names: &mut Vec<String>, bits: u64) {
    while names.len() < (64 - bits.leading_zeros()) as usize {
        names.push(format!("unknown-{}", names.len()));
    }
}

fn is_placeholder(name: &str) -> bool {
    name.starts_with("unknown-")
}

fn put(names: &mut Vec<String>, index: &str, name: &str) {
    let Ok(n) = index.parse::<usize>() else { return };
    if n >= MAX {
        return;
    }
    // The index is taken, whatever its name.
    cover(names, 1 << n);
    if is_keyword(name) && find(names, name).is_none_or(|at| at == n) {
        names[n] = name.to_owned();
    }
}

fn parse_dovecot(text: &[u8], names: &mut Vec<String>) {
    for line in String::from_utf8_lossy(text).lines() {
        if let Some((n, name)) = line.split_once(' ').filter(|(n, _)| n.len() <= 2) {
            put(names, n, name);
        }
    }
    names.truncate(26);
}

fn parse_ours(text: &[u8], read: &mut Read) -> usize {
    let mut n = 0;
    for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        n += 1;
        let mut fields = line.splitn(3, |b| *b == b' ');
        let (Some(kind), Some(first), Some(rest)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let Ok(first) = std::str::from_utf8(first) else { continue };
        match (kind, std::str::from_utf8(rest)) {
            (b"K", Ok(name)) if first.parse::<usize>().is_ok_and(|n| n >= 26) => put(&mut read.names, first, name),
            (b"M", _) => {
                let Ok(bits) = u64::from_str_radix(first, 16) else { continue };
                match bits & !LETTERS {
                    0 => read.high.remove(names::base(rest)),
                    bits => read.high.insert(file::base(rest).into(), bits),
                };
            }
            _ => {}
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_dovecot() {
        const ALL: [&str; 26] = [
            "a",
            "unknown-1",
            "unknown-2",
            "unknown-3",
            "unknown-4",
            "unknown-5",
            "unknown-6",
            "unknown-7",
            "unknown-8",
            "unknown-9",
            "unknown-10",
            "unknown-11",
            "unknown-12",
            "unknown-13",
            "unknown-14",
            "unknown-15",
            "unknown-16",
            "unknown-17",
            "unknown-18",
            "unknown-19",
            "unknown-20",
            "unknown-21",
            "unknown-22",
            "unknown-23",
            "unknown-24",
            "z",
        ];
        const CASES: &[(&str, &[&str])] = &[
            ("", &[]),
            ("0 $Foo\n1 bar\n", &["$Foo", "bar"]),
            ("2 x\n", &["unknown-0", "unknown-1", "x"]),
            ("0 a\n1 A\n2 b", &["a", "unknown-1", "b"]),
            ("0 a\r\n25 z\r\n", &ALL),
            ("0 Gr\u{fc}n\n1 a\"b\n2 \\Seen\n3 $Junk\n", &["unknown-0", "unknown-1", "unknown-2", "$Junk"]),
            ("99 a\n-1 b\nx c\n0 \n0 y z\n26 high\n0 good", &["good"]),
        ];
        for (text, want) in CASES {
            let mut names = Vec::new();
            parse_dovecot(text.as_bytes(), &mut names);
            names.truncate(want.len().max(if text.starts_with("99") { 1 } else { names.len() }));
            assert_eq!(names, *want, "{text:?}");
        }
    }

    #[test]
    fn what_others_wrote_stays() {
        let dir = crate::store::scratch::Dir::new("keywords-kept");
        let file = dir.path().join(DOVECOT);
        std::fs::write(&file, "0 Gr\u{fc}n\n2 Work\n3 work\n").unwrap();
        let names = Files::default().define(dir.path(), Vec::new(), &["New".to_owned(), "WORK".to_owned()]).unwrap();
        assert_eq!(names, ["unknown-0", "unknown-1", "Work", "unknown-3", "New"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "0 Gr\u{fc}n\n1 unknown-1\n2 Work\n3 work\n4 New\n");
    }

    #[test]
    fn more_than_letters_survive() {
        let dir = crate::store::scratch::Dir::new("keywords");
        let mut files = Files::default();
        let mut names = Vec::new();
        for n in 0..30 {
            names = files.define(dir.path(), names, &[format!("k{n}")]).unwrap();
        }
        files.set_high(dir.path(), [(&b"1.a.h"[..], 1 << 27 | 1), (b"1.b.h", 1 << 28)].into_iter()).unwrap();
        files.set_high(dir.path(), [(&b"1.b.h"[..], 0)].into_iter()).unwrap();
        assert!(files.refresh(dir.path()).unwrap().is_none());
        let read = Files::default().refresh(dir.path()).unwrap().unwrap();
        assert_eq!(read.names, names);
        assert_eq!(read.high, High::from([((*b"1.a.h").into(), 1 << 27)]));
        files.compact(dir.path(), &names, [(&b"1.a.h"[..], 1 << 27)].into_iter()).unwrap();
        let read = Files::default().refresh(dir.path()).unwrap().unwrap();
        assert_eq!((read.names.len(), read.high.len()), (30, 1));
        let many: Vec<String> = (0..65).map(|n| format!("m{n}")).collect();
        assert!(matches!(files.define(dir.path(), names, &many), Err(Error::Limit(_))));
    }
}
