//! Responses (RFC 3501 §7): strings, names, flags, status lines, FETCH.

use super::{cursor, mailbox};
use std::fmt::Display;

/// `quoted` where it may be, else `literal`. NUL cannot be sent and becomes U+FFFD's stand-in `?`.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    // 8-bit bytes are not allowed in quoted strings of IMAP4rev1. Long ones are read more easily as literals.
    if text.len() <= 1024 && text.iter().all(|&b| matches!(b, 1..=0x7f) && !matches!(b, b'\r' | b'\n')) {
        out.push(b'"');
        for &b in text {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(b);
        }
        out.push(b'"');
        return;
    }
    literal_head(out, text.len() as u64);
    out.extend(text.iter().map(|&b| if b == 0 { b'?' } else { b }));
}

pub fn nstring(out: &mut Vec<u8>, text: Option<&[u8]>) {
    match text {
        Some(t) => string(out, t),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Bare where it may be.
pub fn astring(out: &mut Vec<u8>, text: &[u8]) {
    let plain = !text.is_empty() && !text.eq_ignore_ascii_case(b"NIL") && text.iter().all(|&b| cursor::is_atom_char(b));
    if plain { out.extend_from_slice(text) } else { string(out, text) }
}

/// A folder's UTF-8 name, in modified UTF-7.
pub fn folder(out: &mut Vec<u8>, name: &str) {
    astring(out, mailbox::encode(name).as_bytes());
}

/// `{n}` and its line end; the caller sends the octets.
pub fn literal_head(out: &mut Vec<u8>, len: u64) {
    out.extend_from_slice(format!("{{{len}}}\r\n").as_bytes());
}

/// A status response: `tag OK [CODE] text`.
pub fn status(out: &mut Vec<u8>, tag: &str, kind: &str, code: Option<&str>, text: &str) {
    let code = code.map_or_else(String::new, |c| format!("[{c}] "));
    line(out, format_args!("{tag} {kind} {code}{text}"));
}

/// Any line; what is shown must not hold a line end.
pub fn line(out: &mut Vec<u8>, text: impl Display) {
    use std::io::Write;
    let _ = write!(out, "{text}\r\n");
}

/// Separated by spaces, without parentheses.
pub fn words<T: AsRef<str>>(out: &mut Vec<u8>, words: impl IntoIterator<Item = T>) {
    for (i, w) in words.into_iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(w.as_ref().as_bytes());
    }
}

/// One `* n FETCH (…)` in the making.
pub struct Fetch<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Fetch<'a> {
    pub fn begin(out: &'a mut Vec<u8>, seq: u32) -> Self {
        out.extend_from_slice(format!("* {seq} FETCH (").as_bytes());
        Self { out, first: true }
    }
    /// A space where one is due, then where the item goes.
    pub fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b' ');
        }
        self.out
    }
    pub fn value(&mut self, name: &str, value: impl Display) {
        use std::io::Write;
        let _ = write!(self.item(), "{name} {value}");
    }
    pub fn flags<T: AsRef<str>>(&mut self, flags: impl IntoIterator<Item = T>) {
        let out = self.item();
        out.extend_from_slice(b"FLAGS (");
        words(out, flags);
        out.push(b')');
    }
    pub fn end(self) {
        self.out.extend_from_slice(b")\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        const CASES: &[(&[u8], &str, &str)] = &[
            (b"INBOX", "\"INBOX\"", "INBOX"),
            (b"", "\"\"", "\"\""),
            (b"a b", "\"a b\"", "\"a b\""),
            (b"a\"b\\", "\"a\\\"b\\\\\"", "\"a\\\"b\\\\\""),
            (b"a\r\nb", "{4}\r\na\r\nb", "{4}\r\na\r\nb"),
            ("ü".as_bytes(), "{2}\r\nü", "{2}\r\nü"),
            (b"a\0", "{2}\r\na?", "{2}\r\na?"),
            (b"nil", "\"nil\"", "\"nil\""),
            (b"a]", "\"a]\"", "\"a]\""),
        ];
        for (text, as_string, as_astring) in CASES {
            let mut out = Vec::new();
            string(&mut out, text);
            assert_eq!(String::from_utf8_lossy(&out), *as_string);
            out.clear();
            astring(&mut out, text);
            assert_eq!(String::from_utf8_lossy(&out), *as_astring);
        }
    }
    #[test]
    fn a_fetch() {
        let mut out = Vec::new();
        let mut f = Fetch::begin(&mut out, 3);
        f.flags(["\\Seen", "$Junk"]);
        f.value("UID", 7);
        f.end();
        status(&mut out, "a1", "OK", Some("READ-WRITE"), "Done.");
        assert_eq!(String::from_utf8(out).unwrap(), "* 3 FETCH (FLAGS (\\Seen $Junk) UID 7)\r\na1 OK [READ-WRITE] Done.\r\n");
    }
}
