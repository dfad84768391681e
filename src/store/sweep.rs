//! What crashes and interrupted deliveries leave under `tmp/`, removed after 36 hours as Maildir says; and half-written
//! files of [`disk::replace`] beside it.

use super::events;
use crate::disk;
use std::path::Path;

pub(super) const EVERY_NS: i64 = 24 * 3600 * 1_000_000_000;
const STALE_NS: i64 = 36 * 3600 * 1_000_000_000;

/// What is replaced whole in a Maildir.
const OURS: [&str; 3] = ["dovecot-", "gatepost-", "subscriptions."];

/// Failing means trying again another day.
pub(super) fn run(dir: &Path, now: i64) {
    sweep(&dir.join("tmp"), now, |_| true);
    sweep(dir, now, |name| name.starts_with('.') && name.ends_with(".tmp") && OURS.iter().any(|o| name[1..].starts_with(o)));
}

fn sweep(dir: &Path, now: i64, is_ours: impl Fn(&str) -> bool) {
    let Ok(entries) = disk::list(dir) else { return };
    for (name, _) in entries.into_iter().filter(|(name, is_dir)| !is_dir && is_ours(&name.to_string_lossy())) {
        let path = dir.join(name);
        // APPEND dates its file back before it takes it out of here; the ctime does not lie.
        if disk::stat(&path).is_ok_and(|s| now - s.mtime.max(s.ctime) > STALE_NS) && disk::remove_file(&path).is_ok() {
            events::swept(&path);
        }
    }
}
