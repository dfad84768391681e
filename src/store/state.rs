//! What an open folder knows of its messages, in memory, and what changed in it lately.
//!
//! Only the holder of the folder's disk lock changes this; sessions look at it under a short lock of its own.

use super::{Changes, Counts, Flags, KeywordBits, Meta, ModSeq, Uid};
use std::collections::VecDeque;

/// 64 bytes, and the file name.
pub(super) struct Message {
    pub uid: u32,
    pub flags: Flags,
    /// The file is under `new/`.
    pub is_new: bool,
    pub keywords: KeywordBits,
    pub modseq: u64,
    /// Mod-sequence of its arrival; ascends with the UID.
    pub arrived: u64,
    /// With CRLF line ends.
    pub size: u64,
    pub date: i64,
    /// With its info, as it is on disk.
    pub name: Box<[u8]>,
}

/// Ranges of expunged UIDs that are remembered, and as many flag changes; when there are more, the oldest are forgotten.
const MEMORY: usize = 8192;
/// \Recent messages of a closed folder, in ranges.
const RECENT_RANGES: usize = 64;

#[derive(Default)]
pub(super) struct State {
    /// UIDs ascending.
    pub messages: Vec<Message>,
    pub validity: u32,
    pub next: u32,
    /// The highest mod-sequence given.
    pub modseq: u64,
    pub keywords: Vec<String>,
    /// Came to `new/` (or was brought by us) and told to nobody yet.
    pub recent: Vec<u32>,
    /// Told as \Recent, still in `new/`.
    pub told: Vec<u32>,
    /// `(mod-sequence, first, last)` of what went away.
    expunged: VecDeque<(u64, u32, u32)>,
    /// What went away at or before this is not known any more.
    forgotten: u64,
    /// `(mod-sequence, UID)` of flag changes, so that one of them is told without a look at every message.
    flagged: VecDeque<(u64, u32)>,
    /// Flag changes at or before this have to be looked for in the messages.
    flagged_forgotten: u64,
    counts: Option<Counts>,
    /// The directory was deleted, or its UIDVALIDITY changed under us: sessions have to end.
    pub gone: bool,
}

impl State {
    pub(super) fn at(&self, uid: u32) -> Option<usize> {
        self.messages.binary_search_by_key(&uid, |m| m.uid).ok()
    }
    pub(super) fn get(&self, uid: u32) -> Option<&Message> {
        self.at(uid).map(|at| &self.messages[at])
    }
    /// Begins the history: nothing is known of before.
    pub(super) fn start(&mut self, modseq: u64) {
        (self.modseq, self.forgotten, self.flagged_forgotten) = (modseq, modseq, modseq);
    }
    /// A mod-sequence for one batch of changes.
    pub(super) fn step(&mut self) -> u64 {
        self.counts = None;
        self.modseq += 1;
        self.modseq
    }
    /// Notes that messages have new flags since `modseq`, which they bear already.
    pub(super) fn note_flagged(&mut self, modseq: u64, uids: impl ExactSizeIterator<Item = u32>) {
        if uids.len() > MEMORY {
            // Who was there before this looks at all messages anyway, about as many as changed.
            self.flagged.clear();
            self.flagged_forgotten = modseq;
            return;
        }
        self.flagged.extend(uids.map(|u| (modseq, u)));
        while self.flagged.len() > MEMORY {
            if let Some((m, _)) = self.flagged.pop_front() {
                self.flagged_forgotten = m;
            }
        }
    }
    /// Takes messages out; `uids` ascending.
    pub(super) fn expunge(&mut self, uids: &[u32]) {
        if uids.is_empty() {
            return;
        }
        let modseq = self.step();
        if let [uid] = uids {
            self.at(*uid).map(|at| self.messages.remove(at));
        } else {
            self.messages.retain(|m| uids.binary_search(&m.uid).is_err());
        }
        self.recent.retain(|u| uids.binary_search(u).is_err());
        for uid in uids {
            match self.expunged.back_mut() {
                // Neighbours in one batch are one range.
                Some((m, _, last)) if *m == modseq && last.checked_add(1) == Some(*uid) => *last = *uid,
                _ => self.expunged.push_back((modseq, *uid, *uid)),
            }
        }
        while self.expunged.len() > MEMORY {
            if let Some((m, ..)) = self.expunged.pop_front() {
                self.forgotten = m;
            }
        }
    }
    /// Adds a message with a UID above all others.
    pub(super) fn arrive(&mut self, mut message: Message, modseq: u64) {
        message.modseq = modseq;
        message.arrived = modseq;
        self.next = self.next.max(message.uid.saturating_add(1));
        self.messages.push(message);
    }

