//! What the way of a message must know of it, in one pass: hops, fields that are missing or double, oddities.

use std::ops::Range;

use super::address_list::{Mailbox, mailboxes};
use super::header;

/// More From addresses are not kept: nobody writes with as many.
const MAX_FROM: usize = 64;

/// Facts about a message or its beginning. What is said of the body is about the scanned bytes only.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outline {
    /// Where the header ends: before the empty line, or after the last line when there is none.
    pub header_end: usize,
    /// Where the body begins; equal to `header_end` when no empty line was found.
    pub body: usize,
    /// Received fields, that is hops so far (RFC 5321 §6.3).
    pub received: usize,
    /// Number of these fields; RFC 5322 §3.6 allows one each.
    pub date: usize,
    pub message_id: usize,
    pub from: usize,
    pub sender: usize,
    /// Mailboxes of all From fields.
    pub from_addresses: Vec<Mailbox>,
    /// Values of Delivered-To, as ranges: with our own address among them the mail loops.
    pub delivered_to: Vec<Range<usize>>,
    /// Octets above 127 in the header: SMTPUTF8, or a program that does not care.
    pub header_8bit: bool,
    pub body_8bit: bool,
    pub nul: bool,
    /// LF without a CR before it.
    pub bare_lf: bool,
    /// CR without an LF after it.
    pub bare_cr: bool,
    /// Lines that begin in the bytes, the empty one included.
    pub lines: usize,
    /// The longest line without its end, in octets: RFC 5322 §2.1.1 allows 998.
    pub longest_line: usize,
}

impl Outline {
    /// `head` is a message or as much of its beginning as is at hand. Linear, never fails.
    pub fn scan(head: &[u8]) -> Self {
        let mut outline = Self::default();
        outline.scan_fields(head);
        outline.scan_lines(head);
        outline
    }

    /// Whether a Delivered-To field names this address, without case.
    pub fn delivered_to(&self, head: &[u8], address: &str) -> bool {
        let same = |range: &Range<usize>| header::unfold(header::slice(head, range)).eq_ignore_ascii_case(address.as_bytes());
        self.delivered_to.iter().any(same)
    }

    fn scan_fields(&mut self, head: &[u8]) {
        for field in header::fields(head) {
            match field.name().to_ascii_lowercase().as_slice() {
                b"received" => self.received += 1,
                b"date" => self.date += 1,
                b"message-id" => self.message_id += 1,
                b"sender" => self.sender += 1,
                b"from" => {
                    self.from += 1;
                    let room = MAX_FROM.saturating_sub(self.from_addresses.len());
                    self.from_addresses.extend(mailboxes(field.value()).take(room));
                }
                b"delivered-to" => self.delivered_to.push(field.value.clone()),
                _ => {}
            }
        }
    }

    fn scan_lines(&mut self, head: &[u8]) {
        let mut at = 0;
        let mut in_header = true;
        while let Some(line) = header::line(head, at, head.len()) {
            let end = header::line_end(head, at, head.len());
            let text = header::slice(head, &line);
            self.lines += 1;
            self.longest_line = self.longest_line.max(text.len());
            self.bare_lf |= end > line.end && end - line.end == 1;
            self.bare_cr |= memchr::memchr(b'\r', text).is_some();
            self.nul |= memchr::memchr(0, text).is_some();
            if in_header {
                self.header_8bit |= !text.is_ascii();
                (self.header_end, self.body) = if line.is_empty() { (at, end) } else { (end, end) };
                in_header = !line.is_empty();
            } else {
                self.body_8bit |= !text.is_ascii();
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines() {
        let text = b"Received: a\r\n b\r\nReceived: c\r\nFrom: A <a@b>, c@d\r\nDelivered-To:\r\n X@y \r\nDate: x\r\n\r\nbody\xff\r\nfrom: z\r\n";
        let outline = Outline::scan(text);
        assert_eq!((outline.received, outline.date, outline.message_id, outline.from), (2, 1, 0, 1));
        assert_eq!(outline.from_addresses.len(), 2);
        assert!(outline.delivered_to(text, "x@Y") && !outline.delivered_to(text, "x@z"));
        assert_eq!(&text[outline.header_end..outline.body], b"\r\n");
        assert_eq!(&text[outline.body..outline.body + 4], b"body");
        assert!(outline.body_8bit && !outline.header_8bit && !outline.bare_lf && !outline.bare_cr && !outline.nul);
        assert_eq!((outline.lines, outline.longest_line), (10, 18));
        for cut in 0..text.len() {
            let part = Outline::scan(&text[..cut]);
            assert!(part.header_end <= part.body && part.body <= cut);
        }
    }

    #[test]
    fn oddities() {
        // Text, 8-bit header, bare LF, bare CR, NUL.
        let cases: [(&[u8], bool, bool, bool, bool); 7] = [
            (b"", false, false, false, false),
            (b"A: b\r\n\r\n", false, false, false, false),
            (b"A: \xc3\xbc\r\n", true, false, false, false),
            (b"A: b\n", false, true, false, false),
            (b"\n", false, true, false, false),
            (b"A: b\rc\r\n", false, false, true, false),
            (b"A: b\r\n\r\nx\0\r", false, false, true, true),
        ];
        for (text, eight, lf, cr, nul) in cases {
            let o = Outline::scan(text);
            assert_eq!((o.header_8bit, o.bare_lf, o.bare_cr, o.nul), (eight, lf, cr, nul), "{text:?}");
        }
    }
}
