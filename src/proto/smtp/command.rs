//! Command lines (RFC 5321 §4.1). What cannot be parsed comes back as the reply to it.

use super::{
    Reply,
    params::{self, MailParams, RcptParams},
    path::{self, Path},
};
use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    Ehlo(String),
    Helo(String),
    /// The path is never [`Path::Postmaster`].
    Mail(Path, MailParams),
    /// The path is never [`Path::Null`].
    Rcpt(Path, RcptParams),
    Data,
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
    Expn,
    StartTls,
    /// Mechanism in upper case, initial response.
    Auth(String, Option<String>),
    /// A BDAT without a size: where its chunk ends cannot be known, so nothing that follows is a command for sure.
    Unbounded,
    /// The client speaks HTTP: a browser or a proxy that somebody tricks into sending mail.
    Foreign,
}

/// Without what AUTH carries.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => write!(f, "Ehlo({name:?})"),
            Self::Helo(name) => write!(f, "Helo({name:?})"),
            Self::Mail(path, params) => write!(f, "Mail({path:?}, {params:?})"),
            Self::Rcpt(path, params) => write!(f, "Rcpt({path:?}, {params:?})"),
            Self::Bdat { size, last } => write!(f, "Bdat({size}, {last})"),
            Self::Auth(mechanism, _) => write!(f, "Auth({mechanism:?}, REDACTED)"),
            other => f.write_str(other.verb()),
        }
    }
}

impl Command {
    /// The line without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Self, Reply> {
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(Reply::new(500, (5, 5, 2), "Commands are ASCII, or UTF-8 in addresses"));
        };
        if text.chars().any(char::is_control) {
            return Err(Reply::new(500, (5, 5, 2), "Control character in command"));
        }
        // RFC 5321 §4.1.1: trailing blanks are to be tolerated.
        let text = text.trim_end_matches(' ');
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => Ok(Self::Ehlo(name(rest)?)),
            "HELO" => Ok(Self::Helo(name(rest)?)),
            "MAIL" => mail(rest),
            "RCPT" => rcpt(rest),
            "BDAT" => Ok(bdat(rest).unwrap_or(Self::Unbounded)),
            "AUTH" => auth(rest),
            "DATA" => alone(Self::Data, rest),
            "RSET" => alone(Self::Rset, rest),
            "QUIT" => alone(Self::Quit, rest),
            "STARTTLS" => alone(Self::StartTls, rest),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "VRFY" if !rest.is_empty() => Ok(Self::Vrfy),
            "EXPN" if !rest.is_empty() => Ok(Self::Expn),
            "VRFY" | "EXPN" => Err(syntax("Argument wanted")),
            "TURN" | "ETRN" | "ATRN" | "BURL" | "SEND" | "SOML" | "SAML" => Err(Reply::new(502, (5, 5, 1), "Command not implemented")),
            "GET" | "POST" | "PUT" | "CONNECT" | "OPTIONS" | "HEAD" => Ok(Self::Foreign),
            _ => Err(Reply::new(500, (5, 5, 2), "Command not recognised")),
        }
    }
    /// For the log.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Ehlo(_) => "EHLO",
            Self::Helo(_) => "HELO",
            Self::Mail(..) => "MAIL",
            Self::Rcpt(..) => "RCPT",
            Self::Data => "DATA",
            Self::Bdat { .. } => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Help => "HELP",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::StartTls => "STARTTLS",
            Self::Auth(..) => "AUTH",
            Self::Unbounded => "BDAT?",
            Self::Foreign => "HTTP",
        }
    }
}

fn syntax(text: &str) -> Reply {
    Reply::new(501, (5, 5, 4), text)
}

fn alone(command: Command, rest: &str) -> Result<Command, Reply> {
    if rest.is_empty() { Ok(command) } else { Err(syntax("No argument allowed")) }
}

