//! Writing messages of our own: header fields that stay within their lines, and text bodies (RFC 5322, RFC 2045, RFC 2047).

use base64::Engine as _;

use super::Address;
use super::date;

/// A plain text message from this server to a person.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Display name and address; the name is plain ASCII.
    pub from: (&'a str, &'a Address),
    pub to: &'a Address,
    pub subject: &'a str,
    /// Seconds since 1970.
    pub date: i64,
    /// `id@host`, without angles.
    pub message_id: &'a str,
    /// It answers a message that somebody sent.
    pub answer: bool,
    /// Lines with LF; they are not wrapped.
    pub text: &'a str,
}

impl Notice<'_> {
    /// The whole message with CRLF line ends. `Auto-Submitted` keeps vacation programs quiet (RFC 3834 §5).
    pub fn build(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.header(&mut out);
        out.field("MIME-Version", "1.0");
        out.text_part(self.text);
        out.0
    }

    /// From, To, Subject, Date, Message-ID and Auto-Submitted.
    pub(super) fn header(&self, out: &mut Writer) {
        out.field("From", &format!("{} <{}>", self.from.0, self.from.1));
        out.field("To", &format!("<{}>", self.to));
        out.field("Subject", &encoded(self.subject));
        out.field("Date", &date::rfc5322(self.date));
        out.field("Message-ID", &format!("<{}>", self.message_id));
        out.field("Auto-Submitted", if self.answer { "auto-replied" } else { "auto-generated" });
    }
}

/// A message being written.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// One line with its CRLF.
    pub(super) fn line(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// A field, folded at spaces where it is long. Control characters become spaces, so that no value can end the
    /// field; a word above 900 octets is cut, for a line may have 998.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let mut length = name.len() + 1;
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b':');
        for word in value.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
            let (word, _) = split(word, 900);
            if length + 1 + word.len() > 78 && length > name.len() + 1 {
                self.0.extend_from_slice(b"\r\n");
                length = 0;
            }
            self.0.push(b' ');
            self.0.extend_from_slice(word.as_bytes());
            length += 1 + word.len();
        }
        self.0.extend_from_slice(b"\r\n");
    }

    /// Content fields, the empty line and the text; quoted-printable when it is not plain ASCII in short lines.
    pub(super) fn text_part(&mut self, text: &str) {
        self.field("Content-Type", "text/plain; charset=utf-8");
        if text.is_ascii() && text.lines().all(|line| line.len() <= 900) {
            self.field("Content-Transfer-Encoding", "7bit");
            self.line("");
            text.lines().for_each(|line| self.line(line));
        } else {
            self.field("Content-Transfer-Encoding", "quoted-printable");
            self.line("");
            self.quoted_printable(text.as_bytes());
        }
    }

    /// RFC 2045 §6.7, line ends of either kind kept as line ends.
    pub(super) fn quoted_printable(&mut self, text: &[u8]) {
        for line in text.strip_suffix(b"\n").unwrap_or(text).split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let mut length = 0;
            for (at, b) in line.iter().enumerate() {
                let last = at + 1 == line.len();
                let plain = matches!(b, b'!'..=b'<' | b'>'..=b'~') || (matches!(b, b' ' | b'\t') && !last);
                let width = if plain { 1 } else { 3 };
                if length + width > 75 {
                    self.0.extend_from_slice(b"=\r\n");
                    length = 0;
                }
                if plain {
                    self.0.push(*b)
                } else {
                    self.0.extend_from_slice(format!("={b:02X}").as_bytes())
                }
                length += width;
            }
            self.line("");
        }
    }

    /// Octets with every line end made CRLF and a line end at the end. A bare CR, which SMTP must not carry
    /// (RFC 5321 §2.3.8), becomes one as well.
    pub(super) fn lines(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (line, tail) = rest.split_at(end);
            self.0.extend_from_slice(line);
            self.0.extend_from_slice(b"\r\n");
            rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)).unwrap_or_default();
        }
    }
}

/// A field's text as it is when it is ASCII, else as encoded words in UTF-8 of at most 75 octets each.
pub(super) fn encoded(text: &str) -> String {
    if text.is_ascii() && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, tail) = split(rest, 45); // 45 octets make 60 of base64
        words.push(format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(piece)));
        rest = tail;
    }
    words.join(" ")
}

/// At most `max` octets, never through a character, and the rest. `max` is at least 4.
fn split(text: &str, max: usize) -> (&str, &str) {
    let at = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.split_at(at.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Structure, decode, header};

    fn address(text: &str) -> Address {
        Address::parse(text).expect("written well")
    }

    #[test]
    fn notices() {
        let (from, to) = (address("postmaster@mx.example"), address("jürgen@example.org"));
        let cases = [("Hello", "a\nb\n"), ("Grüße, Ωmega", "ü = 1 \nx\n.\n"), ("a\r\nBcc: x@y", "x"), ("=?x", "")];
        for (subject, text) in cases {
            let notice = Notice { from: ("Mail", &from), to: &to, subject, date: 0, message_id: "1@mx.example", answer: false, text };
            let bytes = notice.build();
            assert!(!bytes.windows(2).any(|w| (w[0] == b'\r') != (w[1] == b'\n')), "{subject}");
            let structure = Structure::scan(&bytes);
            let root = structure.root();
            let body = decode::transfer(&root.encoding, &bytes[root.body.clone()], 1000).expect("known");
            let want = text.lines().map(|l| format!("{l}\r\n")).collect::<String>();
            assert_eq!(String::from_utf8_lossy(&body).trim_end(), want.trim_end(), "{subject}");
            let shown = header::find(&bytes, "subject").map(|f| decode::encoded_words(&header::unfold(f.value())));
            assert_eq!(shown, Some(subject.replace("\r\n", " ")));
            assert!(header::find(&bytes, "bcc").is_none());
        }
    }

    #[test]
    fn long_fields_fold() {
        let mut out = Writer::default();
        out.field("X", &"word ".repeat(100));
        out.field("Y", &"ü".repeat(1000));
        out.lines(b"a\nb\rc\r\n\r\nd");
        let text = String::from_utf8(out.0).expect("UTF-8");
        assert!(text.lines().all(|line| line.len() < 998));
        assert_eq!(text.lines().filter(|line| line.starts_with(" word")).count(), 6);
        assert!(text.ends_with("\r\na\r\nb\r\nc\r\n\r\nd\r\n"), "{text}");
    }
}
