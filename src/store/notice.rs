//! What other programs do to a folder that a session has selected is noticed within a second or so.
//!
//! Each such folder has three inotify watches: `new/`, `cur/`, and the directory above them (only for its own end).
//! A watch tells once (IN_ONESHOT) and is gone, so fifty thousand files that appear at once, or our own deliveries, are
//! one wake-up. A folder that was told of is looked at soon, but at most once a second and for a bounded part of the
//! time; its watches are set again before that look, so that nothing falls between. The look is two stats when all
//! was our own doing ([`super::watch`]).
//!
//! Where there can be no watch (`max_user_watches`), and on file systems that others write to from other machines, all
//! such folders are looked at every 15 s: once a folder, however many sessions it has. All others are looked at
//! once a minute nevertheless: a directory above may have been moved, a network file system be unknown to us, and two
//! stats a minute are nothing.
//!
//! Whoever runs the store (the daemon's task) waits for [`Notices::source`] and [`Notices::next`], and gives what
//! [`Notices::due`] hands out to the blocking pool. No lock here is held while the disk is touched.

use super::{Folder, events, lock};
use crate::disk;
use event_listener::{Event, EventListener};
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags as F, InitFlags, Inotify, WatchDescriptor},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, OnceLock, Weak},
    time::{Duration, Instant},
};

/// From a notice to the look: what comes in bursts is one look, a change of ours is over by then, and the directory's
/// time is settled ([`super::watch`]): a look that is too early has to be made again.
const DELAY: Duration = Duration::from_millis(120);
/// Between two looks at a folder.
const GAP: Duration = Duration::from_secs(1);
/// A look that took long makes a longer gap, so that looking at a folder takes a fifth of the time at most.
const REST: u32 = 4;
/// Between looks where no watch tells, or not of all that happens.
const POLL: Duration = Duration::from_secs(15);
/// Between looks at all other folders.
const NET: Duration = Duration::from_secs(60);
/// Jobs at a time, and folders in one.
const JOBS: usize = 4;
const BATCH: usize = 64;
/// Watches that told before they were known here. Far more than can be; above it every folder is looked at.
const STRAYS: usize = 10_000;
/// Between two log lines of one kind.
const SILENCE: Duration = Duration::from_secs(3600);

/// A watch on one of these.
const PARTS: [&str; 3] = ["new", "cur", ""];

/// Names a selected folder in these tables; 0 is none.
pub(super) type Key = u64;

#[derive(Default)]
pub struct Notices {
    /// `Some(None)`: there can be none.
    inotify: OnceLock<Option<Arc<Inotify>>>,
    table: Mutex<Table>,
    /// Something was planned, or a job ended.
    planned: Event,
}

#[derive(Default)]
struct Table {
    folders: HashMap<Key, Watched>,
    /// Two folders can share one: a deleted one that sessions still have, and the next in the same directory. The
    /// later has it then.
    watches: HashMap<WatchDescriptor, Key>,
    plan: BTreeSet<(Instant, Key)>,
    jobs: usize,
    last: Key,
    /// Jobs that are setting watches.
    arming: usize,
    /// What told before such a job could enter it.
    strays: HashSet<WatchDescriptor>,
    refused: Option<Instant>,
}

struct Watched {
    folder: Weak<Folder>,
    set: [Option<WatchDescriptor>; 3],
    /// Other machines write there too, and no watch tells of that.
    shared: bool,
    /// Its place in the plan.
    next: Instant,
    not_before: Instant,
    /// A job is at it.
    busy: bool,
}

impl Table {
    fn plan(&mut self, key: Key, at: Instant) {
        let Some(w) = self.folders.get_mut(&key) else { return };
        self.plan.remove(&(w.next, key));
        w.next = at;
        self.plan.insert((at, key));
    }
    /// A look at `at` or, if that is too early, as soon as may be; not later than planned already.
    fn hasten(&mut self, key: Key, at: Instant) {
        let Some(w) = self.folders.get(&key) else { return };
        let at = at.max(w.not_before);
        if at < w.next {
            self.plan(key, at);
        }
    }
    /// A look for no reason, in a while. `told`: its watches are set.
    fn poll(&mut self, key: Key, told: bool) {
        let Some(w) = self.folders.get(&key) else { return };
        let at = aligned(Instant::now(), if told && !w.shared { NET } else { POLL });
        self.hasten(key, at);
    }
    fn hasten_all(&mut self, at: Instant) {
        let all: Vec<Key> = self.folders.keys().copied().collect();
        all.into_iter().for_each(|key| self.hasten(key, at));
    }
    /// A watch told and is gone by that.
    fn told(&mut self, wd: WatchDescriptor, at: Instant) {
        match self.watches.remove(&wd) {
            Some(key) => self.hasten(key, at),
            None if self.arming == 0 => {}
            None if self.strays.len() < STRAYS => drop(self.strays.insert(wd)),
            None => self.hasten_all(at),
        }
    }
}

