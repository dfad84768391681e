//! Summaries (ENVELOPE and the like, opaque here): made once per message, kept in memory within a bound, and in
//! `gatepost-summaries` beside the messages.
//!
//! That file may be deleted at any time. A line `gatepost-summaries 1 UIDVALIDITY VERSION`, then records appended as
//! they are asked for: UID, length, CRC-32 (little endian, 4 bytes each) and the bytes. Another UIDVALIDITY or
//! another version of this program begins it anew. Nothing in it is trusted that its CRC does not confirm.

use super::{Folder, Result, Uid, lock};
use crate::disk;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

const NAME: &str = "gatepost-summaries";
/// In memory, of the whole daemon.
const BYTES: usize = 8 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 128;
/// Longer ones are made each time; more than this is no summary.
const LONGEST: usize = 256 * 1024;
const HEAD: u64 = 12;

/// Least recently used goes first.
#[derive(Default)]
pub(super) struct Cache {
    by_key: HashMap<Key, (u64, Arc<[u8]>)>,
    by_use: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

/// Directory, UIDVALIDITY, UID.
type Key = (Arc<Path>, u32, u32);

impl Cache {
    fn get(&mut self, key: &Key) -> Option<Arc<[u8]>> {
        let (used, bytes) = self.by_key.get_mut(key)?;
        self.clock += 1;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, key.clone());
        Some(Arc::clone(bytes))
    }
    fn put(&mut self, key: Key, bytes: Arc<[u8]>) {
        if self.by_key.contains_key(&key) || bytes.len() > LONGEST {
            return;
        }
        self.clock += 1;
        self.bytes += bytes.len() + OVERHEAD;
        self.by_use.insert(self.clock, key.clone());
        self.by_key.insert(key, (self.clock, bytes));
        while self.bytes > BYTES {
            let Some((_, key)) = self.by_use.pop_first() else { return };
            if let Some((_, bytes)) = self.by_key.remove(&key) {
                self.bytes -= bytes.len() + OVERHEAD;
            }
        }
    }
}

/// Where in a folder's file they lie; read at the first question.
#[derive(Default)]
pub(super) struct Book {
    validity: u32,
    /// Length, and offset of the bytes, by UID. In whatever order a client asks, none costs more than another.
    places: BTreeMap<u32, (u32, u64)>,
    end: u64,
}

fn header(validity: u32) -> String {
    format!("{NAME} 1 {validity} {}\n", env!("CARGO_PKG_VERSION"))
}

impl Book {
    /// An unreadable or foreign file is an empty book. `is_there` says which messages are.
    fn load(&mut self, dir: &Path, validity: u32, is_there: impl Fn(u32) -> bool) {
        *self = Self { validity, ..Self::default() };
        let path = dir.join(NAME);
        let Ok(file) = disk::open(&path) else { return };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut line = String::new();
        if reader.by_ref().take(200).read_line(&mut line).is_err() || line != header(validity) {
            let _ = disk::remove_file(&path);
            return;
        }
        self.end = line.len() as u64;
        let mut dead = 0;
        let mut head = [0; HEAD as usize];
        while reader.read_exact(&mut head).is_ok() {
            let (uid, len, _) = parse_head(head);
            // Half a record at the end, or damage: what follows cannot be found.
            if len as usize > LONGEST || reader.seek_relative(i64::from(len)).is_err() {
                break;
            }
            if is_there(uid) {
                self.places.insert(uid, (len, self.end + HEAD));
            } else {
                dead += 1;
            }
            self.end += HEAD + u64::from(len);
        }
        if dead > 1000 && dead > self.places.len() {
            // Mostly of messages that are gone; the others are made again when asked for.
            let _ = disk::remove_file(&path);
            *self = Self { validity, ..Self::default() };
        }
    }

    fn get(&self, dir: &Path, uid: u32) -> Option<Vec<u8>> {
        let (len, at) = *self.places.get(&uid)?;
        let file = disk::open(&dir.join(NAME)).ok()?;
        let mut bytes = vec![0; HEAD as usize + len as usize];
        file.read_exact_at(&mut bytes, at - HEAD).ok()?;
        let (head, body) = bytes.split_first_chunk()?;
        (parse_head(*head) == (uid, len, crc32(body))).then(|| body.to_vec())
    }

