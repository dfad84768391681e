//! `gatepost-summaries`: what is known of messages without opening them, opaque here, beside the messages.
//!
//! It may be deleted at any time, and nothing in it is trusted that its CRC does not confirm. Records stand for
//! themselves and are only ever appended, each batch with one write, by whoever has made them: deliveries to folders
//! that nobody has open, several threads, another process. Where two writes went into one another (NFS) or a power cut
//! left half of one, the next record is found by its first bytes.
//!
//! A record: [`MAGIC`], length, key, CRC-32 of length, key and bytes (numbers little endian), bytes. The key is a hash
//! of the file name's base, because a delivery knows no UID. The first record has the key 0 and says in eight bytes
//! which file it is: places are good for that one only.

use super::events;
use crate::disk;
use memchr::memmem;
use std::{fs::File, io::Seek, ops::Range, os::unix::fs::FileExt, path::Path};

pub(super) const NAME: &str = "gatepost-summaries";
/// Longer ones are made each time; more than this is no summary.
pub(super) const LONGEST: usize = 256 * 1024;
/// The last is the version of this form.
const MAGIC: [u8; 4] = [0xf5, b'g', b's', 1];
const HEAD: usize = 20;
/// The first record, which says which file it is.
const FIRST: usize = HEAD + 8;
/// What is read at a time.
const PIECE: u64 = 1 << 20;
/// Damaged places in one reading. Somebody who writes such by the thousand shall not keep us at it.
const DAMAGES: usize = 100;
/// Summaries are read in one go when no more than this lies between their beginnings.
const GAP: u64 = 16 * 1024;
const RUN: u64 = 256 * 1024;
/// What is read behind the beginning of the last one.
const TAIL: u64 = 4096;

/// FNV-1a: the same in every version and on every machine.
pub(super) fn key(base: &[u8]) -> u64 {
    base.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Adds a record; false when it is too long for one.
pub(super) fn write(out: &mut Vec<u8>, key: u64, bytes: &[u8]) -> bool {
    let Some(len) = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LONGEST) else { return false };
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(&crc(len, key, bytes).to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

fn crc(len: u32, key: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len.to_le_bytes());
    crc.update(&key.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// What bytes begin with.
#[derive(Debug, PartialEq, Eq)]
enum Begins<'a> {
    Record {
        key: u64,
        bytes: &'a [u8],
    },
    /// With a record, but it goes on behind them.
    Part,
    Damage,
}

fn parse(bytes: &[u8]) -> Begins<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return if MAGIC.starts_with(&bytes[..bytes.len().min(4)]) { Begins::Part } else { Begins::Damage };
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3, k0, k1, k2, k3, k4, k5, k6, k7, c0, c1, c2, c3] = *head;
    let (len, key) = (u32::from_le_bytes([l0, l1, l2, l3]), u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7]));
    if [m0, m1, m2, m3] != MAGIC || len as usize > LONGEST {
        return Begins::Damage;
    }
    match rest.get(..len as usize) {
        None => Begins::Part,
        Some(bytes) if crc(len, key, bytes) == u32::from_le_bytes([c0, c1, c2, c3]) => Begins::Record { key, bytes },
        Some(_) => Begins::Damage,
    }
}

/// The file, open for reading.
pub(super) struct SummaryFile {
    file: File,
    /// Which one it is; never 0.
    pub(super) id: u64,
    /// When it was opened.
    pub(super) size: u64,
}

/// What a reading of it from somewhere on found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the next record begins, or will.
    pub(super) end: u64,
    pub(super) records: usize,
    /// Bytes that are no record, with records behind them.
    pub(super) damaged: u64,
}

/// Where the first record of a message is.
pub(super) const BEGIN: u64 = FIRST as u64;

