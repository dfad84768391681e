//! LIST and STATUS arguments (RFC 3501 §6.3.8, §6.3.10; RFC 5258; RFC 5819; RFC 7162; RFC 8438).

use super::{
    cursor::{Cursor, Parse},
    mailbox,
};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Selection options; all false in a plain LIST.
    pub subscribed: bool,
    pub special_use: bool,
    pub recursive_match: bool,
    /// Any parenthesis or RETURN: the client speaks LIST-EXTENDED.
    pub extended: bool,
    pub reference: String,
    /// UTF-8; one in a plain LIST, at most 16.
    pub patterns: Vec<String>,
    pub returns: Returns,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Returns {
    pub subscribed: bool,
    pub status: Vec<StatusItem>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Size,
    HighestModSeq,
}

impl StatusItem {
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Size => "SIZE",
            Self::HighestModSeq => "HIGHESTMODSEQ",
        }
    }
}

const PATTERNS_MAX: usize = 16;
/// A pattern that can match a name of ours is no longer than it plus its wild cards.
const PATTERN_MAX: usize = 1024;

pub fn parse_list(c: &mut Cursor<'_>) -> Parse<List> {
    let mut list = List::default();
    if c.peek() == Some(b'(') {
        list.extended = true;
        let mut remote = false;
        c.list(|c| {
            let start = c.clone();
            match c.atom("a selection option")?.to_ascii_uppercase().as_str() {
                "SUBSCRIBED" => list.subscribed = true,
                // Every folder is ours: nothing is remote.
                "REMOTE" => remote = true,
                "RECURSIVEMATCH" => list.recursive_match = true,
                "SPECIAL-USE" => list.special_use = true,
                _ => return start.fail("a selection option"),
            }
            Ok(())
        })?;
        if list.recursive_match && !list.subscribed && !list.special_use {
            return c.fail("something for RECURSIVEMATCH to match");
        }
        c.space()?;
    }
    list.reference = reference(c)?;
    c.space()?;
    list.patterns = if c.peek() == Some(b'(') {
        list.extended = true;
        let all = c.list(pattern)?;
        if all.is_empty() || all.len() > PATTERNS_MAX {
            return c.fail("1 to 16 patterns");
        }
        all
    } else {
        vec![pattern(c)?]
    };
    c.spaces();
    if c.word("RETURN") {
        list.extended = true;
        c.space()?;
        returns(c, &mut list.returns)?;
    }
    Ok(list)
}

fn returns(c: &mut Cursor<'_>, returns: &mut Returns) -> Parse<()> {
    c.list(|c| {
        let start = c.clone();
        match c.atom("a return option")?.to_ascii_uppercase().as_str() {
            "SUBSCRIBED" => returns.subscribed = true,
            // Always told.
            "CHILDREN" | "SPECIAL-USE" => {}
            "STATUS" => {
                c.space()?;
                returns.status = status_items(c)?;
            }
            _ => return start.fail("a return option"),
        }
        Ok(())
    })?;
    Ok(())
}

/// The reference of LIST and LSUB, as UTF-8.
pub fn reference(c: &mut Cursor<'_>) -> Parse<String> {
    let start = c.clone();
    let raw = c.astring("a reference")?;
    mailbox::decode(&raw).filter(|_| raw.len() <= PATTERN_MAX).ok_or(()).or_else(|()| start.fail("a reference in modified UTF-7"))
}

/// A pattern of LIST and LSUB, as UTF-8.
pub fn pattern(c: &mut Cursor<'_>) -> Parse<String> {
    let start = c.clone();
    let raw = c.pattern()?;
    mailbox::decode(&raw).filter(|_| raw.len() <= PATTERN_MAX).ok_or(()).or_else(|()| start.fail("a pattern in modified UTF-7"))
}

pub fn status_items(c: &mut Cursor<'_>) -> Parse<Vec<StatusItem>> {
    use StatusItem::{HighestModSeq, Messages, Recent, Size, UidNext, UidValidity, Unseen};
    let items = c.list(|c| {
        let start = c.clone();
        let word = c.atom("a status item")?;
        match [Messages, Recent, UidNext, UidValidity, Unseen, Size, HighestModSeq].into_iter().find(|i| i.name().eq_ignore_ascii_case(word)) {
            Some(item) => Ok(item),
            None => start.fail("a status item"),
        }
    })?;
    if items.is_empty() { c.fail("a status item") } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let plain = |reference: &str, pattern: &str| List { reference: reference.into(), patterns: vec![pattern.into()], ..List::default() };
        let cases = [
            ("\"\" *", Some(plain("", "*"))),
            ("\"\" \"\"", Some(plain("", ""))),
            ("#news. \"a%\"", Some(plain("#news.", "a%"))),
            ("\"\" Entw&APw-rfe", Some(plain("", "Entwürfe"))),
            (
                "(SUBSCRIBED RECURSIVEMATCH) \"\" (INBOX \"a/%\") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))",
                Some(List {
                    subscribed: true,
                    recursive_match: true,
                    extended: true,
                    reference: String::new(),
                    patterns: vec!["INBOX".into(), "a/%".into()],
                    returns: Returns { subscribed: false, status: vec![StatusItem::Messages, StatusItem::Unseen] },
                    ..List::default()
                }),
            ),
            ("(SPECIAL-USE) \"\" \"*\"", Some(List { special_use: true, extended: true, ..plain("", "*") })),
            ("() \"\" \"*\" RETURN ()", Some(List { extended: true, ..plain("", "*") })),
            ("(RECURSIVEMATCH) \"\" \"*\"", None),
            ("(BOGUS) \"\" \"*\"", None),
            ("\"\" ()", None),
            ("\"\"", None),
            ("\"\" &x", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_list(&mut Cursor::new(text.as_bytes())).ok(), want, "{text}");
        }
    }
}
