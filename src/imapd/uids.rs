//! The messages a session was told of: ascending UIDs, and the sequence number of each.
//!
//! Kept as runs, since nearly all UIDs of a folder follow one another: a session on a folder of a hundred thousand
//! messages costs a few hundred bytes, not half a megabyte.

use crate::store::Uid;

#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Uids(Vec<Run>);

/// `first` to `last` without a gap; `seq` is the sequence number of `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
    seq: u32,
}

impl Run {
    fn len(self) -> u32 {
        self.last - self.first + 1
    }
}

impl FromIterator<Uid> for Uids {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> Self {
        let mut out = Self::default();
        out.extend(uids);
        out.0.shrink_to_fit();
        out
    }
}

impl Extend<Uid> for Uids {
    fn extend<I: IntoIterator<Item = Uid>>(&mut self, uids: I) {
        for uid in uids {
            self.push(uid);
        }
    }
}

impl Uids {
    pub(super) fn len(&self) -> u32 {
        self.0.last().map_or(0, |r| r.seq - 1 + r.len())
    }
    pub(super) fn last(&self) -> Option<Uid> {
        self.0.last().map(|r| Uid(r.last))
    }
    /// Only above the last one: a folder's UIDs ascend. Others are passed over.
    pub(super) fn push(&mut self, uid: Uid) {
        let seq = self.len() + 1;
        match self.0.last_mut() {
            Some(run) if uid.0 <= run.last => {}
            Some(run) if uid.0 - 1 == run.last => run.last = uid.0,
            _ => self.0.push(Run { first: uid.0, last: uid.0, seq }),
        }
    }
    pub(super) fn seq(&self, uid: Uid) -> Option<u32> {
        let run = self.0.get(self.0.partition_point(|r| r.last < uid.0))?;
        (run.first <= uid.0).then(|| run.seq + (uid.0 - run.first))
    }
    pub(super) fn contains(&self, uid: Uid) -> bool {
        self.seq(uid).is_some()
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.0.iter().flat_map(|r| (r.first..=r.last).map(Uid))
    }
    /// With sequence numbers, those whose UID lies in one of the ascending ranges.
    pub(super) fn by_uid(&self, ranges: &[(u32, u32)]) -> Vec<(u32, Uid)> {
        self.pick(ranges, |r| r.first)
    }
    /// The same by sequence number.
    pub(super) fn by_seq(&self, ranges: &[(u32, u32)]) -> Vec<(u32, Uid)> {
        self.pick(ranges, |r| r.seq)
    }
    /// `start`: the number a run begins with, in the ranges' terms.
    fn pick(&self, ranges: &[(u32, u32)], start: impl Fn(&Run) -> u32) -> Vec<(u32, Uid)> {
        let mut out = Vec::new();
        for &(from, to) in ranges {
            let at = self.0.partition_point(|r| start(r) + (r.len() - 1) < from);
            for run in self.0.get(at..).unwrap_or_default() {
                let first = start(run);
                if first > to {
                    break;
                }
                let (low, high) = (from.max(first) - first, to.min(first + (run.len() - 1)) - first);
                out.extend((low..=high).map(|i| (run.seq + i, Uid(run.first + i))));
            }
        }
        out
    }
    /// Those parts of ascending ranges in which no message is.
    pub(super) fn gaps(&self, ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        for &(first, last) in ranges {
            // A range may end at the highest number there is: what follows it has no name.
            let mut from = Some(first);
            for run in self.0.get(self.0.partition_point(|r| r.last < first)..).unwrap_or_default() {
                let Some(start) = from.filter(|_| run.first <= last) else { break };
                if start < run.first {
                    out.push((start, run.first - 1));
                }
                from = run.last.checked_add(1);
            }
            out.extend(from.filter(|f| *f <= last).map(|f| (f, last)));
        }
        out
    }
    /// `gone` ascending. Sequence numbers close up.
    pub(super) fn remove(&mut self, gone: &[Uid]) {
        let mut out = Self::default();
        for run in &self.0 {
            let inside = gone.get(gone.partition_point(|g| g.0 < run.first)..gone.partition_point(|g| g.0 <= run.last));
            let mut first = run.first;
            for g in inside.unwrap_or_default() {
                out.push_run(first, g.0 - 1);
                first = g.0 + 1;
            }
            out.push_run(first, run.last);
        }
        out.0.shrink_to_fit();
        *self = out;
    }
    /// Nothing when `last` is below `first`.
    fn push_run(&mut self, first: u32, last: u32) {
        if first <= last {
            let seq = self.len() + 1;
            self.0.push(Run { first, last, seq });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(numbers: &[u32]) -> Uids {
        numbers.iter().copied().map(Uid).collect()
    }
    fn flat(u: &Uids) -> Vec<u32> {
        u.iter().map(|u| u.0).collect()
    }

    #[test]
    fn numbers_both_ways() {
        let u = uids(&[1, 2, 3, 7, 8, 20]);
        assert_eq!((u.len(), u.last(), u.0.len()), (6, Some(Uid(20)), 3));
        for (seq, uid) in [(1, 1), (3, 3), (4, 7), (5, 8), (6, 20)] {
            assert_eq!(u.seq(Uid(uid)), Some(seq));
        }
        for uid in [4, 6, 9, 19, 21, 0] {
            assert_eq!(u.seq(Uid(uid)), None);
        }
        assert_eq!(Uids::default().len(), 0);
    }
    #[test]
    fn picks() {
        let u = uids(&[1, 2, 3, 7, 8, 20]);
        let of = |v: Vec<(u32, Uid)>| v.into_iter().map(|(s, u)| (s, u.0)).collect::<Vec<_>>();
        assert_eq!(of(u.by_uid(&[(2, 7), (20, u32::MAX)])), [(2, 2), (3, 3), (4, 7), (6, 20)]);
        assert_eq!(of(u.by_uid(&[(4, 6), (30, 40)])), []);
        assert_eq!(of(u.by_seq(&[(1, 1), (3, 5)])), [(1, 1), (3, 3), (4, 7), (5, 8)]);
        assert_eq!(of(u.by_seq(&[(6, 99)])), [(6, 20)]);
        let top = uids(&[u32::MAX - 1, u32::MAX]);
        assert_eq!(of(top.by_uid(&[(1, u32::MAX)])), [(1, u32::MAX - 1), (2, u32::MAX)]);
    }
    #[test]
    fn gaps_between() {
        let u = uids(&[2, 3, 7, u32::MAX]);
        assert_eq!(u.gaps(&[(1, u32::MAX)]), [(1, 1), (4, 6), (8, u32::MAX - 1)]);
        assert_eq!(u.gaps(&[(1, 2), (3, 4), (9, 12)]), [(1, 1), (4, 4), (9, 12)]);
        assert_eq!(u.gaps(&[(2, 3), (u32::MAX, u32::MAX)]), []);
        assert_eq!(Uids::default().gaps(&[(4, u32::MAX)]), [(4, u32::MAX)]);
    }
    #[test]
    fn removing_closes_up() {
        let mut u = uids(&[1, 2, 3, 7, 8, 20]);
        u.remove(&[Uid(2), Uid(7), Uid(9)]);
        assert_eq!(flat(&u), [1, 3, 8, 20]);
        assert_eq!(u.seq(Uid(8)), Some(3));
        u.push(Uid(21));
        u.push(Uid(21));
        u.push(Uid(5));
        assert_eq!(flat(&u), [1, 3, 8, 20, 21]);
        u.remove(&[Uid(1), Uid(3), Uid(8), Uid(20), Uid(21)]);
        assert_eq!(u, Uids::default());
    }
}