/// A domain or address literal, but not verified (RFC 5321 §4.1.4), for clients call themselves all manner of
/// things. It goes into Received, so nothing passes that means something there.
fn name(text: &str) -> Result<String, Reply> {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'+' | b'%' | b'/' | b'~');
    if (1..=255).contains(&text.len()) && text.bytes().all(harmless) {
        Ok(text.to_owned())
    } else {
        Err(syntax("Domain name or address literal wanted"))
    }
}

/// What follows `word`, in any case. RFC 5321 §3.3: no space on either side of the colon.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    head.eq_ignore_ascii_case(word).then(|| text.get(word.len()..))?
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let text = after(rest, "FROM:").ok_or_else(|| syntax("Syntax: MAIL FROM:<address>"))?;
    match path::path(text) {
        None | Some((Path::Postmaster, _)) => Err(Reply::new(501, (5, 1, 7), format!("Bad sender address, want FROM:<user@domain>{}", hint(text)))),
        Some((path, rest)) => Ok(Command::Mail(path, params::mail(rest)?)),
    }
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    let text = after(rest, "TO:").ok_or_else(|| syntax("Syntax: RCPT TO:<address>"))?;
    match path::path(text) {
        None | Some((Path::Null, _)) => Err(Reply::new(501, (5, 1, 3), format!("Bad recipient address, want TO:<user@domain>{}", hint(text)))),
        Some((path, rest)) => Ok(Command::Rcpt(path, params::rcpt(rest)?)),
    }
}

/// The commonest mistake.
fn hint(text: &str) -> &'static str {
    if text.starts_with(' ') { " with no space before the <" } else { "" }
}

/// RFC 3030 §2
fn bdat(rest: &str) -> Option<Command> {
    let (size, marker) = rest.split_once(' ').map_or((rest, None), |(s, m)| (s, Some(m.trim_start_matches(' '))));
    let is_number = (1..=19).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_digit());
    let size = size.parse().ok().filter(|_| is_number);
    match (size, marker) {
        (Some(size), None) => Some(Command::Bdat { size, last: false }),
        (Some(size), Some(m)) if m.eq_ignore_ascii_case("LAST") => Some(Command::Bdat { size, last: true }),
        _ => None,
    }
}

