//! APPEND, COPY and MOVE: all or none, durable before they are numbered, numbered in one go.
//!
//! A copy is a link, a move a rename, both under a fresh name: one base never stands for two messages of a folder.

use super::{
    Append, Error, Folder, Result, Uid, Usage, enter::Arrival, file, keywords::LETTERS, lock, quota::After, scan, state::Batch, summary, sync::Disk,
};
use crate::disk;
use nix::errno::Errno;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::MutexGuard,
    time::SystemTime,
};

/// How a message came to its new place, so that it can be taken back.
enum Put {
    /// A name more: COPY.
    Linked,
    /// Another name: MOVE.
    Renamed,
    /// Across file systems: written anew; MOVE removes the old file at the end.
    Written,
}

struct Passage {
    source: Uid,
    from: PathBuf,
    to: PathBuf,
    put: Put,
    arrival: Option<Arrival>,
}

impl Folder {
    /// Job. All or none. Fsynced, directory too. The new UIDs.
    pub fn append(&self, messages: &[Append<'_>]) -> Result<Vec<Uid>> {
        let weight = messages.iter().fold(Usage::default(), |sum, m| sum.plus(Usage::of(m.draft.len())));
        self.booked(weight, || self.append_now(messages), |_| weight)
    }

    /// Adds to what the account keeps: `weight` before, and afterwards what it was. No folder's lock is held.
    fn booked<T>(&self, weight: Usage, add: impl FnOnce() -> Result<T>, added: impl FnOnce(&T) -> Usage) -> Result<T> {
        let Some(account) = self.limited() else { return add() };
        account.check(weight)?;
        let booking = account.book(weight, true)?;
        let done = add()?;
        if let Some(account) = booking.keep(added(&done)) {
            account.settle(After::Filed);
        }
        Ok(done)
    }

    fn append_now(&self, messages: &[Append<'_>]) -> Result<Vec<Uid>> {
        let bits = {
            let mut d = lock(&self.disk);
            self.check()?;
            messages.iter().map(|m| self.bits(&mut d, &m.keywords, true)).collect::<Result<Vec<u64>>>()?
        };
        // The bytes are written without keeping others from the folder.
        let mut arrivals = Vec::new();
        let written = messages.iter().zip(bits).try_for_each(|(m, bits)| {
            arrivals.push(self.write_append(m, bits)?);
            Ok(())
        });
        if written.is_ok() {
            self.summarise(messages, &arrivals);
        }
        let mut d = lock(&self.disk);
        let dir = self.dir();
        let tmp = |a: &Arrival| dir.join("tmp").join(String::from_utf8_lossy(file::base(&a.name)).as_ref());
        let paths: Vec<(PathBuf, PathBuf)> = arrivals.iter().map(|a| (tmp(a), scan::path(&dir, false, &a.name))).collect();
        let done = written.and_then(|()| self.check()).and_then(|()| self.place_appended(&mut d, &dir, &paths, arrivals));
        if done.is_err() {
            for (tmp, cur) in &paths {
                let _ = disk::remove_file(tmp);
                let _ = disk::remove_file(cur);
            }
        }
        done
    }

    fn write_append(&self, m: &Append<'_>, bits: u64) -> Result<Arrival> {
        let dir = self.dir();
        let (mut size, mut last) = (m.draft.len(), 0);
        m.draft.chunks(|c| size += file::lone_lfs(c, &mut last)).map_err(|e| disk::Error::new("read draft for", &*dir, e))?;
        let base = file::fresh(self.host(), SystemTime::now(), Some(m.internal_date), m.draft.len(), size);
        let path = dir.join("tmp").join(&base);
        let mut f = disk::create_new(&path, 0o600)?;
        let written = m.draft.write_to(&mut f, &path);
        // Other programs look for the internal date there.
        let written = written.and_then(|()| disk::set_modified(&f, &path, m.internal_date)).and_then(|()| disk::sync(&f, &path));
        if let Err(e) = written {
            let _ = disk::remove_file(&path);
            return Err(e.into());
        }
        Ok(Arrival {
            uid: None,
            name: file::with_flags(base.as_bytes(), m.flags, (bits & LETTERS) as u32),
            is_new: false,
            recent: true,
            flags: m.flags,
            keywords: bits,
            size,
            date: m.internal_date,
            summary: None,
            learned: false,
        })
    }

    fn place_appended(&self, d: &mut Disk, dir: &Path, paths: &[(PathBuf, PathBuf)], arrivals: Vec<Arrival>) -> Result<Vec<Uid>> {
        note_high(d, dir, arrivals.iter())?;
        self.own_change(d, dir, || {
            paths.iter().try_for_each(|(tmp, cur)| disk::rename(tmp, cur))?;
            Ok(disk::sync_dir(&dir.join("cur"))?)
        })?;
        Ok(self.enter_own(d, arrivals)?.into_iter().map(Uid).collect())
    }

    /// Failing costs the first who asks a look at the message.
    fn summarise(&self, messages: &[Append<'_>], arrivals: &[Arrival]) {
        let made = messages.iter().zip(arrivals).filter_map(|(m, a)| self.store.summary_record(file::base(&a.name), b"", m.draft));
        let records: Vec<u8> = made.flatten().collect();
        if !records.is_empty() {
            summary::append(&self.dir(), &records);
        }
    }

    /// Job. Hard links; flags, keywords and internal date kept. Pairs (source, new), all or none; messages that are
    /// gone are left out.
    pub fn copy(&self, uids: &[Uid], to: &Self) -> Result<Vec<(Uid, Uid)>> {
        let weight = if to.limited().is_some() { self.weight(uids) } else { Usage::default() };
        to.booked(
            weight,
            || self.transfer(uids, to, false),
            |pairs| if pairs.len() as u64 == weight.messages { weight } else { self.weight(&pairs.iter().map(|(old, _)| *old).collect::<Vec<_>>()) },
        )
    }

    /// Job. Renames. Pairs (source, new) of what was moved: all or none but for those that are gone.
    pub fn move_to(&self, uids: &[Uid], to: &Self) -> Result<Vec<(Uid, Uid)>> {
        self.transfer(uids, to, true)
    }

    fn transfer(&self, uids: &[Uid], to: &Self, moving: bool) -> Result<Vec<(Uid, Uid)>> {
        let (mut source, mut target) = lock_two(self, to);
        self.check()?;
        to.check()?;
        let (dir, to_dir) = (self.dir(), to.dir());
        let mut done = self.carry(uids, to, &mut source, &mut target, moving);
        if let Ok(None) = done {
            // Renamed or removed by somebody else; one more look tells.
            self.take_in(source.as_mut().unwrap_or(&mut target), true)?;
            done = self.carry(uids, to, &mut source, &mut target, moving);
        }
        let Some(mut passages) = done? else { return Err(Error::NotFound(self.name())) };
        if passages.is_empty() {
            return Ok(Vec::new());
        }
        let durable = make_durable(&dir, &to_dir, moving);
        let arrivals = passages.iter_mut().filter_map(|p| p.arrival.take()).collect();
        let new = match durable.and_then(|()| to.enter_own(&mut target, arrivals)) {
            Ok(new) => new,
            Err(e) => {
                take_back(&passages);
                target.cur.forget();
                return Err(e);
            }
        };
        if moving {
            self.part_with(source.as_mut().unwrap_or(&mut target), &dir, &passages);
        }
        Ok(passages.iter().zip(new).map(|(p, new)| (p.source, Uid(new))).collect())
    }

    /// Gives every message its new name. `None`: a file was not under the name we knew. All or none.
    fn carry(
        &self,
        uids: &[Uid],
        to: &Self,
        source: &mut Option<MutexGuard<'_, Disk>>,
        target: &mut Disk,
        moving: bool,
    ) -> Result<Option<Vec<Passage>>> {
        let (dir, to_dir) = (self.dir(), to.dir());
        let Some(mut passages) = self.plan(uids, to, target)? else { return Ok(None) };
        // What a file name cannot say is there before the file: killed in between, no copy is without its keywords.
        note_high(target, &to_dir, passages.iter().filter_map(|p| p.arrival.as_ref()))?;
        self.carry_summaries(&to_dir, passages.iter().filter_map(|p| Some((p.source, &*p.arrival.as_ref()?.name))));
        let (before, to_before) = (self.times(&dir)?, to.times(&to_dir)?);
        let failed = (0..passages.len()).find_map(|n| match put(&passages[n].from, &passages[n].to, &to_dir, moving) {
            Ok(put) => {
                passages[n].put = put;
                None
            }
            Err(e) => {
                take_back(&passages[..n]);
                Some(e)
            }
        });
        target.changed_by_us(&to_dir, to_before);
        if let Some(s) = source {
            s.changed_by_us(&dir, before);
        }
        match failed {
            None => Ok(Some(passages)),
            Some(e) if e.is_not_found() => Ok(None),
            Some(e) => Err(e.into()),
        }
    }

    /// New names, and keywords as the target counts them. Messages that are gone are left out.
    fn plan(&self, uids: &[Uid], to: &Self, target: &mut Disk) -> Result<Option<Vec<Passage>>> {
        let (dir, to_dir) = (self.dir(), to.dir());
        let names = lock(&self.state).keywords.clone();
        let mut passages: Vec<Passage> = Vec::with_capacity(uids.len());
        let mut seen = HashSet::new();
        for uid in uids.iter().filter(|u| seen.insert(**u)) {
            let known = {
                let state = lock(&self.state);
                state.get(uid.0).map(|m| (*m, state.name(m)))
            };
            let Some((m, old)) = known else { continue };
            let (flags, keywords, size, date) = (m.flags(), m.keywords(), m.size(), m.date());
            let keywords = if keywords == 0 || std::ptr::eq(self, to) {
                keywords
            } else {
                let named: Vec<String> = names.iter().enumerate().filter(|(n, _)| keywords & 1 << n != 0).map(|(_, name)| name.clone()).collect();
                to.bits(target, &named, true)?
            };
            let from = scan::path(&dir, m.is_new(), &old);
            let on_disk = match file::sizes(&old).0.map_or_else(|| disk::stat(&from).map(|s| s.size), Ok) {
                Ok(n) => n,
                Err(e) if e.is_not_found() => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            let base = file::fresh(self.host(), SystemTime::now(), Some(date), on_disk, size);
            let info = file::with_flags(&old, flags, (keywords & LETTERS) as u32);
            let name: Box<[u8]> = [base.as_bytes(), &info[file::base(&info).len()..]].concat().into();
            let path = scan::path(&to_dir, false, &name);
            let arrival = Arrival { uid: None, name, is_new: false, recent: true, flags, keywords, size, date, summary: None, learned: false };
            passages.push(Passage { source: *uid, from, to: path, put: Put::Linked, arrival: Some(arrival) });
        }
        Ok(Some(passages))
    }

    /// The source after a move.
    fn part_with(&self, d: &mut Disk, dir: &Path, passages: &[Passage]) {
        for p in passages.iter().filter(|p| matches!(p.put, Put::Written)) {
            let _ = disk::remove_file(&p.from);
        }
        let mut uids: Vec<u32> = passages.iter().map(|p| p.source.0).collect();
        uids.sort_unstable();
        self.commit(d, dir, Batch { removed: uids, ..Batch::default() });
    }
}

fn make_durable(dir: &Path, to: &Path, moving: bool) -> Result<()> {
    // The new names first: a power cut in between leaves a message twice rather than not at all.
    disk::sync_dir(&to.join("cur"))?;
    if moving {
        disk::sync_dir(&dir.join("cur"))?;
        disk::sync_dir(&dir.join("new"))?;
    }
    Ok(())
}

/// Both folders' disk locks, always in the same order; of one folder only the second.
fn lock_two<'a>(source: &'a Folder, target: &'a Folder) -> (Option<MutexGuard<'a, Disk>>, MutexGuard<'a, Disk>) {
    if std::ptr::eq(source, target) {
        return (None, lock(&target.disk));
    }
    if std::ptr::from_ref(source) < std::ptr::from_ref(target) {
        let first = lock(&source.disk);
        (Some(first), lock(&target.disk))
    } else {
        let first = lock(&target.disk);
        (Some(lock(&source.disk)), first)
    }
}

fn put(from: &Path, to: &Path, to_dir: &Path, moving: bool) -> disk::Result<Put> {
    let (done, how) = if moving { (disk::rename(from, to), Put::Renamed) } else { (disk::hard_link(from, to), Put::Linked) };
    match done {
        Ok(()) => Ok(how),
        // What may not be renamed for another reason could not be removed afterwards either.
        Err(e) if if moving { e.source.raw_os_error() == Some(Errno::EXDEV as i32) } else { e.is_no_link() } => {
            write_anew(from, to, to_dir)?;
            Ok(Put::Written)
        }
        Err(e) => Err(e),
    }
}

fn write_anew(from: &Path, to: &Path, to_dir: &Path) -> disk::Result<()> {
    let mtime = disk::stat(from)?.mtime.div_euclid(1_000_000_000);
    let tmp = to_dir.join("tmp").join(format!("copy.{:016x}", disk::unique()));
    let mut f = disk::create_new(&tmp, 0o600)?;
    let done = disk::copy(from, &mut f, &tmp)
        .and_then(|()| disk::set_modified(&f, &tmp, mtime))
        .and_then(|()| disk::sync(&f, &tmp))
        .and_then(|()| disk::rename(&tmp, to));
    done.inspect_err(|_| drop(disk::remove_file(&tmp)))
}

fn take_back(passages: &[Passage]) {
    for p in passages.iter().rev() {
        let _ = match p.put {
            Put::Linked | Put::Written => disk::remove_file(&p.to),
            Put::Renamed => disk::rename_back(&p.to, &p.from),
        };
    }
}

/// Keywords beyond the letters, written down before the files get their names.
fn note_high<'a>(d: &mut Disk, dir: &Path, arrivals: impl Iterator<Item = &'a Arrival>) -> Result<()> {
    let high = arrivals.filter(|a| a.keywords & !LETTERS != 0).map(|a| (file::base(&a.name), a.keywords));
    d.keywords.set_high(dir, high)
}
