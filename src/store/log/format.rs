//! The bytes of `gatepost-log`: a header, then blocks, each with its checksum.
//!
//! ```text
//! header   magic, UIDVALIDITY u32, 0 u32, limit u64, floor u64, boot id, inode u64, base u64, 0 u32, CRC-32 u32 (little endian)
//! block    length u32, CRC-32 of the payload u32, payload
//! payload  mod-sequence varint, entries
//! entry    head u8, and what it says follows, as varints (differences zigzag):
//!          how many more UIDs | first UID less the one after the last entry's | mod-sequence less the last entry's | flags u8 | keywords
//! ```
//! What 200,000 messages have in common is one entry of some ten bytes; a message on its own costs two to twelve.

use crate::store::{Flags, KeywordBits};

/// The last byte is the version.
const MAGIC: &[u8; 8] = b"gplog\0\0\x01";
pub(super) const HEADER: usize = 72;
const BLOCK_HEAD: usize = 8;
/// Where a new block begins when much is written.
const BLOCK: usize = 64 << 10;
/// No block is longer; what says so is damaged.
const BLOCK_MAX: usize = 1 << 20;
/// What a client has to understand is 63 bits (RFC 7162 §7); nothing ever comes near.
pub(in crate::store) const MODSEQ_MAX: u64 = u64::MAX >> 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Header {
    pub validity: u32,
    /// Durable, and above every mod-sequence given.
    pub limit: u64,
    /// Of what was expunged at or before this, some is not written here.
    pub floor: u64,
    /// During which boot it was written; zero when something is missing in it.
    pub boot: [u8; 16],
    /// A file that was restored or copied has another.
    pub ino: u64,
    /// Its length when it was written whole.
    pub base: u64,
}

impl Header {
    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.validity.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.limit.to_le_bytes());
        out.extend_from_slice(&self.floor.to_le_bytes());
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.ino.to_le_bytes());
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        let mut bytes = [0; HEADER];
        bytes.copy_from_slice(&out);
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes.get(..HEADER)?);
        let sum = crc32fast::hash(&bytes[..HEADER - 4]);
        (&r.array::<8>()? == MAGIC).then_some(())?;
        let validity = r.u32()?;
        r.u32()?;
        let (limit, floor) = (r.u64()?, r.u64()?);
        let header = Self { validity, limit, floor, boot: r.array()?, ino: r.u64()?, base: r.u64()? };
        r.u32()?;
        (r.u32()? == sum && limit <= MODSEQ_MAX && floor <= MODSEQ_MAX).then_some(header)
    }
}

/// What happened to some messages with neighbouring UIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Entry {
    pub first: u32,
    /// Not below `first`.
    pub last: u32,
    pub modseq: u64,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum What {
    /// They came, with these.
    Arrived(Flags, KeywordBits),
    /// They have these from now on.
    Marked(Flags, KeywordBits),
    Gone,
}

/// All that a log tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    Entry(Entry),
    /// Mod-sequences between these two were given, and what for is lost.
    Gap(u64, u64),
    /// The next UID, and the N of the UID list at that time.
    Next(u32, u32),
}

const KIND: u8 = 3;
const ARRIVED: u8 = 0;
const MARKED: u8 = 1;
const GONE: u8 = 2;
const RANGE: u8 = 4;
const APART: u8 = 8;
const LATER: u8 = 16;
const FLAGS: u8 = 32;
const KEYWORDS: u8 = 64;
const KNOWN: u8 = 127;
const NEXT: u8 = 3;
const GAP: u8 = 3 | RANGE;

/// Makes blocks of items. Neighbours that agree become one entry.
#[derive(Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    payload: Vec<u8>,
    run: Option<Entry>,
    /// The UID after the last entry's, and its mod-sequence.
    uid: u32,
    modseq: u64,
}

