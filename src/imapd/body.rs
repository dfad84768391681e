//! BODY[…] (RFC 3501 §6.4.5): which octets of a message a section names.

use crate::{
    message::{
        header,
        mime::{self, Structure},
    },
    proto::imap::{Section, Text},
};
use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

/// A message with its structure, looked for when first needed: most sections do without.
pub(super) struct Loaded {
    /// Without NUL.
    pub(super) bytes: Arc<Vec<u8>>,
    structure: OnceLock<Structure>,
}

/// Where the octets are, or they themselves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Octets {
    InMessage(Range<usize>),
    Own(Vec<u8>),
}

impl Loaded {
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        replace_nul(&mut bytes);
        Self { bytes: Arc::new(bytes), structure: OnceLock::new() }
    }
    pub(super) fn structure(&self) -> &Structure {
        self.structure.get_or_init(|| Structure::scan(&self.bytes))
    }
    /// `None`: there is no such part.
    pub(super) fn section(&self, section: &Section) -> Option<Octets> {
        let octets = match &section.text {
            Text::Fields(names) => Octets::Own(fields(&self.bytes, &self.range(section, mime::Section::Header)?, names, true)),
            Text::FieldsNot(names) => Octets::Own(fields(&self.bytes, &self.range(section, mime::Section::Header)?, names, false)),
            Text::All => Octets::InMessage(self.range(section, mime::Section::Content)?),
            Text::Header => Octets::InMessage(self.range(section, mime::Section::Header)?),
            Text::Body => Octets::InMessage(self.range(section, mime::Section::Text)?),
            Text::Mime => Octets::InMessage(self.range(section, mime::Section::Mime)?),
        };
        Some(match section.partial {
            Some((from, count)) => part_of(octets, from, count),
            None => octets,
        })
    }
    fn range(&self, section: &Section, what: mime::Section) -> Option<Range<usize>> {
        if !section.part.is_empty() {
            return self.structure().section(&section.part, what);
        }
        let body = || header::header_end(&self.bytes);
        Some(match what {
            mime::Section::Content => 0..self.bytes.len(),
            mime::Section::Header => 0..body(),
            mime::Section::Text => body()..self.bytes.len(),
            mime::Section::Mime => return None,
        })
    }
}

/// The fields that are named (or those that are not) with the empty line that ends them.
pub(super) fn fields(message: &[u8], range: &Range<usize>, names: &[String], named: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in header::fields_in(message, range) {
        if names.iter().any(|n| field.is(n)) == named {
            out.extend_from_slice(field.raw());
        }
    }
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// NUL may not go over the wire (RFC 3501 §4.3.1); it stays one octet, so that sizes and offsets hold.
pub(super) fn replace_nul(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0, rest) {
        let (before, after) = rest.split_at_mut(at + 1);
        before.iter_mut().skip(at).for_each(|b| *b = 0x80);
        rest = after;
    }
}

fn part_of(octets: Octets, from: u32, count: u32) -> Octets {
    let cut = |len: usize| {
        let start = (from as usize).min(len);
        start..start.saturating_add(count as usize).min(len)
    };
    match octets {
        Octets::InMessage(range) => {
            let inner = cut(range.len());
            Octets::InMessage(range.start + inner.start..range.start + inner.end)
        }
        Octets::Own(bytes) => Octets::Own(bytes.get(cut(bytes.len())).unwrap_or_default().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::imap::{Item, cursor::Cursor, fetch};

    const MESSAGE: &str = "From: a@b\r\nSubject: outer\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nfirst\r\n--x\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nX-A: 1\r\n\r\ninner body\r\n--x--\r\n";

    fn get(text: &str) -> Option<String> {
        let item = fetch::items(&mut Cursor::new(text.as_bytes())).unwrap().remove(0);
        let Item::Section(section) = item else { panic!("{text}") };
        let loaded = Loaded::new(MESSAGE.as_bytes().to_vec());
        loaded.section(&section).map(|o| match o {
            Octets::InMessage(r) => MESSAGE[r].to_owned(),
            Octets::Own(b) => String::from_utf8(b).unwrap(),
        })
    }

    #[test]
    fn sections() {
        let (header, body) = MESSAGE.split_at(MESSAGE.find("--x").unwrap());
        let cases = [
            ("BODY[]", Some(MESSAGE)),
            ("RFC822", Some(MESSAGE)),
            ("BODY[HEADER]", Some(header)),
            ("RFC822.HEADER", Some(header)),
            ("BODY[TEXT]", Some(body)),
            ("BODY[1]", Some("first")),
            ("BODY[1.MIME]", Some("\r\n")),
            ("BODY[2]", Some("Subject: inner\r\nX-A: 1\r\n\r\ninner body")),
            ("BODY[2.MIME]", Some("Content-Type: message/rfc822\r\n\r\n")),
            ("BODY[2.HEADER]", Some("Subject: inner\r\nX-A: 1\r\n\r\n")),
            ("BODY[2.TEXT]", Some("inner body")),
            ("BODY[2.1]", Some("inner body")),
            ("BODY[2.HEADER.FIELDS (x-a)]", Some("X-A: 1\r\n\r\n")),
            ("BODY[2.HEADER.FIELDS.NOT (x-a)]", Some("Subject: inner\r\n\r\n")),
            ("BODY[HEADER.FIELDS (SUBJECT FROM)]", Some("From: a@b\r\nSubject: outer\r\n\r\n")),
            ("BODY[HEADER.FIELDS (nothing)]", Some("\r\n")),
            ("BODY[]<6.3>", Some("a@b")),
            ("BODY[2.1]<6.99>", Some("body")),
            ("BODY[2.1]<99.1>", Some("")),
            ("BODY[3]", None),
            ("BODY[1.HEADER]", None),
            ("BODY[1.1]", None),
        ];
        for (text, want) in cases {
            assert_eq!(get(text).as_deref(), want, "{text}");
        }
    }
    #[test]
    fn nul_is_replaced() {
        assert_eq!(*Loaded::new(b"\0a\0\0b\0".to_vec()).bytes, b"\x80a\x80\x80b\x80");
        assert_eq!(*Loaded::new(b"ab".to_vec()).bytes, b"ab");
    }
}
