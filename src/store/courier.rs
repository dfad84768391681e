//! What Courier left in a folder, read once: when a folder has no `dovecot-uidlist` yet, one is written from it.
//!
//! `courierimapuiddb` has UIDVALIDITY and UIDs (version 1 of the UID list), `courierpop3dsizelist` what POP3 clients heard
//! in UIDL, `courierimapkeywords/` who has which keyword, `courierimapsubscribed` (beside INBOX) what LSUB shows. The first two are renamed afterwards: a list that is lost later
//! must not be made from numbers that are older than the last ones given. Best effort: a line that cannot be read is
//! skipped, and what is then not known is numbered anew.
//!
//! ```text
//! /3 102 1276528487                                  version, next number, UIDVALIDITY of POP3
//! 1276528487.M364837P9451.host,S=2355:2,S 2417 7:1276528487:0
//! ```

use super::{
    Result,
    dotlock::Dotlock,
    events, file,
    keywords::{self, LETTERS},
    ledger, names, scan, uidlist,
};
use crate::disk;
use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

const IMAP: &str = "courierimapuiddb";
const POP3: &str = "courierpop3dsizelist";
const SUBSCRIBED: &str = "courierimapsubscribed";
const KEYWORDS: &str = "courierimapkeywords";
const TAKEN: &str = ".taken-over";
const FILE_MAX: u64 = 256 << 20;
/// One message's keywords.
const UPDATE_MAX: u64 = 64 << 10;

/// A base, and what POP3 says in UIDL.
type UniqueIds = Vec<(Box<[u8]>, Vec<u8>)>;

/// True when there is a `dovecot-uidlist` now. `new_validity` is asked for when only POP3 was in use here.
pub(super) fn take_over(dir: &Path, new_validity: impl FnOnce() -> Result<u32>) -> Result<bool> {
    let there = |name: &str| disk::stat(&dir.join(name)).is_ok();
    // Dovecot was here since, and its list is lost: Courier's numbers are old.
    if !was_here(dir) || there("dovecot.index.log") || there("dovecot.index") {
        return Ok(false);
    }
    take_keywords(dir);
    let lock = Dotlock::take(&dir.join(ledger::NAME))?;
    if there(ledger::NAME) {
        return Ok(true);
    }
    let imap = read(&dir.join(IMAP));
    let parsed = imap.as_deref().and_then(uidlist::parse).filter(|p| p.version == 1);
    if imap.is_some() && parsed.is_none() {
        events::courier_unreadable(&dir.join(IMAP));
    }
    let pop3 = read(&dir.join(POP3)).map(|text| unique_ids(&text)).unwrap_or_default();
    if parsed.is_none() && pop3.is_empty() {
        return Ok(false);
    }
    let text = uid_list(parsed, &pop3, new_validity)?;
    disk::replace(&dir.join(ledger::NAME), &text, 0o600)?;
    for name in [IMAP, POP3] {
        let _ = disk::rename(&dir.join(name), &dir.join(format!("{name}{TAKEN}")));
    }
    drop(lock);
    events::courier_taken_over(dir);
    Ok(true)
}

/// Whether Courier's IMAP or POP3 server has had this folder.
pub(super) fn was_here(dir: &Path) -> bool {
    [IMAP, POP3].iter().any(|name| disk::stat(&dir.join(name)).is_ok())
}

/// What `courierimapsubscribed` says: a line for each folder, `INBOX.Lists.rust`. `None` without it.
pub(super) fn subscribed(maildir: &Path) -> Option<Vec<String>> {
    let text = read(&maildir.join(SUBSCRIBED))?;
    let name = |line: &str| {
        let line = line.trim_end();
        let rest = line.get(..6).filter(|p| p.eq_ignore_ascii_case("INBOX.")).map_or(line, |p| &line[p.len()..]);
        let name = rest.split('.').map(names::decode_or_plain).collect::<Vec<_>>().join("/");
        names::normalise(&name).ok()
    };
    Some(String::from_utf8_lossy(&text).lines().filter(|l| !l.starts_with('#')).filter_map(name).collect())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    match disk::read_bounded(path, FILE_MAX) {
        Ok(text) => Some(text),
        Err(e) => {
            if !e.is_not_found() {
                events::unreadable(&e);
            }
            None
        }
    }
}

