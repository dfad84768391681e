//! Folder names: UTF-8 with `/` for clients, on disk Maildir++ `.A.B` or levels of a tree, in modified UTF-7
//! (RFC 3501 §5.1.3).
//!
//! Dovecot and Courier write the same names. A dot inside a level is read from `&AC4-`, but no such folder is made:
//! Dovecot 2.3 lists it and cannot open it. Directories in plain UTF-8, as some restore scripts leave them, are read.

use super::{Error, Result};

/// Of a level on disk: NAME_MAX, which other programs use up, and a dot.
const MAX_LEVEL: usize = 254;
/// Of the whole name.
const MAX_NAME: usize = 1000;
/// Of a directory that is made here: others make lock and control files from its name.
pub(super) const MAX_NEW: usize = 200;
const MAX_LEVELS: usize = 32;

/// Checks a client's name and gives it its one form: `INBOX` in capitals (alone and as first level), no trailing `/`.
pub(super) fn normalise(name: &str) -> Result<String> {
    let bad = |why: &str| Err(Error::BadName(format!("not a folder name: {why}")));
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')) {
        return bad("control characters");
    }
    if name.split('/').any(str::is_empty) {
        return bad("an empty level");
    }
    if name.split('/').count() > MAX_LEVELS {
        return bad("too many levels");
    }
    let (first, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    let name = if first.eq_ignore_ascii_case("INBOX") { format!("INBOX{rest}") } else { name.to_owned() };
    if name.len() > MAX_NAME || name.split('/').any(|l| l.len() > MAX_LEVEL && level_to_disk(l, false).len() > MAX_LEVEL) {
        return bad("too long");
    }
    Ok(name)
}

/// The directory below `Maildir/` of a normalised name; empty for INBOX.
pub(super) fn to_disk(name: &str) -> String {
    if name == "INBOX" {
        return String::new();
    }
    name.split('/').map(|level| format!(".{}", encode(level))).collect()
}

/// As [`to_disk`], in plain UTF-8: where a foreign program may have put it.
pub(super) fn to_disk_plain(name: &str) -> String {
    name.split('/').map(|level| format!(".{level}")).collect()
}

/// The name of a directory below `Maildir/`; `None` when it is no folder of ours.
pub(super) fn from_disk(dir: &str) -> Option<String> {
    let levels = dir.strip_prefix('.')?;
    if levels.contains('/') {
        return None;
    }
    // What is not the modified UTF-7 that we would write is shown as it stands, so that every shown name leads back.
    let decoded = levels.split('.').map(decode).collect::<Option<Vec<String>>>().map(|l| l.join("/"));
    let name = decoded.filter(|n| to_disk(n) == dir).unwrap_or_else(|| levels.replace('.', "/"));
    // A `.INBOX` directory would hide behind the real one.
    (normalise(&name).is_ok_and(|n| n == name) && name != "INBOX").then_some(name)
}

/// A level's directory in a tree; in UTF-8, unless that would mean something else in modified UTF-7.
pub(super) fn level_to_disk(level: &str, utf8: bool) -> String {
    if utf8 && level_from_disk(level) == level { level.to_owned() } else { encode_but(level, "") }
}

/// And back: what is not the modified UTF-7 that we would write stands as it is.
pub(super) fn level_from_disk(level: &str) -> String {
    decode(level).filter(|d| encode_but(d, "") == level).unwrap_or_else(|| level.to_owned())
}