/// RFC 4954 §4
fn auth(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split(' ');
    let mechanism = words.next().unwrap_or_default();
    let (initial, more) = (words.next(), words.next());
    if mechanism.is_empty() || initial == Some("") || more.is_some() {
        return Err(syntax("Syntax: AUTH mechanism [initial-response]"));
    }
    Ok(Command::Auth(mechanism.to_ascii_uppercase(), initial.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Address;

    fn mailbox(address: &str) -> Path {
        Path::Mailbox { address: Address::parse(address).unwrap(), ascii: address.is_ascii() }
    }

    #[test]
    fn commands() {
        let cases: &[(&str, Command)] = &[
            ("EHLO mx.example", Command::Ehlo("mx.example".into())),
            ("ehlo [IPv6:2001:db8::1] ", Command::Ehlo("[IPv6:2001:db8::1]".into())),
            ("HeLo a_b", Command::Helo("a_b".into())),
            ("MAIL FROM:<>", Command::Mail(Path::Null, MailParams::default())),
            ("mail from:<a@b.example> SIZE=5", Command::Mail(mailbox("a@b.example"), MailParams { size: Some(5), ..Default::default() })),
            ("RCPT TO:<postmaster>", Command::Rcpt(Path::Postmaster, RcptParams::default())),
            ("RCPT TO:<@x.example:a@b.example>", Command::Rcpt(mailbox("a@b.example"), RcptParams::default())),
            ("DATA", Command::Data),
            ("data  ", Command::Data),
            ("BDAT 0", Command::Bdat { size: 0, last: false }),
            ("BDAT 10 last", Command::Bdat { size: 10, last: true }),
            ("BDAT", Command::Unbounded),
            ("BDAT x", Command::Unbounded),
            ("BDAT +1", Command::Unbounded),
            ("BDAT 1 FIRST", Command::Unbounded),
            ("BDAT 99999999999999999999", Command::Unbounded),
            ("RSET", Command::Rset),
            ("NOOP", Command::Noop),
            ("NOOP anything at all", Command::Noop),
            ("QUIT", Command::Quit),
            ("HELP MAIL", Command::Help),
            ("VRFY bob", Command::Vrfy),
            ("EXPN list", Command::Expn),
            ("STARTTLS", Command::StartTls),
            ("AUTH plain AGE=", Command::Auth("PLAIN".into(), Some("AGE=".into()))),
            ("AUTH LOGIN", Command::Auth("LOGIN".into(), None)),
            ("GET / HTTP/1.1", Command::Foreign),
        ];
        for (line, want) in cases {
            assert_eq!(Command::parse(line.as_bytes()), Ok(want.clone()), "{line:?}");
        }
    }

    #[test]
    fn mistakes() {
        const CASES: &[(&[u8], &str)] = &[
            (b"", "500 5.5.2 Command not recognised"),
            (b" NOOP", "500 5.5.2 Command not recognised"),
            (b"FOO", "500 5.5.2 Command not recognised"),
            (b"NOOP\0", "500 5.5.2 Control character in command"),
            (b"NOOP\t", "500 5.5.2 Control character in command"),
            (b"NOOP \xff", "500 5.5.2 Commands are ASCII, or UTF-8 in addresses"),
            (b"EHLO", "501 5.5.4 Domain name or address literal wanted"),
            (b"EHLO a b", "501 5.5.4 Domain name or address literal wanted"),
            (b"HELO (x)", "501 5.5.4 Domain name or address literal wanted"),
            (b"MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"),
            (b"MAIL <a@b.example>", "501 5.5.4 Syntax: MAIL FROM:<address>"),
            (b"MAIL FROM :<a@b.example>", "501 5.5.4 Syntax: MAIL FROM:<address>"),
            (b"MAIL FROM: <a@b.example>", "501 5.1.7 Bad sender address, want FROM:<user@domain> with no space before the <"),
            (b"MAIL FROM:a@b.example", "501 5.1.7 Bad sender address, want FROM:<user@domain>"),
            (b"MAIL FROM:<postmaster>", "501 5.1.7 Bad sender address, want FROM:<user@domain>"),
            (b"MAIL FROM:<a@b.example> FOO=1", "555 5.5.4 Parameter not recognised: FOO"),
            (b"MAIL FROM:\xc3\xa9", "501 5.1.7 Bad sender address, want FROM:<user@domain>"),
            (b"RCPT TO", "501 5.5.4 Syntax: RCPT TO:<address>"),
            (b"RCPT T\xc3\xa9", "501 5.5.4 Syntax: RCPT TO:<address>"),
            (b"RCPT TO:<>", "501 5.1.3 Bad recipient address, want TO:<user@domain>"),
            (b"RCPT TO:<bob>", "501 5.1.3 Bad recipient address, want TO:<user@domain>"),
            (b"DATA now", "501 5.5.4 No argument allowed"),
            (b"QUIT now", "501 5.5.4 No argument allowed"),
            (b"STARTTLS x", "501 5.5.4 No argument allowed"),
            (b"AUTH", "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
            (b"AUTH PLAIN a b", "501 5.5.4 Syntax: AUTH mechanism [initial-response]"),
            (b"VRFY", "501 5.5.4 Argument wanted"),
            (b"ETRN example.org", "502 5.5.1 Command not implemented"),
        ];
        for (line, want) in CASES {
            assert_eq!(Command::parse(line).unwrap_err().to_string(), *want, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Command::parse(b"AUTH PLAIN c2VzYW1l").unwrap());
        assert!(!shown.contains("c2VzYW1l"), "{shown}");
    }
}
