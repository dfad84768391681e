//! `gatepost-index`: what a look at the whole folder would find, so that opening it reads one file and lists nothing.
//!
//! Disposable, and written without an fsync. It is believed only where the disk still bears it out: `new/` and `cur/`
//! have the ctimes that they had when they were read, well before the clock of that reading, and the UID list and
//! the keywords' files are the same. Where a directory changed, it is what the folder held before, and a new look is
//! compared with it. Where the UID list changed, that list alone says which UIDs there are, and the index only saves
//! opening files. Torn (a power cut), damaged, or of another version of this program, it is as if there were none.
//!
//! ```text
//! "gatepost-index\n" and the version of this format, 1 byte
//! length and CRC-32 of the header, 4 bytes each
//! the header: program version, boot, UID list, keywords, directories, counts, size and CRC-32 of what follows
//! 32 bytes for each message, UIDs ascending (`state`), and their names (`packed`)
//! ```
//! Numbers are little endian.

use super::{
    Counts, events,
    keywords::Saved as Keywords,
    ledger::{self, Saved as List},
    log,
    packed::PackedNames,
    scan,
    state::{RECORD, State},
    summary::Saved as Summaries,
};
use crate::disk::{self, Stat};
use std::path::Path;

pub(super) const NAME: &str = "gatepost-index";
const MAGIC: &[u8; 16] = b"gatepost-index\n\x01";
/// Before the header.
const FRONT: usize = MAGIC.len() + 8;
/// Read at first: enough for most headers.
const HEAD: u64 = 4096;
const HEADER_MAX: usize = 64 * 1024;
/// Some eight million messages.
const FILE_MAX: u64 = 512 << 20;

/// A file as it was: another one, and one that was written to, differ. The device has another number at every mount of
/// some file systems.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stamp {
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl From<Stat> for Stamp {
    fn from(s: Stat) -> Self {
        Self { ino: s.ino, size: s.size, mtime: s.mtime, ctime: s.ctime }
    }
}

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    disk::stat(path).ok().map(Stamp::from)
}

/// What can be said of a folder from its directories' times and its UID list alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// `recent`: in the index, how many files are in `new/`.
    pub counts: Counts,
    /// N of the UID list, which is durable.
    pub reserved: u32,
    pub list: Stamp,
    /// Inode and length of the change log.
    pub log: (u64, u64),
    /// The ctime of `new/`, and whether it was well in the past when that was read.
    pub new: (i64, bool),
    pub cur: (i64, bool),
}

