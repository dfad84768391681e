//! Delivery: one file, written and fsynced once, a name in every home's `new/`, each of those fsynced.
//!
//! No UID is given here. A folder that somebody has open is told at once, and numbers the message in memory.

use super::{
    Error, Flags, Folder, Home, Result, Store, Target, Usage,
    enter::Arrival,
    file, lock,
    quota::{Account, After, Booking},
    summary,
};
use crate::disk::{self, Draft};
use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The message and its name.
struct Message<'a> {
    prefix: &'a [u8],
    draft: &'a Draft,
    base: String,
    size: u64,
    vsize: u64,
    date: i64,
    /// As it goes into every folder's file of summaries. Made when the message is safe.
    summary: OnceCell<Option<Vec<u8>>>,
}

/// Where it goes, and what became of that.
struct Aim {
    home: Home,
    dir: PathBuf,
    limited: Option<Account>,
    booking: Option<Booking>,
    done: Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mail,
    /// Of our own, which must arrive.
    Ours,
    /// About the quota: no further one because of it.
    Warning,
}

impl Store {
    /// Job. One message to several accounts' folders: written and fsynced once, hard-linked into every `new/`,
    /// each directory fsynced, then back. One result per target, in order; a failed one changed nothing there.
    /// `folder`: None is INBOX; a missing folder falls back to INBOX. Homes are made as needed.
    /// `prefix` stands before the message, for all targets the same.
    pub fn deliver(self: &Arc<Self>, targets: &[Target], prefix: &[u8], draft: &Draft, now: SystemTime) -> Vec<Result<()>> {
        self.deliver_as(Kind::Mail, targets, prefix, draft, now)
    }

    /// Job. The same, also to who is over quota; it counts all the same.
    pub fn deliver_anyway(self: &Arc<Self>, targets: &[Target], prefix: &[u8], draft: &Draft, now: SystemTime) -> Vec<Result<()>> {
        self.deliver_as(Kind::Ours, targets, prefix, draft, now)
    }

    pub(super) fn deliver_warning(self: &Arc<Self>, to: Target, draft: &Draft, now: SystemTime) -> Result<()> {
        self.deliver_as(Kind::Warning, &[to], b"", draft, now).into_iter().collect()
    }

    fn deliver_as(self: &Arc<Self>, kind: Kind, targets: &[Target], prefix: &[u8], draft: &Draft, now: SystemTime) -> Vec<Result<()>> {
        let mut aims: Vec<Result<Aim>> = targets.iter().map(|t| self.aim(t, now)).collect();
        let message = match self.message(prefix, draft, now) {
            Ok(m) => m,
            Err(e) => return targets.iter().map(|_| Err(e.again().into())).collect(),
        };
        let mut seen: Vec<PathBuf> = Vec::new();
        let mut doubles = Vec::new();
        let mut live: Vec<&mut Aim> = Vec::new();
        for (n, aim) in aims.iter_mut().enumerate() {
            let Ok(aim) = aim else { continue };
            // Twice the same folder is one delivery.
            if let Some(first) = seen.iter().position(|d| *d == aim.dir) {
                doubles.push((n, seen[first].clone()));
                continue;
            }
            seen.push(aim.dir.clone());
            live.push(aim);
        }
        let weight = Usage::of(message.size);
        if kind == Kind::Mail {
            // All before the first is booked: who counts waits for those that are booked.
            admit(&mut live, |account| account.check(weight).map(|()| None));
        }
        admit(&mut live, |account| account.book(weight, kind == Kind::Mail).map(Some));
        self.place(&message, &mut live);
        let settle: Vec<Account> =
            live.iter_mut().filter_map(|aim| aim.booking.take().filter(|_| aim.done.is_ok())).filter_map(|b| b.keep(weight)).collect();
        let after = if kind == Kind::Mail { After::Filed } else { After::Other };
        settle.iter().filter(|_| kind != Kind::Warning).for_each(|account| account.settle(after));
        for (n, dir) in doubles {
            let failed = aims.iter().flatten().find(|a| a.dir == dir).and_then(|a| a.done.as_ref().err().map(again));
            if let (Some(Ok(aim)), Some(e)) = (aims.get_mut(n), failed) {
                aim.done = Err(e);
            }
        }
        aims.into_iter().map(|aim| aim.and_then(|a| a.done)).collect()
    }

    fn aim(self: &Arc<Self>, target: &Target, now: SystemTime) -> Result<Aim> {
        let home = self.home(&target.account)?;
        let dir = home.delivery_dir(target.folder.as_deref());
        let limited = home.limited_at(now);
        Ok(Aim { home, dir, limited, booking: None, done: Ok(()) })
    }

    fn message<'a>(&self, prefix: &'a [u8], draft: &'a Draft, now: SystemTime) -> disk::Result<Message<'a>> {
        let size = prefix.len() as u64 + draft.len();
        let mut last = 0;
        let mut vsize = size + file::lone_lfs(prefix, &mut last);
        draft.chunks(|c| vsize += file::lone_lfs(c, &mut last)).map_err(|e| disk::Error::new("read draft for", &self.root, e))?;
        let date = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
        let (base, summary) = (file::fresh(&self.host, now, None, size, vsize), OnceCell::new());
        Ok(Message { prefix, draft, base, size, vsize, date, summary })
    }

    /// Writes it below the first home that takes it, and links it into the others.
    fn place(&self, message: &Message<'_>, aims: &mut [&mut Aim]) {
        let mut rest = aims;
        while let Some((first, others)) = std::mem::take(&mut rest).split_first_mut() {
            match write_tmp(first, message) {
                Ok(tmp) => return self.place_tmp(message, &tmp, first, others),
                Err(e) => first.done = Err(e),
            }
            rest = others;
        }
    }