/// Messages that only POP3 has seen get their UIDs here, in its order.
fn uid_list(imap: Option<uidlist::Parsed<'_>>, pop3: &UniqueIds, new_validity: impl FnOnce() -> Result<u32>) -> Result<Vec<u8>> {
    let (validity, mut next, records) = match imap {
        Some(p) => (p.header.validity, p.next(), p.records),
        None => (new_validity()?, 1, Vec::new()),
    };
    let known: HashSet<&[u8]> = records.iter().map(|r| r.base).collect();
    let mut lines = Vec::new();
    let mut unseen = Vec::new();
    for (base, uidl) in pop3 {
        if !known.contains(&**base) && next < uidlist::MAX_NEXT {
            unseen.push((next, base, uidl));
            next += 1;
        }
    }
    let uidls: HashMap<&[u8], &Vec<u8>> = pop3.iter().map(|(base, uidl)| (&**base, uidl)).collect();
    let mut line = |uid: u32, base: &[u8], uidl: Option<&Vec<u8>>| {
        lines.extend_from_slice(uid.to_string().as_bytes());
        if let Some(uidl) = uidl {
            lines.extend_from_slice(b" P");
            lines.extend_from_slice(uidl);
        }
        lines.extend_from_slice(b" :");
        lines.extend_from_slice(base);
        lines.push(b'\n');
    };
    records.iter().for_each(|r| line(r.uid, r.base, uidls.get(r.base).copied()));
    unseen.into_iter().for_each(|(uid, base, uidl)| line(uid, base, Some(uidl)));
    let mut text = Vec::new();
    let other = format!(" G{:016x}{:016x}", disk::unique(), disk::unique()).into_bytes();
    uidlist::write_header(&mut text, &uidlist::Header { validity, next, other });
    text.append(&mut lines);
    Ok(text)
}

/// What Courier's POP3 server answers to UIDL: by number since 2004, before that by file name.
fn unique_ids(text: &[u8]) -> UniqueIds {
    let mut lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let numbered = lines.clone().next().is_some_and(|l| l.starts_with(b"/"));
    if numbered {
        lines.next();
    }
    let (mut found, mut seen) = (UniqueIds::new(), HashSet::new());
    for line in lines {
        let Some(at) = memchr::memrchr(b' ', line) else { continue };
        let (mut name, last) = (&line[..at], &line[at + 1..]);
        let mut uidl = None;
        if numbered {
            let Some(at) = memchr::memrchr(b' ', name) else { continue };
            name = &name[..at];
            let mut numbers = last.split(|b| *b == b':').map(|n| std::str::from_utf8(n).ok()?.parse::<u64>().ok());
            let (Some(Some(n)), Some(Some(validity))) = (numbers.next(), numbers.next()) else { continue };
            uidl = match (n, validity) {
                (0, _) => None,
                (n, 0) => Some(format!("UID{n}").into_bytes()),
                (n, v) => Some(format!("UID{n}-{v}").into_bytes()),
            };
        }
        let base = file::base(name);
        let usable = !base.is_empty() && !base.iter().any(|b| matches!(b, 0 | b'/' | b'\r'));
        if usable && seen.insert(base) {
            found.push((base.into(), uidl.unwrap_or_else(|| escaped(base))));
        }
    }
    found
}

fn escaped(base: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(base.len());
    for b in base {
        match b {
            b'\'' | b'"' | b'+' => out.extend_from_slice(format!("+{b:02X}").as_bytes()),
            0x21..=0x7e => out.push(*b),
            _ => out.extend_from_slice(format!("+{b:02X}").as_bytes()),
        }
    }
    out
}

/// Keywords become letters in the names, as everybody else has them.
fn take_keywords(dir: &Path) {
    let Some((names, of)) = keyword_lists(&dir.join(KEYWORDS)) else { return };
    if let Err(e) = give_keywords(dir, &names, &of) {
        events::keywords_not_taken(dir, &e);
    }
}

type Keywords = (Vec<String>, HashMap<Box<[u8]>, Vec<usize>>);

