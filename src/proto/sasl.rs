//! SASL (RFC 4422): PLAIN (RFC 4616) and LOGIN, from base64 to name and password.
//!
//! One [`Exchange`] per AUTH command, the same for SMTP, IMAP and POP3: the session sends each challenge in its
//! own frame and hands in the client's lines without their CRLF. Knows neither accounts nor which protocol carries it.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;

/// Longest response line worth reading, base64 and without CRLF (RFC 4954 §4, §8). Longer: [`Error::Malformed`].
pub const MAX_LINE: usize = 12288;
/// Longest name and longest password in octets. RFC 4616 §2 asks for 255.
pub const MAX_FIELD: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    Plain,
    /// Never standardised, but all that some clients can do.
    Login,
}

impl Mechanism {
    /// By its name in any case; `None`: not offered here.
    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            n if n.eq_ignore_ascii_case(b"PLAIN") => Some(Self::Plain),
            n if n.eq_ignore_ascii_case(b"LOGIN") => Some(Self::Login),
            _ => None,
        }
    }
    /// As it is announced.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// Both prepared by [`prepare`] and not empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub name: String,
    pub password: String,
}

impl Credentials {
    /// From any form of login (PASS, IMAP LOGIN). `None` when preparation fails: such a login is refused as a wrong one.
    pub fn new(name: &str, password: &str) -> Option<Self> {
        Some(Self { name: prepare(name)?, password: prepare(password)? })
    }
}

/// Passwords are not for logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).field("password", &"REDACTED").finish()
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Send this (base64 already, maybe empty) as the challenge and hand in the next line.
    Challenge(&'static str),
    Done(Credentials),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The client sent `*`: SMTP 501, IMAP BAD, POP3 -ERR.
    Cancelled,
    /// Not base64 or not what the mechanism wants; says what is wrong: SMTP 501 5.5.2, IMAP BAD.
    Malformed(&'static str),
    /// Well formed, but can never be right (another authorization identity, a name or password that SASLprep
    /// forbids): to be answered as a wrong password.
    Forbidden(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "Authentication cancelled",
            Self::Malformed(what) | Self::Forbidden(what) => what,
        })
    }
}

impl std::error::Error for Error {}

/// An authentication on its way. After [`Step::Done`] or an error it is used up: drop it.
pub struct Exchange(Waiting);

enum Waiting {
    Plain,
    Name,
    Password(Vec<u8>),
}