    /// Failing leaves the file as it was.
    fn put(&mut self, dir: &Path, uid: u32, bytes: &[u8]) -> disk::Result<()> {
        let Some(len) = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LONGEST) else { return Ok(()) };
        let path = dir.join(NAME);
        let mut file = disk::append(&path, 0o600)?;
        let mut record = Vec::new();
        // Behind a torn record nothing could be found again, and a second daemon may have written.
        disk::truncate(&file, &path, self.end.min(size(&file)))?;
        if self.end == 0 || size(&file) < self.end {
            disk::truncate(&file, &path, 0)?;
            self.places.clear();
            record.extend_from_slice(header(self.validity).as_bytes());
        }
        let before = size(&file);
        let at = before + record.len() as u64 + HEAD;
        for n in [uid, len, crc32(bytes)] {
            record.extend_from_slice(&n.to_le_bytes());
        }
        record.extend_from_slice(bytes);
        if let Err(e) = disk::write_all(&mut file, &path, &record) {
            let _ = disk::truncate(&file, &path, before);
            return Err(e);
        }
        self.places.insert(uid, (len, at));
        self.end = before + record.len() as u64;
        Ok(())
    }
}

fn size(file: &File) -> u64 {
    file.metadata().map_or(0, |m| m.len())
}

fn parse_head(head: [u8; HEAD as usize]) -> (u32, u32, u32) {
    let n = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    (n(0), n(4), n(8))
}

/// As in zip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut c, mut bit) = (n as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ c >> 1 } else { c >> 1 };
                bit += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |c, b| TABLE[((c ^ u32::from(*b)) & 0xff) as usize] ^ c >> 8)
}

impl Folder {
    /// Job. The summary, from memory, its file or made now.
    pub fn summary(&self, uid: Uid) -> Result<Option<Arc<[u8]>>> {
        let dir = self.dir();
        let validity = lock(&self.state).validity;
        if lock(&self.state).at(uid.0).is_none() {
            return Ok(None);
        }
        let key = (Arc::clone(&dir), validity, uid.0);
        if let Some(known) = lock(&self.store.summaries).get(&key) {
            return Ok(Some(known));
        }
        let filed = {
            let mut book = lock(&self.summaries);
            if book.validity != validity {
                book.load(&dir, validity, |uid| lock(&self.state).at(uid).is_some());
            }
            book.get(&dir, uid.0)
        };
        let bytes: Arc<[u8]> = match filed {
            Some(bytes) => bytes.into(),
            None => {
                let Some(message) = self.read(uid)? else { return Ok(None) };
                let made = (self.store.summarise)(&message);
                if let Err(e) = lock(&self.summaries).put(&dir, uid.0, &made) {
                    super::events::summary_not_stored(&e);
                }
                made.into()
            }
        };
        lock(&self.store.summaries).put(key, Arc::clone(&bytes));
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch;

    #[test]
    fn what_is_damaged_is_not_believed() {
        let dir = scratch::Dir::new("summaries");
        let path = dir.path().join(NAME);
        let load = |validity| {
            let mut book = Book::default();
            book.load(dir.path(), validity, |_| true);
            book
        };
        let all = |book: &Book| [1, 2, 3].map(|uid| book.get(dir.path(), uid).map(|b| String::from_utf8(b).unwrap()));
        let some = |s: &str| Some(s.to_owned());
        let mut book = load(7);
        for (uid, text) in [(3, "three"), (1, "one"), (2, "")] {
            book.put(dir.path(), uid, text.as_bytes()).unwrap();
        }
        assert_eq!(all(&book), [some("one"), some(""), some("three")]);
        assert_eq!(all(&load(7)), [some("one"), some(""), some("three")]);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut book = load(7);
            book.put(dir.path(), 2, b"two").unwrap();
            let [one, two, three] = all(&load(7));
            assert_eq!(two, some("two"), "cut at {cut}");
            assert!(one.is_none_or(|s| s == "one") && three.is_none_or(|s| s == "three"));
        }
        for flip in header(7).len()..whole.len() {
            let mut bytes = whole.clone();
            bytes[flip] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            let [one, two, three] = all(&load(7));
            assert!(one.is_none_or(|s| s == "one") && two.is_none_or(|s| s.is_empty()) && three.is_none_or(|s| s == "three"));
        }
        assert_eq!(all(&load(8)), [None, None, None], "another UIDVALIDITY");
        assert!(!path.exists());
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn memory_is_bounded() {
        let mut cache = Cache::default();
        let dir: Arc<Path> = Path::new("x").into();
        for uid in 0..1000 {
            cache.put((Arc::clone(&dir), 1, uid), vec![0; 100_000].into());
            assert!(cache.bytes <= BYTES);
            assert!(cache.get(&(Arc::clone(&dir), 1, 0)).is_some(), "used all the time");
        }
        assert_eq!(cache.by_key.len(), cache.by_use.len());
    }
}
