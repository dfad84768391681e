//! POP3 (RFC 1939, 2449, 2595, 5034, 6856): commands, responses, multi-line bodies.
//!
//! Lines are cut by [`Framer`], SMTP's: CRLF and nothing else ends them. RFC 2449 §4 allows 255 octets, that one 2048,
//! for names and passwords in UTF-8 are long. Knows neither the maildrop nor its numbers' meaning.

pub use super::smtp::{Frame, Framer};
use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    Capa,
    Stls,
    Utf8,
    User(String),
    Pass(String),
    /// Mechanism and initial response. No mechanism: list them.
    Auth(Option<String>, Option<String>),
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    /// Message and number of body lines.
    Top(u32, u32),
    Dele(u32),
    Noop,
    Rset,
    Quit,
}

/// Without secrets.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "USER {name:?}"),
            Self::Auth(Some(mechanism), _) => write!(f, "AUTH {mechanism:?} REDACTED"),
            Self::List(n) => write!(f, "LIST {n:?}"),
            Self::Uidl(n) => write!(f, "UIDL {n:?}"),
            Self::Retr(n) => write!(f, "RETR {n}"),
            Self::Top(n, lines) => write!(f, "TOP {n} {lines}"),
            Self::Dele(n) => write!(f, "DELE {n}"),
            other => f.write_str(other.verb()),
        }
    }
}

impl Command {
    /// The line without its CRLF. `Err`: what is wrong, for an `-ERR`.
    pub fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(line).map_err(|_| "Not UTF-8")?;
        if text.chars().any(char::is_control) {
            return Err("Control character in command");
        }
        let (verb, rest) = text.split_once(' ').map_or((text, None), |(v, r)| (v, Some(r)));
        let words = rest.unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            // Everything after the one space: a password may begin and end with blanks.
            "PASS" => rest.filter(|p| !p.is_empty()).map(|p| Self::Pass(p.to_owned())).ok_or("Password wanted"),
            "USER" => Some(words.trim_matches(' ')).filter(|n| !n.is_empty()).map(|n| Self::User(n.to_owned())).ok_or("Name wanted"),
            "AUTH" => auth(words),
            "CAPA" => alone(Self::Capa, words),
            "STLS" => alone(Self::Stls, words),
            "UTF8" => alone(Self::Utf8, words),
            "STAT" => alone(Self::Stat, words),
            "NOOP" => alone(Self::Noop, words),
            "RSET" => alone(Self::Rset, words),
            "QUIT" => alone(Self::Quit, words),
            "LIST" => optional(words).map(Self::List),
            "UIDL" => optional(words).map(Self::Uidl),
            "RETR" => one(words).map(Self::Retr),
            "DELE" => one(words).map(Self::Dele),
            "TOP" => match numbers(words)?.as_slice() {
                [n, lines] => Ok(Self::Top(*n, *lines)),
                _ => Err("Message number and number of lines wanted"),
            },
            _ => Err("Unknown command"),
        }
    }
    /// For the log.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Capa => "CAPA",
            Self::Stls => "STLS",
            Self::Utf8 => "UTF8",
            Self::User(_) => "USER",
            Self::Pass(_) => "PASS",
            Self::Auth(..) => "AUTH",
            Self::Stat => "STAT",
            Self::List(_) => "LIST",
            Self::Uidl(_) => "UIDL",
            Self::Retr(_) => "RETR",
            Self::Top(..) => "TOP",
            Self::Dele(_) => "DELE",
            Self::Noop => "NOOP",
            Self::Rset => "RSET",
            Self::Quit => "QUIT",
        }
    }
}

fn alone(command: Command, rest: &str) -> Result<Command, &'static str> {
    if rest.trim_matches(' ').is_empty() { Ok(command) } else { Err("No argument allowed") }
}

/// At most two decimal numbers that fit.
fn numbers(text: &str) -> Result<Vec<u32>, &'static str> {
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).take(3).collect();
    if words.len() > 2 {
        return Err("Too many arguments");
    }
    let number = |w: &&str| w.parse().ok().filter(|_| w.bytes().all(|b| b.is_ascii_digit())).ok_or("Not a number");
    words.iter().map(number).collect()
}

