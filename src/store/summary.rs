//! Summaries (ENVELOPE and the like, opaque here): made once, kept in memory within a bound.

use super::{Folder, Result, Uid, lock};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Of the whole daemon.
const BYTES: usize = 8 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 128;

/// Least recently used goes first. The key: UIDVALIDITY and UID of one folder object.
#[derive(Default)]
pub(super) struct Cache {
    by_key: HashMap<Key, (u64, Arc<[u8]>)>,
    by_use: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

pub(super) type Key = (Arc<std::path::Path>, u32, u32);

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
        if self.by_key.contains_key(&key) || bytes.len() > BYTES / 8 {
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

impl Folder {
    /// Job. The summary, from memory, its file or made now.
    pub fn summary(&self, uid: Uid) -> Result<Option<Arc<[u8]>>> {
        let key = (self.dir(), lock(&self.state).validity, uid.0);
        if lock(&self.state).at(uid.0).is_none() {
            return Ok(None);
        }
        if let Some(known) = lock(&self.store.summaries).get(&key) {
            return Ok(Some(known));
        }
        let Some(message) = self.read(uid)? else { return Ok(None) };
        let made: Arc<[u8]> = (self.store.summarise)(&message).into();
        lock(&self.store.summaries).put(key, Arc::clone(&made));
        Ok(Some(made))
    }
}
