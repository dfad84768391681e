//! One folder's UID list as this process keeps it: read when it changed, leased ahead, appended to.
//!
//! `N` in the header is durable and ahead of every UID given out. So records may be appended without an fsync:
//! what a power cut takes away is numbered anew above `N`, and no UID is ever given twice. Everybody who reads the
//! file goes on at `N` or above, be it Dovecot or a second daemon on a shared file system.
//!
//! While Dovecot is at work in the folder, nothing is leased: it notes `N` whenever it looks, and takes what appears
//! below that for expunged. Records are fsynced instead.

use super::{
    Result, courier,
    dotlock::Dotlock,
    events,
    index::{self, Stamp},
    uidlist,
};
use crate::disk::{self, Stat};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

pub(super) const NAME: &str = "dovecot-uidlist";
/// Some two million messages.
const LIST_MAX: u64 = 256 << 20;

/// What Dovecot writes to each time it saw something new, and how long that counts.
const DOVECOT_LOG: &str = "dovecot.index.log";
const SHARED_NS: i64 = 3600 * 1_000_000_000;

/// UIDs that are reserved beyond those needed now, each time the list is written anew: the more there is to
/// write, the more seldom.
fn lease(live: usize) -> u32 {
    u32::try_from(live / 8).unwrap_or(u32::MAX).max(100)
}

#[derive(Default)]
pub(super) struct Ledger {
    header: uidlist::Header,
    stamp: Option<Stat>,
    lines: usize,
    /// There is something in the file that must not be appended to, or no file at all.
    rewrite: bool,
    /// A file that cannot be used and of which the log knows.
    lost: Option<Stat>,
    /// Dovecot is at work here.
    shared: bool,
    /// Records of the file are known to have no extension fields that others gave them.
    plain: bool,
}

/// What the list says of a file that we did not know yet.
pub(super) struct Known {
    pub uid: u32,
    pub vsize: Option<u64>,
    pub date: Option<i64>,
    /// Where its summary is.
    pub summary: Option<u64>,
}
pub(super) type Records = HashMap<Box<[u8]>, Known>;

/// Extension fields by UID, without those that we make ourselves. They stay in the file: only POP3 and a list written
/// anew want them, and most lists have none.
pub(super) type Fields = BTreeMap<u32, Box<[u8]>>;

pub(super) struct Fresh {
    pub records: Records,
    pub next: u32,
}

/// A message as it goes into the list.
pub(super) struct Entry<'a> {
    pub uid: u32,
    pub name: &'a [u8],
    pub size: u64,
    pub date: i64,
}

/// What the index keeps of it, beside UIDVALIDITY and N.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Saved {
    pub other: Vec<u8>,
    pub lines: u64,
    pub rewrite: bool,
    pub plain: bool,
}

impl Ledger {
    pub(super) fn save(&self) -> Saved {
        Saved { other: self.header.other.clone(), lines: self.lines as u64, rewrite: self.rewrite, plain: self.plain }
    }
    /// As it was, if the file is still the one with that stamp; so it need not be read.
    pub(super) fn restore(dir: &Path, header: &index::Header) -> Option<Self> {
        let stat = disk::stat(&dir.join(NAME)).ok().filter(|s| Stamp::from(*s) == header.seen.list)?;
        let Saved { other, lines, rewrite, plain } = header.list.clone();
        let uids = uidlist::Header { validity: header.seen.counts.uid_validity, next: header.seen.reserved, other };
        Some(Self { header: uids, stamp: Some(stat), lines: usize::try_from(lines).ok()?, rewrite, plain, shared: false, lost: None })
    }
    pub(super) fn validity(&self) -> u32 {
        self.header.validity
    }
    /// N: what the file says is the next UID, ahead of those given.
    pub(super) fn list_next(&self) -> u32 {
        self.header.next
    }
    pub(super) fn stamp(&self) -> Option<Stat> {
        self.stamp
    }
    /// No file has been written yet with this UIDVALIDITY: nothing may be told to a client before.
    pub(super) fn must_write(&self) -> bool {
        self.stamp.is_none()
    }

