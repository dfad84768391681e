//! How a message gets into the state: what is known of its file, its UID, its line in the UID list.

use super::{
    Error, Flags, Folder, Result,
    dotlock::Dotlock,
    events, file,
    found::Found,
    keywords::{self, High},
    ledger::{self, Entry, Known, Records},
    lock,
    scan::{self, Scope},
    state::Fresh,
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
    /// Neither its name nor the list said what is known of it: the file did.
    pub learned: bool,
}

impl Folder {
    /// Numbers what has no number, and adds all. False when some could not be numbered (a full disk): the others,
    /// whose UID the list has already, stay usable, and removing some of them may be just what is needed.
    pub(super) fn take_arrivals(&self, d: &mut Disk, dir: &Path, held: Option<&Dotlock>, arrivals: Vec<Arrival>) -> Result<bool> {
        if arrivals.is_empty() && !d.ledger.must_write() {
            return Ok(true);
        }
        let bases: Vec<Box<[u8]>> = {
            let under_way = lock(&self.under_way);
            arrivals.iter().map(|a| file::base(&a.name)).filter(|b| under_way.contains(*b)).map(Into::into).collect()
        };
        let (known, unknown): (Vec<Arrival>, Vec<Arrival>) = arrivals.into_iter().partition(|a| a.uid.is_some());
        let unnumbered = unknown.len();
        if !known.is_empty() {
            self.enter(d, None, known)?;
        }
        let entered = match held {
            _ if unnumbered == 0 && !d.ledger.must_write() => Ok(Vec::new()),
            Some(_) => self.enter(d, held, unknown),
            None => Err(Error::Full),
        };
        match entered {
            Ok(_) => {
                let mut under_way = lock(&self.under_way);
                for base in &bases {
                    under_way.remove(base);
                }
                Ok(true)
            }
            Err(e) if d.ledger.must_write() => Err(e),
            Err(e) => {
                events::not_taken_in(dir, unnumbered, &e);
                Ok(false)
            }
        }
    }

    /// Gives UIDs, records them, adds the messages and tells the sessions. The UID list's lock is held and nobody
    /// else wrote the list since it was read; without it, all must have UIDs that stand in the list.
    /// Nothing changed when this fails.
    fn enter(&self, d: &mut Disk, held: Option<&Dotlock>, mut arrivals: Vec<Arrival>) -> Result<Vec<u32>> {
        let dir = self.dir();
        arrivals.sort_by_key(|a| a.uid);
        let mut next = d.next.max(if held.is_some() { d.ledger.floor(&dir) } else { 1 });
        let mut uids = Vec::with_capacity(arrivals.len());
        for a in &arrivals {
            let uid = a.uid.unwrap_or(next);
            next = next.max(uid.saturating_add(1));
            uids.push(uid);
        }
        if next > uidlist::MAX_NEXT {
            // Whoever opens it next gives it a new UIDVALIDITY.
            self.mark_gone();
            return Err(Error::NotFound(self.name()));
        }
        if let Some(held) = held {
            let entries = arrivals.iter().zip(&uids).map(|(a, uid)| Entry { uid: *uid, name: &a.name, size: a.size, date: a.date });
            let live = lock(&self.state).messages().len();
            d.ledger.record(&dir, held, next, &entries.collect::<Vec<_>>(), live, |line| self.each(&mut |e| line(e)))?;
        }
        d.next = next;
        if d.loaded {
            let upto = lock(&self.state).modseq + 1;
            d.lease.cover(&dir, upto);
        }
        let mut state = lock(&self.state);
        let modseq = if d.loaded { state.step() } else { state.modseq };
        state.expect(arrivals.len());
        for (a, uid) in arrivals.into_iter().zip(uids.iter().copied()) {
            keywords::cover(&mut state.keywords, a.keywords);
            if a.recent {
                state.recent.push(uid);
            }
            let (flags, is_new, keywords, size, date) = (a.flags, a.is_new, a.keywords, a.size, a.date);
            state.arrive(&Fresh { uid, flags, is_new, keywords, size, date, name: &a.name }, modseq);
        }
        state.next = state.next.max(next);
        drop(state);
        self.event.notify(usize::MAX);
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
            return self.enter(d, Some(&held), arrivals);
        }
        // Somebody else gave UIDs since: theirs, below ours, have to be taken in first; ours come along with them.
        let names: Vec<Box<[u8]>> = arrivals.iter().map(|a| file::base(&a.name).into()).collect();
        let floor = lock(&self.state).next;
        let mut records = Records::new();
        self.refresh(d, &dir, &mut records)?;
        self.take_in_all(d, &dir, Scope::All, records, Some(&held))?;
        let state = lock(&self.state);
        let came = &state.messages()[state.messages().partition_point(|m| m.uid() < floor)..];
        let came: HashMap<Box<[u8]>, u32> = came.iter().map(|m| (file::base(&state.name(m)).into(), m.uid())).collect();
        let uids: Vec<u32> = names.iter().filter_map(|n| came.get(n).copied()).collect();
        if uids.len() == names.len() { Ok(uids) } else { Err(Error::NotFound(self.name())) }
    }
}

/// What we know of a file: from its name, from the UID list, or from the file. `None`: it is gone again.
pub(super) fn arrival(dir: &Path, f: Found, known: Option<Known>, high: Option<&High>) -> Option<Arrival> {
    let path = scan::path(dir, f.is_new, &f.name);
    let (flags, letters) = file::flags(&f.name);
    let (size, vsize) = file::sizes(&f.name);
    let (date, uid, recorded) = known.map_or((None, None, None), |k| (k.date, Some(k.uid), k.vsize));
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
    Some(Arrival { uid, recent: f.is_new, name: f.name, is_new: f.is_new, flags, keywords, size, date, learned })
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