    fn place_tmp(&self, message: &Message<'_>, tmp: &Path, first: &mut Aim, others: &mut [&mut Aim]) {
        let mut elsewhere = Vec::new();
        for aim in others.iter_mut() {
            let linked = is_home(aim).and_then(|()| self.name_in(aim, message, |to| disk::hard_link(tmp, to)));
            match linked {
                Err(Error::Disk(e)) if e.is_no_link() => elsewhere.push(&mut **aim),
                done => aim.done = done,
            }
        }
        let done = self.name_in(first, message, |to| disk::rename(tmp, to));
        if done.is_err() {
            let _ = disk::remove_file(tmp);
        }
        first.done = done;
        for aim in elsewhere {
            aim.done = write_tmp(aim, message)
                .and_then(|tmp| self.name_in(aim, message, |to| disk::rename(&tmp, to)).inspect_err(|_| drop(disk::remove_file(&tmp))));
        }
    }

    /// Gives the file its name in `new/` of one folder, durable, and tells who has that folder open.
    fn name_in(&self, aim: &Aim, message: &Message<'_>, put: impl FnOnce(&Path) -> disk::Result<()>) -> Result<()> {
        let new = aim.dir.join("new");
        let to = new.join(&message.base);
        let before = self.opened(&aim.dir);
        if let Some(folder) = &before {
            lock(&folder.under_way).insert(message.base.as_bytes().into());
        }
        let done = put(&to).and_then(|()| disk::sync_dir(&new).inspect_err(|_| drop(disk::remove_file(&to))));
        if done.is_ok() {
            // Before anybody is told: who hears of it asks for it.
            let make = || self.summary_record(message.base.as_bytes(), message.prefix, message.draft);
            if let Some(record) = message.summary.get_or_init(make) {
                summary::append(&aim.dir, record);
            }
        }
        match (&before, self.opened(&aim.dir)) {
            (Some(folder), _) if done.is_ok() => folder.delivered(message),
            (Some(folder), _) => drop(lock(&folder.under_way).remove(message.base.as_bytes())),
            // Opened meanwhile: its first look may have come too early.
            (None, Some(folder)) if done.is_ok() => drop(folder.sync()),
            _ => {}
        }
        Ok(done?)
    }
}

/// Those that may not have it leave.
fn admit(live: &mut Vec<&mut Aim>, ask: impl Fn(&Account) -> Result<Option<Booking>>) {
    live.retain_mut(|aim| {
        let Some(account) = &aim.limited else { return true };
        match ask(account) {
            Ok(booking) => aim.booking = booking,
            Err(e) => aim.done = Err(e),
        }
        aim.done.is_ok()
    });
}

/// A file under `tmp/`, fsynced. The home is made when there is none.
fn write_tmp(aim: &Aim, message: &Message<'_>) -> Result<PathBuf> {
    let tmp = aim.dir.join("tmp").join(&message.base);
    let mut f = match disk::create_new(&tmp, 0o600) {
        Err(e) if e.is_not_found() => {
            aim.home.make()?;
            disk::create_new(&tmp, 0o600)?
        }
        made => made?,
    };
    let written = if message.prefix.is_empty() { Ok(()) } else { disk::write_all(&mut f, &tmp, message.prefix) };
    let written = written.and_then(|()| message.draft.write_to(&mut f, &tmp));
    // Other programs look for the internal date there.
    let written = written.and_then(|()| disk::set_modified(&f, &tmp, message.date)).and_then(|()| disk::sync(&f, &tmp));
    if let Err(e) = written {
        let _ = disk::remove_file(&tmp);
        return Err(e.into());
    }
    Ok(tmp)
}

/// `tmp/` is made last, when all else is durable; linking into a `new/` that is just being made would not be.
fn is_home(aim: &Aim) -> Result<()> {
    if aim.dir.join("tmp").is_dir() { Ok(()) } else { aim.home.make() }
}

fn again(e: &Error) -> Error {
    match e {
        Error::Disk(e) => Error::Disk(e.again()),
        Error::Full => Error::Full,
        Error::OverQuota(over) => Error::OverQuota(*over),
        Error::NotFound(n) => Error::NotFound(n.clone()),
        Error::Exists(n) => Error::Exists(n.clone()),
        Error::BadName(n) => Error::BadName(n.clone()),
        Error::Limit(what) => Error::Limit(what),
    }
}

impl Folder {
    /// A delivery of this process is durable under `new/`: number it now and tell the sessions. Whoever comes first
    /// numbers all that wait by then. When that fails the messages are safe all the same, and the next look finds them.
    fn delivered(&self, message: &Message<'_>) {
        lock(&self.ready).push(Arrival {
            uid: None,
            name: message.base.as_bytes().into(),
            is_new: true,
            recent: true,
            flags: Flags::default(),
            keywords: 0,
            size: message.vsize,
            date: message.date,
            summary: None,
            learned: false,
        });
        let mut d = lock(&self.disk);
        let mut ready = std::mem::take(&mut *lock(&self.ready));
        let mut under_way = lock(&self.under_way);
        // Those that a look took in meanwhile are no longer under way.
        ready.retain(|a| under_way.remove(&a.name));
        drop(under_way);
        if ready.is_empty() || !d.loaded || self.check().is_err() {
            return;
        }
        let count = ready.len();
        if let Err(e) = self.enter_own(&mut d, ready) {
            super::events::not_taken_in(&self.dir(), count, &e);
            d.new.forget();
        }
    }
}
