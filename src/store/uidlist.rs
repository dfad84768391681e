//! `dovecot-uidlist`, version 3: which file has which UID.
//!
//! ```text
//! 3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1
//! 25006 W2481 :1276528487.M364837P9451.kurkku,S=2355
//! ```
//! `V` UIDVALIDITY, `N` next UID, `G` the folder's 128 bits; a record is the UID, extension fields (a capital and
//! its value), and behind ` :` the base of the file name. Unknown fields are kept. Version 1, which Courier's
//! `courierimapuiddb` shares, is read: `1 VALIDITY NEXT` and `UID NAME`.
//!
//! Fields of Dovecot's: `W` and `S` sizes, `P` what POP3 says in UIDL (alone: the base of the name), `O` the place in
//! POP3's order, `G` a GUID. Ours: `D`, the internal date of a file whose name does not have it.
//!
//! Dovecot appends records without touching the header, and so do we; the next UID is the greater of `N` and the
//! last record's plus one. Whoever mixed the lines up lost nothing: they are sorted. Where two files claim one UID, nobody
//! knows which of them clients saw under it, and neither keeps it.

use super::file;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub validity: u32,
    pub next: u32,
    /// Fields other than V and N, as they stand, with a space before each.
    pub other: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub uid: u32,
    /// Extension fields between single spaces, without `W` and `D`.
    pub vsize: Option<u64>,
    pub date: Option<i64>,
    pub fields: &'a [u8],
    pub base: &'a [u8],
}

#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub header: Header,
    /// UIDs strictly ascending.
    pub records: Vec<Record<'a>>,
    /// Lines that are no records, last line without its end included: what a power cut leaves. Bytes, so at
    /// least as many as there were UIDs in them.
    pub damaged: usize,
    pub version: u8,
}

impl Parsed<'_> {
    /// A UID that was certainly never given out.
    pub(super) fn next(&self) -> u32 {
        let last = self.records.last().map_or(0, |r| r.uid);
        self.header.next.max(last.saturating_add(1)).saturating_add(u32::try_from(self.damaged).unwrap_or(u32::MAX))
    }

    fn sort(&mut self) {
        if self.records.is_sorted_by(|a, b| a.uid < b.uid) {
            return;
        }
        self.records.sort_by_key(|r| r.uid);
        let last = self.records.last().map_or(0, |r| r.uid);
        let before = self.records.len();
        let mut sorted = Vec::with_capacity(before);
        for same in self.records.chunk_by(|a, b| a.uid == b.uid) {
            // A line that stands there twice says nothing new.
            if let Some(first) = same.first().filter(|first| same.iter().all(|r| r.base == first.base)) {
                sorted.push(*first);
            }
        }
        // What was dropped at the end counts as given out.
        self.header.next = self.header.next.max(last.saturating_add(1));
        // Courier has them in no order.
        self.damaged += usize::from(self.version != 1).max(before - sorted.len());
        self.records = sorted;
    }
}

/// Above this there is no room left to count; such a file is damaged, or its folder needs a new UIDVALIDITY anyway.
pub(super) const MAX_NEXT: u32 = u32::MAX - (1 << 24);