fn optional(text: &str) -> Result<Option<u32>, &'static str> {
    match numbers(text)?.as_slice() {
        [] => Ok(None),
        [n] => Ok(Some(*n)),
        _ => Err("Too many arguments"),
    }
}

fn one(text: &str) -> Result<u32, &'static str> {
    optional(text)?.ok_or("Message number wanted")
}

/// RFC 5034 §4
fn auth(text: &str) -> Result<Command, &'static str> {
    let mut words = text.split(' ').filter(|w| !w.is_empty());
    let (mechanism, initial, more) = (words.next(), words.next(), words.next());
    if more.is_some() {
        return Err("Too many arguments");
    }
    Ok(Command::Auth(mechanism.map(str::to_owned), initial.map(str::to_owned)))
}

/// RFC 2449 §8, RFC 3206: why an `-ERR`, for programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Name or password; ask the user.
    Auth,
    /// Not the client's fault; try again later.
    SysTemp,
}

/// The one line that answers a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    Ok(String),
    Err(Option<Code>, String),
}

impl Response {
    pub fn ok(text: impl Into<String>) -> Self {
        Self::Ok(text.into())
    }
    pub fn err(text: impl Into<String>) -> Self {
        Self::Err(None, text.into())
    }
    /// With CRLF; what is not printable ASCII becomes `?`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (head, text) = match self {
            Self::Ok(text) => ("+OK", text),
            Self::Err(None, text) => ("-ERR", text),
            Self::Err(Some(Code::Auth), text) => ("-ERR [AUTH]", text),
            Self::Err(Some(Code::SysTemp), text) => ("-ERR [SYS/TEMP]", text),
        };
        out.extend_from_slice(head.as_bytes());
        if !text.is_empty() {
            out.push(b' ');
            out.extend(text.chars().map(|c| if matches!(c, ' '..='~') { c as u8 } else { b'?' }));
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A message with CRLF line ends as it goes over the wire (RFC 1939 §3): dot-stuffed, and the closing dot at the end.
/// In pieces of the message itself, so that nothing is copied on the way to the output buffer.
pub fn stuffed(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first: &[u8] = if message.first() == Some(&b'.') { b"." } else { b"" };
    let mut run = 0;
    let mut cuts = memchr::memmem::find_iter(message, b"\r\n.").map(|at| at + 2);
    let mut done = false;
    let body = std::iter::from_fn(move || {
        let (from, dot): (usize, &[u8]) = (run, b".");
        if done {
            return None;
        }
        let to = cuts.next().unwrap_or_else(|| {
            done = true;
            message.len()
        });
        run = to;
        Some([message.get(from..to).unwrap_or_default(), if done { b"" } else { dot }])
    });
    let end: &[u8] = if message.is_empty() || message.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" };
    std::iter::once(first).chain(body.flatten()).chain(std::iter::once(end)).filter(|piece| !piece.is_empty())
}

/// Header section, the empty line, and so many lines of the body (RFC 1939 §7, TOP).
pub fn top(message: &[u8], lines: u32) -> &[u8] {
    let header = if message.starts_with(b"\r\n") {
        2
    } else {
        match memchr::memmem::find(message, b"\r\n\r\n") {
            Some(at) => at + 4,
            None => return message,
        }
    };
    let body = message.get(header..).unwrap_or_default();
    let end = match lines.checked_sub(1) {
        None => Some(0),
        Some(before) => memchr::memchr_iter(b'\n', body).nth(before as usize).map(|at| at + 1),
    };
    message.get(..header + end.unwrap_or(body.len())).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let cases: &[(&str, Result<Command, &str>)] = &[
            ("CAPA", Ok(Command::Capa)),
            ("stls", Ok(Command::Stls)),
            ("UTF8", Ok(Command::Utf8)),
            ("USER alice", Ok(Command::User("alice".into()))),
            ("USER alice ", Ok(Command::User("alice".into()))),
            ("USER jürgen", Ok(Command::User("jürgen".into()))),
            ("USER", Err("Name wanted")),
            ("USER  ", Err("Name wanted")),
            ("PASS a b ", Ok(Command::Pass("a b ".into()))),
            ("PASS  x", Ok(Command::Pass(" x".into()))),
            ("PASS", Err("Password wanted")),
            ("PASS ", Err("Password wanted")),
            ("AUTH", Ok(Command::Auth(None, None))),
            ("AUTH plain", Ok(Command::Auth(Some("plain".into()), None))),
            ("AUTH PLAIN AGE=", Ok(Command::Auth(Some("PLAIN".into()), Some("AGE=".into())))),
            ("AUTH PLAIN a b", Err("Too many arguments")),
            ("STAT ", Ok(Command::Stat)),
            ("STAT 1", Err("No argument allowed")),
            ("LIST", Ok(Command::List(None))),
            ("LIST 3", Ok(Command::List(Some(3)))),
            ("LIST 3 4", Err("Too many arguments")),
            ("LIST x", Err("Not a number")),
            ("LIST +3", Err("Not a number")),
            ("LIST -3", Err("Not a number")),
            ("LIST 4294967296", Err("Not a number")),
            ("uidl 1", Ok(Command::Uidl(Some(1)))),
            ("RETR 1", Ok(Command::Retr(1))),
            ("RETR", Err("Message number wanted")),
            ("TOP 1 0", Ok(Command::Top(1, 0))),
            ("TOP 1", Err("Message number and number of lines wanted")),
            ("TOP 1 2 3", Err("Too many arguments")),
            ("DELE 7", Ok(Command::Dele(7))),
            ("DELE", Err("Message number wanted")),
            ("NOOP", Ok(Command::Noop)),
            ("RSET", Ok(Command::Rset)),
            ("QUIT", Ok(Command::Quit)),
            ("APOP a b", Err("Unknown command")),
            ("", Err("Unknown command")),
            (" QUIT", Err("Unknown command")),
            ("QUIT\0", Err("Control character in command")),
        ];
        for (line, want) in cases {
            assert_eq!(Command::parse(line.as_bytes()), *want, "{line:?}");
        }
        assert_eq!(Command::parse(b"USER \xff"), Err("Not UTF-8"));
        for secret in ["PASS sesame", "AUTH PLAIN sesame"] {
            assert!(!format!("{:?}", Command::parse(secret.as_bytes())).contains("sesame"));
        }
    }

    #[test]
    fn responses() {
        let cases: &[(Response, &str)] = &[
            (Response::ok("2 messages"), "+OK 2 messages\r\n"),
            (Response::ok(""), "+OK\r\n"),
            (Response::err("a\r\nb\u{e9}"), "-ERR a??b?\r\n"),
            (Response::Err(Some(Code::Auth), "no".into()), "-ERR [AUTH] no\r\n"),
            (Response::Err(Some(Code::SysTemp), "no".into()), "-ERR [SYS/TEMP] no\r\n"),
        ];
        for (response, want) in cases {
            let mut out = Vec::new();
            response.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), *want);
        }
    }

    #[test]
    fn bodies() {
        const CASES: &[(&str, &str)] = &[
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            (".a\r\n\r\n..b\r\n.", "..a\r\n\r\n...b\r\n..\r\n.\r\n"),
            ("\r\n.\r\n", "\r\n..\r\n.\r\n"),
        ];
        for (message, want) in CASES {
            let mut smtp = Vec::new();
            crate::proto::smtp::stuff(message.as_bytes(), &mut smtp);
            assert_eq!(String::from_utf8(stuffed(message.as_bytes()).collect::<Vec<_>>().concat()).unwrap(), *want);
            assert_eq!(String::from_utf8(smtp).unwrap(), *want);
        }
    }

    #[test]
    fn tops() {
        const MESSAGE: &str = "A: b\r\nC: d\r\n\r\n1\r\n2\r\n3";
        const CASES: &[(&str, u32, &str)] = &[
            (MESSAGE, 0, "A: b\r\nC: d\r\n\r\n"),
            (MESSAGE, 1, "A: b\r\nC: d\r\n\r\n1\r\n"),
            (MESSAGE, 2, "A: b\r\nC: d\r\n\r\n1\r\n2\r\n"),
            (MESSAGE, 3, MESSAGE),
            (MESSAGE, u32::MAX, MESSAGE),
            ("A: b\r\n", 0, "A: b\r\n"),
            ("\r\n1\r\n2\r\n", 1, "\r\n1\r\n"),
            ("", 5, ""),
        ];
        for (message, lines, want) in CASES {
            assert_eq!(std::str::from_utf8(top(message.as_bytes(), *lines)).unwrap(), *want, "{message:?} {lines}");
        }
    }
}
