//! Responses (RFC 3501 §7): strings, names, flags, status lines, FETCH.

use super::{cursor, mailbox, sequence};
use std::fmt::Display;

/// What RFC 7162 §4 has clients send in one line at most is a good measure for theirs.
const SET_MAX: usize = 8000;

/// `quoted` where it may be, else `literal`. NUL cannot be sent and becomes U+FFFD's stand-in `?`.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    // 8-bit bytes are not allowed in quoted strings of IMAP4rev1. Long ones are read more easily as literals.
    if text.len() <= 1024 && text.iter().all(|&b| matches!(b, 1..=0x7f) && !matches!(b, b'\r' | b'\n')) {
        out.push(b'"');
        let mut rest = text;
        while let Some((plain, escaped)) = memchr::memchr2(b'"', b'\\', rest).and_then(|at| rest.split_at_checked(at)) {
            out.extend_from_slice(plain);
            out.push(b'\\');
            let (special, behind) = escaped.split_at(1);
            out.extend_from_slice(special);
            rest = behind;
        }
        out.extend_from_slice(rest);
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
    out.push(b'{');
    number(out, len);
    out.extend_from_slice(b"}\r\n");
}

/// Decimal, without a detour through `fmt`: a FETCH of a large folder is mostly numbers.
pub fn number(out: &mut Vec<u8>, n: u64) {
    let start = out.len();
    let mut rest = n;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
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

/// `FLAGS (…)`.
pub fn flags<T: AsRef<str>>(out: &mut Vec<u8>, flags: impl IntoIterator<Item = T>) {
    out.extend_from_slice(b"FLAGS (");
    words(out, flags);
    out.push(b')');
}

/// `MODSEQ (n)`.
pub fn modseq(out: &mut Vec<u8>, modseq: u64) {
    out.extend_from_slice(b"MODSEQ (");
    number(out, modseq);
    out.push(b')');
}

/// VANISHED (RFC 7162 §3.2.10) of ascending ranges: as many responses as keep their lines short, none for none.
pub fn vanished(out: &mut Vec<u8>, earlier: bool, ranges: impl IntoIterator<Item = (u32, u32)>) {
    let mut begun = None;
    for range in ranges {
        match begun {
            Some(start) if out.len() - start < SET_MAX => out.push(b','),
            other => {
                out.extend_from_slice(if other.is_some() { b"\r\n" } else { b"" });
                out.extend_from_slice(if earlier { b"* VANISHED (EARLIER) " } else { b"* VANISHED " });
                begun = Some(out.len());
            }
        }
        sequence::write_range(out, range);
    }
    if begun.is_some() {
        out.extend_from_slice(b"\r\n");
    }
}

/// One `* n FETCH (…)` in the making.
pub struct Fetch<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Fetch<'a> {
    pub fn begin(out: &'a mut Vec<u8>, seq: u32) -> Self {
        out.extend_from_slice(b"* ");
        number(out, seq.into());
        out.extend_from_slice(b" FETCH (");
        Self { out, first: true }
    }
    /// A space where one is due, then where the item goes.
    pub fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b' ');
        }
        self.out
    }
    pub fn uid(&mut self, uid: u32) {
        let out = self.item();
        out.extend_from_slice(b"UID ");
        number(out, uid.into());
    }
    pub fn modseq(&mut self, modseq: u64) {
        self::modseq(self.item(), modseq);
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
        flags(f.item(), ["\\Seen", "$Junk"]);
        f.uid(7);
        f.modseq(u64::MAX);
        f.end();
        status(&mut out, "a1", "OK", Some("READ-WRITE"), "Done.");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "* 3 FETCH (FLAGS (\\Seen $Junk) UID 7 MODSEQ (18446744073709551615))\r\na1 OK [READ-WRITE] Done.\r\n"
        );
    }
    #[test]
    fn what_vanished_keeps_its_lines_short() {
        let mut out = Vec::new();
        vanished(&mut out, true, []);
        vanished(&mut out, true, [(1, 5), (7, 7), (10, 15)]);
        vanished(&mut out, false, [(405, 405), (407, 407)]);
        assert_eq!(String::from_utf8_lossy(&out), "* VANISHED (EARLIER) 1:5,7,10:15\r\n* VANISHED 405,407\r\n");
        out.clear();
        vanished(&mut out, false, (1..10_000).map(|n| (2 * n, 2 * n)));
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().count() == 7 && text.lines().all(|l| l.len() < SET_MAX + 40 && l.starts_with("* VANISHED ") && !l.ends_with(',')));
        let mut numbers = text.lines().flat_map(|l| l["* VANISHED ".len()..].split(',')).map(|n| n.parse::<u32>().unwrap());
        assert!(numbers.by_ref().eq((1..10_000).map(|n| 2 * n)));
    }
}
