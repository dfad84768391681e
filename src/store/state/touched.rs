//! Which flags changed lately: a message has one mod-sequence, but a client that adds or removes a flag must not be
//! refused because somebody changed another one (RFC 7162 §3.1.3, §3.1.12).

use super::State;
use crate::store::{Flags, KeywordBits};
use std::collections::VecDeque;

/// Clients that use UNCHANGEDSINCE name a mod-sequence of a moment ago. 32 bytes each.
const MEMORY: usize = 1024;

#[derive(Default)]
pub(super) struct Touched {
    /// Mod-sequences ascending.
    latest: VecDeque<Touch>,
    /// Of changes at or before this it is not known.
    forgotten: u64,
}

/// These became others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Touch {
    pub modseq: u64,
    pub uid: u32,
    pub flags: u8,
    pub keywords: KeywordBits,
}

impl Touch {
    pub(super) fn of(modseq: u64, uid: u32, before: (Flags, KeywordBits), after: (Flags, KeywordBits)) -> Self {
        Self { modseq, uid, flags: before.0.0 ^ after.0.0, keywords: before.1 ^ after.1 }
    }
}

impl Touched {
    pub(super) fn begin(&mut self, modseq: u64) {
        *self = Self { latest: VecDeque::new(), forgotten: modseq };
    }
    pub(super) fn note(&mut self, touches: &[Touch]) {
        let kept = touches.split_at(touches.len().saturating_sub(MEMORY));
        if let Some(last) = kept.0.last() {
            self.latest.clear();
            self.forgotten = last.modseq;
        }
        self.latest.extend(kept.1);
        while self.latest.len() > MEMORY {
            if let Some(t) = self.latest.pop_front() {
                self.forgotten = t.modseq;
            }
        }
    }
}

impl State {
    /// Whether none of these flags of the message changed after `since`, whatever its mod-sequence says. In doubt false.
    pub(in crate::store) fn is_untouched(&self, uid: u32, since: u64, flags: Flags, keywords: KeywordBits) -> bool {
        let run = self.arrived.partition_point(|(_, first)| *first <= uid).checked_sub(1);
        let arrived = run.and_then(|r| self.arrived.get(r)).map_or(0, |(modseq, _)| *modseq);
        let mut since_then = self.touched.latest.iter().rev().take_while(|t| t.modseq > since);
        since >= self.touched.forgotten
            && arrived <= since
            && since_then.all(|t| t.uid != uid || (t.flags & flags.0 == 0 && t.keywords & keywords == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_flags_do_not_count() {
        let mut s = State::default();
        s.touched.begin(10);
        s.arrived.push_back((5, 1));
        s.arrived.push_back((12, 9));
        let touch = |modseq, uid, flags: Flags, keywords| Touch::of(modseq, uid, (Flags::default(), 0), (flags, keywords));
        s.touched.note(&[touch(11, 1, Flags::SEEN, 1), touch(11, 2, Flags::DELETED, 0)]);
        s.touched.note(&[touch(13, 1, Flags::FLAGGED, 0)]);
        let is = |uid, since, flags, keywords| s.is_untouched(uid, since, flags, keywords);
        assert!(is(1, 10, Flags::ANSWERED, 2));
        assert!(!is(1, 10, Flags::SEEN, 0) && !is(1, 10, Flags::default(), 1) && !is(1, 10, Flags::FLAGGED, 0));
        assert!(is(1, 11, Flags::SEEN, 1) && !is(1, 11, Flags::FLAGGED, 0) && is(1, 13, Flags::FLAGGED, 0));
        assert!(is(2, 10, Flags::SEEN, 0) && !is(2, 10, Flags::DELETED.with(Flags::SEEN), 0));
        // Before the memory; and a message that was not there then.
        assert!(!is(1, 9, Flags::ANSWERED, 0));
        assert!(!is(9, 11, Flags::ANSWERED, 0) && is(9, 12, Flags::ANSWERED, 0));
    }
    #[test]
    fn bounded() {
        let mut t = Touched::default();
        let touches = |modseq, n: u32| (0..n).map(|uid| Touch { modseq, uid, flags: 1, keywords: 0 }).collect::<Vec<_>>();
        t.note(&touches(1, 600));
        t.note(&touches(2, 600));
        assert_eq!((t.latest.len(), t.forgotten), (MEMORY, 1));
        t.note(&touches(3, 5000));
        assert_eq!((t.latest.len(), t.forgotten), (MEMORY, 3));
    }
}
