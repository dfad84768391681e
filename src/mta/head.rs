//! What the pipeline must know of a message's header section, in one pass and without keeping the fields.

use crate::message::header;
use std::ops::Range;

/// A header section longer than this is refused: it would be for a program, not for people.
pub(super) const MAX_HEAD: usize = 1024 * 1024;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Received fields: the hops so far.
    pub(super) hops: usize,
    /// Values of From fields, the first two (more than one is an error).
    pub(super) from: Vec<Range<usize>>,
    pub(super) date: bool,
    pub(super) message_id: Option<String>,
    pub(super) delivered_to: Vec<String>,
    /// Return-Path fields whole: each system makes its own.
    pub(super) return_path: Vec<Range<usize>>,
    /// Bcc fields whole.
    pub(super) bcc: Vec<Range<usize>>,
    /// Lower-case names of those fields that DKIM signs, as they occur.
    pub(super) signed: Vec<&'static str>,
    /// Where the header section ends: at the empty line, at the first line that is no field, or at the end.
    pub(super) end: usize,
    /// There is an empty line at `end`.
    pub(super) separated: bool,
}

/// RFC 6376 §5.4.1, in the order in which they are listed. From is listed once more by the signer.
pub(super) const SIGNED: [&str; 13] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "reply-to",
    "in-reply-to",
    "references",
    "sender",
];

impl Head {
    /// `bytes` is the message or its beginning. Total: any bytes have a head.
    pub(super) fn scan(bytes: &[u8]) -> Self {
        let mut head = Self::default();
        let mut broken = None;
        let mut at = 0;
        for field in header::fields(bytes) {
            // A line that is no field was passed over. What follows still counts, as readers may pass over it too.
            if field.whole.start != at {
                broken.get_or_insert(at);
            }
            at = field.whole.end;
            let Ok(name) = std::str::from_utf8(field.name()) else { continue };
            let name = name.to_ascii_lowercase();
            if let Some(s) = SIGNED.iter().find(|s| **s == name)
                && !head.signed.contains(s)
            {
                head.signed.push(s);
            }
            match name.as_str() {
                "received" => head.hops += 1,
                "from" if head.from.len() < 2 => head.from.push(field.value.clone()),
                "date" => head.date = true,
                "message-id" => head.message_id = Some(text(field.value())),
                "delivered-to" if head.delivered_to.len() < 100 => head.delivered_to.push(text(field.value())),
                "return-path" if broken.is_none() => head.return_path.push(field.whole.clone()),
                "bcc" if broken.is_none() => head.bcc.push(field.whole.clone()),
                _ => {}
            }
        }
        head.end = broken.unwrap_or(at);
        let rest = bytes.get(head.end..).unwrap_or_default();
        head.separated = rest.starts_with(b"\r\n") || rest.starts_with(b"\n");
        head
    }
}

/// Unfolded and trimmed, for comparing and for the log; bounded.
fn text(value: &[u8]) -> String {
    let value = header::unfold(value);
    let value = value.trim_ascii();
    let value = &value[..value.len().min(1000)];
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan() {
        let m = b"Return-Path: <x@y>\r\nReceived: from a\r\n\tby b\r\nReceived: from c\r\nFrom: a@b\r\nBCC : q@r,\r\n s@t\r\nMessage-ID:\r\n <1@2>\r\n\r\nFrom: body\r\n";
        let h = Head::scan(m);
        assert_eq!(h.hops, 2);
        assert_eq!(h.from.iter().map(|r| &m[r.clone()]).collect::<Vec<_>>(), [b" a@b".as_slice()]);
        assert_eq!(h.message_id.as_deref(), Some("<1@2>"));
        assert_eq!(&m[h.bcc[0].clone()], b"BCC : q@r,\r\n s@t\r\n");
        assert_eq!(&m[h.return_path[0].clone()], b"Return-Path: <x@y>\r\n");
        assert_eq!(&m[h.end..], b"\r\nFrom: body\r\n");
        assert!(h.separated && !h.date);
        assert_eq!(h.signed, ["from", "message-id"]);
    }

    #[test]
    fn where_the_head_ends() {
        const CASES: &[(&[u8], usize, bool)] = &[
            (b"", 0, false),
            (b"\r\nbody", 0, true),
            (b"\nbody", 0, true),
            (b"hello\r\n", 0, false),
            (b"hello world: x\r\n", 0, false),
            (b": x\r\n", 0, false),
            (b"A: b\r\ngarbage\r\nC: d\r\n\r\n", 6, false),
            (b" a: b\r\n", 0, false),
            (b"A: b", 4, false),
            (b"A: b\r\n", 6, false),
            (b"A: b\nC: d\n\nx", 10, true),
            (b"A: b\r\ngarbage\r\n\r\n", 6, false),
            (b"A:", 2, false),
            (b"A", 0, false),
        ];
        for (bytes, end, separated) in CASES {
            let h = Head::scan(bytes);
            assert_eq!((h.end, h.separated), (*end, *separated), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn any_prefix_of_a_message_has_a_head() {
        let m = b"Received: x\r\n y\r\nFrom: \xff\r\nDelivered-To: a@b\r\n\r\nbody";
        for n in 0..=m.len() {
            assert!(Head::scan(&m[..n]).end <= n);
        }
    }
}