    pub(super) fn counts(&mut self) -> Counts {
        let recent = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if let Some(known) = self.counts {
            return Counts { recent, ..known };
        }
        let mut c = Counts { uid_next: self.next, uid_validity: self.validity, highest_modseq: self.modseq, recent, ..Counts::default() };
        for m in &self.messages {
            c.messages += 1;
            c.unseen += u32::from(!m.flags.has(Flags::SEEN));
            c.deleted += u32::from(m.flags.has(Flags::DELETED));
            c.size += m.size;
        }
        self.counts = Some(c);
        c
    }
    pub(super) fn forget_counts(&mut self) {
        self.counts = None;
    }

    /// \Recent messages as ranges, for when the folder is closed. `None`: more than is worth it.
    pub(super) fn recent_ranges(&self) -> Option<Vec<(u32, u32)>> {
        let mut uids = self.recent.clone();
        uids.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for uid in uids {
            match ranges.last_mut() {
                Some((_, last)) if uid - *last <= 1 => *last = uid,
                _ => ranges.push((uid, uid)),
            }
            if ranges.len() > RECENT_RANGES {
                return None;
            }
        }
        Some(ranges)
    }
    /// Goes on where the last session left off: below `next` those in `ranges` are \Recent wherever their files are, and
    /// others in `new/` were told already.
    pub(super) fn resume_recent(&mut self, next: u32, ranges: &[(u32, u32)]) {
        let is_recent = |uid: u32| ranges.get(ranges.partition_point(|r| r.1 < uid)).is_some_and(|r| r.0 <= uid);
        self.recent.retain(|uid| *uid >= next);
        for m in self.messages.iter().take_while(|m| m.uid < next) {
            if is_recent(m.uid) {
                self.recent.push(m.uid);
            } else if m.is_new {
                self.told.push(m.uid);
            }
        }
    }

    /// Ranges of UIDs that are not here now and may have been after `modseq`: exact when the memory reaches that
    /// far, else all gaps (RFC 7162 §3.2.6 allows too many, never too few).
    pub(super) fn vanished_since(&self, modseq: u64) -> Vec<(u32, u32)> {
        if modseq >= self.forgotten {
            let from = self.expunged.partition_point(|(m, ..)| *m <= modseq);
            let mut ranges: Vec<_> = self.expunged.range(from..).map(|(_, a, b)| (*a, *b)).collect();
            ranges.sort_unstable();
            return ranges;
        }
        let (mut out, mut from) = (Vec::new(), 1);
        for uid in self.messages.iter().map(|m| m.uid).chain([self.next]) {
            if from < uid {
                out.push((from, uid - 1));
            }
            from = uid.saturating_add(1);
        }
        out
    }

    /// Called after every command of every session: with nothing new it looks at nothing.
    pub(super) fn changes_since(&self, modseq: u64) -> Changes {
        if modseq >= self.modseq {
            return Changes { modseq: ModSeq(self.modseq), ..Changes::default() };
        }
        let expunged = self.vanished_since(modseq).into_iter().map(|(a, b)| (Uid(a), Uid(b))).collect();
        let new = self.messages.partition_point(|m| m.arrived <= modseq);
        let changed = self.flagged_since(modseq, new);
        let arrived = self.messages[new..].iter().map(|m| Uid(m.uid)).collect();
        Changes { expunged, changed, arrived, modseq: ModSeq(self.modseq) }
    }

    /// Of the first `old` messages, those with other flags since.
    fn flagged_since(&self, modseq: u64, old: usize) -> Vec<Uid> {
        let old = &self.messages[..old];
        if modseq < self.flagged_forgotten {
            return old.iter().filter(|m| m.modseq > modseq).map(|m| Uid(m.uid)).collect();
        }
        let from = self.flagged.partition_point(|(m, _)| *m <= modseq);
        let mut uids: Vec<u32> = self.flagged.range(from..).map(|(_, uid)| *uid).collect();
        uids.sort_unstable();
        uids.dedup();
        uids.retain(|uid| old.binary_search_by_key(uid, |m| m.uid).is_ok());
        uids.into_iter().map(Uid).collect()
    }
}

