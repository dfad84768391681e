//! `FILE.lock`: how Dovecot guards `dovecot-uidlist` and `subscriptions`, and what works on NFS.
//!
//! The lock is one more name of a file that this process keeps for that ([`Token`]), so that taking it makes no inode
//! and giving it back frees none: ext4 passes over every inode freed in the last minutes when it looks for a new one,
//! and a lock made anew for each message soon costs more than the message. Where that link cannot be, the lock is a
//! file of its own, made with O_EXCL.
//!
//! It holds `PID:HOST`, and is stale when that process of this host is gone, when it is of this very process but nobody
//! here holds it (the same process id after a restart, as in a container), when it is from before this host was
//! started, or when it is old: who holds a lock for long touches it. How old, says the clock that dated it: of the host
//! where the file system is. Process ids mean nothing on another host, nor in another container: whoever shares a mail
//! tree needs a host name of its own.

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

/// What the locks below a directory are links to: `.gatepost-lock.UNIQUE`, made at the first of them.
pub(super) struct Token(PathBuf);

static TOKENS: Mutex<Vec<(PathBuf, PathBuf)>> = Mutex::new(Vec::new());
const TOKEN: &str = ".gatepost-lock.";

impl Token {
    /// For the locks below `root`. Tokens of processes that are gone are removed.
    pub(super) fn new(root: &Path) -> Self {
        let path = root.join(format!("{TOKEN}{:016x}", disk::unique()));
        let mut tokens = tokens();
        for (name, _) in disk::list(root).unwrap_or_default() {
            let old = root.join(&name);
            let theirs = || tokens.iter().any(|(_, t)| *t == old);
            let is_left_over = || match Holder::read(&old) {
                Ok(Some(holder)) => holder.is_dead(),
                // Cut short while it was made.
                Ok(None) => disk::stat(&old).is_ok_and(|s| is_stale(&old, &s)),
                Err(_) => false,
            };
            if name.to_string_lossy().starts_with(TOKEN) && is_left_over() && !theirs() {
                let _ = disk::remove_file(&old);
            }
        }
        tokens.push((root.to_owned(), path.clone()));
        Self(path)
    }
    fn of(lock: &Path) -> Option<PathBuf> {
        tokens().iter().rev().find(|(root, _)| lock.starts_with(root)).map(|(_, token)| token.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        tokens().retain(|(_, path)| *path != self.0);
        let _ = disk::remove_file(&self.0);
    }
}

fn tokens() -> MutexGuard<'static, Vec<(PathBuf, PathBuf)>> {
    TOKENS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Dotlock {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
    /// A lock that is no link of the token: open, so that no other file can get its inode.
    _file: Option<File>,
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
        match make(path).and_then(|file| Ok((file, disk::stat(path)?))) {
            Ok((_file, stat)) => Ok(Self { path: path.to_owned(), id: (stat.dev, stat.ino), _file, touched: Cell::new(Instant::now()) }),
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
            let _ = disk::touch(&self.path);
        }
    }
}

/// The file, where it is not the token's.
fn make(lock: &Path) -> disk::Result<Option<File>> {
    let Some(token) = Token::of(lock) else { return write(lock).map(Some) };
    // Dated like a file made now, for who judges its age.
    let ready = disk::touch(&token).or_else(|_| match write(&token) {
        Err(e) if !e.is_exists() => Err(e),
        _ => Ok(()),
    });
    match ready.and_then(|()| disk::hard_link(&token, lock)) {
        Err(e) if !e.is_exists() => write(lock).map(Some),
        done => done.map(|()| None),
    }
}

/// A file with our name in it.
fn write(path: &Path) -> disk::Result<File> {
    let mut file = disk::create_new(path, 0o600)?;
    let text = format!("{}:{}", std::process::id(), disk::hostname());
    disk::write_all(&mut file, path, text.as_bytes()).inspect_err(|_| drop(disk::remove_file(path)))?;
    Ok(file)
}

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        // Stopped for minutes (a sleeping laptop), we have lost it, and what is there is another's.
        if disk::stat(&self.path).is_ok_and(|s| (s.dev, s.ino) == self.id) {
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
    if disk::stat(&aside).is_ok_and(|s| (s.ino, s.mtime) != (before.ino, before.mtime)) {
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
    let Ok(holder) = Holder::read(path) else { return false };
    if holder.as_ref().is_some_and(Holder::is_dead) {
        return true;
    }
    let limit = match holder {
        // Its maker ended between the two system calls that make it, or the power did and took the bytes.
        None => EMPTY_NS,
        // From before this host was started: the number is another process's now.
        Some(h) if h.is_here() => STALE_NS.min(i64::try_from(disk::uptime().as_nanos()).unwrap_or(i64::MAX)),
        Some(_) => STALE_NS,
    };
    let age = disk::clock() - stat.mtime;
    !(0..=limit).contains(&age) && clock_there(path).map_or(age, |now| now - stat.mtime) > limit
}

/// Who a lock says has it.
struct Holder {
    pid: i32,
    host: String,
}

impl Holder {
    /// `None`: it does not say.
    fn read(path: &Path) -> disk::Result<Option<Self>> {
        let text = disk::read_bounded(path, 1024)?;
        let text = String::from_utf8_lossy(&text);
        let parts = text.split_once(':').and_then(|(pid, host)| Some((pid.parse().ok()?, host.trim_end().to_owned())));
        Ok(parts.map(|(pid, host)| Self { pid, host }))
    }
    fn is_here(&self) -> bool {
        self.host == disk::hostname()
    }
    /// A process of this host that is gone, or this one.
    fn is_dead(&self) -> bool {
        self.is_here() && (self.pid == std::process::id() as i32 || !disk::process_is_there(self.pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_a_name_of_the_token() {
        let dir = crate::store::scratch::Dir::new("token");
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        std::fs::write(dir.path().join(format!("{TOKEN}dead")), format!("{}:{}", i32::MAX, disk::hostname())).unwrap();
        std::fs::write(dir.path().join(format!("{TOKEN}elsewhere")), format!("{}:elsewhere", i32::MAX)).unwrap();
        let token = Token::new(dir.path());
        assert_eq!(names(), [format!("{TOKEN}elsewhere")]);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let first = Dotlock::take(&one).unwrap();
        let second = Dotlock::take(&two).unwrap();
        let ino = |p: &Path| disk::stat(p).unwrap().ino;
        assert_eq!([ino(&dir.path().join("one.lock")), ino(&dir.path().join("two.lock"))], [ino(&token.0); 2]);
        assert!(Dotlock::try_take(&dir.path().join("one.lock")).is_err());
        drop(first);
        // Somebody tidied up.
        std::fs::remove_file(&token.0).unwrap();
        drop(Dotlock::take(&one).unwrap());
        drop(second);
        let another = Token::new(dir.path());
        assert_eq!(names().len(), 2, "that of a live process stays");
        drop((token, another));
        assert_eq!(names(), [format!("{TOKEN}elsewhere")]);
    }

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
