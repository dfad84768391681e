//! What clients list, worked out once per message and in the form in which it goes over the wire: ENVELOPE,
//! BODYSTRUCTURE (RFC 3501 §7.4.2), the first words of the text (RFC 8970), and the header fields that mail programs ask
//! for when they show a folder.
//!
//! The form: its version, whether the fields are complete, the lengths of ENVELOPE and BODYSTRUCTURE (four bytes each,
//! little endian) and of the first words (two), then these three and the fields.
//!
//! The store keeps these bytes beside its index and cannot read them. An old or damaged summary is no error: it is
//! made anew from the message.

mod envelope;
mod structure;

use super::body::replace_nul;
use crate::message::{header, mime::Structure, preview::preview};
use std::borrow::Cow;

/// Raised when the form changes: summaries of other versions are made anew.
const VERSION: u8 = 2;
/// Header fields of more bytes than this are not kept; FETCH then reads the message.
const FIELDS_MAX: usize = 16 * 1024;

/// What Thunderbird, mutt, K-9, Apple Mail, Evolution and webmails ask for.
const FIELDS: &[&str] = &[
    "bcc",
    "cc",
    "content-description",
    "content-transfer-encoding",
    "content-type",
    "date",
    "from",
    "importance",
    "in-reply-to",
    "list-archive",
    "list-help",
    "list-id",
    "list-owner",
    "list-post",
    "list-subscribe",
    "list-unsubscribe",
    "lines",
    "message-id",
    "mime-version",
    "newsgroups",
    "priority",
    "references",
    "reply-to",
    "sender",
    "subject",
    "to",
    "x-forwarded-message-id",
    "x-label",
    "x-mailing-list",
    "x-original-to",
    "x-priority",
    "xref",
];

/// Whether the summary has what there is of this field.
pub(super) fn has_field(name: &str) -> bool {
    FIELDS.iter().any(|f| f.eq_ignore_ascii_case(name))
}

/// The summary of a message with CRLF line ends. Never fails; linear in the message.
pub fn make(message: &[u8]) -> Vec<u8> {
    let mut message = Cow::Borrowed(message);
    if memchr::memchr(0, &message).is_some() {
        replace_nul(message.to_mut());
    }
    let message = &message[..];
    let structure = Structure::scan(message);
    let mut envelope = Vec::new();
    envelope::write(&mut envelope, message, &structure.root().header);
    let mut body = Vec::new();
    structure::write(&mut body, message, &structure, true);
    let mut fields = Vec::new();
    for field in header::fields_in(message, &structure.root().header) {
        if FIELDS.iter().any(|f| field.is(f)) {
            fields.extend_from_slice(field.raw());
        }
    }
    let words = preview(message, &structure);
    let complete = fields.len() <= FIELDS_MAX;
    let mut out = vec![VERSION, u8::from(complete)];
    for part in [&envelope, &body] {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    out.extend_from_slice(&u16::try_from(words.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&envelope);
    out.extend_from_slice(&body);
    out.extend_from_slice(words.as_bytes());
    if complete {
        out.extend_from_slice(&fields);
    }
    out
}

/// BODY, which is BODYSTRUCTURE without its extension data.
pub(super) fn body(message: &[u8], structure: &Structure) -> Vec<u8> {
    let mut out = Vec::new();
    structure::write(&mut out, message, structure, false);
    out
}

/// A summary taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary<'a> {
    pub envelope: &'a [u8],
    pub structure: &'a [u8],
    /// The first words of the text in UTF-8, at most 200 characters.
    pub preview: &'a [u8],
    /// The fields of [`has_field`] as they stand in the message, if they were not too long.
    pub fields: Option<&'a [u8]>,
}

impl<'a> Summary<'a> {
    /// `None`: of another version, or damaged.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[VERSION, complete], rest) = bytes.split_first_chunk()? else { return None };
        let (envelope, rest) = rest.split_first_chunk()?;
        let (structure, rest) = rest.split_first_chunk()?;
        let (preview, rest) = rest.split_first_chunk()?;
        let (envelope, rest) = rest.split_at_checked(u32::from_le_bytes(*envelope) as usize)?;
        let (structure, rest) = rest.split_at_checked(u32::from_le_bytes(*structure) as usize)?;
        let (preview, fields) = rest.split_at_checked(u16::from_le_bytes(*preview).into())?;
        Some(Self { envelope, structure, preview, fields: (complete == 1).then_some(fields) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let message = b"Received: x\r\nSubject: a\r\n b\r\nX-Other: y\r\nTO: c@d\r\n\r\nbody\r\n";
        let made = make(message);
        let read = Summary::read(&made).unwrap();
        assert_eq!(read.fields, Some(&b"Subject: a\r\n b\r\nTO: c@d\r\n"[..]));
        assert!(read.envelope.starts_with(b"(NIL \"a b\" NIL"));
        assert!(read.structure.starts_with(b"(\"text\" \"plain\""));
        assert_eq!(read.preview, b"body");
        for cut in 0..10.min(made.len()) {
            assert_eq!(Summary::read(&made[..cut]), None);
        }
        assert_eq!(Summary::read(&[0; 40]), None);
    }
    #[test]
    fn no_nul_goes_out() {
        let made = make(b"Subject: a\0b\r\nTo: \0@c\r\nContent-Type: text/plain; name=\"\0\"\r\n\r\n");
        let read = Summary::read(&made).unwrap();
        for part in [read.envelope, read.structure, read.fields.unwrap()] {
            assert!(!part.contains(&0));
        }
        assert!(read.fields.unwrap().starts_with(b"Subject: a\x80b\r\n"));
    }
    #[test]
    fn long_headers_are_not_kept() {
        let message = format!("To: {}\r\n\r\n", "a@b,\r\n ".repeat(9000));
        assert_eq!(Summary::read(&make(message.as_bytes())).unwrap().fields, None);
    }
}
