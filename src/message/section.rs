//! IMAP's part numbers and sections (RFC 9051 §6.4.5, `section` in §9).

use std::ops::Range;

use super::mime::{Part, Shape, Structure};

/// What of a numbered part is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// `BODY[]` (header and body), `BODY[1.2]` (the part's body).
    Content,
    /// `BODY[HEADER]`, `BODY[1.2.HEADER]`: of the message, or of the message/rfc822 that the part is.
    Header,
    /// `BODY[TEXT]`, `BODY[1.2.TEXT]`.
    Text,
    /// `BODY[1.2.MIME]`: the part's own header.
    Mime,
}

impl Structure {
    /// The part of that number; the empty path is the message. Part 1 of a message that is no multipart is its text;
    /// numbers below a message/rfc822 part count in the message inside.
    pub fn locate(&self, path: &[u32]) -> Option<&Part> {
        let mut part = self.root();
        let mut as_message = true;
        for number in path {
            if !as_message && part.shape == Shape::Message {
                part = self.nested(part)?;
                as_message = true;
            }
            if part.shape == Shape::Multipart {
                let index = usize::try_from(*number).ok()?.checked_sub(1)?;
                part = self.part(*part.children.get(index)?)?;
            } else if !as_message || *number != 1 {
                return None;
            }
            as_message = false;
        }
        Some(part)
    }

    /// Where the wanted octets lie; `None` when the message has no such part, or HEADER or TEXT is asked of one that
    /// is no message. Header ranges hold the empty line.
    pub fn section(&self, path: &[u32], section: Section) -> Option<Range<usize>> {
        let part = self.locate(path)?;
        let message = || if path.is_empty() { Some(part) } else { self.nested(part) };
        match section {
            Section::Content if path.is_empty() => Some(part.whole.clone()),
            Section::Content => Some(part.body.clone()),
            Section::Header => message().map(|m| m.header.clone()),
            Section::Text => message().map(|m| m.body.clone()),
            Section::Mime if path.is_empty() => None,
            Section::Mime => Some(part.header.clone()),
        }
    }
}
