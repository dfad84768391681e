//! Replies (RFC 5321 §4.2): ours written, a remote's parsed. Enhanced codes as RFC 2034 and RFC 3463.

use std::fmt;

/// RFC 3463 `class.subject.detail`. Details above 255 are not known to exist; such a code stays in the text.
pub type Enhanced = (u8, u8, u8);

/// A whole reply, however many lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    /// Without codes; `\n` between lines.
    pub text: String,
}

/// Octets of text in a line that we write: with codes and CRLF this stays below the 512 of RFC 5321 §4.5.3.1.5.
const WRITE_WIDTH: usize = 480;

impl Reply {
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<String>) -> Self {
        Self { code, enhanced: Some(enhanced), text: text.into() }
    }
    /// Greeting, EHLO and 3xx replies carry no enhanced code (RFC 2034 §4).
    pub fn bare(code: u16, text: impl Into<String>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }
    /// 2xx or 3xx.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }
    /// Appends the reply's lines. Whatever the text holds, they are lines of at most 512 octets of printable ASCII:
    /// RFC 6531 would allow UTF-8 in places, but no text of ours needs it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut lines = Vec::new();
        for line in self.text.split('\n') {
            let clean: String = line.chars().filter(|&c| c != '\r').map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
            wrap(&clean, &mut lines);
        }
        let enhanced = self.enhanced.map(|(a, b, c)| format!("{a}.{b}.{c}")).unwrap_or_default();
        let last = lines.len() - 1;
        for (n, line) in lines.iter().enumerate() {
            let joint = if n == last { ' ' } else { '-' };
            let gap = if enhanced.is_empty() || line.is_empty() { "" } else { " " };
            out.extend_from_slice(format!("{:03}{joint}{enhanced}{gap}{line}\r\n", self.code).as_bytes());
        }
    }
    /// For tests and callers that send it alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// One line, for logs and bounces: `550 5.1.1 No such user`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        if let Some((a, b, c)) = self.enhanced {
            write!(f, " {a}.{b}.{c}")?;
        }
        for line in self.text.split('\n').filter(|l| !l.is_empty()) {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

/// Cuts an ASCII line at spaces into pieces of at most [`WRITE_WIDTH`]. At least one piece, maybe empty.
fn wrap(line: &str, out: &mut Vec<String>) {
    let mut rest = line;
    while rest.len() > WRITE_WIDTH {
        let (head, tail) = rest.split_at(WRITE_WIDTH);
        match head.rfind(' ').filter(|&at| at > 0) {
            Some(at) => {
                out.push(rest[..at].to_owned());
                rest = &rest[at + 1..];
            }
            None => {
                out.push(head.to_owned());
                rest = tail;
            }
        }
    }
    out.push(rest.to_owned());
}

/// Longest line, with its end, that a remote may send: RFC 5321 says 512, some say more.
const MAX_LINE: usize = 4096;
/// Lines of one reply.
const MAX_LINES: usize = 256;
/// Text of one reply in octets.
const MAX_TEXT: usize = 32 * 1024;

/// What a remote sent is not a reply. The dialogue cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadReply {
    TooLong,
    /// Does not begin with a code and ` `, `-` or the line's end.
    NoCode,
}

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "reply too long",
            Self::NoCode => "not an SMTP reply",
        })
    }
}

impl std::error::Error for BadReply {}

/// Reads replies at any chunking, each of bounded size. As client we are lenient where it harms nobody: a lone LF
/// ends a line too, and when the lines' codes differ the last one counts.
#[derive(Debug, Default)]
pub struct ReplyParser {
    text: String,
    lines: usize,
}

impl ReplyParser {
    pub fn new() -> Self {
        Self::default()
    }
    /// Takes one line when there is one: `Some((consumed, None))` in the middle of a reply, `Some((consumed,
    /// Some(reply)))` at its end, and then it is ready for the next. `None`: more bytes are needed. For
    /// `Wire::next`, in a loop until the value is `Some`.
    pub fn cut(&mut self, bytes: &[u8]) -> Option<(usize, Option<Result<Reply, BadReply>>)> {
        let window = bytes.get(..MAX_LINE).unwrap_or(bytes);
        let Some(end) = memchr::memchr(b'\n', window) else {
            return (bytes.len() >= MAX_LINE).then(|| (0, Some(Err(self.fail(BadReply::TooLong)))));
        };
        let line = &bytes[..end];
        Some((end + 1, self.line(line.strip_suffix(b"\r").unwrap_or(line))))
    }
    fn fail(&mut self, why: BadReply) -> BadReply {
        *self = Self::default();
        why
    }
    fn line(&mut self, line: &[u8]) -> Option<Result<Reply, BadReply>> {
        let Some((code, more, rest)) = split(line) else {
            return Some(Err(self.fail(BadReply::NoCode)));
        };
        if self.lines == MAX_LINES || self.text.len() + rest.len() > MAX_TEXT {
            return Some(Err(self.fail(BadReply::TooLong)));
        }
        let text = String::from_utf8_lossy(rest);
        let (enhanced, text) = match enhanced(code, &text) {
            Some((enhanced, text)) => (Some(enhanced), text),
            None => (None, &*text),
        };
        if self.lines > 0 {
            self.text.push('\n');
        }
        self.lines += 1;
        self.text.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        if more {
            return None;
        }
        let text = std::mem::take(self).text;
        Some(Ok(Reply { code, enhanced, text }))
    }
}

