//! The names that a reading of a folder's directories found, by their bases.
//!
//! A reading of 200,000 names makes three allocations that grow, not as many as there are names: faster, and the
//! memory goes back to the system when the look is over.

use super::file;
use std::hash::{BuildHasher, RandomState};

/// A file in `new/` or `cur/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub name: Box<[u8]>,
    pub is_new: bool,
}

#[derive(Default)]
pub(super) struct Names {
    /// One after another.
    text: Vec<u8>,
    all: Vec<Entry>,
    /// Indexes in `all`, from 1 on, by their bases' hashes; at least half of them free (0). Made by [`Names::index`].
    slots: Vec<u32>,
    left: usize,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    /// Names have at most 255 bytes.
    len: u8,
    base: u8,
    is_new: bool,
    taken: bool,
}

/// A name as it stands in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen<'a> {
    pub name: &'a [u8],
    pub is_new: bool,
}

impl Seen<'_> {
    pub(super) fn to_found(self) -> Found {
        Found { name: self.name.into(), is_new: self.is_new }
    }
}

impl Names {
    /// Names that are too long to be file names are passed over.
    pub(super) fn push(&mut self, name: &[u8], is_new: bool) {
        let (Ok(len), Ok(base)) = (u8::try_from(name.len()), u8::try_from(file::base(name).len())) else { return };
        self.all.push(Entry { start: self.text.len(), len, base, is_new, taken: false });
        self.text.extend_from_slice(name);
    }
    /// To be called once, when all are there. Of two with one base the later one stays; the pairs (earlier, later).
    pub(super) fn index(&mut self) -> Vec<(Found, Found)> {
        let mut twins = Vec::new();
        // No directory has as many entries as a u32 cannot count.
        self.all.truncate(u32::MAX as usize / 4);
        self.left = self.all.len();
        self.slots = vec![0; (self.all.len() * 2).next_power_of_two()];
        for at in 0..self.all.len() {
            let slot = self.slot(self.base(self.all[at]));
            if let Some(before) = (self.slots[slot] as usize).checked_sub(1) {
                let (first, second) = (self.seen(self.all[before]), self.seen(self.all[at]));
                // One name may be seen twice, when it went and came back meanwhile.
                if first != second {
                    twins.push((first.to_found(), second.to_found()));
                }
                self.all[before].taken = true;
                self.left -= 1;
            }
            self.slots[slot] = at as u32 + 1;
        }
        twins
    }
    fn base(&self, e: Entry) -> &[u8] {
        &self.text[e.start..e.start + usize::from(e.base)]
    }
    fn seen(&self, e: Entry) -> Seen<'_> {
        Seen { name: &self.text[e.start..e.start + usize::from(e.len)], is_new: e.is_new }
    }
    /// Where this base is, or would be.
    fn slot(&self, base: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(base) as usize & mask;
        while let Some(at) = (self.slots[slot] as usize).checked_sub(1) {
            if self.base(self.all[at]) == base {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }
    fn find(&self, base: &[u8]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        (self.slots[self.slot(base)] as usize).checked_sub(1).filter(|at| !self.all[*at].taken)
    }
    pub(super) fn contains(&self, base: &[u8]) -> bool {
        self.find(base).is_some()
    }
    /// Each can be had once.
    pub(super) fn take(&mut self, base: &[u8]) -> Option<Seen<'_>> {
        let at = self.find(base)?;
        self.all[at].taken = true;
        self.left -= 1;
        Some(self.seen(self.all[at]))
    }
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }
    /// Those that were not taken.
    pub(super) fn into_rest(self) -> Vec<Found> {
        let mut rest = Vec::with_capacity(self.left);
        rest.extend(self.all.iter().filter(|e| !e.taken).map(|e| self.seen(*e).to_found()));
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn names_are_found_by_base_once() {
        let mut n = Names::default();
        assert!(n.is_empty() && !n.contains(b"a") && n.take(b"a").is_none());
        n.push(b"a:2,S", false);
        n.push(b"b", true);
        n.push(b"b", true);
        n.push(b"a", true);
        n.push(&[b'x'; 256], false);
        let twins = n.index();
        assert_eq!(twins, [(Found { name: (*b"a:2,S").into(), is_new: false }, Found { name: (*b"a").into(), is_new: true })]);
        assert!(n.contains(b"a") && n.contains(b"b") && !n.contains(b"c") && !n.contains(b"a:2,S"));
        assert_eq!(n.take(b"a"), Some(Seen { name: b"a", is_new: true }));
        assert_eq!(n.take(b"a"), None);
        assert!(!n.is_empty());
        assert_eq!(n.into_rest(), [Found { name: (*b"b").into(), is_new: true }]);
    }

    #[test]
    fn many_names_as_a_map_has_them() {
        let mut n = Names::default();
        let mut map = HashMap::new();
        for i in 0_u32..5000 {
            let name = format!("{}.M{}P1.host,S={}:2,{}", i % 3000, i % 3000, i % 3000, ["", "S"][i as usize / 3000]);
            n.push(name.as_bytes(), i % 2 == 0);
            map.insert(file::base(name.as_bytes()).to_vec(), (name, i % 2 == 0));
        }
        assert_eq!(n.index().len(), 2000);
        for i in 0_u32..3000 {
            let base = format!("{i}.M{i}P1.host,S={i}");
            let (name, is_new) = map.remove(base.as_bytes()).unwrap();
            assert_eq!(n.take(base.as_bytes()), Some(Seen { name: name.as_bytes(), is_new }));
        }
        assert!(n.is_empty() && n.into_rest().is_empty());
    }
}
