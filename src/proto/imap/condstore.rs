//! CONDSTORE's and QRESYNC's arguments (RFC 7162 §7): what SELECT, FETCH and STORE say of mod-sequences.

use super::{
    Command, Item,
    cursor::{Cursor, Parse},
    list::StatusItem,
    search::Key,
    sequence::SequenceSet,
};

/// 63 bits: RFC 7162 §3.1 has no larger mod-sequence.
const MODSEQ_MAX: u64 = i64::MAX as u64;

/// Parameters of SELECT and EXAMINE.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opening {
    pub condstore: bool,
    pub qresync: Option<Resync>,
}

/// What a client knows of a folder since it was there last (RFC 7162 §3.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resync {
    pub uid_validity: u32,
    /// 0 is not in the grammar, and clients that know nothing yet send it.
    pub modseq: u64,
    /// `None`: all.
    pub known_uids: Option<SequenceSet>,
    /// Sequence numbers and the UIDs of the same messages, as many of each, ascending.
    pub pairs: Option<(SequenceSet, SequenceSet)>,
}

/// CHANGEDSINCE of FETCH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since {
    /// 0 as in [`Resync::modseq`].
    pub modseq: u64,
    /// Also what was expunged since.
    pub vanished: bool,
}

impl Command {
    /// Whether a client that says this is to be told mod-sequences from now on (RFC 7162 §3.1). ENABLE is a matter of its own.
    pub fn enables_condstore(&self) -> bool {
        match self {
            Self::Select { opening, .. } => opening.condstore || opening.qresync.is_some(),
            Self::Status(_, items) => items.contains(&StatusItem::HighestModSeq),
            Self::List(list) => list.returns.status.contains(&StatusItem::HighestModSeq),
            Self::Fetch { items, since, .. } => since.is_some() || items.contains(&Item::ModSeq),
            Self::Store { since, .. } => since.is_some(),
            Self::Search { search, .. } => search.asks_modseq(),
            _ => false,
        }
    }
    /// Whether this is only for those who enabled QRESYNC (§3.2.3).
    pub fn needs_qresync(&self) -> bool {
        match self {
            Self::Select { opening, .. } => opening.qresync.is_some(),
            Self::Fetch { since, .. } => since.is_some_and(|s| s.vanished),
            _ => false,
        }
    }
    /// Whether it counts on sequence numbers though it is a UID command: nothing may be expunged under it (§3.2.10.2).
    pub fn uses_numbers(&self) -> bool {
        matches!(self, Self::Search { search, .. } if search.key.any(&|k| matches!(k, Key::Seq(_))))
    }
}

/// `mod-sequence-valzer`.
pub fn modseq(c: &mut Cursor<'_>) -> Parse<u64> {
    let start = c.clone();
    match c.number64() {
        Ok(n) if n <= MODSEQ_MAX => Ok(n),
        _ => start.fail("a mod-sequence below 2^63"),
    }
}

/// What follows the folder's name: nothing, or a list of parameters.
pub fn opening(c: &mut Cursor<'_>) -> Parse<Opening> {
    let mut opening = Opening::default();
    c.spaces();
    if c.is_done() {
        return Ok(opening);
    }
    let start = c.clone();
    let parameters = c.list(|c| {
        let start = c.clone();
        if c.word("CONDSTORE") && !opening.condstore {
            opening.condstore = true;
        } else if c.word("QRESYNC") && opening.qresync.is_none() {
            c.space()?;
            opening.qresync = Some(resync(c)?);
        } else {
            return start.fail("CONDSTORE or QRESYNC");
        }
        Ok(())
    })?;
    if parameters.is_empty() { start.fail("a parameter") } else { Ok(opening) }
}

fn resync(c: &mut Cursor<'_>) -> Parse<Resync> {
    c.want(b'(', "(")?;
    let uid_validity = c.non_zero()?;
    c.space()?;
    let modseq = modseq(c)?;
    let (mut known_uids, mut pairs) = (None, None);
    c.spaces();
    if c.peek().is_some_and(|b| b.is_ascii_digit()) {
        known_uids = Some(known(c)?);
        c.spaces();
    }
    if c.eat(b'(') {
        let start = c.clone();
        let numbers = known(c)?;
        c.space()?;
        let uids = known(c)?;
        if !numbers.is_ascending() || !uids.is_ascending() || numbers.count() != uids.count() {
            return start.fail("as many numbers as UIDs, both ascending");
        }
        c.want(b')', ")")?;
        c.spaces();
        pairs = Some((numbers, uids));
    }
    c.want(b')', ")")?;
    Ok(Resync { uid_validity, modseq, known_uids, pairs })
}