impl Writer {
    pub(super) fn push(&mut self, e: Entry) {
        match &mut self.run {
            Some(run) if run.last.checked_add(1) == Some(e.first) && (run.modseq, run.what) == (e.modseq, e.what) => run.last = e.last,
            run => {
                if let Some(done) = run.replace(e) {
                    self.entry(&done);
                }
            }
        }
    }
    pub(super) fn gap(&mut self, after: u64, before: u64) {
        self.other(GAP, after, before.saturating_sub(after));
    }
    pub(super) fn next(&mut self, next: u32, list: u32) {
        self.other(NEXT, next.into(), list.into());
    }
    /// The blocks.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_run();
        self.end_block();
        self.out
    }

    fn other(&mut self, head: u8, a: u64, b: u64) {
        self.end_run();
        self.begin_block(0);
        self.payload.push(head);
        put(&mut self.payload, a);
        put(&mut self.payload, b);
    }
    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.entry(&run);
        }
    }
    fn begin_block(&mut self, modseq: u64) {
        if self.payload.len() >= BLOCK {
            self.end_block();
        }
        if self.payload.is_empty() {
            put(&mut self.payload, modseq);
            (self.uid, self.modseq) = (0, modseq);
        }
    }
    fn end_block(&mut self) {
        if self.payload.is_empty() {
            return;
        }
        self.out.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.out.extend_from_slice(&crc32fast::hash(&self.payload).to_le_bytes());
        self.out.append(&mut self.payload);
    }

    fn entry(&mut self, e: &Entry) {
        self.begin_block(e.modseq);
        let (kind, flags, keywords) = match e.what {
            What::Arrived(f, k) => (ARRIVED, f.0, k),
            What::Marked(f, k) => (MARKED, f.0, k),
            What::Gone => (GONE, 0, 0),
        };
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let (range, apart, later) = (e.last > e.first, e.first != self.uid, e.modseq != self.modseq);
        let out = &mut self.payload;
        out.push(kind | bit(range, RANGE) | bit(apart, APART) | bit(later, LATER) | bit(flags != 0, FLAGS) | bit(keywords != 0, KEYWORDS));
        if range {
            put(out, (e.last - e.first).into());
        }
        if apart {
            put(out, zigzag(i64::from(e.first) - i64::from(self.uid)));
        }
        if later {
            put(out, zigzag(e.modseq.wrapping_sub(self.modseq) as i64));
        }
        if flags != 0 {
            out.push(flags);
        }
        if keywords != 0 {
            put(out, keywords);
        }
        (self.uid, self.modseq) = (e.last.wrapping_add(1), e.modseq);
    }
}

/// Hands on every item of the blocks up to the first that is damaged, and says how far that is: the length of `blocks`
/// when nothing is. A block counts as a whole or not at all.
pub(super) fn parse(blocks: &[u8], each: &mut dyn FnMut(Item)) -> usize {
    let mut at = 0;
    while let Some(payload) = block(&blocks[at..]) {
        if items(payload, &mut |_| ()).is_none() {
            break;
        }
        let _ = items(payload, each);
        at += BLOCK_HEAD + payload.len();
    }
    at
}

fn block(bytes: &[u8]) -> Option<&[u8]> {
    let mut r = Reader(bytes);
    let (len, sum) = (r.u32()? as usize, r.u32()?);
    let payload = r.0.get(..len).filter(|p| !p.is_empty() && p.len() <= BLOCK_MAX)?;
    (crc32fast::hash(payload) == sum).then_some(payload)
}

fn items(payload: &[u8], each: &mut dyn FnMut(Item)) -> Option<()> {
    let mut r = Reader(payload);
    let (mut uid, mut modseq) = (0u32, r.varint()?);
    while let Some((head, rest)) = r.0.split_first() {
        r.0 = rest;
        match *head {
            NEXT => {
                let (next, list) = (r.varint()?, r.varint()?);
                each(Item::Next(u32::try_from(next).ok()?, u32::try_from(list).ok()?));
            }
            GAP => {
                let (after, len) = (r.varint()?, r.varint()?);
                each(Item::Gap(after, after.checked_add(len).filter(|b| *b <= MODSEQ_MAX)?));
            }
            head if head & !KNOWN == 0 && head & KIND <= GONE => {
                let has = |bit: u8| head & bit != 0;
                let more = if has(RANGE) { r.varint()? } else { 0 };
                if has(APART) {
                    uid = u32::try_from(i64::from(uid).checked_add(unzigzag(r.varint()?))?).ok()?;
                }
                if has(LATER) {
                    modseq = modseq.checked_add_signed(unzigzag(r.varint()?))?;
                }
                let flags = if has(FLAGS) { r.array::<1>()?[0] } else { 0 };
                let keywords = if has(KEYWORDS) { r.varint()? } else { 0 };
                let last = uid.checked_add(u32::try_from(more).ok()?)?;
                let what = match head & KIND {
                    ARRIVED => What::Arrived(Flags(flags), keywords),
                    MARKED => What::Marked(Flags(flags), keywords),
                    _ => What::Gone,
                };
                if uid == 0 || modseq > MODSEQ_MAX {
                    return None;
                }
                each(Item::Entry(Entry { first: uid, last, modseq, what }));
                uid = last.wrapping_add(1);
            }
            _ => return None,
        }
    }
    Some(())
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}
fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn varint(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let [b] = self.array()?;
            let bits = u64::from(b & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            n |= bits << shift;
            if b & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }
}
