//! What an open folder knows of its messages, in memory, and what changed in it lately.
//!
//! Only the holder of the folder's disk lock changes this; sessions look at it under a short lock of its own.

use super::{Changes, Counts, Flags, KeywordBits, Meta, ModSeq, Uid};
use std::collections::{BTreeMap, VecDeque};

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

/// Ranges of expunged UIDs that are remembered; when there are more, the oldest are forgotten.
const MEMORY: usize = 8192;

#[derive(Default)]
pub(super) struct State {
    /// UIDs ascending.
    pub messages: Vec<Message>,
    pub validity: u32,
    pub next: u32,
    /// The highest mod-sequence given.
    pub modseq: u64,
    pub keywords: Vec<String>,
    /// Extension fields of the UID list that are not ours.
    pub fields: BTreeMap<u32, Box<[u8]>>,
    /// In `new/` (or brought by us) and told to nobody yet.
    pub recent: Vec<u32>,
    /// Told as \Recent, still in `new/`.
    pub told: Vec<u32>,
    /// `(mod-sequence, first, last)` of what went away.
    expunged: VecDeque<(u64, u32, u32)>,
    /// What went away at or before this is not known any more.
    forgotten: u64,
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
        self.modseq = modseq;
        self.forgotten = modseq;
    }
    /// A mod-sequence for one batch of changes.
    pub(super) fn step(&mut self) -> u64 {
        self.counts = None;
        self.modseq += 1;
        self.modseq
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
            self.fields.remove(uid);
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
        self.next = self.next.max(message.uid + 1);
        self.messages.push(message);
    }

    pub(super) fn counts(&mut self) -> Counts {
        if let Some(known) = self.counts {
            return known;
        }
        let mut c = Counts { uid_next: self.next, uid_validity: self.validity, highest_modseq: self.modseq, ..Counts::default() };
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
            from = uid + 1;
        }
        out
    }

    pub(super) fn changes_since(&self, modseq: u64) -> Changes {
        let expunged = self.vanished_since(modseq).into_iter().flat_map(|(a, b)| a..=b).map(Uid).collect();
        let new = self.messages.partition_point(|m| m.arrived <= modseq);
        let changed = self.messages[..new].iter().filter(|m| m.modseq > modseq).map(|m| Uid(m.uid)).collect();
        let arrived = self.messages[new..].iter().map(|m| Uid(m.uid)).collect();
        Changes { expunged, changed, arrived, modseq: ModSeq(self.modseq) }
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
        s.expunge(&[5]); // 18
        let since = |n| {
            let c = s.changes_since(n);
            (c.expunged.iter().map(|u| u.0).collect(), c.changed.iter().map(|u| u.0).collect(), c.arrived.iter().map(|u| u.0).collect())
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
