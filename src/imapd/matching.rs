//! Does a message match a SEARCH key (RFC 3501 §6.4.4)? Text compares without case, on decoded headers and bodies.

use super::{body::Loaded, flags, resync::in_ranges, summary};
use crate::{
    message::{
        date,
        header::{self, Field},
        search,
    },
    proto::imap::{Flag, search::Key},
    store::{Flags, KeywordBits, Meta, ModSeq},
};
use memchr::memmem::Finder;
use std::cell::OnceCell;

/// A key made ready for one search in one folder.
#[derive(Debug)]
pub(super) enum Test {
    Always(bool),
    Flags(Flags),
    /// Any of these bits.
    Keyword(KeywordBits),
    Recent,
    Seq(Vec<(u32, u32)>),
    Uid(Vec<(u32, u32)>),
    /// First and last day of the internal date.
    Day(i64, i64),
    /// The same of the Date field.
    Sent(i64, i64),
    ModSeq(ModSeq),
    Larger(u64),
    Smaller(u64),
    Header(String, Needle),
    Body(Needle),
    Text(Needle),
    Not(Box<Self>),
    Any(Vec<Self>),
    All(Vec<Self>),
}

/// Folded text to look for.
#[derive(Debug)]
pub(super) struct Needle(Finder<'static>);

impl Needle {
    fn new(text: &str) -> Self {
        Self(Finder::new(search::fold(text).as_bytes()).into_owned())
    }
    /// `text` is folded.
    fn is_in(&self, text: &str) -> bool {
        self.0.find(text.as_bytes()).is_some()
    }
    fn is_empty(&self) -> bool {
        self.0.needle().is_empty()
    }
}

/// The folder in which a search runs.
pub(super) struct Folder<'a> {
    pub(super) keywords: &'a [String],
    pub(super) last_seq: u32,
    pub(super) last_uid: u32,
}

impl Test {
    /// Recurses as deep as keys nest: the parser has bounded it.
    pub(super) fn of(key: &Key, folder: &Folder<'_>) -> Self {
        let not = |t: Self| Self::Not(Box::new(t));
        match key {
            Key::All => Self::Always(true),
            Key::Flag(flag, true) => has_flag(flag, folder),
            Key::Flag(flag, false) => not(has_flag(flag, folder)),
            Key::Recent => Self::Recent,
            Key::Old => not(Self::Recent),
            Key::New => Self::All(vec![Self::Recent, not(Self::Flags(Flags::SEEN))]),
            Key::Seq(set) => Self::Seq(set.ranges(folder.last_seq)),
            Key::Uid(set) => Self::Uid(set.ranges(folder.last_uid)),
            Key::Before(day) => Self::Day(i64::MIN, day - 1),
            Key::On(day) => Self::Day(*day, *day),
            Key::Since(day) => Self::Day(*day, i64::MAX),
            Key::SentBefore(day) => Self::Sent(i64::MIN, day - 1),
            Key::SentOn(day) => Self::Sent(*day, *day),
            Key::SentSince(day) => Self::Sent(*day, i64::MAX),
            Key::ModSeq(n) => Self::ModSeq(ModSeq(*n)),
            Key::Larger(n) => Self::Larger(*n),
            Key::Smaller(n) => Self::Smaller(*n),
            Key::Header(field, text) => Self::Header(field.clone(), Needle::new(text)),
            Key::Body(text) => Self::Body(Needle::new(text)),
            Key::Text(text) => Self::Text(Needle::new(text)),
            Key::Not(k) => not(Self::of(k, folder)),
            Key::Or(a, b) => Self::Any(vec![Self::of(a, folder), Self::of(b, folder)]),
            Key::And(keys) => Self::All(keys.iter().map(|k| Self::of(k, folder)).collect()),
        }
    }
}

impl Test {
    /// How many tests this is made of.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Not(t) => t.count(),
            Self::Any(tests) | Self::All(tests) => tests.iter().map(Self::count).sum(),
            _ => 1,
        }
    }
}

impl Test {
    /// Whether header fields may decide it.
    pub(super) fn looks_at_fields(&self) -> bool {
        match self {
            Self::Not(t) => t.looks_at_fields(),
            Self::Any(tests) | Self::All(tests) => tests.iter().any(Self::looks_at_fields),
            Self::Header(..) | Self::Sent(..) => true,
            _ => false,
        }
    }
}