/// `None`: without a usable header nothing in the file can be trusted.
pub(super) fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let end = memchr::memchr(b'\n', bytes)?;
    // Somebody's editor: readable, and to be written anew.
    let bare = bytes[..end].strip_suffix(b"\r");
    let (header, version) = parse_header(bare.unwrap_or(&bytes[..end]))?;
    let bare_line = |l| if bare.is_some() { <[u8]>::strip_suffix(l, b"\r").unwrap_or(l) } else { l };
    let mut parsed = Parsed { header, records: Vec::new(), damaged: usize::from(bare.is_some()), version };
    let mut rest = &bytes[end + 1..];
    while !rest.is_empty() {
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(end) => (Some(&rest[..end]), &rest[end + 1..]),
            None => (None, &rest[rest.len()..]),
        };
        match line.and_then(|l| parse_record(bare_line(l), version)).filter(|r| r.uid > 0 && r.uid < MAX_NEXT) {
            Some(record) => parsed.records.push(record),
            None => parsed.damaged += rest.len() - after.len(),
        }
        rest = after;
    }
    parsed.sort();
    (parsed.next() < MAX_NEXT).then_some(parsed)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn parse_header(line: &[u8]) -> Option<(Header, u8)> {
    let mut fields = line.split(|b| *b == b' ').filter(|f| !f.is_empty());
    let mut header = Header::default();
    let version = match fields.next()? {
        b"1" => {
            header.validity = number(fields.next()?)?;
            header.next = number(fields.next()?)?;
            1
        }
        b"3" => {
            for field in fields {
                match field {
                    [b'V', n @ ..] => header.validity = number(n)?,
                    [b'N', n @ ..] => header.next = number(n)?,
                    other => {
                        header.other.push(b' ');
                        header.other.extend_from_slice(other);
                    }
                }
            }
            3
        }
        _ => return None,
    };
    (header.validity > 0 && header.next > 0).then_some((header, version))
}

fn parse_record(line: &[u8], version: u8) -> Option<Record<'_>> {
    let space = memchr::memchr(b' ', line)?;
    let uid = number(&line[..space])?;
    let rest = line[space..].trim_ascii_start();
    let mut record = Record { uid, vsize: None, date: None, fields: b"", base: b"" };
    if version == 1 {
        record.base = file::base(rest);
    } else {
        let colon = if rest.first() == Some(&b':') { 0 } else { memchr::memmem::find(rest, b" :")? + 1 };
        record.fields = rest[..colon].trim_ascii();
        record.base = file::base(&rest[colon + 1..]);
        record.vsize = field(record.fields, b'W').and_then(number).filter(|n| *n <= file::MAX_SIZE);
        record.date = field(record.fields, b'D').and_then(number);
    }
    let usable = !record.base.is_empty() && !record.base.iter().any(|b| matches!(b, 0 | b'/' | b'\n'));
    usable.then_some(record)
}

/// The value of an extension field; empty when its letter stands alone.
pub(super) fn field(fields: &[u8], letter: u8) -> Option<&[u8]> {
    fields.split(|b| *b == b' ').find_map(|f| f.split_first().filter(|(l, _)| **l == letter).map(|(_, value)| value))
}

/// Fields that we do not make out of what we know of the message: all but `W` and `D`, and what Dovecot would not read.
pub(super) fn foreign_fields(fields: &[u8]) -> Option<Box<[u8]>> {
    let is_kept = |f: &&[u8]| f.first().is_some_and(|letter| letter.is_ascii_uppercase() && !matches!(letter, b'W' | b'D'));
    let kept: Vec<&[u8]> = fields.split(|b| *b == b' ').filter(is_kept).collect();
    (!kept.is_empty()).then(|| kept.join(&b' ').into())
}

pub(super) fn write_header(out: &mut Vec<u8>, header: &Header) {
    out.extend_from_slice(format!("3 V{} N{}", header.validity, header.next).as_bytes());
    out.extend_from_slice(&header.other);
    out.push(b'\n');
}

