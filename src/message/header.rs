//! Header blocks: fields with their offsets, folded or not, CRLF or bare LF (RFC 5322 §2.2).
//!
//! Lines that are no field (an mbox `From ` line, garbage) are passed over together with their continuation lines.

use std::borrow::Cow;
use std::ops::Range;

/// One field. Ranges are offsets into the bytes that the iterator was made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    bytes: &'a [u8],
    /// Without the colon and white space before it.
    pub name: Range<usize>,
    /// From after the colon to the last octet before the line end; still folded, white space as it stands.
    pub value: Range<usize>,
    /// Name, colon, value and the line end.
    pub whole: Range<usize>,
}

impl<'a> Field<'a> {
    pub fn name(&self) -> &'a [u8] {
        slice(self.bytes, &self.name)
    }
    /// As it stands, folds and leading space included; see [`unfold`].
    pub fn value(&self) -> &'a [u8] {
        slice(self.bytes, &self.value)
    }
    /// The whole field with its line end: what BODY[HEADER.FIELDS] sends.
    pub fn raw(&self) -> &'a [u8] {
        slice(self.bytes, &self.whole)
    }
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Iterates over the fields up to the empty line, the end of the range, or the end of the bytes. Linear.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

/// The fields of the header at the start of `message`.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { bytes: message, at: 0, end: message.len() }
}

/// The fields of a header that lies at `range` (a part's, as [`super::mime::Part::header`] gives it).
pub fn fields_in<'a>(message: &'a [u8], range: &Range<usize>) -> Fields<'a> {
    let end = range.end.min(message.len());
    Fields { bytes: message, at: range.start.min(end), end }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let start = self.at;
            let first = line(self.bytes, start, self.end)?;
            if first.is_empty() {
                self.at = self.end;
                return None;
            }
            let mut last = first.clone();
            self.at = line_end(self.bytes, start, self.end);
            while matches!(self.bytes.get(self.at), Some(b' ' | b'\t'))
                && let Some(more) = line(self.bytes, self.at, self.end)
            {
                last = more;
                self.at = line_end(self.bytes, self.at, self.end);
            }
            if let Some(name) = field_name(slice(self.bytes, &first)) {
                let colon = start + name.1;
                let value = colon + 1..last.end.max(colon + 1);
                return Some(Field { bytes: self.bytes, name: start..start + name.0, value, whole: start..self.at });
            }
        }
    }
}

/// Where the body begins: after the empty line, or at the end when there is none.
pub fn header_end(message: &[u8]) -> usize {
    let mut at = 0;
    while let Some(line) = line(message, at, message.len()) {
        at = line_end(message, at, message.len());
        if line.is_empty() {
            break;
        }
    }
    at
}

/// The first field of that name, names compared without case.
pub fn find<'a>(message: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(message).find(|field| field.is(name))
}

/// All fields of that name in their order.
pub fn find_all<'a>(message: &'a [u8], name: &str) -> impl Iterator<Item = Field<'a>> {
    fields(message).filter(move |field| field.is(name))
}

/// A field value without its folds (RFC 5322 §2.2.3) and without white space at either end. White space after a
/// fold stays as it stands.
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = trim(value);
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect())
}

/// Without space, tab, CR and LF at either end.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Length of the name and offset of the colon, when the line begins as a field does. RFC 5322 §4.5 lets white space
/// stand before the colon.
fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr::memchr(b':', line)?;
    let name = line.get(..colon)?;
    let length = name.iter().rposition(|b| !matches!(b, b' ' | b'\t'))? + 1;
    name.get(..length)?.iter().all(u8::is_ascii_graphic).then_some((length, colon))
}

/// The line that begins at `at`, without its end; `None` at the end of the text.
pub(super) fn line(bytes: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    if at >= end {
        return None;
    }
    let after = line_end(bytes, at, end);
    let text = bytes.get(at..after)?;
    let text = text.strip_suffix(b"\n").map_or(text, |t| t.strip_suffix(b"\r").unwrap_or(t));
    Some(at..at + text.len())
}

