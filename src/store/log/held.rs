//! What is done while the log is locked: appending, and writing all of it anew.

use super::{
    LEASE, Log, NAME, SLACK,
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

/// The messages and what is remembered of others, for a log written anew.
pub(in crate::store) struct Whole<M, G> {
    /// UIDs ascending.
    pub messages: M,
    /// What went away, in the order in which it did: mod-sequence, first, last.
    pub gone: G,
    /// Of what went away at or before this, some is not in `gone`.
    pub floor: u64,
    pub modseq: u64,
    /// The next UID, and N of the UID list.
    pub next: (u32, u32),
}

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

/// The log, locked.
pub(in crate::store) struct Held<'a> {
    pub(super) log: &'a mut Log,
    pub(super) path: PathBuf,
}

impl Held<'_> {
    pub(in crate::store) fn last(&self) -> u64 {
        self.log.last
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

    /// There is more in it than is worth keeping, or it cannot be appended to.
    pub(in crate::store) fn wants_rewrite(&self) -> bool {
        self.log.stale || self.log.len > self.log.header.base.saturating_mul(2).saturating_add(SLACK)
    }

    /// Writes the log anew, durable. Failing costs history after a restart, no more; it is tried again with the next change.
    pub(in crate::store) fn rewrite<M, G>(&mut self, whole: Whole<M, G>)
    where
        M: Iterator<Item = Live> + Clone,
        G: Iterator<Item = (u64, u32, u32)>,
    {
        let log = &mut *self.log;
        log.last = log.last.max(whole.modseq);
        log.note(Item::Next(whole.next.0, whole.next.1));
        let mut header = Header {
            limit: log.header.limit.max(log.last.saturating_add(LEASE)).min(MODSEQ_MAX),
            floor: whole.floor,
            boot: disk::boot_id().unwrap_or([0xff; 16]),
            ..log.header
        };
        let tmp = self.path.with_file_name(format!(".{NAME}.{:016x}.tmp", disk::unique()));
        let blocks = blocks(log, whole);
        header.base = (HEADER + blocks.len()) as u64;
        match replace(&self.path, &tmp, &mut header, &blocks) {
            Ok(file) => {
                if let Some(old) = log.file.replace(file) {
                    // A backup may hold another name of it, so that who has it open would not see that it is the old one.
                    let dead = Header { validity: 0, boot: [0; 16], ..log.header };
                    let _ = disk::overwrite_at(&old, &self.path, &dead.bytes(), 0);
                }
                (log.len, log.header, log.stale, log.failed) = (header.base, header, false, false);
            }
            Err(e) => {
                let _ = disk::remove_file(&tmp);
                if log.stale {
                    log.cannot(&e);
                } else {
                    // What is there is sound, only long; it is tried again when it has doubled.
                    log.header.base = log.len;
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

fn blocks<M, G>(log: &Log, whole: Whole<M, G>) -> Vec<u8>
where
    M: Iterator<Item = Live> + Clone,
    G: Iterator<Item = (u64, u32, u32)>,
{
    let mut out = Writer::default();
    log.gaps.iter().for_each(|(after, before)| out.gap(*after, *before));
    // With nothing in it: so high the numbers are, even where nothing else says so.
    out.gap(log.last, log.last);
    whole.gone.for_each(|(modseq, first, last)| out.push(Entry { first, last, modseq, what: What::Gone }));
    // Who was marked since is told of below; until then it is like its neighbours, so that runs stay long.
    let mut like = What::Arrived(Flags::default(), 0);
    for m in whole.messages.clone() {
        if m.modseq == m.arrived {
            like = What::Arrived(m.flags, m.keywords);
        }
        out.push(Entry { first: m.uid, last: m.uid, modseq: m.arrived, what: like });
    }
    for m in whole.messages.filter(|m| m.modseq != m.arrived) {
        out.push(Entry { first: m.uid, last: m.uid, modseq: m.modseq, what: What::Marked(m.flags, m.keywords) });
    }
    out.next(log.next.0, log.next.1);
    out.finish()
}
