//! What changed since a mod-sequence that the client names: SELECT (QRESYNC …) and FETCH (CHANGEDSINCE …), RFC 7162 §3.1.4.1,
//! §3.2.5, §3.2.6.

use super::{session::Done, uids::Uids, view::View};
use crate::{
    proto::imap::{
        SequenceSet,
        condstore::{Resync, Since},
    },
    store::{Changes, ModSeq, Uid},
};

/// News of a folder.
pub(super) struct News {
    /// For VANISHED (EARLIER): ascending, and nothing that the client still counts.
    pub(super) vanished: Vec<(u32, u32)>,
    /// Messages with other flags, and new ones, with their numbers.
    pub(super) changed: Vec<(u32, Uid)>,
}

/// What a client that comes back has to hear. `None`: the UIDs it knows are not valid any more.
pub(super) fn since_last_time(view: &View, known: &Resync, uid_validity: u32, uid_next: u32) -> Option<News> {
    if known.uid_validity != uid_validity {
        return None;
    }
    let changes = changes_since(view, known.modseq);
    let last = uid_next.saturating_sub(1);
    let wanted = known.known_uids.as_ref().map_or_else(|| vec![(1, last)], |set| set.ranges(last));
    let mut vanished = vanished(&view.uids, &changes, &wanted);
    if let Some((numbers, uids)) = &known.pairs {
        cut(&mut vanished, known_up_to(&view.uids, numbers, uids));
    }
    Some(News { vanished, changed: changed(&view.uids, &changes, |_, uid| in_ranges(&wanted, uid)) })
}

impl View {
    /// Of the messages that a FETCH names, what changed since; by UID also what is gone.
    pub(super) fn news(&self, set: &SequenceSet, uid: bool, since: Since) -> Result<News, Done> {
        let ranges = self.ranges(set, uid)?;
        let changes = match changes_since(self, since.modseq) {
            // By the letter nothing has a higher one.
            c if since.modseq >= c.modseq.0 && !since.vanished => Changes { modseq: c.modseq, ..Changes::default() },
            c => c,
        };
        let changed = changed(&self.uids, &changes, |seq, u| in_ranges(&ranges, if uid { u } else { seq }));
        // `*` is the last UID that there was: what went away at the end is in `1:*` too.
        let last = self.folder.counts().uid_next.saturating_sub(1);
        let vanished = if since.vanished { vanished(&self.uids, &changes, &set.ranges(last)) } else { Vec::new() };
        Ok(News { vanished, changed })
    }
}

/// For who keeps a copy of the folder. A number above all that were given is none of ours: somebody brought back an old
/// folder, and nothing is known of what that client has.
fn changes_since(view: &View, modseq: u64) -> Changes {
    let changes = view.folder.changes_since(ModSeq(modseq));
    if modseq > changes.modseq.0 { view.folder.changes_since(ModSeq(0)) } else { changes }
}

fn changed(uids: &Uids, changes: &Changes, wanted: impl Fn(u32, u32) -> bool) -> Vec<(u32, Uid)> {
    let mut all: Vec<(u32, Uid)> = changes.changed.iter().chain(&changes.arrived).filter_map(|u| Some((uids.seq(*u)?, *u))).collect();
    all.retain(|(seq, uid)| wanted(*seq, uid.0));
    all.sort();
    all
}

/// What the client still counts is told by VANISHED without EARLIER, which renumbers (RFC 7162 §3.2.10.2).
fn vanished(uids: &Uids, changes: &Changes, wanted: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let gone: Vec<(u32, u32)> = changes.expunged.iter().map(|(first, last)| (first.0, last.0)).collect();
    uids.gaps(&common(&gone, wanted))
}

/// What two lists of ascending ranges have in common; neighbours become one.
fn common(a: &[(u32, u32)], b: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(&&(a_first, a_last)), Some(&&(b_first, b_last))) = (a.peek(), b.peek()) {
        let (first, last) = (a_first.max(b_first), a_last.min(b_last));
        if first <= last {
            match out.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => out.push((first, last)),
            }
        }
        if a_last <= b_last {
            a.next()
        } else {
            b.next()
        };
    }
    out
}