impl Message {
    pub(super) fn meta(&self) -> Meta {
        Meta {
            uid: Uid(self.uid),
            modseq: ModSeq(self.modseq),
            flags: self.flags,
            keywords: self.keywords,
            size: self.size,
            internal_date: self.date,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: u32) -> Message {
        Message { uid, flags: Flags::default(), is_new: false, keywords: 0, modseq: 0, arrived: 0, size: 1, date: 0, name: (*b"x").into() }
    }

    #[test]
    fn a_message_costs_no_more_than_promised() {
        assert!(size_of::<Message>() <= 64);
    }

    #[test]
    fn changes_are_told_from_any_point() {
        let mut s = State::default();
        s.start(10);
        for uid in 1..=5 {
            let m = s.step();
            s.arrive(message(uid), m); // 11..=15
        }
        s.expunge(&[2, 3]); // 16
        let m = s.step(); // 17
        s.messages[0].modseq = m;
        s.note_flagged(m, [1].into_iter());
        s.expunge(&[5]); // 18
        let since = |n| {
            let c = s.changes_since(n);
            let gone = c.expunged.iter().flat_map(|(a, b)| a.0..=b.0).collect();
            (gone, c.changed.iter().map(|u| u.0).collect(), c.arrived.iter().map(|u| u.0).collect())
        };
        let none: Vec<u32> = vec![];
        assert_eq!(since(18), (none.clone(), none.clone(), none.clone()));
        assert_eq!(since(17), (vec![5], none.clone(), none.clone()));
        assert_eq!(since(16), (vec![5], vec![1], none.clone()));
        assert_eq!(since(13), (vec![2, 3, 5], vec![1], vec![4]));
        assert_eq!(since(10), (vec![2, 3, 5], none.clone(), vec![1, 4]));
        // Before the history: everything that is not there may have gone.
        assert_eq!(since(9), (vec![2, 3, 5], none, vec![1, 4]));
    }

    #[test]
    fn a_gap_of_foreign_uids_costs_nothing() {
        let mut s = State::default();
        s.start(10);
        for uid in [1, u32::MAX - 1, u32::MAX] {
            s.arrive(message(uid), 10);
        }
        let m = s.step();
        s.messages[2].modseq = m;
        s.note_flagged(m, [u32::MAX].into_iter());
        let c = s.changes_since(0);
        assert_eq!(c.expunged, [(Uid(2), Uid(u32::MAX - 2))]);
        assert_eq!((c.changed.len(), c.arrived.len()), (0, 3));
        let c = s.changes_since(10);
        assert_eq!((c.expunged.len(), c.changed, c.arrived.len()), (0, vec![Uid(u32::MAX)], 0));
        assert_eq!(s.changes_since(11).modseq, ModSeq(11));
    }

    #[test]
    fn flag_changes_are_told_whether_remembered_or_not() {
        let mut s = State::default();
        s.start(0);
        let m = s.step();
        for uid in 1..=2 * MEMORY as u32 {
            s.arrive(message(uid), m);
        }
        let change = |s: &mut State, uids: std::ops::RangeInclusive<u32>| {
            let m = s.step();
            for uid in uids.clone() {
                let at = s.at(uid).unwrap();
                s.messages[at].modseq = m;
            }
            s.note_flagged(m, uids.collect::<Vec<_>>().into_iter());
            m
        };
        let first = change(&mut s, 7..=7);
        let some = change(&mut s, 1..=MEMORY as u32);
        assert!(s.flagged.len() == MEMORY && s.flagged_forgotten == first);
        let all = change(&mut s, 1..=2 * MEMORY as u32);
        assert!(s.flagged.is_empty() && s.flagged_forgotten == all);
        let last = change(&mut s, 3..=4);
        s.expunge(&[4]);
        let since = |m| s.changes_since(m).changed.len();
        assert_eq!([since(last), since(all), since(some), since(first), since(m)], [0, 1, 2 * MEMORY - 1, 2 * MEMORY - 1, 2 * MEMORY - 1]);
    }

    #[test]
    fn what_is_forgotten_counts_as_gone() {
        let mut s = State::default();
        s.start(0);
        let m = s.step();
        for uid in 1..=40_000 {
            s.arrive(message(uid), m);
        }
        for uid in (2..40_000).step_by(2) {
            s.expunge(&[uid]);
        }
        assert!(s.expunged.len() <= MEMORY);
        let gone = s.vanished_since(1);
        assert_eq!(gone.len(), 19_999);
        assert_eq!(s.vanished_since(s.modseq - 2), vec![(39_996, 39_996), (39_998, 39_998)]);
    }
}
