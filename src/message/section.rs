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

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9051 §6.4.5.1, with the text of each part naming its number.
    const EXAMPLE: &str = "From: x\nContent-Type: multipart/mixed; boundary=A\n\n\
--A\n\n1\n\
--A\nContent-Type: application/octet-stream\n\n2\n\
--A\nContent-Type: message/rfc822\n\nSubject: 3\nContent-Type: multipart/mixed; boundary=B\n\n\
--B\n\n3.1\n--B\nContent-Type: application/octet-stream\n\n3.2\n--B--\n\
--A\nContent-Type: multipart/mixed; boundary=C\n\n\
--C\nContent-Type: image/gif\n\n4.1\n\
--C\nContent-Type: message/rfc822\nX: y\n\nSubject: 4.2\nContent-Type: multipart/mixed; boundary=D\n\n\
--D\n\n4.2.1\n\
--D\nContent-Type: multipart/alternative; boundary=E\n\n--E\n\n4.2.2.1\n--E\nContent-Type: text/richtext\n\n4.2.2.2\n--E--\n\
--D--\n--C--\n--A--\n";

    fn cut<'a>(text: &'a str, path: &[u32], section: Section) -> Option<&'a str> {
        let range = Structure::scan(text.as_bytes()).section(path, section)?;
        text.get(range)
    }

    #[test]
    fn rfc_9051_example() {
        let leaves = ["1", "2", "3.1", "3.2", "4.1", "4.2.1", "4.2.2.1", "4.2.2.2"];
        for number in leaves {
            let path: Vec<u32> = number.split('.').filter_map(|n| n.parse().ok()).collect();
            assert_eq!(cut(EXAMPLE, &path, Section::Content), Some(number));
            assert_eq!(cut(EXAMPLE, &path, Section::Header), None);
            assert_eq!(cut(EXAMPLE, &path, Section::Text), None);
        }
        for path in [&[0][..], &[5], &[1, 1], &[2, 1], &[3, 3], &[4, 2, 3], &[4, 2, 2, 2, 1], &[u32::MAX]] {
            assert_eq!(cut(EXAMPLE, path, Section::Content), None, "{path:?}");
        }
        let starts = |path: &[u32], section, text: &str| cut(EXAMPLE, path, section).is_some_and(|t| t.starts_with(text));
        assert!(starts(&[], Section::Content, "From: x\n") && starts(&[], Section::Text, "--A\n"));
        assert_eq!(cut(EXAMPLE, &[], Section::Header), Some("From: x\nContent-Type: multipart/mixed; boundary=A\n\n"));
        assert_eq!(cut(EXAMPLE, &[], Section::Mime), None);
        assert!(starts(&[3], Section::Content, "Subject: 3") && starts(&[3], Section::Header, "Subject: 3"));
        assert!(starts(&[3], Section::Text, "--B") && starts(&[3], Section::Mime, "Content-Type: message/rfc822\n\n"));
        assert!(starts(&[4], Section::Content, "--C") && starts(&[4, 2, 2], Section::Content, "--E"));
        assert_eq!(cut(EXAMPLE, &[4, 2], Section::Mime), Some("Content-Type: message/rfc822\nX: y\n\n"));
        assert_eq!(cut(EXAMPLE, &[4], Section::Header), None);
    }

    #[test]
    fn messages_without_multipart() {
        let plain = "Subject: s\n\ntext";
        assert_eq!(cut(plain, &[1], Section::Content), Some("text"));
        assert_eq!(cut(plain, &[1], Section::Mime), Some("Subject: s\n\n"));
        assert_eq!(cut(plain, &[2], Section::Content), None);
        assert_eq!(cut(plain, &[1, 1], Section::Content), None);
        let forwarded = "Content-Type: message/rfc822\n\nSubject: in\n\ntext";
        assert_eq!(cut(forwarded, &[1], Section::Content), Some("Subject: in\n\ntext"));
        assert_eq!(cut(forwarded, &[1], Section::Text), Some("text"));
        assert_eq!(cut(forwarded, &[1, 1], Section::Content), Some("text"));
        assert_eq!(cut(forwarded, &[1, 1, 1], Section::Content), None);
    }
}
