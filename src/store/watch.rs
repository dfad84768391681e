//! When a directory has to be read again: its ctime, and the doubt that a coarse clock leaves.
//!
//! The ctime, because whatever adds, renames or removes a file moves it, and no program that restores a backup sets it
//! back; that a chmod moves it too costs one more look. A change in the same tick as our last look does not move it. So
//! a look counts as settled only when the ctime was well before it ([`granularity`]). After a change of our own we
//! remember the ctime that it made instead of reading 200,000 names again; what somebody else did in that very moment
//! shows at the re-check some seconds later.

use std::time::Duration;

const RECHECK_NS: i64 = 5_000_000_000;

/// After a look that could not take in all: until the next.
const RETRY: Duration = Duration::from_secs(15);

/// How long after a change another one may leave the ctime as it is. Two seconds where the file system seems to have
/// whole seconds. Else the kernel's tick, which is 10 ms at most, but a virtual machine that waits for its turn was seen
/// to set times that were 87 ms old.
pub(super) fn granularity(time: i64) -> i64 {
    if time % 1_000_000_000 == 0 { 2_000_000_000 } else { 100_000_000 }
}

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Watch {
    time: Option<i64>,
    /// The clock when we looked.
    looked: i64,
    /// Not before this; only for unsettled looks.
    recheck: i64,
}

impl Watch {
    pub(super) fn is_settled(&self) -> bool {
        self.time.is_some_and(|t| self.looked - t >= granularity(t))
    }
    /// Its time, and whether the look is settled.
    pub(super) fn save(&self) -> Option<(i64, bool)> {
        self.time.map(|time| (time, self.is_settled()))
    }
    /// After a settled look that was made long ago.
    pub(super) fn settled(time: i64) -> Self {
        Self { time: Some(time), looked: time.saturating_add(2_000_000_000), recheck: 0 }
    }
    /// When the last look leaves a doubt and one now would not, it is due.
    pub(super) fn settle(&mut self, now: i64) {
        if (Self { looked: now, ..*self }).is_settled() {
            self.recheck = 0;
        }
    }
    pub(super) fn is_due(&self, time: i64, now: i64) -> bool {
        self.time != Some(time) || (!self.is_settled() && (now >= self.recheck || now < self.looked))
    }
    /// In how much time a look is due though nobody tells of a change.
    pub(super) fn again(&self, now: i64) -> Option<Duration> {
        let Some(time) = self.time else { return Some(RETRY) };
        let at = self.recheck.max(time.saturating_add(granularity(time)));
        // A clock that was set back is no reason to wait for long.
        (!self.is_settled()).then(|| Duration::from_nanos(u64::try_from(at.saturating_sub(now)).unwrap_or(0)).min(RETRY))
    }
    /// The directory was read whole; ctime and clock are from before that.
    pub(super) fn scanned(&mut self, time: i64, clock: i64) {
        *self = Self { time: Some(time), looked: clock, recheck: 0 };
    }
    /// We changed it, and nobody else had before.
    pub(super) fn changed_by_us(&mut self, before: i64, after: i64, clock: i64) {
        if self.time != Some(before) {
            return;
        }
        // Changes of ours, however many, do not put the re-check off.
        let recheck = if self.is_settled() { clock + RECHECK_NS } else { self.recheck.min(clock + RECHECK_NS) };
        *self = Self { time: Some(after), looked: clock, recheck };
    }
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const S: i64 = 1_000_000_000;

    #[test]
    fn settled_looks_are_trusted_others_repeated() {
        let mut w = Watch::default();
        assert!(w.is_due(5 * S + 1, 6 * S));
        w.scanned(5 * S + 1, 5 * S + 20);
        assert!(w.is_due(5 * S + 1, 6 * S), "looked in the same tick");
        w.scanned(5 * S + 1, 6 * S);
        assert!(!w.is_due(5 * S + 1, 6 * S));
        assert!(w.is_due(5 * S + 2, 6 * S));
        w.scanned(5 * S, 6 * S);
        assert!(w.is_due(5 * S, 6 * S), "a file system with whole seconds");
        assert_eq!(w.again(6 * S), Some(Duration::from_secs(1)));
        w.scanned(5 * S, 7 * S);
        assert!(!w.is_due(5 * S, 8 * S) && w.again(8 * S).is_none());
        w.scanned(5 * S + 1, 5 * S + S / 20);
        assert_eq!(w.again(5 * S + 1), Some(Duration::from_millis(100)));
        w.forget();
        assert_eq!(w.again(5 * S), Some(RETRY));
    }

    #[test]
    fn changes_of_ours_cost_one_look_in_five_seconds() {
        let mut w = Watch::default();
        w.scanned(S + 1, 9 * S);
        w.changed_by_us(S + 1, 10 * S + 1, 10 * S + 2);
        assert!(!w.is_due(10 * S + 1, 11 * S));
        w.changed_by_us(10 * S + 1, 14 * S + 1, 14 * S + 2);
        assert!(!w.is_due(14 * S + 1, 14 * S + 3));
        assert!(w.is_due(14 * S + 1, 15 * S + 3), "not put off for ever");
        w.changed_by_us(77, 15 * S + 9, 15 * S + 9);
        assert!(w.is_due(15 * S + 9, 15 * S + 10), "somebody else was there before us");
    }
}