/// `vsize` and `date` are written when the name does not say them.
pub(super) fn write_record(out: &mut Vec<u8>, uid: u32, fields: Option<&[u8]>, name: &[u8], vsize: u64, date: i64) {
    out.extend_from_slice(uid.to_string().as_bytes());
    out.push(b' ');
    if let Some(fields) = fields {
        out.extend_from_slice(fields);
        out.push(b' ');
    }
    if file::sizes(name).1.is_none() {
        out.extend_from_slice(format!("W{vsize} ").as_bytes());
    }
    if file::date(name).is_none() {
        out.extend_from_slice(format!("D{date} ").as_bytes());
    }
    out.push(b':');
    out.extend_from_slice(file::base(name));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOVECOT: &str = "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1 Xnew\n\
        25006 W2481 :1276528487.M364837P9451.kurkku,S=2355\n\
        25017 P5f3 W99 Zodd :a b:2,S\n\
        25020 :1.M1P1Q1.h,S=1,W=1\n";

    #[test]
    fn what_dovecot_writes_is_read_and_kept() {
        let p = parse(DOVECOT.as_bytes()).unwrap();
        assert_eq!((p.header.validity, p.next(), p.damaged), (1_275_660_208, 25022, 0));
        assert_eq!(p.header.other, b" G3085f01b7f11094c501100008c4a11c1 Xnew");
        assert_eq!(p.records[1], Record { uid: 25017, vsize: Some(99), date: None, fields: b"P5f3 W99 Zodd", base: b"a b" });
        let mut out = Vec::new();
        write_header(&mut out, &p.header);
        for r in &p.records {
            write_record(&mut out, r.uid, foreign_fields(r.fields).as_deref(), r.base, r.vsize.unwrap_or(1), 7);
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1 Xnew\n\
            25006 W2481 D7 :1276528487.M364837P9451.kurkku,S=2355\n\
            25017 P5f3 Zodd W99 D7 :a b\n\
            25020 :1.M1P1Q1.h,S=1,W=1\n"
        );
    }

    #[test]
    fn damage() {
        const CASES: &[(&str, Option<(usize, u32)>)] = &[
            ("", None),
            ("3 V1 N5", None), // a header without its end
            ("3 N5\n", None),
            ("3 V1\n", None),
            ("3 V0 N5\n", None),
            ("3 V1 N5\n", Some((0, 5))),
            ("2 V1 N5\n", None),
            ("\0\0\0\0", None),
            ("3 V1 N4294967295\n", None),
            ("3 Vx N5\n", None),
            ("1 7 5\n3 a.b.c\n4 a.b.d:2,S\n", Some((2, 5))),
            ("3 V1 N5\n1 :a\n2 :b", Some((1, 9))), // the last line may be half of another name
            ("3 V1 N5\n1 :a\n1 :b\n7 :c\n", Some((1, 10))),
            ("3 V1 N5\n7 :c\n1 :a\n3 W2 :b\n", Some((3, 9))),
            ("3 V1 N5\n7 :c\n1 :a\n7 :c\n", Some((2, 9))),
            ("3 V1 N5\n1 :a\n9 :c\n9 :b\n", Some((1, 12))),
            ("3 V1 N5\n1   W2  P  :a\n", Some((1, 5))),
            ("3 V1 N5\n0 :a\n", Some((0, 10))),
            ("1 7 5\n4 d\n3 c e\n", Some((2, 5))),
            ("3 V1 N5\n1 :a\n\0\0\0\0", Some((1, 9))),
            ("3 V1 N5\n1 :a/b\n", Some((0, 12))),
            ("3 V1 N5\n99999999999 :a\n", Some((0, 20))),
            ("3 V1 N5\n4294967295 :a\n", Some((0, 19))),
            ("3 V1 N5\n1 :\n", Some((0, 9))),
            ("3 V1 N5\r\n1 :a\r\n2 W3 :b\r\n", Some((2, 6))),
            ("3 V1 N5\n1 :a\n5 :a\n", Some((2, 6))),
            ("3 V1 N4278190078\n4278190076 :a\n", Some((1, 4_278_190_078))),
            ("3 V1 N4278190079\n", None),
            ("3 V1 N5\n4278190078 :a\n", None), // no room above it
        ];
        for (text, want) in CASES {
            assert_eq!(parse(text.as_bytes()).map(|p| (p.records.len(), p.next())), *want, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, cut in 0..DOVECOT.len()) {
            let _ = parse(&bytes);
            let _ = parse(&[b"3 V1 N5\n", &bytes[..]].concat());
            if let Some(p) = parse(&DOVECOT.as_bytes()[..cut]) {
                // Half a file never leads to a UID twice: N was ahead of the records here.
                proptest::prop_assert!(p.next() >= 25022);
            }
        }
    }
}