/// The highest UID up to which the client knows of every expunge, by its own numbers (RFC 7162 §3.2.5.2). Each pair that
/// holds proves all before it, and the first that does not ends the matter: looks at no more than there is in the folder.
fn known_up_to(uids: &Uids, numbers: &SequenceSet, known: &SequenceSet) -> u32 {
    let pairs = numbers.numbers().zip(known.numbers());
    pairs.take_while(|(seq, uid)| uids.seq(Uid(*uid)) == Some(*seq)).last().map_or(0, |(_, uid)| uid)
}

/// Takes away all up to and with `upto`.
fn cut(ranges: &mut Vec<(u32, u32)>, upto: u32) {
    ranges.retain(|r| r.1 > upto);
    if let Some(first) = ranges.first_mut() {
        first.0 = first.0.max(upto.saturating_add(1));
    }
}

pub(super) fn in_ranges(ranges: &[(u32, u32)], n: u32) -> bool {
    ranges.get(ranges.partition_point(|r| r.1 < n)).is_some_and(|r| r.0 <= n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::imap::{cursor::Cursor, sequence};

    fn set(text: &str) -> SequenceSet {
        SequenceSet::parse(&mut Cursor::new(text.as_bytes())).unwrap()
    }

    #[test]
    fn ranges() {
        assert_eq!(common(&[(1, 5), (7, 9), (20, u32::MAX)], &[(3, 7), (9, 30)]), [(3, 5), (7, 7), (9, 9), (20, 30)]);
        assert_eq!(common(&[(1, 2), (3, 4)], &[(1, 9)]), [(1, 4)]);
        assert_eq!(common(&[(1, u32::MAX)], &[(5, u32::MAX)]), [(5, u32::MAX)]);
        assert_eq!(common(&[], &[(1, 9)]), []);
        let mut r = vec![(1, 5), (8, 12), (20, 20)];
        cut(&mut r, 9);
        assert_eq!(r, [(10, 12), (20, 20)]);
        cut(&mut r, 0);
        assert_eq!(r.len(), 2);
        cut(&mut r, u32::MAX);
        assert_eq!(r, []);
        assert!(in_ranges(&[(1, 2), (5, 9)], 5) && !in_ranges(&[(1, 2), (5, 9)], 3));
    }
    #[test]
    fn ranges_are_sets() {
        let runs = |set: u8| sequence::runs((1..=8).filter(|n| set >> (n - 1) & 1 == 1)).collect::<Vec<_>>();
        for a in 0..=u8::MAX {
            let uids: Uids = (1..=8).filter(|n| a >> (n - 1) & 1 == 1).map(Uid).collect();
            for b in 0..=u8::MAX {
                assert_eq!(common(&runs(a), &runs(b)), runs(a & b), "{a:b} {b:b}");
                assert_eq!(uids.gaps(&runs(b)), runs(b & !a), "{a:b} {b:b}");
            }
        }
    }
    #[test]
    fn pairs_prove_what_is_known() {
        // RFC 7162 §3.2.5.2: only UIDs divisible by three are there.
        let uids: Uids = (1..=10_003).map(|n| Uid(3 * n)).collect();
        let upto = |numbers: &str, known: &str| known_up_to(&uids, &set(numbers), &set(known));
        assert_eq!(upto("5000,7500,9000,9990:9999", "15000,22500,27000,29970,29973,29976,29979,29982,29985,29988,29991,29994,29997"), 29_997);
        assert_eq!(upto("4,12", "12,37"), 12);
        assert_eq!(upto("4", "13"), 0);
        // Nobody counts to the end of these.
        assert_eq!(upto("1:4294967295", "1:4294967295"), 0);
        let full: Uids = (1..=1000).map(Uid).collect();
        assert_eq!(known_up_to(&full, &set("1:4294967295"), &set("1:4294967295")), 1000);
    }
    #[test]
    fn what_is_still_counted_is_not_earlier() {
        let uids: Uids = [2, 4, 5].into_iter().map(Uid).collect();
        let changes = Changes { expunged: vec![(Uid(1), Uid(3)), (Uid(5), Uid(9))], ..Changes::default() };
        assert_eq!(vanished(&uids, &changes, &[(1, 8)]), [(1, 1), (3, 3), (6, 8)]);
    }
}