/// `:list` has the names, an empty line, and then `BASE:NUMBER NUMBER …`; beside it lies a file for each message that
/// changed since, `.N.BASE` or, later than those, `BASE`, with a name per line.
fn keyword_lists(dir: &Path) -> Option<Keywords> {
    let entries = disk::list(dir).ok()?;
    let text = read(&dir.join(":list")).unwrap_or_default();
    let (mut names, mut of) = (Vec::new(), HashMap::new());
    let mut lines = text.split(|b| *b == b'\n');
    for line in lines.by_ref().take_while(|l| !l.is_empty()) {
        names.push(String::from_utf8_lossy(line).into_owned());
    }
    for line in lines {
        let Some(colon) = memchr::memrchr(b':', line) else { continue };
        let numbers = String::from_utf8_lossy(&line[colon + 1..]).split(' ').filter_map(|n| n.parse().ok()).collect();
        of.insert(file::base(&line[..colon]).into(), numbers);
    }
    let mut updates: Vec<(Box<[u8]>, u64, OsString)> = Vec::new();
    for (name, _) in entries.into_iter().filter(|(name, is_dir)| !is_dir && name != ":list") {
        let bytes = name.as_bytes();
        let numbered = bytes.strip_prefix(b".").and_then(|rest| {
            let dot = memchr::memchr(b'.', rest)?;
            Some((std::str::from_utf8(&rest[..dot]).ok()?.parse().ok()?, &rest[dot + 1..]))
        });
        let (order, base) = numbered.unwrap_or((u64::MAX, bytes));
        updates.push((file::base(base).into(), order, name));
    }
    updates.sort();
    for (base, _, name) in updates {
        let Ok(text) = disk::read_bounded(&dir.join(name), UPDATE_MAX) else { continue };
        let mut numbers = Vec::new();
        for keyword in String::from_utf8_lossy(&text).lines().filter(|l| !l.is_empty()) {
            numbers.push(keywords::find(&names, keyword).unwrap_or_else(|| {
                names.push(keyword.to_owned());
                names.len() - 1
            }));
        }
        of.insert(base, numbers);
    }
    Some((names, of))
}