fn has_flag(flag: &Flag, folder: &Folder<'_>) -> Test {
    let bit = match flag {
        Flag::Keyword(k) => flags::keyword_bit(k, folder.keywords),
        _ => None,
    };
    let keyword = bit.map(Test::Keyword);
    match flags::system(flag) {
        // $Forwarded may be there as Maildir's letter and as a keyword.
        Some(f) => Test::Any([Some(Test::Flags(f)), keyword].into_iter().flatten().collect()),
        None => keyword.unwrap_or(Test::Always(false)),
    }
}

/// What is known of a message so far; more is read when a test says that it cannot tell.
pub(super) struct Candidate<'a> {
    pub(super) seq: u32,
    pub(super) meta: &'a Meta,
    pub(super) recent: bool,
    /// Fields that the summary keeps.
    pub(super) fields: Option<&'a [u8]>,
    pub(super) message: Option<&'a Content>,
}

/// A whole message and its text, decoded and folded when first needed.
pub(super) struct Content {
    loaded: Loaded,
    header: OnceCell<String>,
    texts: OnceCell<Vec<String>>,
}

impl Content {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self { loaded, header: OnceCell::new(), texts: OnceCell::new() }
    }
    fn header(&self) -> &str {
        self.header.get_or_init(|| header_text(header::fields(&self.loaded.bytes)))
    }
    /// Text parts, and the headers of parts and of messages inside: all that people see as the body.
    fn texts(&self) -> &[String] {
        self.texts.get_or_init(|| {
            let bytes = &self.loaded.bytes[..];
            let mut out = Vec::new();
            for (index, part) in self.loaded.structure().parts().iter().enumerate() {
                if index > 0 {
                    out.push(header_text(header::fields_in(bytes, &part.header)));
                }
                out.extend(search::leaf_text(bytes, part, search::MAX_TEXT).map(|t| search::fold(&t)));
            }
            out
        })
    }
}

fn header_text<'a>(fields: impl Iterator<Item = Field<'a>>) -> String {
    let mut out = String::new();
    for field in fields {
        out.push_str(&search::fold(&String::from_utf8_lossy(field.name())));
        out.push_str(": ");
        out.push_str(&search::field_value(field.value()));
        out.push('\n');
    }
    out
}

