//! SEARCH (RFC 3501 §6.4.4) with ESEARCH's RETURN (RFC 4731): a tree of keys. Its text is UTF-8, whatever charset
//! the client wrote.

use super::{
    condstore,
    cursor::{Cursor, Error, Parse},
    date, flag,
    flag::Flag,
    sequence::SequenceSet,
};
use std::borrow::Cow;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// `None`: a plain SEARCH response.
    pub returns: Option<Returns>,
    pub key: Key,
}

/// All false came as `RETURN ()`, which means ALL; the parser says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Returns {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Key {
    All,
    /// Has the flag, or has it not.
    Flag(Flag, bool),
    Recent,
    Old,
    New,
    Seq(SequenceSet),
    Uid(SequenceSet),
    /// Days since 1970, of the internal date.
    Before(i64),
    On(i64),
    Since(i64),
    /// The same of the Date field.
    SentBefore(i64),
    SentOn(i64),
    SentSince(i64),
    /// Changed at or after it (RFC 7162 §3.1.5).
    ModSeq(u64),
    Larger(u64),
    Smaller(u64),
    /// Field name and a part of its value; an empty part asks whether the field is there.
    Header(String, String),
    Body(String),
    Text(String),
    Not(Box<Self>),
    Or(Box<Self>, Box<Self>),
    And(Vec<Self>),
}

/// Why there is no [`Search`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Bad(Error),
    /// NO [BADCHARSET].
    Charset,
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self::Bad(e)
    }
}

/// Parser, evaluation and drop recurse as deep as keys nest, and no deeper.
const NESTING_MAX: u32 = 50;

impl Search {
    /// Whether the answer names the highest mod-sequence found (RFC 7162 §3.1.6).
    pub fn asks_modseq(&self) -> bool {
        self.key.any(&|k| matches!(k, Key::ModSeq(_)))
    }
}

impl Key {
    /// Whether any key of the tree is such. Recurses as deep as the parser lets keys nest.
    pub fn any(&self, is: &impl Fn(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::Not(key) => key.any(is),
                Self::Or(a, b) => a.any(is) || b.any(is),
                Self::And(keys) => keys.iter().any(|k| k.any(is)),
                _ => false,
            }
    }
}

type Charset = Option<&'static encoding_rs::Encoding>;

/// What follows `SEARCH `.
pub fn parse(c: &mut Cursor<'_>) -> Result<Search, Refusal> {
    let mut returns = None;
    if c.word("RETURN") {
        c.space()?;
        returns = Some(parse_returns(c)?);
        c.space()?;
    }
    let mut charset = None;
    if c.word("CHARSET") {
        c.space()?;
        let name = c.astring("a charset")?;
        // `utf-16` and its kin are no superset of ASCII and cannot stand in a command.
        charset = Some(encoding_rs::Encoding::for_label(&name).filter(|e| e.is_ascii_compatible()).ok_or(Refusal::Charset)?);
        c.space()?;
    }
    let mut keys = vec![key(c, charset, 0)?];
    c.spaces();
    while !c.is_done() {
        keys.push(key(c, charset, 0)?);
        if !c.is_done() {
            c.space()?;
        }
    }
    Ok(Search { returns, key: all_of(keys) })
}

fn all_of(mut keys: Vec<Key>) -> Key {
    match (keys.len(), keys.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            keys.extend(last);
            Key::And(keys)
        }
    }
}

fn parse_returns(c: &mut Cursor<'_>) -> Parse<Returns> {
    let mut r = Returns::default();
    c.list(|c| {
        let start = c.clone();
        match c.atom("a return option")?.to_ascii_uppercase().as_str() {
            "MIN" => r.min = true,
            "MAX" => r.max = true,
            "ALL" => r.all = true,
            "COUNT" => r.count = true,
            _ => return start.fail("MIN, MAX, ALL or COUNT"),
        }
        Ok(())
    })?;
    r.all |= r == Returns::default();
    Ok(r)
}