impl Seen {
    /// The counts, if they still hold.
    pub(super) fn counts_if_unchanged(&self, dir: &Path) -> Option<Counts> {
        let (new, cur) = scan::times(dir).ok()?;
        let log = stamp(&dir.join(log::NAME)).map_or((0, 0), |s| (s.ino, s.size));
        let holds = self.new == (new, true) && self.cur == (cur, true) && log == self.log;
        (holds && stamp(&dir.join(ledger::NAME)) == Some(self.list)).then_some(self.counts)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Header {
    /// What was not fsynced by then may be lost in another.
    pub boot: Option<[u8; 16]>,
    pub seen: Seen,
    pub list: List,
    pub keywords: Keywords,
    pub summaries: Summaries,
    /// By bit.
    pub names: Vec<String>,
}

impl Header {
    /// The next UID: what was really given, unless the end of the UID list may have been lost with it.
    pub(super) fn next(&self) -> u32 {
        let next = self.seen.counts.uid_next;
        if self.boot.is_some() && self.boot == disk::boot_id() { next } else { next.max(self.seen.reserved) }
    }

    fn encode(&self, out: &mut Vec<u8>, body: &[u8]) {
        push_bytes(out, env!("CARGO_PKG_VERSION").as_bytes());
        push_option(out, self.boot.as_ref().map(|b| &b[..]), |out, b| out.extend_from_slice(b));
        let c = &self.seen.counts;
        for n in [c.messages, c.unseen, c.deleted, c.recent, c.uid_next, c.uid_validity, self.seen.reserved] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [c.size, c.highest_modseq, self.seen.log.0, self.seen.log.1] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        push_stamp(out, self.seen.list);
        for (time, settled) in [self.seen.new, self.seen.cur] {
            out.extend_from_slice(&time.to_le_bytes());
            out.push(settled.into());
        }
        push_bytes(out, &self.list.other);
        out.extend_from_slice(&self.list.lines.to_le_bytes());
        out.extend([u8::from(self.list.rewrite), u8::from(self.list.plain)]);
        push_option(out, self.keywords.dovecot, push_stamp);
        push_option(out, self.keywords.ours, push_stamp);
        out.extend_from_slice(&self.keywords.lines.to_le_bytes());
        for n in [self.summaries.id, self.summaries.end, self.summaries.records] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.push(u8::try_from(self.names.len()).unwrap_or(u8::MAX));
        self.names.iter().for_each(|n| push_bytes(out, n.as_bytes()));
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    }

    /// And the length and CRC of the body. `None`: another version, or nonsense.
    fn decode(bytes: &[u8]) -> Option<(Self, u64, u32)> {
        let mut from = Reader(bytes);
        if from.bytes()? != env!("CARGO_PKG_VERSION").as_bytes() {
            return None;
        }
        let mut header = Self { boot: from.option(|f| f.take().copied())?, ..Self::default() };
        let seen = &mut header.seen;
        let c = &mut seen.counts;
        for n in [&mut c.messages, &mut c.unseen, &mut c.deleted, &mut c.recent, &mut c.uid_next, &mut c.uid_validity, &mut seen.reserved] {
            *n = from.u32()?;
        }
        (c.size, c.highest_modseq) = (from.u64()?, from.u64()?);
        seen.log = (from.u64()?, from.u64()?);
        seen.list = from.stamp()?;
        for time in [&mut seen.new, &mut seen.cur] {
            *time = (from.u64()?.cast_signed(), from.flag()?);
        }
        header.list = List { other: from.bytes()?.to_vec(), lines: from.u64()?, rewrite: from.flag()?, plain: from.flag()? };
        header.keywords = Keywords { dovecot: from.option(Reader::stamp)?, ours: from.option(Reader::stamp)?, lines: from.u64()? };
        header.summaries = Summaries { id: from.u64()?, end: from.u64()?, records: from.u64()? };
        for _ in 0..from.take::<1>()?[0] {
            header.names.push(String::from_utf8(from.bytes()?.to_vec()).ok()?);
        }
        Some((header, from.u64()?, from.u32()?))
    }
}

/// A header that is whole, and what follows it.
pub(super) struct Index {
    pub header: Header,
    bytes: Vec<u8>,
    body: usize,
}

impl Index {
    /// All messages, as of that time, without mod-sequences. `None`: they are damaged, and only the header can be used.
    pub(super) fn state(&self) -> Option<State> {
        let body = self.bytes.get(self.body..)?;
        let (records, mut names) = body.split_at_checked((self.header.seen.counts.messages as usize).checked_mul(RECORD)?)?;
        let names = PackedNames::load(&mut names)?;
        State::restore(records, names)
    }
}

/// `None`: there is none that can be used.
pub(super) fn read(dir: &Path) -> Option<Index> {
    let path = dir.join(NAME);
    let bytes = match disk::read_bounded(&path, FILE_MAX) {
        Ok(bytes) => bytes,
        Err(e) => {
            if !e.is_not_found() {
                events::unreadable(&e);
            }
            return None;
        }
    };
    match front(&bytes) {
        Ok((header, body, len, crc)) => {
            let is_whole = |b: &[u8]| b.len() as u64 == len && crc32fast::hash(b) == crc;
            if bytes.get(body..).is_some_and(is_whole) {
                return Some(Index { header, body, bytes });
            }
            events::index_damaged(&path);
            Some(Index { header, body: 0, bytes: Vec::new() })
        }
        Err(Bad::Foreign) => None,
        Err(Bad::Damaged) => {
            events::index_damaged(&path);
            None
        }
    }
}

/// What STATUS needs, from the header alone.
pub(super) fn seen(dir: &Path) -> Option<Seen> {
    let path = dir.join(NAME);
    let mut head = disk::read_head(&path, HEAD).ok()?;
    if let Some(len) = header_len(&head).filter(|len| FRONT + len > head.len()) {
        head = disk::read_head(&path, (FRONT + len) as u64).ok()?;
    }
    let (header, ..) = front(&head).ok()?;
    let counts = Counts { uid_next: header.next(), ..header.seen.counts };
    Some(Seen { counts, ..header.seen })
}

enum Bad {
    /// Of another version.
    Foreign,
    Damaged,
}

fn header_len(bytes: &[u8]) -> Option<usize> {
    let len = Reader(bytes.get(MAGIC.len()..)?).u32()?;
    usize::try_from(len).ok().filter(|len| *len <= HEADER_MAX)
}

fn front(bytes: &[u8]) -> Result<(Header, usize, u64, u32), Bad> {
    // The version is behind the line, for whoever looks at the file.
    if bytes.starts_with(&MAGIC[..15]) && bytes.len() > FRONT && bytes[15] != MAGIC[15] {
        return Err(Bad::Foreign);
    }
    let len = header_len(bytes).filter(|_| bytes.starts_with(MAGIC)).ok_or(Bad::Damaged)?;
    let header = bytes.get(FRONT..FRONT + len).ok_or(Bad::Damaged)?;
    if Reader(&bytes[MAGIC.len() + 4..]).u32() != Some(crc32fast::hash(header)) {
        return Err(Bad::Damaged);
    }
    // Whole, and yet not as we write it.
    let (header, body_len, crc) = Header::decode(header).ok_or(Bad::Foreign)?;
    Ok((header, FRONT + len, body_len, crc))
}

/// The whole file. `None`: something is too long to be written.
pub(super) fn encode(header: &Header, state: &State) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    state.save(&mut body);
    let mut head = Vec::new();
    header.encode(&mut head, &body);
    if head.len() > HEADER_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(FRONT + head.len() + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(&body);
    Some(out)
}

pub(super) fn write(dir: &Path, bytes: &[u8]) -> disk::Result<()> {
    disk::replace_unsynced(&dir.join(NAME), bytes, 0o600)
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // More than a header can be long is refused there.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}
fn push_option<T>(out: &mut Vec<u8>, value: Option<T>, push: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        push(out, value);
    }
}
fn push_stamp(out: &mut Vec<u8>, s: Stamp) {
    for n in [s.ino, s.size, s.mtime.cast_unsigned(), s.ctime.cast_unsigned()] {
        out.extend_from_slice(&n.to_le_bytes());
    }
}

/// Takes what was pushed off the front.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(head)
    }
    pub(super) fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(|b| u32::from_le_bytes(*b))
    }
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(|b| u64::from_le_bytes(*b))
    }
    fn flag(&mut self) -> Option<bool> {
        self.take::<1>().map(|b| b[0] != 0)
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.slice(len as usize)
    }
    fn option<T>(&mut self, get: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { get(self).map(Some) } else { Some(None) }
    }
    fn stamp(&mut self) -> Option<Stamp> {
        let (ino, size) = (self.u64()?, self.u64()?);
        Some(Stamp { ino, size, mtime: self.u64()?.cast_signed(), ctime: self.u64()?.cast_signed() })
    }
}