impl Candidate<'_> {
    /// `None`: cannot be told without more of the message.
    pub(super) fn matches(&self, test: &Test) -> Option<bool> {
        let day = |first: &i64, last: &i64, day: i64| (*first..=*last).contains(&day);
        match test {
            Test::Always(yes) => Some(*yes),
            Test::Flags(f) => Some(self.meta.flags.has(*f)),
            Test::Keyword(bits) => Some(self.meta.keywords & bits != 0),
            Test::Recent => Some(self.recent),
            Test::Seq(ranges) => Some(in_ranges(ranges, self.seq)),
            Test::Uid(ranges) => Some(in_ranges(ranges, self.meta.uid.0)),
            Test::Day(first, last) => Some(day(first, last, self.meta.internal_date.div_euclid(86_400))),
            Test::Sent(first, last) => self.any_field("date", |f| date::parse(&header::unfold(f.value())).is_some_and(|d| day(first, last, d.day()))),
            Test::ModSeq(n) => Some(self.meta.modseq >= *n),
            Test::Larger(n) => Some(self.meta.size > *n),
            Test::Smaller(n) => Some(self.meta.size < *n),
            Test::Header(name, needle) => self.any_field(name, |f| needle.is_empty() || needle.is_in(&search::field_value(f.value()))),
            Test::Body(needle) => self.message.map(|m| m.texts().iter().any(|t| needle.is_in(t)) || needle.is_empty()),
            Test::Text(needle) => self.message.map(|m| needle.is_in(m.header()) || m.texts().iter().any(|t| needle.is_in(t))),
            Test::Not(t) => self.matches(t).map(|yes| !yes),
            Test::Any(tests) => self.first(tests, true),
            Test::All(tests) => self.first(tests, false),
        }
    }
    /// `decisive` as soon as one test says so, though others cannot tell.
    fn first(&self, tests: &[Test], decisive: bool) -> Option<bool> {
        let mut known = true;
        for test in tests {
            match self.matches(test) {
                Some(yes) if yes == decisive => return Some(decisive),
                Some(_) => {}
                None => known = false,
            }
        }
        known.then_some(!decisive)
    }
    fn any_field(&self, name: &str, mut f: impl FnMut(&Field<'_>) -> bool) -> Option<bool> {
        let header = match (self.message, self.fields) {
            (Some(m), _) => &m.loaded.bytes[..],
            (None, Some(fields)) if summary::has_field(name) => fields,
            _ => return None,
        };
        Some(header::find_all(header, name).any(|field| f(&field)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto::imap::{cursor::Cursor, search::parse},
        store::Uid,
    };

    const MESSAGE: &str = "Date: Fri, 2 Jan 1970 23:30:00 -0300\r\nFrom: =?utf-8?Q?J=C3=BCrgen?= <j@example.org>\r\nTo: Bob <bob@example.net>\r\n\
        Subject: Weekly\r\n =?iso-8859-1?Q?Gr=FC=DFe?=\r\nX-Spam: no\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8gV8OWUkxE\r\n--b\r\nContent-Type: image/png\r\n\r\n\
        hidden\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: Forwarded thing\r\n\r\ninside\r\n--b--\r\n";

    fn test_of(text: &str) -> Test {
        let key = parse(&mut Cursor::new(text.as_bytes())).unwrap().key;
        Test::of(&key, &Folder { keywords: &["Work".into()], last_seq: 9, last_uid: 40 })
    }
    const META: Meta = Meta { uid: Uid(7), modseq: ModSeq(1), flags: Flags::SEEN, keywords: 1, size: 500, internal_date: 86_400 * 8797 + 3600 };

    #[test]
    fn keys() {
        let content = Content::new(Loaded::new(MESSAGE.as_bytes().to_vec()));
        let candidate = Candidate { seq: 3, meta: &META, recent: true, fields: None, message: Some(&content) };
        const CASES: &[(&str, bool)] = &[
            ("ALL", true),
            ("SEEN", true),
            ("UNSEEN", false),
            ("KEYWORD work", true),
            ("UNKEYWORD Work", false),
            ("KEYWORD other", false),
            ("UNKEYWORD other", true),
            ("RECENT", true),
            ("OLD", false),
            ("NEW", false),
            ("2:3", true),
            ("4:*", false),
            ("UID 7,9", true),
            ("UID 8:*", false),
            ("ON 1-Feb-1994", true),
            ("BEFORE 1-Feb-1994", false),
            ("BEFORE 2-Feb-1994", true),
            ("SINCE 1-Feb-1994", true),
            ("SINCE 2-Feb-1994", false),
            // The date as it stands there, whatever its zone.
            ("SENTON 2-Jan-1970", true),
            ("SENTSINCE 3-Jan-1970", false),
            ("SENTBEFORE 3-Jan-1970", true),
            ("MODSEQ 1", true),
            ("MODSEQ 2", false),
            ("NOT MODSEQ \"/flags/\\\\Seen\" all 9223372036854775807", true),
            ("LARGER 499", true),
            ("LARGER 500", false),
            ("SMALLER 501", true),
            ("FROM jürgen", true),
            ("FROM JÜRGEN", true),
            ("SUBJECT GRÜSSE", true),
            ("FROM example.ORG", true),
            ("TO bob", true),
            ("CC bob", false),
            ("SUBJECT \"weekly grüße\"", true),
            ("HEADER X-Spam no", true),
            ("HEADER X-Spam \"\"", true),
            ("HEADER X-None \"\"", false),
            ("BODY \"hello wörld\"", true),
            ("BODY weekly", false),
            ("BODY hidden", false),
            ("BODY \"forwarded thing\"", true),
            ("BODY inside", true),
            ("TEXT weekly", true),
            ("TEXT wörld", true),
            ("TEXT absent", false),
            ("NOT TEXT absent", true),
            ("OR UNSEEN FROM j", true),
            ("SEEN FROM nobody", false),
        ];
        for (text, want) in CASES {
            assert_eq!(candidate.matches(&test_of(text)), Some(*want), "{text}");
        }
    }
    #[test]
    fn reads_no_more_than_it_must() {
        let fields = b"Subject: abc\r\n";
        let candidate = |fields| Candidate { seq: 3, meta: &META, recent: false, fields, message: None };
        let (bare, with_fields) = (candidate(None), candidate(Some(&fields[..])));
        for (text, first, second) in [
            ("SUBJECT abc", None, Some(true)),
            ("CC x", None, Some(false)),
            ("HEADER X-Other x", None, None),
            ("BODY x", None, None),
            ("UNSEEN BODY x", Some(false), Some(false)),
            ("BODY x UNSEEN", Some(false), Some(false)),
            ("OR SEEN BODY x", Some(true), Some(true)),
            ("OR BODY x SUBJECT b", None, Some(true)),
            ("NOT BODY x", None, None),
        ] {
            let test = test_of(text);
            assert_eq!((bare.matches(&test), with_fields.matches(&test)), (first, second), "{text}");
        }
    }
}
