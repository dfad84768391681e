//! Reading `new/` and `cur/`: which files are there, and how that differs from what we knew.
//!
//! readdir(3) may miss a file that is renamed meanwhile. Our own renames wait (they need the folder's disk lock);
//! for those of others, a message counts as gone only when the directories did not change while they were read,
//! or when it is missing in several readings.

use super::{events, file};
use crate::disk;
use std::{
    borrow::Borrow,
    collections::HashSet,
    ffi::OsStr,
    hash::{Hash, Hasher},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Scope {
    /// Only `new/` changed.
    New,
    #[default]
    All,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub name: Box<[u8]>,
    pub is_new: bool,
}

/// Found files by their base, each name kept once.
#[derive(Default)]
pub(super) struct Names(HashSet<ByBase>);

struct ByBase(Found);

impl Borrow<[u8]> for ByBase {
    fn borrow(&self) -> &[u8] {
        file::base(&self.0.name)
    }
}
impl Hash for ByBase {
    fn hash<H: Hasher>(&self, state: &mut H) {
        file::base(&self.0.name).hash(state);
    }
}
impl PartialEq for ByBase {
    fn eq(&self, other: &Self) -> bool {
        file::base(&self.0.name) == file::base(&other.0.name)
    }
}
impl Eq for ByBase {}

impl Names {
    pub(super) fn contains(&self, base: &[u8]) -> bool {
        self.0.contains(base)
    }
    pub(super) fn take(&mut self, base: &[u8]) -> Option<Found> {
        self.0.take(base).map(|f| f.0)
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(super) fn into_rest(self) -> Vec<Found> {
        self.0.into_iter().map(|f| f.0).collect()
    }
}

#[derive(Default)]
pub(super) struct Scan {
    pub scope: Scope,
    pub names: Names,
    /// Nothing was renamed, added or removed while we read.
    pub stable: bool,
    /// From before the reading.
    pub new_time: i64,
    pub cur_time: i64,
    pub clock: i64,
    /// A second file with the same base: that one, and the first.
    twins: Vec<(Found, Found)>,
}

pub(super) fn path(dir: &Path, is_new: bool, name: &[u8]) -> PathBuf {
    dir.join(if is_new { "new" } else { "cur" }).join(OsStr::from_bytes(name))
}

/// When `new/` and `cur/` last changed: their ctimes, which no restored backup sets back.
pub(super) fn times(dir: &Path) -> disk::Result<(i64, i64)> {
    Ok((disk::stat(&dir.join("new"))?.ctime, disk::stat(&dir.join("cur"))?.ctime))
}

pub(super) fn scan(dir: &Path, scope: Scope) -> disk::Result<Scan> {
    let mut scan = Scan { scope, clock: disk::clock(), ..Scan::default() };
    (scan.new_time, scan.cur_time) = times(dir)?;
    // new/ first: what moves from there to cur/ meanwhile is seen at least once.
    read_into(&mut scan, dir, true)?;
    if scope == Scope::All {
        read_into(&mut scan, dir, false)?;
    }
    let after = times(dir)?;
    scan.stable = after.0 == scan.new_time && (scope == Scope::New || after.1 == scan.cur_time);
    Ok(scan)
}

fn read_into(scan: &mut Scan, dir: &Path, is_new: bool) -> disk::Result<()> {
    for (name, is_dir) in disk::list(&dir.join(if is_new { "new" } else { "cur" }))? {
        let name = name.into_vec().into_boxed_slice();
        // A line feed cannot stand in the UID list. No mail program makes such names.
        let base = file::base(&name);
        if is_dir || base.is_empty() || base[0] == b'.' || memchr::memchr(b'\n', &name).is_some() {
            continue;
        }
        let found = Found { name, is_new };
        if let Some(first) = scan.names.take(file::base(&found.name)) {
            scan.twins.push((first, found.clone()));
        }
        scan.names.0.insert(ByBase(found));
    }
    Ok(())
}

/// Two files with one base (copied, restored, or moved while we read) would be one message. The same file twice:
/// one name goes. Two files: the first gets a name of its own. True when something was done and a new look is due;
/// where nothing can be done (read-only), the second is shown.
pub(super) fn part_twins(dir: &Path, scan: &Scan, host: &str) -> bool {
    let mut done = false;
    for (first, second) in &scan.twins {
        let (a, b) = (path(dir, first.is_new, &first.name), path(dir, second.is_new, &second.name));
        let (Ok(sa), Ok(sb)) = (disk::stat(&a), disk::stat(&b)) else {
            done = true; // moved while we read
            continue;
        };
        if (sa.dev, sa.ino) == (sb.dev, sb.ino) {
            done |= disk::remove_file(&a).is_ok();
            continue;
        }
        let mtime = sa.mtime.div_euclid(1_000_000_000);
        let mut base = file::fresh(host, SystemTime::now(), Some(mtime), sa.size, 0);
        base.truncate(base.rfind(",W=").unwrap_or(base.len())); // nobody counted its line ends
        let name = [base.as_bytes(), &first.name[file::base(&first.name).len()..]].concat();
        if disk::rename(&a, &path(dir, first.is_new, &name)).is_ok() {
            done = true;
            events::twin_renamed(&a);
        }
    }
    done
}