fn key(c: &mut Cursor<'_>, charset: Charset, depth: u32) -> Parse<Key> {
    if depth >= NESTING_MAX {
        return c.fail("keys nested less deep");
    }
    if c.peek() == Some(b'(') {
        let keys = c.list(|c| key(c, charset, depth + 1))?;
        return if keys.is_empty() { c.fail("a search key") } else { Ok(all_of(keys)) };
    }
    if c.peek().is_some_and(|b| b.is_ascii_digit() || b == b'*') {
        return SequenceSet::parse(c).map(Key::Seq);
    }
    let start = c.clone();
    let name = c.name().to_ascii_uppercase();
    if let Some(key) = plain(&name) {
        return Ok(key);
    }
    let known = matches!(
        name.as_str(),
        "KEYWORD"
            | "UNKEYWORD"
            | "BEFORE"
            | "ON"
            | "SINCE"
            | "SENTBEFORE"
            | "SENTON"
            | "SENTSINCE"
            | "LARGER"
            | "SMALLER"
            | "MODSEQ"
            | "UID"
            | "NOT"
            | "OR"
    ) || is_text(&name);
    if !known {
        return start.fail("a search key");
    }
    c.space()?;
    if is_text(&name) {
        return with_text(c, &name, charset);
    }
    Ok(match name.as_str() {
        "KEYWORD" | "UNKEYWORD" => Key::Flag(keyword(c)?, name == "KEYWORD"),
        "BEFORE" => Key::Before(date::parse_date(c)?),
        "ON" => Key::On(date::parse_date(c)?),
        "SINCE" => Key::Since(date::parse_date(c)?),
        "SENTBEFORE" => Key::SentBefore(date::parse_date(c)?),
        "SENTON" => Key::SentOn(date::parse_date(c)?),
        "SENTSINCE" => Key::SentSince(date::parse_date(c)?),
        "MODSEQ" => Key::ModSeq(condstore::search(c)?),
        "LARGER" => Key::Larger(c.number64()?),
        "SMALLER" => Key::Smaller(c.number64()?),
        "UID" => Key::Uid(SequenceSet::parse(c)?),
        "NOT" => Key::Not(Box::new(key(c, charset, depth + 1)?)),
        _ => {
            let one = key(c, charset, depth + 1)?;
            c.space()?;
            Key::Or(Box::new(one), Box::new(key(c, charset, depth + 1)?))
        }
    })
}

/// Keys without an argument.
fn plain(name: &str) -> Option<Key> {
    Some(match name {
        "ALL" => Key::All,
        "ANSWERED" => Key::Flag(Flag::Answered, true),
        "DELETED" => Key::Flag(Flag::Deleted, true),
        "DRAFT" => Key::Flag(Flag::Draft, true),
        "FLAGGED" => Key::Flag(Flag::Flagged, true),
        "SEEN" => Key::Flag(Flag::Seen, true),
        "UNANSWERED" => Key::Flag(Flag::Answered, false),
        "UNDELETED" => Key::Flag(Flag::Deleted, false),
        "UNDRAFT" => Key::Flag(Flag::Draft, false),
        "UNFLAGGED" => Key::Flag(Flag::Flagged, false),
        "UNSEEN" => Key::Flag(Flag::Seen, false),
        "RECENT" => Key::Recent,
        "OLD" => Key::Old,
        "NEW" => Key::New,
        _ => return None,
    })
}

fn is_text(name: &str) -> bool {
    matches!(name, "BCC" | "BODY" | "CC" | "FROM" | "HEADER" | "SUBJECT" | "TEXT" | "TO")
}

fn with_text(c: &mut Cursor<'_>, name: &str, charset: Charset) -> Parse<Key> {
    Ok(match name {
        "BODY" => Key::Body(text(c, charset)?),
        "TEXT" => Key::Text(text(c, charset)?),
        "HEADER" => {
            let field = c.text("a field name")?;
            c.space()?;
            Key::Header(field, text(c, charset)?)
        }
        field => Key::Header(field.to_owned(), text(c, charset)?),
    })
}

fn keyword(c: &mut Cursor<'_>) -> Parse<Flag> {
    match flag::flag(c)? {
        Some(f @ Flag::Keyword(_)) => Ok(f),
        _ => c.fail("a keyword"),
    }
}