/// Where the line that begins at `at` is over, its LF included.
pub(super) fn line_end(bytes: &[u8], at: usize, end: usize) -> usize {
    let rest = bytes.get(at..end).unwrap_or_default();
    memchr::memchr(b'\n', rest).map_or(end, |lf| at + lf + 1)
}

pub(super) fn slice<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    bytes.get(range.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expect = &'static [(&'static str, &'static str)];
    const CASES: &[(&str, Expect, &str)] = &[
        ("", &[], ""),
        ("A: b\r\n\r\nbody", &[("A", " b")], "body"),
        ("A: b\nC:d\n\nbody\n\n", &[("A", " b"), ("C", "d")], "body\n\n"),
        ("A: b", &[("A", " b")], ""),
        ("A:", &[("A", "")], ""),
        ("A:\r\n\r\n", &[("A", "")], ""),
        ("A: b\r\n\tc\r\n  d\r\nE: f\r\n", &[("A", " b\r\n\tc\r\n  d"), ("E", " f")], ""),
        ("A:\r\n b\r\n", &[("A", "\r\n b")], ""),
        ("A : b\r\n\r\n", &[("A", " b")], ""),
        ("From a@b Thu Jan  1 00:00:00 1970\nA: b\n\n", &[("A", " b")], ""),
        (">From x\n folded\nA: b\n\n", &[("A", " b")], ""),
        ("garbage\n more\nA: b\n: none\nB c: d\nE: f\n\ng: h", &[("A", " b"), ("E", " f")], "g: h"),
        (" leading\nA: b\n\n", &[("A", " b")], ""),
        ("A: b\n \n c\n\nx", &[("A", " b\n \n c")], "x"),
        ("\r\nbody", &[], "body"),
        ("\nbody", &[], "body"),
        ("A: b\r\r\nC: d\n\n", &[("A", " b\r"), ("C", " d")], ""),
        ("A: b\rC: d\n\n", &[("A", " b\rC: d")], ""),
    ];

    #[test]
    fn fields_and_body() {
        for (text, expect, body) in CASES {
            let bytes = text.as_bytes();
            let found: Vec<_> = fields(bytes).map(|f| (f.name(), f.value())).collect();
            let expect: Vec<_> = expect.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            assert_eq!(found, expect, "{text:?}");
            assert_eq!(&bytes[header_end(bytes)..], body.as_bytes(), "{text:?}");
            for cut in 0..=bytes.len() {
                for field in fields(&bytes[..cut]) {
                    assert!(field.raw().starts_with(field.name()) && field.whole.end <= cut);
                }
                assert!(header_end(&bytes[..cut]) <= cut);
            }
        }
    }

    #[test]
    fn raw_fields_keep_their_line_ends() {
        let text = b"Xy: 1\r\n  2\r\nSubject: s\nxY: 3\r\n\r\nXy: no";
        let raw: Vec<_> = find_all(text, "xy").map(|f| f.raw()).collect();
        assert_eq!(raw, [&b"Xy: 1\r\n  2\r\n"[..], b"xY: 3\r\n"]);
        assert_eq!(find(text, "SUBJECT").map(|f| f.value.clone()), Some(20..22));
        let inner: Vec<_> = fields_in(text, &(12..23)).map(|f| f.name().to_vec()).collect();
        assert_eq!(inner, [b"Subject"]);
        assert_eq!(fields_in(text, &(40..99)).count(), 0);
    }

    #[test]
    fn unfolds() {
        let cases = [(" a\r\n b ", "a b"), ("\r\n a\r\n\t b\r\n", "a\t b"), ("", ""), ("  ", ""), ("x", "x"), (" a\nb", "ab")];
        for (folded, plain) in cases {
            assert_eq!(&*unfold(folded.as_bytes()), plain.as_bytes(), "{folded:?}");
        }
    }
}
