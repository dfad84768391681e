//! Mod-sequences that only grow (RFC 7162), whatever is lost: `gatepost-modseq` holds a number that is durable and
//! above all that were given out, and a new history begins above it and above the clock.
//!
//! Until a folder's changes are written down themselves, a history reaches back to when the folder was opened;
//! before that, everything counts as changed.

use crate::disk;
use std::path::Path;

const NAME: &str = "gatepost-modseq";
/// How many are reserved at a time.
const LEASE: u64 = 1 << 16;

#[derive(Default)]
pub(super) struct Lease {
    limit: u64,
}

impl Lease {
    /// Resumes one of this process.
    pub(super) fn of(limit: u64) -> Self {
        Self { limit }
    }
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }
    /// Where a new history begins. Milliseconds since 1970 are above whatever a lost file held, unless the clock went back.
    pub(super) fn begin(&mut self, dir: &Path, now_ns: i64) -> u64 {
        let stored = disk::read_if_exists(&dir.join(NAME)).ok().flatten();
        let stored = stored.and_then(|t| std::str::from_utf8(&t).ok()?.strip_prefix("1 ")?.trim_end().parse::<u64>().ok());
        let clock = u64::try_from(now_ns / 1_000_000).unwrap_or(0);
        // Milliseconds since it was written: where it cannot be written now, the next beginning is still above this one.
        let age = disk::stat(&dir.join(NAME)).map_or(0, |s| u64::try_from((now_ns - s.mtime) / 1_000_000).unwrap_or(0));
        // 63 bits is all a client has to understand.
        let from = stored.map_or(0, |s| s.saturating_add(1).saturating_add(age)).max(clock).clamp(1, u64::MAX >> 2);
        self.limit = stored.unwrap_or(0);
        self.cover(dir, from);
        from
    }
    /// Makes `upto` durable before it is given out. A full disk does not keep anybody from deleting mail: then
    /// the clock alone has to do.
    pub(super) fn cover(&mut self, dir: &Path, upto: u64) {
        if upto <= self.limit {
            return;
        }
        let limit = upto.saturating_add(LEASE);
        match disk::replace(&dir.join(NAME), format!("1 {limit}\n").as_bytes(), 0o600) {
            Ok(()) => self.limit = limit,
            Err(e) => super::events::modseq_not_stored(&e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ever_grow() {
        let dir = crate::store::scratch::Dir::new("modseq");
        let now = 1_700_000_000_000_000_000;
        let mut lease = Lease::default();
        let first = lease.begin(dir.path(), now);
        lease.cover(dir.path(), first + 5 * LEASE);
        // The clock went back ten years; the file is there.
        let second = Lease::default().begin(dir.path(), now - 315_360_000_000_000_000);
        assert!(second > first + 5 * LEASE);
        // The file is lost or damaged; the clock is right.
        for text in ["", "1 x\n", "\0\0\0\0", "1 99999999999999999999999\n"] {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            assert!(Lease::default().begin(dir.path(), now + 1_000_000) > first);
        }
    }
}