    /// It can be read and should all the same be written anew: damaged, or in an old form.
    pub(super) fn wants_writing(&self) -> bool {
        self.rewrite && self.stamp.is_some()
    }

    fn stat(dir: &Path) -> Result<Option<Stat>> {
        match disk::stat_now(&dir.join(NAME)) {
            Ok(s) => Ok(Some(s)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// `None` when nobody else wrote it since we last looked. `new_validity` is asked for when there is no usable list.
    pub(super) fn refresh(&mut self, dir: &Path, new_validity: impl Fn() -> Result<u32>) -> Result<Option<Fresh>> {
        let stamp = Self::stat(dir)?;
        if stamp.is_some() && stamp == self.stamp {
            return Ok(None);
        }
        if stamp.is_none() && self.header.validity == 0 && courier::take_over(dir, &new_validity)? {
            return self.refresh_from(dir, Self::stat(dir)?, new_validity);
        }
        self.refresh_from(dir, stamp, new_validity)
    }

    fn refresh_from(&mut self, dir: &Path, stamp: Option<Stat>, new_validity: impl Fn() -> Result<u32>) -> Result<Option<Fresh>> {
        let path = dir.join(NAME);
        let text = read(&path)?;
        let Some(parsed) = text.as_deref().and_then(uidlist::parse) else {
            if text.is_some() && self.lost != stamp {
                events::uidlist_lost(&path);
            }
            self.lost = stamp;
            if self.header.validity != 0 {
                // It was deleted or damaged under an open folder: we know what stood in it.
                (self.stamp, self.rewrite) = (None, true);
                return Ok(None);
            }
            let other = format!(" G{:016x}{:016x}", disk::unique(), disk::unique()).into_bytes();
            self.header = uidlist::Header { validity: new_validity()?, next: 1, other };
            (self.stamp, self.lines, self.rewrite, self.plain) = (None, 0, true, true);
            return Ok(Some(Fresh { records: Records::new(), next: 1 }));
        };
        if parsed.damaged > 0 {
            events::uidlist_damaged(&path, parsed.damaged);
        }
        self.rewrite = parsed.damaged > 0 || parsed.version != 3;
        self.stamp = stamp;
        self.plain = parsed.records.iter().all(|r| uidlist::foreign_fields(r.fields).is_none());
        self.lines = parsed.records.len();
        let next = parsed.next();
        let mut records = Records::with_capacity(parsed.records.len());
        for r in &parsed.records {
            let known = Known { uid: r.uid, vsize: r.vsize, date: r.date, summary: None };
            records.insert(r.base.into(), known);
        }
        self.header = parsed.header;
        Ok(Some(Fresh { records, next }))
    }

    /// The extension fields in the file, which is read for that unless it is known to have none.
    pub(super) fn fields(&self, dir: &Path) -> Result<Fields> {
        if self.plain {
            return Ok(Fields::new());
        }
        let text = read(&dir.join(NAME))?.unwrap_or_default();
        let Some(parsed) = uidlist::parse(&text).filter(|p| p.header.validity == self.header.validity) else { return Ok(Fields::new()) };
        Ok(parsed.records.iter().filter_map(|r| Some((r.uid, uidlist::foreign_fields(r.fields)?))).collect())
    }

    /// The next [`Ledger::record`] writes the list anew.
    pub(super) fn write_anew(&mut self) {
        self.rewrite = true;
    }

    /// Whether somebody else wrote it. Under the lock the answer stays true.
    pub(super) fn is_changed(&self, dir: &Path) -> Result<bool> {
        let stamp = Self::stat(dir)?;
        Ok(stamp != self.stamp)
    }

    /// What the next UID must not be below. With the lock held, before UIDs are given.
    pub(super) fn floor(&mut self, dir: &Path) -> u32 {
        let age = disk::stat(&dir.join(DOVECOT_LOG)).map(|s| disk::clock().saturating_sub(s.ctime));
        self.shared = age.is_ok_and(|age| age < SHARED_NS);
        if self.shared { self.header.next } else { 1 }
    }

    /// Records messages under UIDs below `next`, which follows the highest of them. `all` are the other messages of
    /// the folder, for when the list is written anew. Nothing changed when this fails.
    pub(super) fn record(
        &mut self,
        dir: &Path,
        _lock: &Dotlock,
        next: u32,
        new: &[Entry<'_>],
        live: usize,
        all: impl FnOnce(&mut dyn FnMut(Entry<'_>)),
    ) -> Result<()> {
        let path = dir.join(NAME);
        let crowded = self.lines > 2 * live + 1000;
        let above = next > self.header.next && !self.shared;
        if self.rewrite || self.stamp.is_none() || above || crowded {
            let mut header = self.header.clone();
            let fields = self.fields(dir)?;
            header.next = next.max(header.next).saturating_add(if new.is_empty() || self.shared { 0 } else { lease(live) });
            let (mut text, mut lines) = (Vec::new(), 0);
            uidlist::write_header(&mut text, &header);
            let mut line = |e: Entry<'_>| {
                let fields = fields.get(&e.uid).map(|f| &**f);
                uidlist::write_record(&mut text, e.uid, fields, e.name, e.size, e.date);
                lines += 1;
            };
            all(&mut line);
            new.iter().for_each(|e| line(Entry { ..*e }));
            disk::replace(&path, &text, 0o600)?;
            self.plain = fields.is_empty();
            (self.header, self.lines, self.rewrite) = (header, lines, false);
        } else if !new.is_empty() {
            let mut text = Vec::new();
            for e in new {
                uidlist::write_record(&mut text, e.uid, None, e.name, e.size, e.date);
            }
            let mut f = disk::append(&path, 0o600)?;
            let len = self.stamp.map_or(0, |s| s.size);
            let written = disk::write_all(&mut f, &path, &text);
            if let Err(e) = written.and_then(|()| if self.shared { disk::sync(&f, &path) } else { Ok(()) }) {
                if disk::truncate(&f, &path, len).is_err() {
                    self.rewrite = true;
                }
                self.stamp = Self::stat(dir)?;
                return Err(e.into());
            }
            self.lines += new.len();
        }
        self.stamp = Self::stat(dir)?;
        Ok(())
    }
}

fn read(path: &Path) -> disk::Result<Option<Vec<u8>>> {
    disk::read_bounded_if_exists(path, LIST_MAX)
}

/// A UIDVALIDITY that no folder of this home had before (Dovecot's `dovecot-uidvalidity`, eight hexadecimal digits):
/// a folder deleted and made again must not look like the old one.
pub(super) fn new_validity(maildir: &Path, now: u32) -> Result<u32> {
    let path = maildir.join("dovecot-uidvalidity");
    let _lock = Dotlock::take(&path)?;
    let last = disk::read_bounded_if_exists(&path, 4096)?.and_then(|t| u32::from_str_radix(String::from_utf8_lossy(&t).trim(), 16).ok());
    // Nothing is above the highest; then at least another one.
    let next = last.map_or(now, |l| l.checked_add(1).map_or(now, |n| now.max(n))).max(1);
    disk::replace(&path, format!("{next:08x}").as_bytes(), 0o600)?;
    // Dovecot finds the value in a marker's name again when it does not trust the file.
    let marker = |v: u32| -> PathBuf { maildir.join(format!("dovecot-uidvalidity.{v:08x}")) };
    let moved = last.is_some_and(|l| disk::rename(&marker(l), &marker(next)).is_ok());
    if !moved {
        disk::create_new(&marker(next), 0o444)?;
    }
    Ok(next)
}
