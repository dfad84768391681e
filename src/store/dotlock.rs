//! `FILE.lock`, made with O_EXCL: how Dovecot guards `dovecot-uidlist` and `subscriptions`, and what works on NFS.
//!
//! The file holds `PID:HOST`. It is stale when that process of this host is gone, when it is of this very process
//! but nobody here holds it (the same process id after a restart, as in a container), when it is from before this host
//! was started, or when it is old: who holds a lock for long touches it. How old, says the clock that dated it: of the
//! host where the file system is. Process ids mean nothing on another host, nor in another container: whoever shares a
//! mail tree needs a host name of its own.

use crate::disk;
use std::{
    cell::Cell,
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Locks of this process.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

const STALE_NS: i64 = 120 * 1_000_000_000;
const EMPTY_NS: i64 = 1_000_000_000;
const WAIT: Duration = Duration::from_secs(30);
/// A lock that is held for longer is touched.
const TOUCH: Duration = Duration::from_secs(20);

pub(super) struct Dotlock {
    path: PathBuf,
    file: File,
    touched: Cell<Instant>,
}

impl Dotlock {
    /// Waits up to 30 seconds.
    pub(super) fn take(of: &Path) -> disk::Result<Self> {
        let mut path = of.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
        loop {
            match Self::try_take(&path) {
                Err(e) if e.is_exists() => {}
                done => return done,
            }
            if remove_if_stale(&path) {
                continue;
            }
            if waited >= WAIT {
                return Err(disk::Error::new("lock", path, std::io::ErrorKind::TimedOut.into()));
            }
            thread::sleep(pause);
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn try_take(path: &Path) -> disk::Result<Self> {
        // Nobody waits here for another's disk work: the set is only looked at.
        if !held().insert(path.to_owned()) {
            return Err(disk::Error::new("lock", path, std::io::ErrorKind::AlreadyExists.into()));
        }
        let made = disk::create_new(path, 0o600).and_then(|mut file| {
            let text = format!("{}:{}", std::process::id(), disk::hostname());
            disk::write_all(&mut file, path, text.as_bytes()).inspect_err(|_| drop(disk::remove_file(path)))?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Self { path: path.to_owned(), file, touched: Cell::new(Instant::now()) }),
            Err(e) => {
                held().remove(path);
                Err(e)
            }
        }
    }

    /// For long work in between: nobody shall take it for the lock of a dead process.
    pub(super) fn keep(&self) {
        if self.touched.get().elapsed() > TOUCH {
            self.touched.set(Instant::now());
            let _ = disk::touch(&self.file, &self.path);
        }
    }
}

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        // Stopped for minutes (a sleeping laptop), we have lost it, and what is there is another's.
        if !disk::is_nameless(&self.file) {
            let _ = disk::remove_file(&self.path);
        }
        held().remove(&self.path);
    }
}

/// True when the lock is gone now. Two that find it stale at once: the rename lets one of them win, and what was
/// renamed is looked at again, so that a lock taken in between is given back.
fn remove_if_stale(path: &Path) -> bool {
    let Ok(before) = disk::stat(path) else { return true };
    if held().contains(path) || !is_stale(path, &before) {
        return false;
    }
    let aside = beside(path);
    if disk::rename(path, &aside).is_err() {
        return false;
    }
    if disk::stat(&aside).is_ok_and(|s| s.ino != before.ino) {
        let _ = disk::hard_link(&aside, path);
    }
    let _ = disk::remove_file(&aside);
    true
}

fn beside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{:x}", disk::unique()));
    aside.into()
}

/// What a file made now is dated.
fn clock_there(path: &Path) -> Option<i64> {
    let probe = beside(path);
    let made = disk::create_new(&probe, 0o600).and_then(|_| disk::stat(&probe));
    let _ = disk::remove_file(&probe);
    made.ok().map(|s| s.mtime)
}

fn is_stale(path: &Path, stat: &disk::Stat) -> bool {
    let Ok(text) = disk::read_bounded(path, 4096) else { return false };
    let text = String::from_utf8_lossy(&text);
    let holder = text.split_once(':').and_then(|(pid, host)| Some((pid.parse::<i32>().ok()?, host.trim_end())));
    let here = holder.is_some_and(|(_, host)| host == disk::hostname());
    if here && holder.is_some_and(|(pid, _)| pid == std::process::id() as i32 || !disk::process_is_there(pid)) {
        return true;
    }
    let limit = match holder {
        // Its maker ended between the two system calls that make it, or the power did and took the bytes.
        None => EMPTY_NS,
        // From before this host was started: the number is another process's now.
        Some(_) if here => STALE_NS.min(i64::try_from(disk::uptime().as_nanos()).unwrap_or(i64::MAX)),
        Some(_) => STALE_NS,
    };
    let age = disk::clock() - stat.mtime;
    !(0..=limit).contains(&age) && clock_there(path).map_or(age, |now| now - stat.mtime) > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_and_stale_ones_are_removed() {
        let dir = crate::store::scratch::Dir::new("dotlock");
        let file = dir.path().join("list");
        let lock = dir.path().join("list.lock");
        let n = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..20 {
                        let _lock = Dotlock::take(&file).unwrap();
                        assert_eq!(n.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        n.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!lock.exists());
        // Of a process that is gone (ids end far below), and of this one before it was started anew.
        for pid in [i32::MAX, std::process::id() as i32] {
            std::fs::write(&lock, format!("{pid}:{}", disk::hostname())).unwrap();
            drop(Dotlock::take(&file).unwrap());
        }
        let dated = |seconds| {
            let file = std::fs::File::options().write(true).open(&lock).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        for (text, age, stale) in [("", 0, false), ("", 2, true), ("\0\0\0\0", 2, true), ("1:elsewhere", 100, false), ("1:elsewhere", 130, true)] {
            std::fs::write(&lock, text).unwrap();
            dated(age);
            assert_eq!(is_stale(&lock, &disk::stat(&lock).unwrap()), stale, "{text:?} {age} s");
        }
        // Of a process that is there, but only since the host was started.
        std::fs::write(&lock, format!("1:{}", disk::hostname())).unwrap();
        assert!(!is_stale(&lock, &disk::stat(&lock).unwrap()));
        dated(disk::uptime().as_secs() + 5);
        assert!(is_stale(&lock, &disk::stat(&lock).unwrap()));
        std::fs::write(&lock, "").unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(600);
        std::fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
        let ours = Dotlock::take(&file).unwrap();
        // From the future: of a host whose clock runs ahead, and alive for all we know.
        std::fs::write(&lock, "1:elsewhere").unwrap();
        let future = std::time::SystemTime::now() + Duration::from_secs(600);
        std::fs::File::options().write(true).open(&lock).unwrap().set_modified(future).unwrap();
        assert!(!is_stale(&lock, &disk::stat(&lock).unwrap()));
        // Taken from us, as after a long sleep: the other's stays.
        std::fs::remove_file(&lock).unwrap();
        std::fs::write(&lock, "1:elsewhere").unwrap();
        drop(ours);
        assert!(lock.exists());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["list.lock"]);
    }
}