/// The next multiple of `every`: folders that are looked at for no reason share their wake-ups.
fn aligned(now: Instant, every: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let since = now.saturating_duration_since(*FIRST.get_or_init(|| now));
    now + every - Duration::from_nanos((since.as_nanos() % every.as_nanos()) as u64)
}

impl Notices {
    /// From now on selected folders are watched; [`Notices::due`] must be asked. A few syscalls, none of them to the disk.
    pub(super) fn begin(&self) {
        self.inotify.get_or_init(|| match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => Some(Arc::new(inotify)),
            Err(e) => {
                events::no_notices(e);
                None
            }
        });
    }

    /// Readable when something happened: then [`Notices::read`].
    pub fn source(&self) -> Option<Arc<Inotify>> {
        self.inotify.get()?.clone()
    }

    /// Memory. Notified when [`Notices::due`] and [`Notices::next`] may have another answer.
    pub fn listen(&self) -> EventListener {
        self.planned.listen()
    }

    /// Memory (the kernel's). Takes in which watches have told.
    pub fn read(&self) {
        let Some(inotify) = self.source() else { return };
        // No more than all folders' watches, each of which tells twice: that something happened, and that it is gone.
        while let Ok(told) = inotify.read_events() {
            let at = Instant::now() + DELAY;
            let mut table = lock(&self.table);
            for event in told {
                if event.mask.contains(F::IN_Q_OVERFLOW) {
                    table.hasten_all(at);
                } else {
                    table.told(event.wd, at);
                }
            }
        }
    }

    /// Memory. When the next look is due, unless one is and all jobs are taken: then [`Notices::listen`] tells.
    pub fn next(&self) -> Option<Instant> {
        let table = lock(&self.table);
        table.plan.first().filter(|_| table.jobs < JOBS).map(|(at, _)| *at)
    }

    /// Memory. Folders to be looked at now, a job. To be asked until there is none.
    pub fn due(self: &Arc<Self>) -> Option<Look> {
        let now = Instant::now();
        let mut table = lock(&self.table);
        if table.jobs >= JOBS {
            return None;
        }
        let count = table.plan.range(..=(now, Key::MAX)).count();
        if count == 0 {
            return None;
        }
        let mut folders = Vec::new();
        for _ in 0..(count / JOBS).clamp(1, BATCH) {
            let Some((_, key)) = table.plan.first().copied() else { break };
            // What is told during the look hastens the next.
            table.plan(key, aligned(now, NET));
            let Some(w) = table.folders.get_mut(&key) else { break };
            w.not_before = now + GAP;
            if std::mem::replace(&mut w.busy, true) {
                table.hasten(key, now);
            } else {
                folders.push((key, w.folder.clone()));
            }
        }
        if folders.is_empty() {
            return None;
        }
        table.jobs += 1;
        Some(Look { notices: Arc::clone(self), folders })
    }

    /// Job. Watches a folder from now on; the caller looks at it after this.
    pub(super) fn watch(&self, folder: &Arc<Folder>) {
        if self.inotify.get().is_none() {
            return;
        }
        let dir = folder.dir();
        let key = {
            let mut key = lock(&folder.watch);
            if *key != 0 {
                return;
            }
            let now = Instant::now();
            let next = aligned(now, NET);
            let mut table = lock(&self.table);
            table.last += 1;
            *key = table.last;
            table.folders.insert(*key, Watched { folder: Arc::downgrade(folder), set: [None; 3], shared: false, next, not_before: now, busy: false });
            table.plan.insert((next, *key));
            *key
        };
        let (told, shared) = (self.arm(key, &dir), disk::is_shared(&dir));
        let mut table = lock(&self.table);
        if let Some(w) = table.folders.get_mut(&key) {
            w.shared = shared;
        }
        table.poll(key, told);
        drop(table);
        self.planned.notify(1);
    }

    /// Job. Sets the watches that are not set. False: not all could be.
    fn arm(&self, key: Key, dir: &Path) -> bool {
        lock(&self.table).arming += 1;
        let mut set = [None; 3];
        let mut refused = None;
        let inotify = self.source();
        for (part, set) in PARTS.iter().zip(&mut set) {
            let own = F::IN_DELETE_SELF | F::IN_MOVE_SELF | F::IN_ONLYDIR | F::IN_ONESHOT;
            let inside = F::IN_CREATE | F::IN_DELETE | F::IN_MOVED_FROM | F::IN_MOVED_TO;
            let mask = if part.is_empty() { own } else { own | inside };
            match inotify.as_ref().map(|i| i.add_watch(&dir.join(part), mask)) {
                Some(Ok(wd)) => *set = Some(wd),
                // The look finds that it is gone.
                Some(Err(Errno::ENOENT | Errno::ENOTDIR)) => {}
                Some(Err(e)) => refused = Some(e),
                None => refused = Some(Errno::EMFILE),
            }
        }
        let stale = self.enter(key, set);
        if let Some(inotify) = inotify {
            // Of a directory that is not the folder's any more.
            for wd in stale {
                let _ = inotify.rm_watch(wd);
            }
        }
        if let Some(e) = refused {
            self.tell_refused(dir, e);
        }
        refused.is_none()
    }

    /// Notes whose the watches are; those that are nobody's now.
    fn enter(&self, key: Key, set: [Option<WatchDescriptor>; 3]) -> Vec<WatchDescriptor> {
        let mut table = lock(&self.table);
        let mut stale = Vec::new();
        let before = table.folders.get_mut(&key).map(|w| std::mem::replace(&mut w.set, set));
        for wd in before.into_iter().flatten().flatten().filter(|wd| !set.contains(&Some(*wd))) {
            if table.watches.get(&wd) == Some(&key) {
                table.watches.remove(&wd);
                stale.push(wd);
            }
        }
        for wd in set.into_iter().flatten() {
            table.watches.insert(wd, key);
            if table.strays.remove(&wd) {
                table.told(wd, Instant::now() + DELAY);
            }
        }
        table.arming -= 1;
        if table.arming == 0 {
            table.strays = HashSet::new();
        }
        stale
    }

    fn tell_refused(&self, dir: &Path, e: Errno) {
        let now = Instant::now();
        let mut table = lock(&self.table);
        if table.refused.is_some_and(|last| now.duration_since(last) < SILENCE) {
            return;
        }
        table.refused = Some(now);
        drop(table);
        events::not_watched(dir, e);
    }

    /// Memory. A look in a second: something was left for it to do.
    pub(super) fn soon(&self, key: Key) {
        if key != 0 {
            lock(&self.table).hasten(key, Instant::now() + GAP);
            self.planned.notify(1);
        }
    }

    /// Memory (the kernel's). The last session closed the folder.
    pub(super) fn closed(&self, key: Key) {
        let mut table = lock(&self.table);
        let Some(w) = table.folders.remove(&key) else { return };
        table.plan.remove(&(w.next, key));
        let Some(Some(inotify)) = self.inotify.get() else { return };
        for wd in w.set.into_iter().flatten() {
            if table.watches.get(&wd) == Some(&key) {
                table.watches.remove(&wd);
                let _ = inotify.rm_watch(wd);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        lock(&self.table).watches.len()
    }
}

/// Folders that are due.
pub struct Look {
    notices: Arc<Notices>,
    folders: Vec<(Key, Weak<Folder>)>,
}

impl Look {
    /// Job. Their sessions are woken by what it finds.
    pub fn run(self) {
        for (key, folder) in &self.folders {
            let Some(folder) = folder.upgrade() else { continue };
            let told = self.notices.arm(*key, &folder.dir());
            let begun = Instant::now();
            let again = match folder.noticed() {
                Ok(again) => again,
                Err(_) if folder.is_gone() => {
                    self.notices.closed(*key);
                    continue;
                }
                Err(e) => {
                    events::not_looked(&folder.dir(), &e);
                    Some(POLL)
                }
            };
            let now = Instant::now();
            let mut table = lock(&self.notices.table);
            let Some(w) = table.folders.get_mut(key) else { continue };
            w.busy = false;
            w.not_before = now + GAP.max((now - begun) * REST);
            let at = w.next.max(w.not_before);
            table.plan(*key, at);
            table.poll(*key, told);
            if let Some(again) = again {
                table.hasten(*key, now + again);
            }
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut table = lock(&self.notices.table);
        table.jobs -= 1;
        for (key, _) in &self.folders {
            if let Some(w) = table.folders.get_mut(key) {
                w.busy = false;
            }
        }
        drop(table);
        self.notices.planned.notify(1);
    }
}
