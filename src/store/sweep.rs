//! What crashes and interrupted deliveries leave under `tmp/`, removed after 36 hours as Maildir says.

use super::events;
use crate::disk;
use std::path::Path;

pub(super) const EVERY_NS: i64 = 24 * 3600 * 1_000_000_000;
const STALE_NS: i64 = 36 * 3600 * 1_000_000_000;

/// Failing means trying again another day.
pub(super) fn run(dir: &Path, now: i64) {
    let tmp = dir.join("tmp");
    let Ok(entries) = disk::list(&tmp) else { return };
    for (name, _) in entries.into_iter().filter(|(_, is_dir)| !is_dir) {
        let path = tmp.join(name);
        // APPEND dates its file back before it takes it out of here; the ctime does not lie.
        if disk::stat(&path).is_ok_and(|s| now - s.mtime.max(s.ctime) > STALE_NS) && disk::remove_file(&path).is_ok() {
            events::swept(&path);
        }
    }
}
