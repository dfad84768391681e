//! Folder names on the wire: modified UTF-7 (RFC 3501 §5.1.3), UTF-8 inside. And LIST's patterns.

use super::cursor::{Cursor, Parse};
use std::fmt::Write;

/// Bytes of a name as a client sent it. Longer ones cannot be directories.
const NAME_MAX: usize = 1024;

/// An astring that names a folder, as UTF-8. `inbox` in any case is `INBOX`.
pub fn parse(c: &mut Cursor<'_>) -> Parse<String> {
    let at = c.clone();
    let raw = c.astring("a folder name")?;
    match decode(&raw) {
        Some(name) if raw.len() <= NAME_MAX => Ok(inbox(name)),
        Some(_) => at.fail("a shorter folder name"),
        None => at.fail("a folder name in modified UTF-7"),
    }
}

fn inbox(name: String) -> String {
    if name.eq_ignore_ascii_case("INBOX") { "INBOX".into() } else { name }
}

/// From modified UTF-7, or from plain UTF-8 where a client sends that. `None`: neither.
pub fn decode(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    if !text.contains('&') || !text.is_ascii() {
        return Some(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, shifted)) = rest.split_once('&') {
        out.push_str(plain);
        let (code, after) = shifted.split_once('-')?;
        if code.is_empty() {
            out.push('&')
        } else {
            shift(&mut out, code)?
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn shift(out: &mut String, code: &str) -> Option<()> {
    let (mut bits, mut held) = (0u32, 0u32);
    let mut units = Vec::with_capacity(code.len());
    for b in code.bytes() {
        bits = (bits << 6) | u32::from(sextet(b)?);
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    if held >= 6 || bits != 0 {
        return None;
    }
    for c in char::decode_utf16(units) {
        out.push(c.ok()?);
    }
    Some(())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

fn sextet(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b',' => 63,
        _ => return None,
    })
}

/// To modified UTF-7.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let plain = |c: char| (' '..='~').contains(&c);
        if plain(first) {
            out.push_str(if first == '&' { "&-" } else { rest.get(..1).unwrap_or_default() });
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let end = rest.find(plain).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push('&');
        let (mut bits, mut held) = (0u32, 0u32);
        for unit in run.encode_utf16() {
            bits = (bits << 16) | u32::from(unit);
            held += 16;
            while held >= 6 {
                held -= 6;
                out.push(char::from(ALPHABET[(bits >> held) as usize & 63]));
                bits &= (1 << held) - 1;
            }
        }
        if held > 0 {
            out.push(char::from(ALPHABET[(bits << (6 - held)) as usize & 63]));
        }
        let _ = out.write_char('-');
        rest = after;
    }
    out
}

/// Does `name` match LIST's `pattern` (RFC 3501 §6.3.8)? `*` is anything, `%` anything within one level. INBOX
/// compares without case. Linear in pattern times name, whatever the pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let fold = name == "INBOX" || name.starts_with("INBOX/");
    let name: Vec<char> = name.chars().collect();
    // reach[i]: the pattern so far can have eaten the first i letters.
    let mut reach = vec![false; name.len() + 1];
    reach[0] = true;
    for p in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        match p {
            '*' | '%' => {
                let mut on = false;
                for (i, slot) in next.iter_mut().enumerate() {
                    on = on && !(p == '%' && i > 0 && name.get(i - 1) == Some(&'/'));
                    on = on || reach.get(i) == Some(&true);
                    *slot = on;
                }
            }
            _ => {
                for (i, &c) in name.iter().enumerate() {
                    let same = c == p || (fold && i < 5 && c.eq_ignore_ascii_case(&p));
                    if same && reach.get(i) == Some(&true) {
                        next[i + 1] = true;
                    }
                }
            }
        }
        if !next.contains(&true) {
            return false;
        }
        reach = next;
    }
    reach.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modified_utf7() {
        const CASES: &[(&str, &str)] = &[
            ("INBOX", "INBOX"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("a & b", "a &- b"),
            ("&-", "&--"),
            ("😀", "&2D3eAA-"),
            ("ü\u{e9}x", "&APwA6Q-x"),
            ("", ""),
        ];
        for (name, wire) in CASES {
            assert_eq!(encode(name), *wire);
            assert_eq!(decode(wire.as_bytes()).as_deref(), Some(*name), "{wire}");
        }
        assert_eq!(decode("Entwürfe".as_bytes()).as_deref(), Some("Entwürfe"));
        for bad in ["&", "&AP", "&!-", "&2D0-", "a&b", "&A-"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(b"\xff"), None);
    }
    #[test]
    fn patterns() {
        const CASES: &[(&str, &str, bool)] = &[
            ("*", "a/b/c", true),
            ("%", "a", true),
            ("%", "a/b", false),
            ("%/%", "a/b", true),
            ("a/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("a/*", "a/b/c", true),
            ("a/*", "a", false),
            ("a*", "a", true),
            ("a*c", "a/b/c", true),
            ("a%c", "a/b/c", false),
            ("%b", "ab", true),
            ("inbox", "INBOX", true),
            ("iNb%", "INBOX", true),
            ("sent", "Sent", false),
            ("", "", true),
            ("", "a", false),
            ("*%*", "a/b", true),
            ("%*", "a/b", true),
        ];
        for (pattern, name, want) in CASES {
            assert_eq!(matches(pattern, name), *want, "{pattern} {name}");
        }
    }
    #[test]
    fn a_pattern_of_stars_takes_no_time() {
        let pattern = "*a".repeat(400);
        assert!(!matches(&pattern, &"a/".repeat(300)));
    }
}
