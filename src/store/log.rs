//! `gatepost-log`: what happened in a folder and under which mod-sequence, one file per folder, disposable.
//!
//! Whoever changes a folder appends what it did, in one write and without an fsync, and only then says so to a client.
//! The lock on the file is held for no more than: read what others appended, take the next mod-sequence, append.
//! What is no longer worth keeping goes when the file has doubled: it is written anew beside the old one, and whoever
//! still has the old one open finds it nameless or dead.
//!
//! Numbers never come twice (RFC 7162 §3.1.1), whatever is lost. The header holds a durable limit above all that were
//! given. When the end of the log may be missing (another boot, a restored copy, damage, a full disk), the history
//! goes on above the limit and above the clock, and the numbers in between are a *gap*: a client that names one of
//! them knows something that we do not. What is told to all others stays exact, because what the log lost shows in
//! the folder itself.

mod format;
mod held;
#[cfg(test)]
mod tests;

use super::events;
use crate::disk;
use format::MODSEQ_MAX;
pub(super) use format::{Entry, What};
use format::{HEADER, Header, Item};
pub(super) use held::{Held, Live};
use std::{fs::File, path::Path};

pub(super) const NAME: &str = "gatepost-log";
/// How many mod-sequences are made durable at a time.
const LEASE: u64 = 1 << 12;
/// Some ten million messages; what is larger is not ours.
const FILE_MAX: u64 = 128 << 20;
/// A file may be twice as long as when it was written whole, and this.
const SLACK: u64 = 64 << 10;
/// So many messages may be told of, beyond twice as many as when it was written whole: what 200,000 have in common is
/// one entry, but takes its time to read.
const WEIGHT: u64 = 1 << 20;
/// When there are more, two become one.
const GAPS: usize = 16;

/// One folder's log as this process knows it.
#[derive(Default)]
pub(super) struct Log {
    file: Option<File>,
    header: Header,
    /// So far the file is known, and sound.
    len: u64,
    /// The highest mod-sequence in it.
    last: u64,
    /// The next UID, and N of the UID list, as last noted.
    next: (u32, u32),
    /// Mod-sequences strictly between these were given, and what for is lost.
    gaps: Vec<(u64, u64)>,
    /// Messages told of in it, each as often as it is, and that when it was written whole.
    weight: u64,
    light: u64,
    /// The file cannot be appended to: it has to be written anew from what we know.
    stale: bool,
    /// It could not be written; said once.
    failed: bool,
}

/// What stood in the log when it was opened.
#[derive(Default)]
pub(super) struct History {
    blocks: Vec<u8>,
}

impl History {
    /// In the order in which it happened, but for what was gathered when the file was written anew.
    pub(super) fn replay(&self, mut each: impl FnMut(Entry)) {
        format::parse(&self.blocks, &mut |item| {
            if let Item::Entry(e) = item {
                each(e);
            }
        });
    }
}

impl Log {
    /// Reads the log of a folder with this UIDVALIDITY. `least`: a mod-sequence that this process gave there before.
    /// From now on [`Held::last`] is where mod-sequences go on. Nothing is written; that comes with the first change, or
    /// with what [`Held::wants_rewrite`] says. Where it cannot be written, what it says counts all the same.
    pub(super) fn open(dir: &Path, validity: u32, now_ns: i64, least: u64) -> disk::Result<(Self, History)> {
        let path = dir.join(NAME);
        let mut log = Self::default();
        let held = match log.hold(&path, &mut |_| ()) {
            Err(e) if !e.is_no_place() => return Err(e),
            held => held,
        };
        let blocks = match &held {
            Ok(found) => log.load(&path, found),
            Err(_) => log.take(&disk::read_bounded(&path, FILE_MAX).unwrap_or_default()),
        };
        log.release();
        let ours = log.header.validity == validity;
        let blocks = if ours { blocks } else { Vec::new() };
        let whole = ours && !log.stale && log.last >= least && log.is_of_now();
        if let Err(e) = held {
            log.cannot(&e);
        }
        if !whole {
            let clock = u64::try_from(now_ns / 1_000_000).unwrap_or(0);
            let from = log.header.limit.max(log.last.saturating_add(LEASE)).max(least).saturating_add(1);
            let from = from.max(clock).min(MODSEQ_MAX);
            if ours {
                log.skip_to(from);
            } else {
                log.gaps.clear();
                log.next = (0, 0);
                log.header = Header { validity, floor: from, ..Header::default() };
            }
            (log.last, log.stale) = (from, true);
        }
        Ok((log, History { blocks }))
    }

