//! How a message gets into the state: what is known of its file, its UID, its line in the UID list.

use super::{
    Error, Flags, Folder, Result,
    dotlock::Dotlock,
    events, file,
    found::Found,
    keywords::High,
    ledger::{self, Entry, Known, Records},
    lock,
    scan::{self, Scope},
    state::Batch,
    sync::{Disk, STEP},
    uidlist,
};
use crate::disk;
use std::{collections::HashMap, io::Read, path::Path};

/// A message that has no place in the state yet.
pub(super) struct Arrival {
    /// Given by somebody else already.
    pub uid: Option<u32>,
    pub name: Box<[u8]>,
    pub is_new: bool,
    pub recent: bool,
    pub flags: Flags,
    pub keywords: u64,
    pub size: u64,
    pub date: i64,
    /// Where its summary is, if that is known.
    pub summary: Option<u64>,
    /// Neither its name nor the list said what is known of it: the file did.
    pub learned: bool,
}

impl Folder {
    /// Numbers what has no number, adds all, and does the rest of what a look found. False when some could not be
    /// numbered (a full disk), or when another look is due: the others, whose UID the list has already, stay usable, and
    /// removing some of them may be just what is needed.
    pub(super) fn take_arrivals(&self, d: &mut Disk, dir: &Path, held: Option<&Dotlock>, mut batch: Batch, arrivals: Vec<Arrival>) -> Result<bool> {
        let bases: Vec<Box<[u8]>> = {
            let under_way = lock(&self.under_way);
            arrivals.iter().map(|a| file::base(&a.name)).filter(|b| under_way.contains(*b)).map(Into::into).collect()
        };
        let (mut known, unknown): (Vec<Arrival>, Vec<Arrival>) = arrivals.into_iter().partition(|a| a.uid.is_some());
        known.sort_by_key(|a| a.uid);
        batch.arrived = known.into_iter().filter_map(|a| Some((a.uid?, a))).collect();
        self.check_room(batch.arrived.last().map(|(uid, _)| uid.saturating_add(1)))?;
        d.next = d.next.max(batch.arrived.last().map_or(0, |(uid, _)| uid + 1));
        let sure = self.commit(d, dir, batch).is_empty();
        let unnumbered = unknown.len();
        let entered = match held {
            _ if unnumbered == 0 && !d.ledger.must_write() => Ok(Vec::new()),
            Some(held) => self.enter(d, held, unknown),
            None => Err(Error::Full),
        };
        match entered {
            Ok(_) => {
                let mut under_way = lock(&self.under_way);
                for base in &bases {
                    under_way.remove(base);
                }
                Ok(sure)
            }
            Err(e) if d.ledger.must_write() => Err(e),
            Err(e) => {
                events::not_taken_in(dir, unnumbered, &e);
                Ok(false)
            }
        }
    }

    /// Whoever opens a folder next whose UIDs are used up gives it a new UIDVALIDITY.
    fn check_room(&self, next: Option<u32>) -> Result<()> {
        if next.is_some_and(|n| n > uidlist::MAX_NEXT) {
            self.mark_gone();
            return Err(Error::NotFound(self.name()));
        }
        Ok(())
    }

    /// Gives UIDs, records them, adds the messages and tells the sessions. The UID list's lock is held and nobody
    /// else wrote the list since it was read. Nothing changed when this fails.
    fn enter(&self, d: &mut Disk, held: &Dotlock, arrivals: Vec<Arrival>) -> Result<Vec<u32>> {
        let dir = self.dir();
        let first = d.next.max(d.ledger.floor(&dir));
        let next = first.saturating_add(u32::try_from(arrivals.len()).unwrap_or(u32::MAX));
        self.check_room(Some(next))?;
        let uids: Vec<u32> = (first..next).collect();
        let entries = arrivals.iter().zip(&uids).map(|(a, uid)| Entry { uid: *uid, name: &a.name, size: a.size, date: a.date });
        let live = lock(&self.state).messages().len();
        d.ledger.record(&dir, held, next, &entries.collect::<Vec<_>>(), live, |line| self.each(&mut |e| line(e)))?;
        d.next = next;
        let arrived = uids.iter().copied().zip(arrivals).collect();
        self.commit(d, &dir, Batch { arrived, ..Batch::default() });
        Ok(uids)
    }