fn give_keywords(dir: &Path, names: &[String], of: &HashMap<Box<[u8]>, Vec<usize>>) -> Result<()> {
    let wanted: Vec<String> = names.iter().filter(|n| keywords::is_keyword(n)).take(keywords::MAX).cloned().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut files = keywords::Files::default();
    let known = files.define(dir, Vec::new(), &wanted)?;
    let bits = |numbers: &[usize]| {
        let named = numbers.iter().filter_map(|n| names.get(*n)).filter_map(|name| keywords::find(&known, name));
        named.fold(0_u64, |bits, n| bits | 1 << n)
    };
    let mut high: Vec<(Box<[u8]>, u64)> = Vec::new();
    let mut renames: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (name, _) in disk::list(&dir.join("cur"))?.into_iter().filter(|(_, is_dir)| !is_dir) {
        let name = name.into_vec();
        let Some(bits) = of.get(file::base(&name)).map(|n| bits(n)).filter(|bits| *bits != 0) else { continue };
        let (flags, letters) = file::flags(&name);
        let with = file::with_flags(&name, flags, letters | (bits & LETTERS) as u32);
        if *with != *name {
            renames.push((scan::path(dir, false, &name), scan::path(dir, false, &with)));
        }
        if bits & !LETTERS != 0 {
            high.push((file::base(&name).into(), bits));
        }
    }
    files.set_high(dir, high.iter().map(|(base, bits)| (&**base, *bits)))?;
    for (from, to) in renames {
        match disk::rename(&from, &to) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn unique_ids_of_every_version() {
        let ids = |text: &str| -> Vec<String> {
            unique_ids(text.as_bytes())
                .iter()
                .map(|(base, uidl)| format!("{} {}", String::from_utf8_lossy(base), String::from_utf8_lossy(uidl)))
                .collect()
        };
        assert_eq!(ids("/3 9 77\na.b,S=1:2,S 10 7:77:0\nc d 12 0:0:1\ne 1 4:0\n"), ["a.b,S=1 UID7-77", "c d c+20d", "e UID4"]);
        assert_eq!(ids("/2 9 77\na 10 7:77\na 10 8:77\nbad\nx y\n/ 1 1:1\n"), ["a UID7-77"]);
        assert_eq!(ids("a+b:2,S 10\n"), ["a+b a+2Bb"]);
        assert_eq!(ids(""), Vec::<String>::new());
    }

    #[test]
    fn subscriptions() {
        let dir = folder();
        assert!(subscribed(dir.path()).is_none());
        std::fs::write(dir.path().join(SUBSCRIBED), "INBOX\nINBOX.Lists.rust\r\ninbox.Entw&APw-rfe\n#shared.x\n\nSent\n").unwrap();
        assert_eq!(subscribed(dir.path()).unwrap(), ["INBOX", "Lists/rust", "Entwürfe", "Sent"]);
    }

    fn folder() -> crate::store::scratch::Dir {
        let dir = crate::store::scratch::Dir::new("courier");
        for sub in ["cur", "new", "tmp", KEYWORDS] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        dir
    }

    #[test]
    fn taken_over_once() {
        let dir = folder();
        let at = |name: &str| dir.path().join(name);
        let validity = || Ok(5);
        assert!(!take_over(dir.path(), validity).unwrap());
        fs::write(at(IMAP), "1 77 12\n4 1.a.h\n3 1.b.h\n").unwrap();
        fs::write(at(POP3), "/3 9 99\n1.a.h:2, 10 7:99:0\n1.c.h 3 8:99:0\n").unwrap();
        fs::write(at("dovecot.index.log"), "").unwrap();
        assert!(!take_over(dir.path(), validity).unwrap(), "Dovecot's list is lost");
        fs::remove_file(at("dovecot.index.log")).unwrap();
        assert!(take_over(dir.path(), validity).unwrap());
        let list = fs::read_to_string(at(ledger::NAME)).unwrap();
        let (header, lines) = list.split_once('\n').unwrap();
        assert!(header.starts_with("3 V77 N"), "{header}");
        assert!(lines.starts_with("3 :1.b.h\n4 PUID7-99 :1.a.h\n") && lines.ends_with(" PUID8-99 :1.c.h\n"), "{lines}");
        fs::remove_file(at(ledger::NAME)).unwrap();
        assert!(!take_over(dir.path(), validity).unwrap(), "once");
        // POP3 alone, and a database that is none.
        fs::write(at(IMAP), "nonsense").unwrap();
        fs::write(at(POP3), "/3 9 99\n1.a.h:2, 10 7:99:0\n").unwrap();
        assert!(take_over(dir.path(), validity).unwrap());
        let list = fs::read_to_string(at(ledger::NAME)).unwrap();
        assert!(list.starts_with("3 V5 N2 G") && list.ends_with("\n1 PUID7-99 :1.a.h\n"), "{list}");
    }

    #[test]
    fn keywords_become_letters() {
        let dir = folder();
        let at = |name: &str| dir.path().join(name);
        let names: Vec<String> = (0..30).map(|n| format!("k{n}")).collect();
        fs::write(at(KEYWORDS).join(":list"), format!("{}\n\n1.a.h:0 2\n1.b.h:1 29\n1.c.h:5\nodd\n1.d.h:99 x\n", names.join("\n"))).unwrap();
        fs::write(at(KEYWORDS).join(".1.1.c.h"), "k1\n").unwrap();
        fs::write(at(KEYWORDS).join(".2.1.c.h"), "k3\nnew\n").unwrap();
        for name in ["1.a.h:2,S", "1.b.h", "1.c.h:2,", "1.d.h:2,"] {
            fs::write(at("cur").join(name), "").unwrap();
        }
        take_keywords(dir.path());
        let mut found: Vec<String> = fs::read_dir(at("cur")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, ["1.a.h:2,Sac", "1.b.h:2,b", "1.c.h:2,d", "1.d.h:2,"]);
        let read = keywords::Files::default().refresh(dir.path()).unwrap().unwrap();
        assert_eq!((read.names.len(), read.names[30].as_str()), (31, "new"));
        assert_eq!((read.high[&b"1.b.h"[..]], read.high[&b"1.c.h"[..]]), (1 << 29, 1 << 30));
    }
}