    /// The next UID: those below may have been given. True when those from there on have certainly not: the log is whole,
    /// and the N of the UID list is still `list`, from which on all others number that do not know the log.
    pub(super) fn next_uid(&self, list: u32) -> (u32, bool) {
        (self.next.0, !self.stale && self.next.0 > 0 && self.next.1 == list)
    }
    /// Of what went away at or before this, some is forgotten.
    pub(super) fn floor(&self) -> u64 {
        self.header.floor
    }

    /// Inode and length, as far as it is known.
    pub(super) fn mark(&self) -> (u64, u64) {
        (self.header.ino, self.len)
    }
    /// Gives the file descriptor back. The next [`Log::lock`] opens the file anew and hears of all that is new to it.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Whether another process wrote it since the last time; a look without a lock.
    pub(super) fn is_changed(&self, dir: &Path) -> bool {
        let stat = || disk::stat(&dir.join(NAME)).ok();
        !self.stale && self.file.is_some() && stat().is_some_and(|s| (s.ino, s.size) != (self.header.ino, self.len))
    }

    /// Waits for other processes. `each` hears what they did since the last time. Always succeeds; what cannot be
    /// written is remembered, and this process goes on without the file.
    pub(super) fn lock<'a>(&'a mut self, dir: &Path, each: &mut dyn FnMut(Entry)) -> Held<'a> {
        let path = dir.join(NAME);
        match self.hold(&path, each) {
            Ok(held) => self.catch_up(&path, &held, each),
            Err(e) => {
                self.spoil(&path, &e);
                self.file = None;
            }
        }
        Held { path, log: self }
    }

    /// Locks the file that has the name now. What is left to read in one that lost it is read before.
    fn hold(&mut self, path: &Path, each: &mut dyn FnMut(Entry)) -> disk::Result<Found> {
        for _ in 0..8 {
            let known = self.file.take();
            let new = known.is_none();
            let file = known.map_or_else(|| disk::open_update(path, 0o600), Ok)?;
            let found = disk::lock_file(&file, path).and_then(|()| look(&file, path));
            match found {
                // A file server has forgotten the old one.
                Err(_) if !new => {}
                Err(e) => return Err(e),
                Ok(found) if found.links == 0 || (!new && found.header.is_some_and(|h| h.validity == 0)) => {
                    if !new {
                        self.file = Some(file);
                        self.read_on(path, found.size, each);
                        self.file = None;
                    }
                }
                Ok(found) => {
                    self.file = Some(file);
                    return Ok(Found { new, ..found });
                }
            }
        }
        Err(disk::Error::new("hold", path, std::io::ErrorKind::ResourceBusy.into()))
    }
    fn release(&self) {
        if let Some(file) = &self.file {
            disk::unlock_file(file);
        }
    }

    /// The whole file, for the first time. The blocks that are sound.
    fn load(&mut self, path: &Path, found: &Found) -> Vec<u8> {
        let bytes = match (&self.file, usize::try_from(found.size)) {
            (Some(file), Ok(size)) if found.size <= FILE_MAX => disk::read_at(file, path, 0, size).unwrap_or_default(),
            _ => Vec::new(),
        };
        if bytes.is_empty() {
            self.stale = true;
            if found.size > 0 {
                events::log_damaged(path, found.size);
            }
            return Vec::new();
        }
        let blocks = self.take(&bytes);
        if self.header.validity == 0 || self.len < found.size {
            events::log_damaged(path, found.size.saturating_sub(self.len));
        }
        if self.header.ino != found.ino {
            // A copy, and nobody knows how old.
            self.stale = true;
        }
        blocks
    }
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let header = Header::parse(bytes);
        let blocks = bytes.get(HEADER..).unwrap_or_default();
        let sound = format::parse(blocks, &mut |item| self.note(item));
        self.stale |= header.is_none() || sound < blocks.len();
        // Without a header it is no history, but the numbers in it were given.
        self.header = header.unwrap_or_default();
        self.len = (HEADER + sound) as u64;
        blocks[..sound].to_vec()
    }
    fn is_of_now(&self) -> bool {
        disk::boot_id().is_some_and(|id| id == self.header.boot)
    }

    /// What others did since the last time.
    fn catch_up(&mut self, path: &Path, found: &Found, each: &mut dyn FnMut(Entry)) {
        let header = found.header.filter(|h| h.validity == self.header.validity);
        let Some(header) = header.filter(|_| (HEADER as u64..=FILE_MAX).contains(&found.size)) else {
            // Removed under us, or something else was put there.
            if found.size > 0 && !self.stale {
                events::log_damaged(path, found.size);
            }
            self.stale = true;
            return;
        };
        if found.new {
            (self.len, self.weight) = (HEADER as u64, 0);
            self.stale |= header.ino != found.ino;
        }
        let spoilt = header.boot == [0; 16] && !self.failed && !self.stale;
        let limit = header.limit.max(self.header.limit);
        self.header = Header { limit, floor: header.floor.max(self.header.floor), ..header };
        self.read_on(path, found.size, each);
        if spoilt {
            // Another process could not write what it did.
            self.skip_to(self.header.limit.max(self.last.saturating_add(2)).min(MODSEQ_MAX));
            self.stale = true;
        }
    }
    fn read_on(&mut self, path: &Path, size: u64, each: &mut dyn FnMut(Entry)) {
        if size == self.len {
            return;
        }
        let seen = self.last;
        let bytes = match (&self.file, size.checked_sub(self.len).filter(|n| *n <= FILE_MAX)) {
            (Some(file), Some(n)) => disk::read_at(file, path, self.len, n as usize).ok(),
            _ => None,
        };
        let bytes = bytes.unwrap_or_default();
        let sound = format::parse(&bytes, &mut |item| {
            self.note(item);
            match item {
                Item::Entry(e) if e.modseq > seen => each(e),
                _ => {}
            }
        });
        self.len += sound as u64;
        if self.len != size && !self.stale {
            events::log_damaged(path, size.abs_diff(self.len));
            self.stale = true;
        }
    }

    fn note(&mut self, item: Item) {
        match item {
            Item::Entry(e) => {
                self.weight += 1;
                self.last = self.last.max(e.modseq);
                if matches!(e.what, What::Arrived(..)) {
                    self.next.0 = self.next.0.max(e.last.saturating_add(1));
                }
            }
            Item::Gap(after, before) => {
                self.last = self.last.max(before);
                if before - after > 1 && !self.gaps.contains(&(after, before)) {
                    self.gaps.push((after, before));
                    self.merge_gaps();
                }
            }
            Item::Next(next, list) => self.next = (self.next.0.max(next), list),
        }
    }
    /// Goes on at `modseq`; what was given between that and the last is not known.
    fn skip_to(&mut self, modseq: u64) {
        self.note(Item::Gap(self.last, modseq));
    }
    fn merge_gaps(&mut self) {
        self.gaps.sort_unstable();
        if self.gaps.len() > GAPS {
            let (after, before) = self.gaps.remove(0);
            if let Some(second) = self.gaps.first_mut() {
                *second = (after, second.1.max(before));
            }
        }
    }

    fn cannot(&mut self, e: &disk::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            events::log_not_written(e);
        }
        self.stale = true;
    }
    /// What could not be written will not be found missing: the file says so itself, or goes.
    fn spoil(&mut self, path: &Path, e: &disk::Error) {
        self.cannot(e);
        self.header.boot = [0; 16];
        let said = self.file.as_ref().is_some_and(|file| {
            let _ = disk::truncate(file, path, self.len);
            disk::overwrite_at(file, path, &self.header.bytes(), 0).is_ok()
        });
        if !said {
            let _ = disk::remove_file(path);
        }
    }
}

/// A file that is open and locked.
struct Found {
    size: u64,
    links: u64,
    ino: u64,
    header: Option<Header>,
    /// It was not open before.
    new: bool,
}

fn look(file: &File, path: &Path) -> disk::Result<Found> {
    let is = disk::opened(file, path)?;
    let header = if is.size < HEADER as u64 { None } else { Header::parse(&disk::read_at(file, path, 0, HEADER)?) };
    Ok(Found { size: is.size, links: is.links, ino: is.ino, header, new: true })
}