impl SummaryFile {
    /// `None`: not there, or just being made, or none of ours, and then it is removed.
    pub(super) fn open(dir: &Path) -> Option<Self> {
        let path = dir.join(NAME);
        let (file, size) = disk::open_file(&path).ok()?;
        if size < BEGIN {
            return None;
        }
        let mut first = [0; FIRST];
        let read = file.read_exact_at(&mut first, 0);
        let id = match parse(&first) {
            Begins::Record { key: 0, bytes } if read.is_ok() => bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)),
            _ => 0,
        };
        if id == 0 {
            events::summaries_damaged(&path, size);
            let _ = disk::remove_file(&path);
        }
        (id != 0).then_some(Self { file, id, size })
    }

    /// Hands key and place of every record from `from` on to `each`. `None`: unreadable, or more damage than is worth it.
    pub(super) fn scan(&self, from: u64, mut each: impl FnMut(u64, u64)) -> Option<Scan> {
        let mut scan = Scan { end: from, ..Scan::default() };
        let (mut buffer, mut begin, mut damages) = (Vec::new(), from, 0);
        loop {
            let have = buffer.len();
            let more = PIECE.min(self.size.saturating_sub(begin + have as u64));
            buffer.resize(have + more as usize, 0);
            self.file.read_exact_at(buffer.get_mut(have..)?, begin + have as u64).ok()?;
            let mut at = 0;
            while let Some(rest) = buffer.get(at..).filter(|r| !r.is_empty()) {
                let place = begin + at as u64;
                match parse(rest) {
                    Begins::Record { key, bytes } => {
                        each(key, place);
                        at += HEAD + bytes.len();
                        scan.damaged += place - scan.end;
                        scan.end = begin + at as u64;
                        scan.records += 1;
                    }
                    Begins::Part if more > 0 => break,
                    // Half a record at the very end may be one that is just being written: it is not passed over.
                    Begins::Part | Begins::Damage => {
                        damages += 1;
                        if damages > DAMAGES {
                            return None;
                        }
                        let next = rest.get(1..).and_then(|r| memmem::find(r, &MAGIC)).map(|n| n + 1);
                        at += next.unwrap_or_else(|| rest.len().saturating_sub(MAGIC.len() - 1).max(1));
                    }
                }
            }
            if more == 0 {
                return Some(scan);
            }
            begin += at as u64;
            buffer.drain(..at);
        }
    }

    /// Reads what lies at these places, in this order, until `bytes` has grown beyond `max`: for each a range of `bytes`,
    /// or `None` where nothing is (no place, damage). Fewer ranges than places when it came to `max`.
    pub(super) fn read(&self, places: &[Option<u64>], max: usize, bytes: &mut Vec<u8>) -> Vec<Option<Range<usize>>> {
        let mut found = Vec::with_capacity(places.len());
        while let Some(left) = places.get(found.len()..).filter(|l| !l.is_empty() && bytes.len() <= max) {
            let Some(first) = left[0] else {
                found.push(None);
                continue;
            };
            // So many follow one another in the file.
            let mut last = first;
            let mut follows = |place: &&Option<u64>| match **place {
                Some(p) if p < last || p - last > GAP || p - first > RUN => false,
                Some(p) => {
                    last = p;
                    true
                }
                None => true,
            };
            let count = left.iter().take_while(|p| follows(p)).count();
            let begin = bytes.len();
            let len = (last + TAIL).min(self.size).saturating_sub(first);
            bytes.resize(begin + len as usize, 0);
            if self.file.read_exact_at(&mut bytes[begin..], first).is_err() {
                bytes.truncate(begin);
            }
            let end = bytes.len();
            for place in &left[..count] {
                found.push(place.and_then(|p| self.one(bytes, begin + (p - first) as usize..end, p)));
            }
        }
        found
    }

    /// The record at `place`, which was read to this range of `bytes`, if not further than that.
    fn one(&self, bytes: &mut Vec<u8>, read: Range<usize>, place: u64) -> Option<Range<usize>> {
        match parse(bytes.get(read.clone())?) {
            Begins::Record { bytes: summary, .. } => Some(read.start + HEAD..read.start + HEAD + summary.len()),
            Begins::Damage => None,
            Begins::Part => {
                let len = (self.size.saturating_sub(place) as usize).min(HEAD + LONGEST);
                let begin = bytes.len();
                bytes.resize(begin + len, 0);
                self.file.read_exact_at(&mut bytes[begin..], place).ok()?;
                let Begins::Record { bytes: summary, .. } = parse(&bytes[begin..]) else { return None };
                let range = begin + HEAD..begin + HEAD + summary.len();
                bytes.truncate(range.end);
                Some(range)
            }
        }
    }

    /// A new file in its place, with only these records.
    pub(super) fn rewrite(&self, dir: &Path, places: &[Option<u64>]) -> disk::Result<Rewritten> {
        let (path, tmp) = (dir.join(NAME), dir.join(format!(".{NAME}.{:016x}.tmp", disk::unique())));
        let mut file = disk::create_new(&tmp, 0o600)?;
        let done = self.copy_to(&mut file, &tmp, places).and_then(|new| disk::rename(&tmp, &path).map(|()| new));
        if done.is_err() {
            let _ = disk::remove_file(&tmp);
            return done;
        }
        // Written by others meanwhile; what is lost of it is made anew.
        let late = self.file.metadata().map_or(0, |m| m.len()).saturating_sub(self.size).min(PIECE);
        let mut bytes = vec![0; late as usize];
        if late > 0 && self.file.read_exact_at(&mut bytes, self.size).is_ok() {
            let _ = disk::write_all(&mut file, &path, &bytes);
        }
        done
    }

    fn copy_to(&self, file: &mut File, path: &Path, places: &[Option<u64>]) -> disk::Result<Rewritten> {
        let (id, mut out) = first_record();
        let mut new = Rewritten { id, end: 0, places: Vec::with_capacity(places.len()) };
        let mut bytes = Vec::new();
        while let Some(left) = places.get(new.places.len()..).filter(|l| !l.is_empty()) {
            bytes.clear();
            for range in self.read(left, PIECE as usize, &mut bytes) {
                let record = range.and_then(|r| bytes.get(r.start.checked_sub(HEAD)?..r.end));
                new.places.push(record.map(|_| new.end + out.len() as u64));
                out.extend_from_slice(record.unwrap_or_default());
            }
            disk::write_all(file, path, &out)?;
            new.end += out.len() as u64;
            out.clear();
        }
        disk::write_all(file, path, &out)?;
        new.end += out.len() as u64;
        Ok(new)
    }
}