/// A set without `*`: a client says what it knows, and that is numbers.
fn known(c: &mut Cursor<'_>) -> Parse<SequenceSet> {
    let start = c.clone();
    let set = SequenceSet::parse(c)?;
    if set.has_last() { start.fail("numbers without *") } else { Ok(set) }
}

/// What follows the items of FETCH.
pub fn since(c: &mut Cursor<'_>, uid: bool) -> Parse<Option<Since>> {
    c.spaces();
    if c.is_done() {
        return Ok(None);
    }
    let start = c.clone();
    let (mut changed, mut vanished) = (None, false);
    c.list(|c| {
        let start = c.clone();
        if c.word("CHANGEDSINCE") && changed.is_none() {
            c.space()?;
            changed = Some(modseq(c)?);
        } else if uid && c.word("VANISHED") && !vanished {
            vanished = true;
        } else {
            return start.fail(if uid { "CHANGEDSINCE or VANISHED" } else { "CHANGEDSINCE" });
        }
        Ok(())
    })?;
    match changed {
        Some(modseq) => Ok(Some(Since { modseq, vanished })),
        None => start.fail("CHANGEDSINCE"),
    }
}

/// What may stand between STORE's set and its flags.
pub fn unchanged_since(c: &mut Cursor<'_>) -> Parse<Option<u64>> {
    if c.peek() != Some(b'(') {
        return Ok(None);
    }
    let start = c.clone();
    let mut since = None;
    c.list(|c| {
        let start = c.clone();
        if !c.word("UNCHANGEDSINCE") || since.is_some() {
            return start.fail("UNCHANGEDSINCE");
        }
        c.space()?;
        since = Some(modseq(c)?);
        Ok(())
    })?;
    if since.is_none() {
        return start.fail("UNCHANGEDSINCE");
    }
    c.space()?;
    Ok(since)
}

