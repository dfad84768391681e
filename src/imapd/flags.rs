//! Flags between the wire and the store.

use super::uids::Uids;
use crate::{
    proto::imap::{Flag, response},
    store::{Flags, KeywordBits, Meta},
};
use std::collections::HashMap;

/// Keywords that a folder can have.
pub(super) const KEYWORDS_MAX: usize = KeywordBits::BITS as usize;

/// Maildir's P. A keyword to clients, a letter in the file name to other programs.
const FORWARDED: &str = "$Forwarded";

const SYSTEM: [(Flags, &str); 6] = [
    (Flags::ANSWERED, "\\Answered"),
    (Flags::FLAGGED, "\\Flagged"),
    (Flags::DELETED, "\\Deleted"),
    (Flags::SEEN, "\\Seen"),
    (Flags::DRAFT, "\\Draft"),
    (Flags::PASSED, FORWARDED),
];

/// The store's flag for a system flag; a keyword has none.
pub(super) fn system(flag: &Flag) -> Option<Flags> {
    match flag {
        Flag::Seen => Some(Flags::SEEN),
        Flag::Answered => Some(Flags::ANSWERED),
        Flag::Flagged => Some(Flags::FLAGGED),
        Flag::Deleted => Some(Flags::DELETED),
        Flag::Draft => Some(Flags::DRAFT),
        Flag::Keyword(k) if k.eq_ignore_ascii_case(FORWARDED) => Some(Flags::PASSED),
        Flag::Keyword(_) => None,
    }
}

/// What a client listed, without doubles. `$Forwarded` is set and cleared as both: the letter is what other Maildir programs
/// know, the keyword what Dovecot shows.
pub(super) fn split(flags: &[Flag]) -> (Flags, Vec<String>) {
    let (mut bits, mut keywords) = (Flags::default(), Vec::<String>::new());
    for flag in flags {
        match (system(flag), flag) {
            (Some(f), Flag::Keyword(_)) => {
                bits = bits.with(f);
                if !keywords.iter().any(|k| is_forwarded(k)) {
                    keywords.push(FORWARDED.to_owned());
                }
            }
            (Some(f), _) => bits = bits.with(f),
            (None, Flag::Keyword(k)) if !keywords.iter().any(|have| have.eq_ignore_ascii_case(k)) => keywords.push(k.clone()),
            _ => {}
        }
    }
    (bits, keywords)
}

/// Where no keyword more can be made, the letter has to do for `$Forwarded`.
pub(super) fn fit(keywords: &mut Vec<String>, known: &[String]) {
    let new = keywords.iter().filter(|k| keyword_bit(k, known).is_none()).count();
    if known.len() + new > KEYWORDS_MAX {
        keywords.retain(|k| !is_forwarded(k) || keyword_bit(k, known).is_some());
    }
}

fn is_forwarded(keyword: &str) -> bool {
    keyword.eq_ignore_ascii_case(FORWARDED)
}

/// Messages' flags as FETCH shows them. Most messages of a folder have one of a few sets of flags: each is spelled out once.
pub(super) struct Shown<'a> {
    keywords: &'a [String],
    recent: &'a Uids,
    sets: HashMap<(Flags, KeywordBits, bool), Vec<u8>>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(keywords: &'a [String], recent: &'a Uids) -> Self {
        Self { keywords, recent, sets: HashMap::new() }
    }
    /// `FLAGS (…)`.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, meta: &Meta) {
        let key = (meta.flags, meta.keywords, self.recent.contains(meta.uid));
        let text = self.sets.entry(key).or_insert_with(|| {
            let mut text = Vec::new();
            response::flags(&mut text, names(key.0, key.1, key.2, self.keywords));
            text
        });
        out.extend_from_slice(text);
    }
}

fn names(flags: Flags, bits: KeywordBits, recent: bool, keywords: &[String]) -> Vec<&str> {
    let mut out: Vec<&str> = SYSTEM.iter().filter(|(f, _)| flags.has(*f)).map(|(_, name)| *name).collect();
    out.extend(named(bits, keywords).filter(|k| !(is_forwarded(k) && flags.has(Flags::PASSED))));
    if recent {
        out.push("\\Recent");
    }
    out
}

fn named(bits: KeywordBits, keywords: &[String]) -> impl Iterator<Item = &str> {
    keywords.iter().take(KEYWORDS_MAX).enumerate().filter(move |(i, _)| bits >> i & 1 == 1).map(|(_, k)| k.as_str())
}

/// All flags that a folder knows, for FLAGS and PERMANENTFLAGS.
pub(super) fn known(keywords: &[String]) -> Vec<&str> {
    let mut out: Vec<&str> = SYSTEM.iter().map(|(_, name)| *name).collect();
    out.extend(keywords.iter().map(String::as_str).filter(|k| !is_forwarded(k)));
    out
}

/// The bit of a keyword; `None` when the folder has none of that name.
pub(super) fn keyword_bit(name: &str, keywords: &[String]) -> Option<KeywordBits> {
    keywords.iter().take(KEYWORDS_MAX).position(|k| k.eq_ignore_ascii_case(name)).map(|i| 1 << i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ModSeq, Uid};

    #[test]
    fn forwarded_needs_no_keyword() {
        let known: Vec<String> = (0..63).map(|n| format!("k{n}")).collect();
        let fitted = |wanted: &[&str], known: &[String]| {
            let mut keywords = wanted.iter().map(|k| (*k).to_owned()).collect();
            fit(&mut keywords, known);
            keywords
        };
        assert_eq!(fitted(&["$Forwarded", "K1"], &known), ["$Forwarded", "K1"]);
        assert_eq!(fitted(&["$Forwarded", "new"], &known), ["new"]);
        let known = [&known[..], &["$Forwarded".to_owned()]].concat();
        assert_eq!(fitted(&["$Forwarded", "new"], &known), ["$Forwarded", "new"]);
    }
    #[test]
    fn there_and_back() {
        let keyword = |k: &str| Flag::Keyword(k.into());
        let (bits, keywords) = split(&[Flag::Seen, keyword("$forwarded"), keyword("Work"), keyword("WORK")]);
        assert_eq!((bits, keywords), (Flags::SEEN.with(Flags::PASSED), vec!["$Forwarded".to_owned(), "Work".to_owned()]));
        let known_keywords = ["Junk".to_owned(), "Work".to_owned(), "$Forwarded".to_owned()];
        let meta = Meta { uid: Uid(3), modseq: ModSeq(1), flags: bits, keywords: 0b110, size: 0, internal_date: 0 };
        let recent: Uids = [Uid(3)].into_iter().collect();
        let mut shown = Shown::new(&known_keywords, &recent);
        let mut show = |meta| {
            let mut out = Vec::new();
            shown.write(&mut out, &meta);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show(meta), "FLAGS (\\Seen $Forwarded Work \\Recent)");
        assert_eq!(show(Meta { uid: Uid(4), ..meta }), "FLAGS (\\Seen $Forwarded Work)");
        assert_eq!(show(Meta { flags: Flags::default(), ..meta }), "FLAGS (Work $Forwarded \\Recent)");
        assert_eq!(show(Meta { flags: Flags::default(), keywords: 0, uid: Uid(4), ..meta }), "FLAGS ()");
        assert_eq!(show(meta), "FLAGS (\\Seen $Forwarded Work \\Recent)");
        assert_eq!(known(&known_keywords), ["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft", "$Forwarded", "Junk", "Work"]);
        assert_eq!((keyword_bit("work", &known_keywords), keyword_bit("x", &known_keywords)), (Some(2), None));
    }
}
