//! The tokens of RFC 3501 §9 over one cut command.

use std::{borrow::Cow, fmt};

/// What the parser wanted and where, counted in bytes from the start of the command. Fit for a BAD response:
/// it quotes nothing of what the client sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    pub at: usize,
    pub expected: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at + 1)
    }
}
impl std::error::Error for Error {}

pub type Parse<T> = Result<T, Error>;

/// A place in a command. All reading methods leave it where it was when they fail with `None`; after an `Err` the
/// command is bad as a whole.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// `ATOM-CHAR`.
pub fn is_atom_char(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}
/// `ASTRING-CHAR`: an atom's or `]`. 8-bit bytes too: some clients send UTF-8 names bare.
pub fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']' || b >= 0x80
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    pub fn at(&self) -> usize {
        self.at
    }
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
    pub fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }
    pub fn fail<T>(&self, expected: &'static str) -> Parse<T> {
        Err(Error { at: self.at, expected })
    }
    pub fn eat(&mut self, b: u8) -> bool {
        let there = self.peek() == Some(b);
        self.at += usize::from(there);
        there
    }
    pub fn want(&mut self, b: u8, expected: &'static str) -> Parse<()> {
        if self.eat(b) { Ok(()) } else { self.fail(expected) }
    }
    /// One space. More are tolerated: several clients double them.
    pub fn space(&mut self) -> Parse<()> {
        self.want(b' ', "a space")?;
        self.spaces();
        Ok(())
    }
    pub fn spaces(&mut self) {
        while self.eat(b' ') {}
    }
    /// The end of the command; trailing spaces are forgiven.
    pub fn end(&mut self) -> Parse<()> {
        self.spaces();
        if self.is_done() { Ok(()) } else { self.fail("the end of the command") }
    }
    fn take_while(&mut self, mut f: impl FnMut(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let n = rest.iter().position(|&b| !f(b)).unwrap_or(rest.len());
        self.at += n;
        rest.get(..n).unwrap_or_default()
    }
    /// Skips `word`, in any case, when it stands here as a whole.
    pub fn word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let there = rest.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()))
            && !rest.get(word.len()).is_some_and(|&b| is_atom_char(b) && b != b'[' && b != b'<');
        self.at += if there { word.len() } else { 0 };
        there
    }
    pub fn atom(&mut self, expected: &'static str) -> Parse<&'a str> {
        match std::str::from_utf8(self.take_while(is_atom_char)) {
            Ok(a) if !a.is_empty() => Ok(a),
            _ => self.fail(expected),
        }
    }
    /// Letters, digits, `.` and `-`: the names of FETCH items and of search keys, which `[` or `(` may follow.
    pub fn name(&mut self) -> &'a str {
        std::str::from_utf8(self.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))).unwrap_or_default()
    }
    /// `tag`: ASTRING-CHARs except `+`.
    pub fn tag(&mut self) -> Parse<&'a str> {
        match std::str::from_utf8(self.take_while(|b| is_astring_char(b) && b < 0x80 && b != b'+')) {
            Ok(t) if !t.is_empty() && t.len() <= 128 => Ok(t),
            _ => self.fail("a tag"),
        }
    }
    pub fn number64(&mut self) -> Parse<u64> {
        let start = self.at;
        let digits = self.take_while(|b| b.is_ascii_digit());
        let n = std::str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok());
        n.ok_or(Error { at: start, expected: "a number" })
    }
    pub fn number(&mut self) -> Parse<u32> {
        let start = self.at;
        u32::try_from(self.number64()?).map_err(|_| Error { at: start, expected: "a number below 2^32" })
    }
    pub fn non_zero(&mut self) -> Parse<u32> {
        let start = self.at;
        match self.number()? {
            0 => Err(Error { at: start, expected: "a number above 0" }),
            n => Ok(n),
        }
    }
    /// `quoted` or `literal`.
    pub fn string(&mut self, expected: &'static str) -> Parse<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => self.fail(expected),
        }
    }
    pub fn astring(&mut self, expected: &'static str) -> Parse<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(expected),
            _ => match self.take_while(is_astring_char) {
                [] => self.fail(expected),
                a => Ok(Cow::Borrowed(a)),
            },
        }
    }
    /// `list-mailbox`: an astring in which `%` and `*` may stand bare.
    pub fn pattern(&mut self) -> Parse<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string("a pattern"),
            _ => match self.take_while(|b| is_astring_char(b) || matches!(b, b'%' | b'*')) {
                [] => self.fail("a pattern"),
                a => Ok(Cow::Borrowed(a)),
            },
        }
    }
    /// An astring that must be UTF-8.
    pub fn text(&mut self, expected: &'static str) -> Parse<String> {
        let start = self.at;
        String::from_utf8(self.astring(expected)?.into_owned()).map_err(|_| Error { at: start, expected: "UTF-8" })
    }
    /// `nstring`: NIL or a string.
    pub fn nstring(&mut self) -> Parse<Option<Cow<'a, [u8]>>> {
        if self.word("NIL") { Ok(None) } else { self.string("a string or NIL").map(Some) }
    }
    fn quoted(&mut self) -> Parse<Cow<'a, [u8]>> {
        self.want(b'"', "a quoted string")?;
        let plain = self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0));
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = plain.to_vec();
        while self.eat(b'\\') {
            match self.peek() {
                Some(b @ (b'"' | b'\\')) => out.push(b),
                _ => return self.fail("\" or \\ after \\"),
            }
            self.at += 1;
            out.extend_from_slice(self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)));
        }
        self.want(b'"', "a closing quote")?;
        Ok(Cow::Owned(out))
    }
    /// The framer has cut by the same rule, so the octets are there; if not, the command is bad.
    fn literal(&mut self) -> Parse<&'a [u8]> {
        self.want(b'{', "a literal")?;
        let n = usize::try_from(self.number64()?).unwrap_or(usize::MAX);
        self.eat(b'+');
        self.want(b'}', "}")?;
        self.eat(b'\r');
        self.want(b'\n', "the end of the line")?;
        let Some(octets) = self.rest().get(..n) else { return self.fail("a whole literal") };
        if octets.contains(&0) {
            return self.fail("a literal without NUL");
        }
        self.at += n;
        Ok(octets)
    }
    /// `(` items separated by spaces `)`; an empty list is the caller's to judge.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        self.want(b'(', "(")?;
        let mut out = Vec::new();
        self.spaces();
        while !self.eat(b')') {
            out.push(item(self)?);
            if self.peek() != Some(b')') {
                self.space()?;
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn astrings() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("INBOX rest", Some("INBOX")),
            ("\"a b\" x", Some("a b")),
            ("\"a \\\"b\\\\\"", Some("a \"b\\")),
            ("\"\"", Some("")),
            ("{3}\r\na\r\n", Some("a\r\n")),
            ("{3+}\nabc", Some("abc")),
            ("{4}\r\nabc", None),
            ("{2}\r\na\0", None),
            ("{18446744073709551616}\r\n", None),
            ("\"open", None),
            ("\"bad\\n\"", None),
            ("(", None),
            ("", None),
            ("a]b", Some("a]b")),
        ];
        for (text, want) in CASES {
            let got = Cursor::new(text.as_bytes()).astring("x").ok();
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{text:?}");
        }
    }
    #[test]
    fn numbers_and_words() {
        assert_eq!(Cursor::new(b"4294967295").number(), Ok(u32::MAX));
        assert!(Cursor::new(b"4294967296").number().is_err());
        assert!(Cursor::new(b"99999999999999999999").number64().is_err());
        assert!(Cursor::new(b"0").non_zero().is_err());
        assert!(Cursor::new(b"not x").word("NOT"));
        assert!(!Cursor::new(b"nothing").word("NOT"));
    }
    #[test]
    fn lists() {
        let mut c = Cursor::new(b"(a b  c)x");
        assert_eq!(c.list(|c| c.atom("atom")), Ok(vec!["a", "b", "c"]));
        assert!(c.eat(b'x'));
        assert!(Cursor::new(b"(a").list(|c| c.atom("atom")).is_err());
        assert_eq!(Cursor::new(b"()").list(|c| c.atom("atom")), Ok(vec![]));
    }
}