/// One level, for `subscriptions`.
pub(super) fn decode_or_plain(level: &str) -> String {
    decode(level).filter(|d| encode(d) == level || encode_but(d, "") == level).unwrap_or_else(|| level.to_owned())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// For Maildir++, where a dot separates levels.
fn encode(level: &str) -> String {
    encode_but(level, ".")
}

/// Modified UTF-7; `but` are characters that do not stand for themselves.
fn encode_but(level: &str, but: &str) -> String {
    let mut out = String::with_capacity(level.len());
    let (mut bits, mut n, mut inside) = (0u32, 0u32, false);
    for c in level.chars() {
        if matches!(c, ' '..='~') && !but.contains(c) {
            if inside {
                close(&mut out, bits, n);
                (bits, n, inside) = (0, 0, false);
            }
            out.push(c);
            if c == '&' {
                out.push('-');
            }
            continue;
        }
        if !inside {
            out.push('&');
            inside = true;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            bits = bits << 16 | u32::from(*unit);
            n += 16;
            while n >= 6 {
                n -= 6;
                out.push(ALPHABET[(bits >> n & 63) as usize] as char);
            }
            bits &= (1 << n) - 1;
        }
    }
    if inside {
        close(&mut out, bits, n);
    }
    out
}

fn close(out: &mut String, bits: u32, n: u32) {
    if n > 0 {
        out.push(ALPHABET[(bits << (6 - n) & 63) as usize] as char);
    }
    out.push('-');
}

fn decode(level: &str) -> Option<String> {
    let mut out = String::with_capacity(level.len());
    let mut rest = level;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = at + rest[at..].find('-')?;
        match &rest[at + 1..end] {
            "" => out.push('&'),
            code => out.push_str(&decode_shifted(code.as_bytes())?),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

fn decode_shifted(code: &[u8]) -> Option<String> {
    let (mut units, mut bits, mut n) = (Vec::new(), 0u32, 0u32);
    for b in code {
        let value = ALPHABET.iter().position(|a| a == b)? as u32;
        bits = bits << 6 | value;
        n += 6;
        if n >= 16 {
            n -= 16;
            units.push((bits >> n) as u16);
            bits &= (1 << n) - 1;
        }
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_disk_and_back() {
        const CASES: &[(&str, &str)] = &[
            ("Sent", ".Sent"),
            ("Lists/rust", ".Lists.rust"),
            ("Entwürfe", ".Entw&APw-rfe"),
            ("A&B", ".A&-B"),
            ("v1.0", ".v1&AC4-0"),
            (".hidden", ".&AC4-hidden"),
            ("..", ".&AC4ALg-"),
            ("台北/日本語", ".&U,BTFw-.&ZeVnLIqe-"),
            ("😀", ".&2D3eAA-"),
            ("~peter/mail", ".~peter.mail"),
            ("INBOX/x", ".INBOX.x"),
        ];
        for (name, dir) in CASES {
            assert_eq!(to_disk(name), *dir, "{name}");
            assert_eq!(from_disk(dir).as_deref(), Some(*name), "{dir}");
        }
        assert_eq!(to_disk("INBOX"), "");
    }

    #[test]
    fn foreign_directories() {
        const CASES: &[(&str, Option<&str>)] = &[
            (".Rohé", Some("Rohé")),
            (".A&B", Some("A&B")),
            (".&AGE-", Some("&AGE-")), // an encoded "a": not how anybody should write it
            (".&2D0-", Some("&2D0-")), // half a surrogate pair
            (".&AC8-", Some("&AC8-")), // an encoded slash
            ("..trash", None),
            ("..", None),
            (".", None),
            ("cur", None),
            (".inbox", None),
            (".INBOX", None),
            (".a..b", None),
            (".a\nb", None),
        ];
        for (dir, name) in CASES {
            assert_eq!(from_disk(dir).as_deref(), *name, "{dir:?}");
        }
    }

    #[test]
    fn names_of_clients() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("inbox", Some("INBOX")),
            ("InBox/Sub", Some("INBOX/Sub")),
            ("Sub/inbox", Some("Sub/inbox")),
            ("a/", Some("a")),
            ("a//", None),
            ("", None),
            ("/", None),
            ("/a", None),
            ("a//b", None),
            ("a\0b", None),
            ("a\u{85}b", None),
            ("../../etc", Some("../../etc")), // harmless: .&AC4ALg-.&AC4ALg-.etc
        ];
        for (name, want) in CASES {
            assert_eq!(normalise(name).ok().as_deref(), *want, "{name:?}");
        }
        for (len, known, new) in [(199, true, true), (200, true, false), (254, true, false), (255, false, false)] {
            let name = "x".repeat(len);
            let for_new = crate::store::layout::for_new(&name, crate::store::layout::Layout::default());
            assert_eq!((normalise(&name).is_ok(), for_new.is_ok()), (known, new), "{len}");
        }
        assert!(normalise(&"a/".repeat(40)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{1,20}") {
            if let Ok(n) = normalise(&name) && n != "INBOX" {
                let dir = to_disk(&n);
                proptest::prop_assert!(!dir.contains('/') && dir.starts_with('.'));
                proptest::prop_assert_eq!(from_disk(&dir), Some(n));
            }
        }
        #[test]
        fn every_directory_shown_leads_back(dir in "\\.[&A-Za-z+,.é-]{1,12}") {
            if let Some(name) = from_disk(&dir) {
                proptest::prop_assert!(to_disk(&name) == dir || to_disk_plain(&name) == dir);
            }
        }
    }
}