/// Without CHARSET the text is US-ASCII by the letter; UTF-8 is what clients send there.
fn text(c: &mut Cursor<'_>, charset: Charset) -> Parse<String> {
    let start = c.clone();
    let raw = c.astring("a string")?;
    let encoding = charset.unwrap_or(encoding_rs::UTF_8);
    match encoding.decode_without_bom_handling_and_without_replacement(&raw) {
        Some(Cow::Borrowed(t)) => Ok(t.to_owned()),
        Some(Cow::Owned(t)) => Ok(t),
        None => start.fail("text in the charset given"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Search, Refusal> {
        parse(&mut Cursor::new(text))
    }
    fn keyed(text: &str) -> Option<Key> {
        parsed(text.as_bytes()).ok().map(|s| s.key)
    }
    fn header(field: &str, part: &str) -> Key {
        Key::Header(field.into(), part.into())
    }

    #[test]
    fn keys() {
        let not = |k| Key::Not(Box::new(k));
        let cases = [
            (
                "FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
                Some(Key::And(vec![Key::Flag(Flag::Flagged, true), Key::Since(8797), not(header("FROM", "Smith"))])),
            ),
            ("TEXT {6}\r\nabcdef", Some(Key::Text("abcdef".into()))),
            ("all", Some(Key::All)),
            ("(seen)", Some(Key::Flag(Flag::Seen, true))),
            ("OR UNSEEN (LARGER 100 SMALLER 5000000000)", {
                let pair = Key::And(vec![Key::Larger(100), Key::Smaller(5_000_000_000)]);
                Some(Key::Or(Box::new(Key::Flag(Flag::Seen, false)), Box::new(pair)))
            }),
            ("UNKEYWORD $Junk", Some(Key::Flag(Flag::Keyword("$Junk".into()), false))),
            ("HEADER Message-ID \"<1@x>\"", Some(header("Message-ID", "<1@x>"))),
            ("HEADER X-Y \"\"", Some(header("X-Y", ""))),
            ("SUBJECT Grüße", Some(header("SUBJECT", "Grüße"))),
            ("SENTON \"2-Jan-1970\"", Some(Key::SentOn(1))),
            ("FROM", None),
            ("", None),
            ("()", None),
            ("OR SEEN", None),
            ("NOTHING", None),
            ("KEYWORD \\Seen", None),
            ("SEEN)", None),
            ("MODSEQ 1", Some(Key::ModSeq(1))),
            ("MODSEQ x", None),
            ("OLDER 60", None),
        ];
        for (text, want) in cases {
            assert_eq!(keyed(text), want, "{text}");
        }
        assert!(matches!(keyed("1:3 UID 5:*"), Some(Key::And(k)) if matches!(&k[..], [Key::Seq(_), Key::Uid(_)])));
    }
    #[test]
    fn keys_in_keys() {
        let any = |text: &str| keyed(text).unwrap().any(&|k| matches!(k, Key::ModSeq(_)));
        assert!(any("MODSEQ 1") && any("OR SEEN (ALL NOT MODSEQ 1)") && any("SEEN MODSEQ \"/flags/\\\\Draft\" all 1 UNSEEN"));
        assert!(!any("OR SEEN NOT (1:3 UID 5)"));
    }
    #[test]
    fn charsets() {
        assert_eq!(parsed(b"CHARSET iso-8859-1 SUBJECT {2}\r\n\xfc\xe9").map(|s| s.key), Ok(header("SUBJECT", "üé")));
        assert_eq!(parsed("CHARSET UTF-8 TO \"ü\"".as_bytes()).map(|s| s.key), Ok(header("TO", "ü")));
        assert_eq!(parsed(b"CHARSET US-ASCII TO x").map(|s| s.key), Ok(header("TO", "x")));
        assert_eq!(parsed(b"CHARSET KOI7 TO x"), Err(Refusal::Charset));
        assert_eq!(parsed(b"CHARSET UTF-16LE TO x"), Err(Refusal::Charset));
        assert!(matches!(parsed(b"TO \"\xff\""), Err(Refusal::Bad(_))));
    }
    #[test]
    fn returns() {
        let r = |min, max, all, count| Some(Returns { min, max, all, count });
        assert_eq!(parsed(b"RETURN (MIN COUNT) ALL").unwrap().returns, r(true, false, false, true));
        assert_eq!(parsed(b"RETURN () ALL").unwrap().returns, r(false, false, true, false));
        assert_eq!(parsed(b"ALL").unwrap().returns, None);
        assert!(parsed(b"RETURN (SAVE) ALL").is_err());
    }
    #[test]
    fn nesting_ends() {
        for (open, n) in [("NOT ", 40_000), ("(", 40_000), ("OR ALL ", 10_000)] {
            assert!(keyed(&format!("{}ALL", open.repeat(n))).is_none());
        }
        assert!(keyed(&format!("{}ALL", "NOT ".repeat(49))).is_some());
        // Side by side is not nested.
        assert!(keyed(&"OR SEEN ALL ".repeat(1000)).is_some());
    }
}
