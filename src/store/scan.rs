//! Reading `new/` and `cur/`: which files are there, and how that differs from what we knew.
//!
//! readdir(3) may miss a file that is renamed meanwhile. Our own renames wait (they need the folder's disk lock);
//! for those of others, a message counts as gone only when the directories certainly did not change while they were
//! read, or when several readings in a row missed it.

use super::{
    events, file,
    found::{Found, Names},
    watch,
};
use crate::disk;
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
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

impl Scan {
    /// Certainly nothing was renamed, added or removed while we read: the times did not move, and they would have.
    pub(super) fn is_sure(&self) -> bool {
        let would_move = |time| self.clock.saturating_sub(time) >= watch::granularity(time);
        self.stable && would_move(self.new_time) && (self.scope == Scope::New || would_move(self.cur_time))
    }
}

#[derive(Default)]
pub(super) struct Scan {
    pub scope: Scope,
    pub names: Names,
    /// The times did not move while we read.
    stable: bool,
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
    scan.twins = scan.names.index();
    let after = times(dir)?;
    scan.stable = after.0 == scan.new_time && (scope == Scope::New || after.1 == scan.cur_time);
    Ok(scan)
}

fn read_into(scan: &mut Scan, dir: &Path, is_new: bool) -> disk::Result<()> {
    disk::each_entry(&dir.join(if is_new { "new" } else { "cur" }), |name, is_dir| {
        let name = name.as_bytes();
        // A line feed cannot stand in the UID list. No mail program makes such names.
        if !is_dir && !matches!(file::base(name), [] | [b'.', ..]) && memchr::memchr(b'\n', name).is_none() {
            scan.names.push(name, is_new);
        }
    })
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
        let is_same = |s: disk::Stat| (sa.dev, sa.ino) == (s.dev, s.ino);
        let mtime = sa.mtime.div_euclid(1_000_000_000);
        let mut base = file::fresh(host, SystemTime::now(), Some(mtime), sa.size, 0);
        base.truncate(base.rfind(",W=").unwrap_or(base.len())); // nobody counted its line ends
        let name = [base.as_bytes(), &first.name[file::base(&first.name).len()..]].concat();
        let apart = path(dir, first.is_new, &name);
        if disk::rename(&a, &apart).is_err() {
            continue;
        }
        done = true;
        if !is_same(sb) {
            events::twin_renamed(&a);
        } else if disk::stat(&b).is_ok_and(is_same) {
            // Under a name that nobody else knows, so that what is removed here is never the file's last one: somebody
            // may be renaming it to and fro.
            let _ = disk::remove_file(&apart);
        } else {
            let _ = disk::rename_back(&apart, &a);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::{super::scratch, *};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn twins(names: [&[u8]; 2]) -> Scan {
        let [first, second] = names.map(|name| Found { name: name.into(), is_new: false });
        Scan { twins: vec![(first, second)], ..Scan::default() }
    }
    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir.join("cur")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_file_loses_a_name_and_two_files_get_one_each() {
        let dir = scratch::Dir::new("twins");
        let dir = dir.path();
        std::fs::create_dir(dir.join("cur")).unwrap();
        let scan = twins([b"1.a.b:2,", b"1.a.b:2,S"]);
        std::fs::write(path(dir, false, b"1.a.b:2,"), "x").unwrap();
        std::fs::hard_link(path(dir, false, b"1.a.b:2,"), path(dir, false, b"1.a.b:2,S")).unwrap();
        assert!(part_twins(dir, &scan, "host"));
        assert_eq!(files(dir), ["1.a.b:2,S"]);
        assert!(part_twins(dir, &scan, "host"), "it was moved, so look again");
        std::fs::write(path(dir, false, b"1.a.b:2,"), "y").unwrap();
        assert!(part_twins(dir, &scan, "host"));
        assert_eq!(files(dir).len(), 2);
        assert_eq!(std::fs::read(path(dir, false, b"1.a.b:2,S")).unwrap(), b"x");
    }

    /// Both names may be seen of a file that has one.
    #[test]
    fn a_file_renamed_to_and_fro_is_never_lost() {
        let dir = scratch::Dir::new("to-and-fro");
        let dir = dir.path();
        std::fs::create_dir(dir.join("cur")).unwrap();
        let (a, b) = (path(dir, false, b"1.a.b:2,"), path(dir, false, b"1.a.b:2,S"));
        std::fs::write(&a, "x").unwrap();
        let scan = twins([b"1.a.b:2,", b"1.a.b:2,S"]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..30_000 {
                    let _ = std::fs::rename(&a, &b);
                    let _ = std::fs::rename(&b, &a);
                }
                stop.store(true, Ordering::SeqCst);
            });
            while !stop.load(Ordering::SeqCst) {
                part_twins(dir, &scan, "host");
            }
        });
        assert_eq!(files(dir).len(), 1);
    }
}