/// A file written anew.
pub(super) struct Rewritten {
    pub(super) id: u64,
    pub(super) end: u64,
    /// In the order of those it was made of; `None` for what could not be read.
    pub(super) places: Vec<Option<u64>>,
}

/// Which file it is, and the record that says so.
fn first_record() -> (u64, Vec<u8>) {
    let (id, mut record) = (disk::unique().max(1), Vec::new());
    write(&mut record, 0, &id.to_le_bytes());
    (id, record)
}

/// Where records went.
pub(super) struct Appended {
    /// Of the first of them.
    pub(super) at: u64,
    /// Which file it is, if it was made for them.
    pub(super) id: Option<u64>,
}

/// One write. Not fsynced: what a power cut takes away is made anew.
pub(super) fn append(dir: &Path, records: &[u8]) -> disk::Result<Appended> {
    let path = dir.join(NAME);
    let mut file = disk::append(&path, 0o600)?;
    let known = file.metadata().map_err(|e| disk::Error::new("stat", &path, e))?;
    if !known.is_file() {
        // A pipe would keep us.
        return Err(disk::Error::new("append to", &path, std::io::ErrorKind::InvalidInput.into()));
    }
    let id = if known.len() == 0 {
        let (id, mut all) = first_record();
        all.extend_from_slice(records);
        disk::write_all(&mut file, &path, &all)?;
        Some(id)
    } else {
        disk::write_all(&mut file, &path, records)?;
        None
    };
    let end = file.stream_position().map_err(|e| disk::Error::new("append to", &path, e))?;
    Ok(Appended { at: end - records.len() as u64, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;
    use std::{collections::BTreeMap, path::PathBuf};

    struct Folder(scratch::Dir);

    impl Folder {
        fn new(what: &str) -> Self {
            Self(scratch::Dir::new(what))
        }
        fn path(&self) -> PathBuf {
            self.0.path().join(NAME)
        }
        fn append(&self, all: &[(&str, &[u8])]) {
            let mut records = Vec::new();
            for (base, bytes) in all {
                assert!(write(&mut records, key(base.as_bytes()), bytes));
            }
            append(self.0.path(), &records).unwrap();
        }
        /// Key to summary, as somebody sees it who opens the file now.
        fn all(&self) -> BTreeMap<u64, Vec<u8>> {
            let Some(file) = SummaryFile::open(self.0.path()) else { return BTreeMap::new() };
            let mut keys = Vec::new();
            if file.scan(BEGIN, |key, place| keys.push((key, Some(place)))).is_none() {
                return BTreeMap::new();
            }
            let (mut bytes, places) = (Vec::new(), keys.iter().map(|(_, p)| *p).collect::<Vec<_>>());
            let found = file.read(&places, usize::MAX, &mut bytes);
            keys.iter().zip(found).map(|((key, _), range)| (*key, bytes[range.unwrap()].to_vec())).collect()
        }
        fn get(&self, base: &str) -> Option<Vec<u8>> {
            self.all().remove(&key(base.as_bytes()))
        }
    }

    #[test]
    fn keys_stay_what_they_are() {
        assert_eq!([key(b""), key(b"a"), key(b"foobar")], [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]);
    }

    #[test]
    fn what_is_damaged_is_passed_over_and_no_more() {
        let f = Folder::new("damage");
        let texts: [(&str, &[u8]); 3] = [("one", b"first"), ("two", b""), ("three", b"third")];
        texts.iter().for_each(|t| f.append(&[*t]));
        let whole = std::fs::read(f.path()).unwrap();
        assert_eq!(f.all().len(), 3);
        let ends: Vec<usize> = [0, HEAD + 5, 2 * HEAD + 5, 3 * HEAD + 10].map(|n| FIRST + n).into();
        for cut in 0..whole.len() {
            std::fs::write(f.path(), &whole[..cut]).unwrap();
            let there = if cut < FIRST { 0 } else { ends.iter().skip(1).filter(|e| **e <= cut).count() };
            assert_eq!(f.all().len(), there, "cut at {cut}");
            // What comes behind half a record is found.
            f.append(&[("four", b"fourth")]);
            let then = f.all();
            assert!(cut < FIRST && cut > 0 || then[&key(b"four")] == b"fourth", "cut at {cut}");
            assert!(texts.iter().take(there).all(|(base, text)| then[&key(base.as_bytes())] == *text));
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(f.path(), &bytes).unwrap();
            let there = f.all();
            let expect = if at < FIRST { 0 } else { 2 };
            assert_eq!((there.len(), f.path().exists()), (expect, at >= FIRST), "flipped at {at}");
            assert!(there.iter().all(|(k, text)| texts.iter().any(|(b, t)| key(b.as_bytes()) == *k && t == text)));
        }
        std::fs::write(f.path(), b"gatepost-summaries 1 7 0.1.0\n and what an earlier program wrote").unwrap();
        assert!(f.all().is_empty() && !f.path().exists());
    }

    #[test]
    fn a_file_full_of_false_beginnings_does_not_keep_us() {
        let f = Folder::new("false");
        f.append(&[("one", b"first")]);
        let mut bytes = std::fs::read(f.path()).unwrap();
        let mut lie = MAGIC.to_vec();
        lie.extend_from_slice(&u32::try_from(LONGEST).unwrap().to_le_bytes());
        bytes.extend(lie.iter().cycle().take(4 << 20));
        std::fs::write(f.path(), bytes).unwrap();
        let file = SummaryFile::open(f.0.path()).unwrap();
        assert_eq!(file.scan(BEGIN, |_, _| {}), None);
    }

    #[test]
    fn many_at_a_time_from_several_hands() {
        let f = Folder::new("many");
        std::thread::scope(|s| {
            for thread in 0..4u8 {
                let f = &f;
                s.spawn(move || {
                    for n in 0..100usize {
                        let text = vec![thread; n * 100];
                        f.append(&[(&format!("{thread}.{n}"), &text), (&format!("{thread}.{n}.short"), b"x")]);
                    }
                });
            }
        });
        let all = f.all();
        assert!((800..=804).contains(&all.len()), "{}: whoever thought himself first wrote what file it is", all.len());
        for thread in 0..4u8 {
            assert!((0..100usize).all(|n| all[&key(format!("{thread}.{n}").as_bytes())] == vec![thread; n * 100]));
        }
    }

    #[test]
    fn places_in_any_order_and_records_of_any_length() {
        let f = Folder::new("places");
        let text = |n: usize| vec![n as u8; [0, 3, 700, 5000, 70_000, LONGEST][n % 6]];
        for n in 0..60 {
            f.append(&[(&n.to_string(), &text(n))]);
        }
        assert!(!write(&mut Vec::new(), 1, &vec![0; LONGEST + 1]));
        let file = SummaryFile::open(f.0.path()).unwrap();
        let mut places = Vec::new();
        let scan = file.scan(BEGIN, |_, place| places.push(Some(place))).unwrap();
        assert_eq!((scan.records, scan.end, scan.damaged), (60, file.size, 0));
        let check = |order: &[usize], places: &[Option<u64>]| {
            let mut bytes = Vec::new();
            let found = file.read(places, usize::MAX, &mut bytes);
            assert_eq!(found.len(), order.len());
            assert!(found.into_iter().zip(order).all(|(range, n)| bytes[range.unwrap()] == text(*n)));
        };
        let order: Vec<usize> = (0..60).map(|n| n * 37 % 60).collect();
        check(&(0..60).collect::<Vec<_>>(), &places);
        check(&order, &order.iter().map(|n| places[*n]).collect::<Vec<_>>());
        // Wrong ones, and no more than fits.
        let mut bytes = Vec::new();
        let wrong = [None, Some(BEGIN + 1), Some(file.size), Some(1 << 39), places[1], None, places[2]];
        let found: Vec<bool> = file.read(&wrong, usize::MAX, &mut bytes).iter().map(Option::is_some).collect();
        assert_eq!(found, [false, false, false, false, true, false, true]);
        assert!(file.read(&places, 100_000, &mut Vec::new()).len() < 60);
        // Written anew with every second one.
        let some: Vec<Option<u64>> = places.iter().enumerate().map(|(n, p)| p.filter(|_| n % 2 == 0)).collect();
        f.append(&[("late", b"come while it was written")]);
        let new = file.rewrite(f.0.path(), &some).unwrap();
        assert_eq!(new.places.iter().filter(|p| p.is_some()).count(), 30);
        assert_eq!(f.all().len(), 31);
        assert_eq!(f.get("late").as_deref(), Some(&b"come while it was written"[..]));
        let file = SummaryFile::open(f.0.path()).unwrap();
        assert_eq!((file.id, file.size > new.end), (new.id, true));
        let mut bytes = Vec::new();
        for (n, range) in file.read(&new.places, usize::MAX, &mut bytes).into_iter().enumerate() {
            assert_eq!(range.map(|r| bytes[r].to_vec()), (n % 2 == 0).then(|| text(n)));
        }
    }
}