    /// Sizes and dates that were read out of files go into the list, so that the next start does not read them again.
    /// Failing costs time only.
    pub(super) fn write_learned(&self, d: &mut Disk, dir: &Path, held: Option<&Dotlock>) {
        let own = if held.is_none() { Dotlock::take(&dir.join(ledger::NAME)).ok() } else { None };
        let Some(held) = held.or(own.as_ref()) else { return };
        if !d.ledger.is_changed(dir).is_ok_and(|changed| !changed) {
            return;
        }
        d.ledger.write_anew();
        let live = lock(&self.state).messages().len();
        if let Err(e) = d.ledger.record(dir, held, d.next.max(1), &[], live, |line| self.each(line)) {
            events::not_taken_in(dir, 0, &e);
        }
    }

    /// Every message as a line of the UID list, ascending.
    fn each(&self, line: &mut dyn FnMut(Entry<'_>)) {
        let (mut from, mut name) = (0, Vec::new());
        loop {
            let state = lock(&self.state);
            let Some(step) = state.messages().get(from..).filter(|s| !s.is_empty()) else { return };
            for m in step.iter().take(STEP) {
                state.name_into(m, &mut name);
                line(Entry { uid: m.uid(), name: &name, size: m.size(), date: m.date() });
            }
            from += STEP;
        }
    }

    /// Files that were just put there under fresh names get their UIDs, in this order.
    pub(super) fn enter_own(&self, d: &mut Disk, arrivals: Vec<Arrival>) -> Result<Vec<u32>> {
        let dir = self.dir();
        let held = Dotlock::take(&dir.join(ledger::NAME))?;
        if !d.ledger.is_changed(&dir)? {
            return self.enter(d, &held, arrivals);
        }
        // Somebody else gave UIDs since: theirs, below ours, have to be taken in first; ours come along with them.
        let names: Vec<Box<[u8]>> = arrivals.iter().map(|a| file::base(&a.name).into()).collect();
        let floor = lock(&self.state).next;
        let mut records = Records::new();
        self.refresh(d, &dir, &mut records)?;
        // Numbered, and gone again, while we waited for the lock.
        let numbered: HashMap<Box<[u8]>, u32> = names.iter().filter_map(|n| Some((n.clone(), records.get(n)?.uid))).collect();
        self.take_in_all(d, &dir, Scope::All, records, Some(&held))?;
        let state = lock(&self.state);
        let came = &state.messages()[state.messages().partition_point(|m| m.uid() < floor)..];
        let came: HashMap<Box<[u8]>, u32> = came.iter().map(|m| (file::base(&state.name(m)).into(), m.uid())).collect();
        let uids: Vec<u32> = names.iter().filter_map(|n| came.get(n).or_else(|| numbered.get(n)).copied()).collect();
        if uids.len() == names.len() { Ok(uids) } else { Err(Error::NotFound(self.name())) }
    }
}

/// What we know of a file: from its name, from the UID list, or from the file. `None`: it is gone again.
pub(super) fn arrival(dir: &Path, f: Found, known: Option<Known>, high: Option<&High>) -> Option<Arrival> {
    let path = scan::path(dir, f.is_new, &f.name);
    let (flags, letters) = file::flags(&f.name);
    let (size, vsize) = file::sizes(&f.name);
    let (date, uid, recorded, summary) = known.map_or((None, None, None, None), |k| (k.date, Some(k.uid), k.vsize, k.summary));
    let mut learned = false;
    let size = match vsize.or(recorded) {
        Some(n) => n,
        None => match measure(&path) {
            Ok(n) => {
                learned = true;
                n
            }
            Err(e) if e.is_not_found() => return None,
            Err(e) => {
                // One file that we may not read does not close the folder.
                events::unreadable(&e);
                size.or_else(|| disk::stat(&path).ok().map(|s| s.size)).unwrap_or(0)
            }
        },
    };
    let date = match file::date(&f.name).or(date) {
        Some(d) => d,
        None => match disk::stat(&path) {
            Ok(s) => {
                learned = true;
                s.mtime.div_euclid(1_000_000_000)
            }
            Err(e) if e.is_not_found() => return None,
            Err(e) => {
                events::unreadable(&e);
                i64::try_from(file::time(&f.name).0).unwrap_or(0)
            }
        },
    };
    let keywords = u64::from(letters) | high.and_then(|h| h.get(file::base(&f.name)).copied()).unwrap_or(0);
    Some(Arrival { uid, recent: f.is_new, name: f.name, is_new: f.is_new, flags, keywords, size, date, summary, learned })
}

/// The size with CRLF line ends, read in bounded pieces.
fn measure(path: &Path) -> disk::Result<u64> {
    let mut f = disk::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let (mut size, mut last) = (0, 0);
    loop {
        let n = f.read(&mut buffer).map_err(|e| disk::Error::new("read", path, e))?;
        if n == 0 {
            return Ok(size);
        }
        size += n as u64 + file::lone_lfs(&buffer[..n], &mut last);
    }
}