/// `[entry-name entry-type-req] mod-sequence-valzer` of SEARCH. The entry is checked and passed over: a message has one
/// mod-sequence for all its flags (RFC 7162 §3.1.5).
pub fn search(c: &mut Cursor<'_>) -> Parse<u64> {
    if c.peek() == Some(b'"') {
        let start = c.clone();
        if !c.string("an entry")?.to_ascii_lowercase().starts_with(b"/flags/") {
            return start.fail("an entry below /flags/");
        }
        c.space()?;
        if !["priv", "shared", "all"].into_iter().any(|t| c.word(t)) {
            return c.fail("priv, shared or all");
        }
        c.space()?;
    }
    modseq(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> SequenceSet {
        SequenceSet::parse(&mut Cursor::new(text.as_bytes())).unwrap()
    }
    fn whole<T>(text: &str, parse: impl Fn(&mut Cursor<'_>) -> Parse<T>) -> Option<T> {
        let mut c = Cursor::new(text.as_bytes());
        parse(&mut c).and_then(|t| c.end().map(|()| t)).ok()
    }

    #[test]
    fn openings() {
        let resync = |uid_validity, modseq, known: Option<&str>, pairs: Option<(&str, &str)>| {
            let qresync = Some(Resync { uid_validity, modseq, known_uids: known.map(set), pairs: pairs.map(|(a, b)| (set(a), set(b))) });
            Some(Opening { condstore: false, qresync })
        };
        let cases = [
            ("", Some(Opening::default())),
            (" (CONDSTORE)", Some(Opening { condstore: true, qresync: None })),
            (
                " (qresync (67890007 20050715194045000 41,43:211,214:541))",
                resync(67_890_007, 20_050_715_194_045_000, Some("41,43:211,214:541"), None),
            ),
            (" (QRESYNC (67890007 90060115194045000))", resync(67_890_007, 90_060_115_194_045_000, None, None)),
            (
                " (QRESYNC (67890007 90060115194045000 1:29997 (5000,7500,9990:9992 15000,22500,29970,29973,29976)))",
                resync(67_890_007, 90_060_115_194_045_000, Some("1:29997"), Some(("5000,7500,9990:9992", "15000,22500,29970,29973,29976"))),
            ),
            (
                " (QRESYNC (1 9223372036854775807 (1:4294967295 1:4294967295)))",
                resync(1, u64::MAX >> 1, None, Some(("1:4294967295", "1:4294967295"))),
            ),
            (" (QRESYNC (1 0))", resync(1, 0, None, None)),
            (" ()", None),
            (" CONDSTORE", None),
            (" (CONDSTORE CONDSTORE)", None),
            (" (ANNOTATE)", None),
            (" (QRESYNC)", None),
            (" (QRESYNC ())", None),
            (" (QRESYNC (1))", None),
            (" (QRESYNC (0 5))", None),
            (" (QRESYNC (1 9223372036854775808))", None),
            (" (QRESYNC (1 18446744073709551616))", None),
            (" (QRESYNC (1 -5))", None),
            (" (QRESYNC (1 5 1:*))", None),
            (" (QRESYNC (1 5 0))", None),
            (" (QRESYNC (1 5 1 ()))", None),
            (" (QRESYNC (1 5 1 (1)))", None),
            (" (QRESYNC (1 5 1 (1,2 1)))", None),
            (" (QRESYNC (1 5 1 (2,1 1,2)))", None),
            (" (QRESYNC (1 5 1 (1:2 2:1)))", None),
            (" (QRESYNC (1 5 1 (1 *)))", None),
            (" (QRESYNC (1 5) QRESYNC (1 5))", None),
            (" (QRESYNC (1 5)", None),
        ];
        for (text, want) in cases {
            assert_eq!(whole(text, opening), want, "{text}");
        }
        assert!(whole(" (CONDSTORE QRESYNC (1 5))", opening).is_some_and(|o| o.condstore && o.qresync.is_some()));
    }
    #[test]
    fn modifiers() {
        let some = |modseq, vanished| Some(Some(Since { modseq, vanished }));
        for (text, uid, want) in [
            ("", true, Some(None)),
            (" (CHANGEDSINCE 12345)", false, some(12_345, false)),
            (" (CHANGEDSINCE 12345 VANISHED)", true, some(12_345, true)),
            (" (vanished changedsince 0)", true, some(0, true)),
            (" (CHANGEDSINCE 12345 VANISHED)", false, None),
            (" (VANISHED)", true, None),
            (" (CHANGEDSINCE)", true, None),
            (" (CHANGEDSINCE 1 CHANGEDSINCE 2)", true, None),
            (" (CHANGEDSINCE 9223372036854775808)", true, None),
            (" (UNCHANGEDSINCE 1)", true, None),
            (" ()", true, None),
            (" FLAGS", true, None),
        ] {
            assert_eq!(whole(text, |c| since(c, uid)), want, "{text}");
        }
        for (text, want) in [
            ("", Some(None)),
            ("(UNCHANGEDSINCE 320162338) ", Some(Some(320_162_338))),
            ("(unchangedsince 0) ", Some(Some(0))),
            ("(UNCHANGEDSINCE 9223372036854775807) ", Some(Some(u64::MAX >> 1))),
            ("(UNCHANGEDSINCE 9223372036854775808) ", None),
            ("(UNCHANGEDSINCE 1 UNCHANGEDSINCE 2) ", None),
            ("(UNCHANGEDSINCE 1)", None),
            ("(CHANGEDSINCE 1) ", None),
            ("() ", None),
        ] {
            assert_eq!(whole(text, unchanged_since), want, "{text}");
        }
        for (text, want) in [
            ("620162338", Some(620_162_338)),
            ("\"/flags/\\\\draft\" all 620162338", Some(620_162_338)),
            ("\"/Flags/$MDNSent\" PRIV 0", Some(0)),
            ("\"/comment\" all 1", None),
            ("\"/flags/\\\\draft\" none 1", None),
            ("\"/flags/\\\\draft\" 1", None),
            ("/flags/x all 1", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(whole(text, search), want, "{text}");
        }
    }
}
