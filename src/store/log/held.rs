//! What is done while the log is locked: appending, and writing all of it anew.

use super::{
    LEASE, Log, NAME, SLACK, WEIGHT,
    format::{Entry, HEADER, Header, Item, MODSEQ_MAX, What, Writer},
};
use crate::{
    disk,
    store::{Flags, KeywordBits},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// A message as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Live {
    pub uid: u32,
    pub arrived: u64,
    /// Not below `arrived`.
    pub modseq: u64,
    pub flags: Flags,
    pub keywords: KeywordBits,
}

/// Hands on every message, UIDs ascending.
type Messages<'a> = dyn FnMut(&mut dyn FnMut(Live)) + 'a;

/// The log, locked.
pub(in crate::store) struct Held<'a> {
    pub(super) log: &'a mut Log,
    pub(super) path: PathBuf,
}

impl Held<'_> {
    pub(in crate::store) fn last(&self) -> u64 {
        self.log.last
    }
    /// Mod-sequences strictly between these were given, and what for is lost.
    pub(in crate::store) fn gaps(&self) -> &[(u64, u64)] {
        &self.log.gaps
    }

    /// What reading it cost, in messages that it told of, for so many that are there.
    pub(in crate::store) fn weigh(&mut self, told: usize, messages: usize) {
        (self.log.weight, self.log.light) = (told as u64, messages as u64);
    }

    /// Appends what was done, all of it above [`Held::last`]. `next`: the next UID, and N of the UID list.
    /// When it fails, or when the file has to be written anew anyway, [`Held::wants_rewrite`] says so from then on.
    pub(in crate::store) fn append(&mut self, entries: impl Iterator<Item = Entry>, next: (u32, u32)) {
        let log = &mut *self.log;
        let (mut out, mut last) = (Writer::default(), log.last);
        for e in entries {
            log.note(Item::Entry(e));
            last = last.max(e.modseq);
            out.push(e);
        }
        if next != log.next {
            log.note(Item::Next(next.0, next.1));
            out.next(next.0, next.1);
        }
        if log.stale {
            return;
        }
        let bytes = out.finish();
        let done = cover(log, &self.path, last).and_then(|()| match &log.file {
            Some(file) if !bytes.is_empty() => disk::write_at(file, &self.path, &bytes, log.len),
            _ => Ok(()),
        });
        match done {
            Ok(()) => log.len += bytes.len() as u64,
            Err(e) => log.spoil(&self.path, &e),
        }
    }

    /// There is more in it than is worth keeping or reading, or it cannot be appended to.
    pub(in crate::store) fn wants_rewrite(&self) -> bool {
        let log = &self.log;
        log.stale || log.len > log.header.base.saturating_mul(2).saturating_add(SLACK) || log.weight > log.light.saturating_mul(2) + WEIGHT
    }

    /// Writes the log anew, durable. Failing costs history after a restart, no more; it is tried again with the next change.
    /// `gone`: what went away, in the order in which it did (mod-sequence, first, last); of what did so at or before
    /// `floor`, some is not there. `messages` is called more than once.
    pub(in crate::store) fn rewrite(&mut self, modseq: u64, floor: u64, next: (u32, u32), gone: &[(u64, u32, u32)], messages: &mut Messages<'_>) {
        let log = &mut *self.log;
        log.last = log.last.max(modseq);
        log.note(Item::Next(next.0, next.1));
        let mut header = Header {
            limit: log.header.limit.max(log.last.saturating_add(LEASE)).min(MODSEQ_MAX),
            floor,
            boot: disk::boot_id().unwrap_or([0xff; 16]),
            ..log.header
        };
        let tmp = self.path.with_file_name(format!(".{NAME}.{:016x}.tmp", disk::unique()));
        let (blocks, weight) = blocks(log, gone, messages);
        header.base = (HEADER + blocks.len()) as u64;
        match replace(&self.path, &tmp, &mut header, &blocks) {
            Ok(file) => {
                if let Some(old) = log.file.replace(file) {
                    // A backup may hold another name of it, so that who has it open would not see that it is the old one.
                    let dead = Header { validity: 0, boot: [0; 16], ..log.header };
                    let _ = disk::overwrite_at(&old, &self.path, &dead.bytes(), 0);
                }
                (log.len, log.header, log.stale, log.failed) = (header.base, header, false, false);
                (log.weight, log.light) = (weight, weight);
            }
            Err(e) => {
                let _ = disk::remove_file(&tmp);
                if log.stale {
                    log.cannot(&e);
                } else {
                    // What is there is sound, only long; it is tried again when it has doubled.
                    (log.header.base, log.light) = (log.len, log.weight);
                }
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.log.release();
    }
}

/// The limit is durable before a number below it is given.
fn cover(log: &mut Log, path: &Path, last: u64) -> disk::Result<()> {
    let Some(file) = log.file.as_ref().filter(|_| last >= log.header.limit) else { return Ok(()) };
    let header = Header { limit: last.saturating_add(LEASE).min(MODSEQ_MAX), ..log.header };
    disk::overwrite_at(file, path, &header.bytes(), 0)?;
    disk::sync_data(file, path)?;
    log.header = header;
    Ok(())
}

/// The new file is locked before it has the name.
fn replace(path: &Path, tmp: &Path, header: &mut Header, blocks: &[u8]) -> disk::Result<File> {
    let mut file = disk::create_new(tmp, 0o600)?;
    disk::lock_file(&file, tmp)?;
    header.ino = disk::opened(&file, tmp)?.ino;
    disk::write_all(&mut file, tmp, &[&header.bytes()[..], blocks].concat())?;
    disk::sync(&file, tmp)?;
    disk::rename(tmp, path)?;
    disk::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(file)
}

fn blocks(log: &Log, gone: &[(u64, u32, u32)], messages: &mut Messages<'_>) -> (Vec<u8>, u64) {
    let mut weight = 0;
    let mut out = Writer::default();
    log.gaps.iter().for_each(|(after, before)| out.gap(*after, *before));
    // With nothing in it: so high the numbers are, even where nothing else says so.
    out.gap(log.last, log.last);
    gone.iter().for_each(|(modseq, first, last)| out.push(Entry { first: *first, last: *last, modseq: *modseq, what: What::Gone }));
    // Who was marked since is told of below; until then it is like its neighbours, so that runs stay long.
    let mut like = What::Arrived(Flags::default(), 0);
    messages(&mut |m| {
        if m.modseq == m.arrived {
            like = What::Arrived(m.flags, m.keywords);
        }
        weight += 1;
        out.push(Entry { first: m.uid, last: m.uid, modseq: m.arrived, what: like });
    });
    messages(&mut |m| {
        if m.modseq != m.arrived {
            weight += 1;
            out.push(Entry { first: m.uid, last: m.uid, modseq: m.modseq, what: What::Marked(m.flags, m.keywords) });
        }
    });
    out.next(log.next.0, log.next.1);
    (out.finish(), weight)
}