impl Exchange {
    /// Begins. `initial` is the initial response of the AUTH command as it stands there; `=` is an empty one (RFC 4954 §4).
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> Result<(Self, Step), Error> {
        let (waiting, prompt) = match mechanism {
            Mechanism::Plain => (Waiting::Plain, ""),
            Mechanism::Login => (Waiting::Name, "VXNlcm5hbWU6"), // Username:
        };
        let mut exchange = Self(waiting);
        let step = match initial {
            None => Step::Challenge(prompt),
            Some(b"=") => exchange.response(Vec::new())?,
            Some(text) => exchange.answer(text)?,
        };
        Ok((exchange, step))
    }
    /// The client's next line.
    pub fn answer(&mut self, line: &[u8]) -> Result<Step, Error> {
        if line == b"*" {
            return Err(Error::Cancelled);
        }
        if line.len() > MAX_LINE {
            return Err(Error::Malformed("Response too long"));
        }
        // STANDARD wants padding and zero trailing bits: one spelling only per response.
        let decoded = STANDARD.decode(line).map_err(|_| Error::Malformed("Invalid base64"))?;
        self.response(decoded)
    }
    fn response(&mut self, decoded: Vec<u8>) -> Result<Step, Error> {
        match std::mem::replace(&mut self.0, Waiting::Plain) {
            Waiting::Plain => plain(&decoded).map(Step::Done),
            Waiting::Name => {
                self.0 = Waiting::Password(decoded);
                Ok(Step::Challenge("UGFzc3dvcmQ6")) // Password:
            }
            Waiting::Password(name) => credentials(&name, &decoded).map(Step::Done),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2). Nobody may act as somebody else here.
fn plain(message: &[u8]) -> Result<Credentials, Error> {
    let mut parts = message.split(|&b| b == 0);
    let (Some(authzid), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Malformed("PLAIN wants identity, name and password"));
    };
    if !authzid.is_empty() && !authzid.eq_ignore_ascii_case(name) {
        return Err(Error::Forbidden("Another authorization identity"));
    }
    credentials(name, password)
}

fn credentials(name: &[u8], password: &[u8]) -> Result<Credentials, Error> {
    let (Ok(name), Ok(password)) = (std::str::from_utf8(name), std::str::from_utf8(password)) else {
        return Err(Error::Malformed("Not UTF-8"));
    };
    Credentials::new(name, password).ok_or(Error::Forbidden("A name or password that cannot be"))
}

/// SASLprep (RFC 4013) of a "query" string, as RFC 4616 §2 has it: code points that Unicode 3.2 did not know
/// (emoji) stay as they are. `None`: prohibited, empty or longer than [`MAX_FIELD`]. Plain ASCII does not change.
pub fn prepare(text: &str) -> Option<String> {
    if text.len() > MAX_FIELD {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let unassigned = stringprep::tables::unassigned_code_point(first);
        let end = rest.find(|c| stringprep::tables::unassigned_code_point(c) != unassigned).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if unassigned {
            out.push_str(run);
        } else {
            out.push_str(&stringprep::saslprep(run).ok()?);
        }
        rest = after;
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mechanism: Mechanism, initial: Option<&str>, lines: &[&str]) -> Result<Step, Error> {
        let (mut exchange, mut step) = Exchange::start(mechanism, initial.map(str::as_bytes))?;
        for line in lines {
            step = exchange.answer(line.as_bytes())?;
        }
        Ok(step)
    }

    fn done(name: &str, password: &str) -> Result<Step, Error> {
        Ok(Step::Done(Credentials { name: name.into(), password: password.into() }))
    }

    #[test]
    fn plain() {
        let cases: &[(&str, Result<Step, Error>)] = &[
            ("\0alice\0sesame", done("alice", "sesame")),
            ("alice\0alice\0sesame", done("alice", "sesame")),
            ("Alice@example.org\0alice@example.org\0s", done("alice@example.org", "s")),
            ("\0al\u{ad}ice\0p\u{a0}\u{aa}", done("alice", "p a")), // RFC 4013 §3: soft hyphen goes, NBSP and ª are mapped
            ("\0alice\0😀", done("alice", "😀")),
            ("bob\0alice\0sesame", Err(Error::Forbidden("Another authorization identity"))),
            ("\0\0sesame", Err(Error::Forbidden("A name or password that cannot be"))),
            ("\0alice\0", Err(Error::Forbidden("A name or password that cannot be"))),
            ("\0alice\0\u{7}", Err(Error::Forbidden("A name or password that cannot be"))),
            ("\0alice", Err(Error::Malformed("PLAIN wants identity, name and password"))),
            ("\0alice\0a\0b", Err(Error::Malformed("PLAIN wants identity, name and password"))),
        ];
        for (message, want) in cases {
            let line = STANDARD.encode(message);
            assert_eq!(run(Mechanism::Plain, Some(&line), &[]), *want, "{message:?} at once");
            assert_eq!(run(Mechanism::Plain, None, &[&line]), *want, "{message:?} after a challenge");
        }
        assert_eq!(run(Mechanism::Plain, None, &[]), Ok(Step::Challenge("")));
        assert_eq!(run(Mechanism::Plain, Some("="), &[]), Err(Error::Malformed("PLAIN wants identity, name and password")));
        let long = STANDARD.encode(format!("\0alice\0{}", "x".repeat(MAX_FIELD + 1)));
        assert_eq!(run(Mechanism::Plain, Some(&long), &[]), Err(Error::Forbidden("A name or password that cannot be")));
    }

    #[test]
    fn login() {
        assert_eq!(run(Mechanism::Login, None, &[]), Ok(Step::Challenge("VXNlcm5hbWU6")));
        assert_eq!(run(Mechanism::Login, None, &["YWxpY2U="]), Ok(Step::Challenge("UGFzc3dvcmQ6")));
        assert_eq!(run(Mechanism::Login, None, &["YWxpY2U=", "c2VzYW1l"]), done("alice", "sesame"));
        assert_eq!(run(Mechanism::Login, Some("YWxpY2U="), &["c2VzYW1l"]), done("alice", "sesame"));
        assert_eq!(run(Mechanism::Login, Some("YWxpY2U="), &[""]), Err(Error::Forbidden("A name or password that cannot be")));
        assert_eq!(run(Mechanism::Login, Some("/w=="), &["c2VzYW1l"]), Err(Error::Malformed("Not UTF-8")));
        assert_eq!(run(Mechanism::Login, Some("YWxpY2U="), &["*"]), Err(Error::Cancelled));
    }

    #[test]
    fn base64_has_one_spelling() {
        for bad in ["YWxpY2U", "YWxpY2V=", " YWxpY2U=", "YWxp Y2U=", "YWxpY2U==", "Y", "====", "YWxpY2U=\r", "YW-_"] {
            assert_eq!(run(Mechanism::Login, None, &[bad]), Err(Error::Malformed("Invalid base64")), "{bad:?}");
        }
        assert_eq!(run(Mechanism::Login, None, &[&"A".repeat(MAX_LINE + 4)]), Err(Error::Malformed("Response too long")));
        assert_eq!(run(Mechanism::Plain, None, &["*"]), Err(Error::Cancelled));
    }

    #[test]
    fn mechanisms_and_secrets() {
        assert_eq!(Mechanism::parse(b"plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::parse(b"Login"), Some(Mechanism::Login));
        assert_eq!(Mechanism::parse(b"CRAM-MD5"), None);
        let shown = format!("{:?}", Credentials { name: "alice".into(), password: "sesame".into() });
        assert!(!shown.contains("sesame") && shown.contains("alice"));
    }
}