/// Code, whether more lines follow, text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest) = line.split_first_chunk::<3>()? else {
        return None;
    };
    let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    match rest.split_first() {
        None => Some((code, false, rest)),
        Some((b' ', rest)) => Some((code, false, rest)),
        Some((b'-', rest)) => Some((code, true, rest)),
        Some(_) => None,
    }
}

/// `x.y.z` with the class of the code before the text (RFC 2034 §4).
fn enhanced(code: u16, text: &str) -> Option<(Enhanced, &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = word.split('.');
    let mut number = || parts.next().filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))?.parse::<u8>().ok();
    let triple = (number()?, number()?, number()?);
    (parts.next().is_none() && u16::from(triple.0) == code / 100 && matches!(triple.0, 2 | 4 | 5)).then_some((triple, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `size` bytes at a time, as Wire would.
    fn parse(input: &[u8], size: usize) -> Vec<Result<Reply, BadReply>> {
        let (mut parser, mut buffer, mut out) = (ReplyParser::new(), Vec::new(), Vec::new());
        for chunk in input.chunks(size) {
            buffer.extend_from_slice(chunk);
            while let Some((n, reply)) = parser.cut(&buffer) {
                buffer.drain(..n);
                let ended = matches!(reply, Some(Err(_)));
                out.extend(reply);
                if ended {
                    return out;
                }
            }
        }
        out
    }

    fn reply(code: u16, enhanced: Option<Enhanced>, text: &str) -> Result<Reply, BadReply> {
        Ok(Reply { code, enhanced, text: text.into() })
    }

    #[test]
    fn parses_at_any_chunking() {
        let cases: &[(&str, Vec<Result<Reply, BadReply>>)] = &[
            ("220 mx.example ESMTP\r\n", vec![reply(220, None, "mx.example ESMTP")]),
            ("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n", vec![reply(250, Some((2, 1, 0)), "Ok"), reply(250, Some((2, 1, 5)), "Ok")]),
            ("250-mx.example\r\n250-SIZE 1000\r\n250 DSN\r\n", vec![reply(250, None, "mx.example\nSIZE 1000\nDSN")]),
            ("550-5.1.1 No such\r\n550 5.1.1 user\r\n", vec![reply(550, Some((5, 1, 1)), "No such\nuser")]),
            ("354\r\n", vec![reply(354, None, "")]),
            ("250 \n", vec![reply(250, None, "")]),
            ("550 4.1.1 class differs\r\n", vec![reply(550, None, "4.1.1 class differs")]),
            ("250 2.0.0\r\n", vec![reply(250, Some((2, 0, 0)), "")]),
            ("250 2.0.999 x\r\n", vec![reply(250, None, "2.0.999 x")]),
            ("250 2.0.0.1 x\r\n", vec![reply(250, None, "2.0.0.1 x")]),
            ("451-a\r\n550 b\r\n", vec![reply(550, None, "a\nb")]),
            ("220 a\rb\x1b\u{e9}\r\n", vec![reply(220, None, "a b \u{e9}")]),
            ("220_x\r\n", vec![Err(BadReply::NoCode)]),
            ("199 x\r\n", vec![Err(BadReply::NoCode)]),
            ("22\r\n", vec![Err(BadReply::NoCode)]),
            ("\r\n", vec![Err(BadReply::NoCode)]),
            ("HTTP/1.1 400\r\n", vec![Err(BadReply::NoCode)]),
            ("250-never ends\r\n", vec![]),
        ];
        for (input, want) in cases {
            for size in [1, 2, 3, 7, 4096] {
                assert_eq!(parse(input.as_bytes(), size), *want, "{input:?} by {size}");
            }
        }
    }

    #[test]
    fn bounds() {
        let long = "250 ".to_owned() + &"x".repeat(MAX_LINE);
        let many = "250-x\r\n".repeat(MAX_LINES + 1);
        let much = format!("250-{}\r\n", "x".repeat(4000)).repeat(9);
        for (name, input) in [("long", long), ("many", many), ("much", much)] {
            for size in [1000, 100_000] {
                assert_eq!(parse(input.as_bytes(), size), [Err(BadReply::TooLong)], "{name}");
            }
        }
    }

    #[test]
    fn writes_lines_whatever_the_text() {
        let long = format!("{} {}", "a".repeat(400), "b".repeat(600));
        let cases: &[(Reply, String)] = &[
            (Reply::new(250, (2, 1, 0), "Ok (7DK2)"), "250 2.1.0 Ok (7DK2)\r\n".into()),
            (Reply::bare(250, "mx\nPIPELINING\nSIZE 10"), "250-mx\r\n250-PIPELINING\r\n250 SIZE 10\r\n".into()),
            (Reply::new(550, (5, 1, 1), "a\r\nb\0é"), "550-5.1.1 a\r\n550 5.1.1 b??\r\n".into()),
            (Reply::bare(354, ""), "354 \r\n".into()),
            (
                Reply::new(550, (5, 7, 1), long),
                format!("550-5.7.1 {}\r\n550-5.7.1 {}\r\n550 5.7.1 {}\r\n", "a".repeat(400), "b".repeat(480), "b".repeat(120)),
            ),
        ];
        for (reply, want) in cases {
            assert_eq!(String::from_utf8(reply.to_bytes()).unwrap(), *want);
        }
    }

    #[test]
    fn one_line_for_people() {
        assert_eq!(Reply::new(550, (5, 1, 1), "No such\nuser").to_string(), "550 5.1.1 No such user");
        assert_eq!(Reply::bare(421, "").to_string(), "421");
    }
}
