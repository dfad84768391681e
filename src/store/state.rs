//! What an open folder knows of its messages, in memory, and what changed in it lately.
//!
//! Only the holder of the folder's disk lock changes this; sessions look at it under a short lock of its own.

use super::{
    Changes, Counts, Flags, KeywordBits, Meta, ModSeq, Uid,
    file::MAX_SIZE,
    index::Reader,
    keywords::LETTERS,
    packed::{Facts, PackedNames, give_back, make_room},
};
use std::collections::{BTreeSet, VecDeque};

mod history;
mod touched;
pub(super) use history::{Batch, Mark};
use touched::Touched;

/// 40 bytes; its file name, some 15 bytes more, is in [`State::name`].
#[derive(Clone, Copy)]
pub(super) struct Message {
    modseq: u64,
    keywords: KeywordBits,
    uid: u32,
    /// Where among the names.
    name: u32,
    size: [u8; 5],
    date: [u8; 5],
    summary: [u8; 5],
    /// Flags, and [`IS_NEW`].
    bits: u8,
}

const FLAGS: u8 = 0x3f;
/// The file is under `new/`.
const IS_NEW: u8 = 0x40;

/// A message that comes to be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh<'a> {
    pub uid: u32,
    pub flags: Flags,
    /// The file is under `new/`.
    pub is_new: bool,
    pub keywords: KeywordBits,
    /// With CRLF line ends.
    pub size: u64,
    /// Seconds since 1970.
    pub date: i64,
    /// With its info, as it is on disk.
    pub name: &'a [u8],
}

impl Message {
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }
    pub(super) fn flags(&self) -> Flags {
        Flags(self.bits & FLAGS)
    }
    /// The file is under `new/`.
    pub(super) fn is_new(&self) -> bool {
        self.bits & IS_NEW != 0
    }
    pub(super) fn keywords(&self) -> KeywordBits {
        self.keywords
    }
    pub(super) fn modseq(&self) -> u64 {
        self.modseq
    }
    /// With CRLF line ends.
    pub(super) fn size(&self) -> u64 {
        unsigned(self.size)
    }
    /// Seconds since 1970.
    pub(super) fn date(&self) -> i64 {
        (unsigned(self.date) << 24).cast_signed() >> 24
    }
    /// Where in the file of summaries its own is.
    pub(super) fn summary(&self) -> Option<u64> {
        unsigned(self.summary).checked_sub(1)
    }
    fn facts(&self) -> Facts {
        Facts { size: self.size(), date: self.date(), flags: self.flags(), letters: (self.keywords & LETTERS) as u32 }
    }
    /// For the index: all but the mod-sequence.
    fn record(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        let (numbers, rest) = out.split_at_mut(16);
        numbers[..8].copy_from_slice(&self.keywords.to_le_bytes());
        numbers[8..12].copy_from_slice(&self.uid.to_le_bytes());
        numbers[12..].copy_from_slice(&self.name.to_le_bytes());
        for (place, five) in rest.chunks_exact_mut(5).zip([self.size, self.date, self.summary]) {
            place.copy_from_slice(&five);
        }
        rest[15] = self.bits;
        out
    }
    fn of_record(record: &[u8]) -> Option<Self> {
        let mut from = Reader(record);
        let (keywords, uid, name) = (from.u64()?, from.u32()?, from.u32()?);
        let (size, date, summary) = (*from.take()?, *from.take()?, *from.take()?);
        Some(Self { modseq: 0, keywords, uid, name, size, date, summary, bits: from.take::<1>()?[0] })
    }
    pub(super) fn meta(&self) -> Meta {
        Meta {
            uid: Uid(self.uid),
            modseq: ModSeq(self.modseq),
            flags: self.flags(),
            keywords: self.keywords,
            size: self.size(),
            internal_date: self.date(),
        }
    }
}

/// Bytes of a message in the index, but for its name.
pub(super) const RECORD: usize = 32;

/// Sizes and places are below 2^40.
fn five(n: u64) -> [u8; 5] {
    let [a, b, c, d, e, ..] = n.to_le_bytes();
    [a, b, c, d, e]
}
fn unsigned([a, b, c, d, e]: [u8; 5]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
}
/// Dates are within 17,000 years of 1970; what lies beyond is at that edge.
fn day(date: i64) -> [u8; 5] {
    five(date.clamp(-1 << 39, (1 << 39) - 1).cast_unsigned())
}

/// Ranges of expunged UIDs that are remembered, as many flag changes, and as many arrivals; when there are more, the
/// oldest are forgotten.
const MEMORY: usize = 8192;
/// \Recent messages of a closed folder, in ranges.
const RECENT_RANGES: usize = 64;

#[derive(Default)]
pub(super) struct State {
    /// UIDs ascending.
    messages: Vec<Message>,
    names: PackedNames,
    pub validity: u32,
    pub next: u32,
    /// The highest mod-sequence given.
    pub modseq: u64,
    pub keywords: Vec<String>,
    /// Came to `new/` (or was brought by us) and told to nobody yet.
    pub recent: Vec<u32>,
    /// Told as \Recent, still in `new/`.
    pub told: Vec<u32>,
    /// `(mod-sequence, first UID)` of what came, both ascending: from that UID on messages came then or later.
    arrived: VecDeque<(u64, u32)>,
    /// `(mod-sequence, first, last)` of what went away.
    expunged: VecDeque<(u64, u32, u32)>,
    /// What went away at or before this is not known any more.
    forgotten: u64,
    /// `(mod-sequence, UID)` of flag changes, so that one of them is told without a look at every message.
    flagged: VecDeque<(u64, u32)>,
    /// Flag changes at or before this have to be looked for in the messages.
    flagged_forgotten: u64,
    /// Which flags that were.
    touched: Touched,
    /// Mod-sequences strictly between these were given, and what for is lost.
    pub gaps: Vec<(u64, u64)>,
    /// What their flags are we have from another process; the names of their files have not shown it yet.
    pub unsure: BTreeSet<u32>,
    totals: Totals,
    /// Changes since the index was written.
    pub unsaved: usize,
    /// The directory was deleted, or its UIDVALIDITY changed under us: sessions have to end.
    pub gone: bool,
}

/// Of all messages.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Totals {
    unseen: u32,
    deleted: u32,
    in_new: u32,
    size: u64,
}

impl Totals {
    fn add(&mut self, m: &Message) {
        self.unseen += u32::from(!m.flags().has(Flags::SEEN));
        self.deleted += u32::from(m.flags().has(Flags::DELETED));
        self.in_new += u32::from(m.is_new());
        self.size += m.size();
    }
    fn remove(&mut self, m: &Message) {
        self.unseen -= u32::from(!m.flags().has(Flags::SEEN));
        self.deleted -= u32::from(m.flags().has(Flags::DELETED));
        self.in_new -= u32::from(m.is_new());
        self.size -= m.size();
    }
}

impl State {
    /// Appends all messages and names, for the index.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.reserve(self.messages.len() * (RECORD + 16));
        self.messages.iter().for_each(|m| out.extend_from_slice(&m.record()));
        self.names.save(out);
    }
    /// What was saved, without mod-sequences.
    pub(super) fn restore(records: &[u8], names: PackedNames) -> Option<Self> {
        let mut state = Self { names, ..Self::default() };
        state.messages.reserve_exact(records.len() / RECORD);
        let mut last = 0;
        for record in records.chunks_exact(RECORD) {
            let m = Message::of_record(record).filter(|m| m.uid > last)?;
            last = m.uid;
            state.totals.add(&m);
            if m.is_new() {
                make_room(&mut state.recent, 1);
                state.recent.push(m.uid);
            }
            state.messages.push(m);
        }
        Some(state)
    }

    /// UIDs ascending.
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }
    pub(super) fn at(&self, uid: u32) -> Option<usize> {
        self.messages.binary_search_by_key(&uid, |m| m.uid).ok()
    }
    pub(super) fn get(&self, uid: u32) -> Option<&Message> {
        self.at(uid).map(|at| &self.messages[at])
    }
    /// The file's name with its info.
    pub(super) fn name(&self, m: &Message) -> Vec<u8> {
        let mut name = Vec::with_capacity(96);
        self.name_into(m, &mut name);
        name
    }
    /// As [`State::name`], into a buffer that is emptied first.
    pub(super) fn name_into(&self, m: &Message, name: &mut Vec<u8>) {
        name.clear();
        self.names.get(m.name, &m.facts(), name);
    }
    /// Where its file is: `(under new/, name)`.
    pub(super) fn file(&self, uid: u32) -> Option<(bool, Vec<u8>)> {
        self.get(uid).map(|m| (m.is_new(), self.name(m)))
    }
    /// Changes a message, keeping the sums and its name.
    fn change(&mut self, at: usize, name: Option<&[u8]>, change: impl FnOnce(&mut Message)) {
        let Some(m) = self.messages.get_mut(at) else { return };
        let before = *m;
        change(m);
        self.unsaved += usize::from(before.modseq == m.modseq);
        self.totals.remove(&before);
        self.totals.add(m);
        match name {
            Some(name) => m.name = self.names.replace(m.name, name, &m.facts()),
            None if m.facts() == before.facts() => {}
            None => {
                let mut name = Vec::new();
                self.names.get(before.name, &before.facts(), &mut name);
                m.name = self.names.replace(m.name, &name, &m.facts());
            }
        }
    }
    /// Its file was renamed, which may say other flags and keywords.
    pub(super) fn rename(&mut self, at: usize, is_new: bool, name: &[u8], flags: Flags, keywords: KeywordBits) {
        self.change(at, Some(name), |m| {
            m.bits = flags.0 & FLAGS | if is_new { IS_NEW } else { 0 };
            m.keywords = keywords;
        });
        self.tidy_names();
    }
    /// Whatever its name says.
    fn set_marks(&mut self, at: usize, flags: Flags, keywords: KeywordBits) {
        self.change(at, None, |m| (m.bits, m.keywords) = (m.bits & IS_NEW | flags.0 & FLAGS, keywords));
    }
    fn set_modseq(&mut self, at: usize, modseq: u64) {
        self.change(at, None, |m| m.modseq = modseq);
    }
    pub(super) fn set_size(&mut self, at: usize, size: u64) {
        self.change(at, None, |m| m.size = five(size.min(MAX_SIZE)));
    }
    /// `None`: it has none that is known.
    pub(super) fn set_summary(&mut self, at: usize, place: Option<u64>) {
        let place = place.filter(|p| *p < MAX_SIZE).map_or(0, |p| p + 1);
        self.change(at, None, |m| m.summary = five(place));
    }
    fn tidy_names(&mut self) {
        if !self.names.is_wasteful() {
            return;
        }
        let (mut names, mut templates) = (self.names.successor(), Vec::new());
        for m in &mut self.messages {
            m.name = self.names.move_to(m.name, &mut names, &mut templates);
        }
        self.names = names;
    }

    /// Notes that messages have new flags since `modseq`, which they bear already.
    fn note_flagged(&mut self, modseq: u64, uids: impl ExactSizeIterator<Item = u32>) {
        if uids.len() > MEMORY {
            // Who was there before this looks at all messages anyway, about as many as changed.
            self.flagged.clear();
            self.flagged_forgotten = modseq;
            return;
        }
        self.flagged.extend(uids.map(|u| (modseq, u)));
        while self.flagged.len() > MEMORY {
            if let Some((m, _)) = self.flagged.pop_front() {
                self.flagged_forgotten = m;
            }
        }
    }
    /// Takes messages out; `uids` ascending.
    fn remove(&mut self, uids: &[u32]) {
        if uids.is_empty() {
            return;
        }
        self.unsaved += uids.len();
        let (names, totals) = (&mut self.names, &mut self.totals);
        let mut take_out = |m: &Message| {
            names.remove(m.name);
            totals.remove(m);
        };
        if let [uid] = uids {
            if let Ok(at) = self.messages.binary_search_by_key(uid, |m| m.uid) {
                take_out(&self.messages.remove(at));
            }
        } else {
            let mut left = uids;
            self.messages.retain(|m| {
                while let Some((_, rest)) = left.split_first().filter(|(uid, _)| **uid < m.uid) {
                    left = rest;
                }
                let stays = left.first() != Some(&m.uid);
                if !stays {
                    take_out(m);
                }
                stays
            });
        }
        give_back(&mut self.messages);
        self.tidy_names();
        self.recent.retain(|u| uids.binary_search(u).is_err());
        self.unsure.retain(|u| uids.binary_search(u).is_err());
    }
    /// Notes that these went away at `modseq`.
    fn note_expunged(&mut self, modseq: u64, first: u32, last: u32) {
        match self.expunged.back_mut() {
            // Neighbours in one batch are one range.
            Some((m, _, end)) if *m == modseq && end.checked_add(1) == Some(first) => *end = last,
            _ => self.expunged.push_back((modseq, first, last)),
        }
        if self.expunged.len() > MEMORY
            && let Some((m, ..)) = self.expunged.pop_front()
        {
            self.forgotten = m;
        }
    }
    /// Room for so many more messages.
    fn expect(&mut self, more: usize) {
        make_room(&mut self.messages, more);
    }
    /// Adds a message with a UID above all others.
    fn arrive(&mut self, fresh: &Fresh<'_>, modseq: u64) {
        let bits = fresh.flags.0 & FLAGS | if fresh.is_new { IS_NEW } else { 0 };
        let (size, date) = (five(fresh.size.min(MAX_SIZE)), day(fresh.date));
        let mut m = Message { modseq, keywords: fresh.keywords, uid: fresh.uid, name: 0, size, date, summary: [0; 5], bits };
        m.name = self.names.add(fresh.name, &m.facts());
        self.next = self.next.max(m.uid.saturating_add(1));
        self.totals.add(&m);
        self.unsaved += 1;
        if self.arrived.back().is_none_or(|(last, _)| *last < modseq) {
            self.arrived.push_back((modseq, m.uid));
            self.forget_arrivals();
        }
        make_room(&mut self.messages, 1);
        self.messages.push(m);
    }
    /// The oldest count as if they had come with those after them: who was there then hears of them twice at most.
    fn forget_arrivals(&mut self) {
        if self.arrived.len() > MEMORY
            && let Some((_, first)) = self.arrived.pop_front()
            && let Some(next) = self.arrived.front_mut()
        {
            next.1 = first;
        }
    }

    /// Whose files are in `new/`.
    pub(super) fn in_new(&self) -> u32 {
        self.totals.in_new
    }
    pub(super) fn counts(&self) -> Counts {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Counts {
            messages: count(self.messages.len()),
            unseen: self.totals.unseen,
            deleted: self.totals.deleted,
            recent: count(self.recent.len()),
            size: self.totals.size,
            uid_next: self.next,
            uid_validity: self.validity,
            highest_modseq: self.modseq,
        }
    }

    /// \Recent messages as ranges, for when the folder is closed. `None`: more than is worth it.
    pub(super) fn recent_ranges(&self) -> Option<Vec<(u32, u32)>> {
        let mut uids = self.recent.clone();
        uids.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for uid in uids {
            match ranges.last_mut() {
                Some((_, last)) if uid - *last <= 1 => *last = uid,
                _ => ranges.push((uid, uid)),
            }
            if ranges.len() > RECENT_RANGES {
                return None;
            }
        }
        Some(ranges)
    }
    /// Goes on where the last session left off: below `next` those in `ranges` are \Recent wherever their files are, and
    /// others in `new/` were told already.
    pub(super) fn resume_recent(&mut self, next: u32, ranges: &[(u32, u32)]) {
        let is_recent = |uid: u32| ranges.get(ranges.partition_point(|r| r.1 < uid)).is_some_and(|r| r.0 <= uid);
        self.recent.retain(|uid| *uid >= next);
        for m in self.messages.iter().take_while(|m| m.uid < next) {
            if is_recent(m.uid) {
                self.recent.push(m.uid);
            } else if m.is_new() {
                self.told.push(m.uid);
            }
        }
    }

    /// Ranges of UIDs that are not here now and may have been after `modseq`: exact when the memory reaches that
    /// far, else all gaps (RFC 7162 §3.2.6 allows too many, never too few).
    pub(super) fn vanished_since(&self, modseq: u64) -> Vec<(u32, u32)> {
        if modseq >= self.forgotten {
            let from = self.expunged.partition_point(|(m, ..)| *m <= modseq);
            let mut ranges: Vec<_> = self.expunged.range(from..).map(|(_, a, b)| (*a, *b)).collect();
            ranges.sort_unstable();
            return ranges;
        }
        let (mut out, mut from) = (Vec::new(), 1);
        for uid in self.messages.iter().map(|m| m.uid).chain([self.next]) {
            if from < uid {
                out.push((from, uid - 1));
            }
            from = uid.saturating_add(1);
        }
        out
    }

    /// From where on a client has to be told: from this mod-sequence, or from 0 when it was given in a history that was lost.
    fn provable(&self, modseq: u64) -> u64 {
        let lost = self.gaps.iter().any(|(after, before)| *after < modseq && modseq < *before);
        if lost { 0 } else { modseq }
    }

    /// Called after every command of every session: with nothing new it looks at nothing.
    pub(super) fn changes_since(&self, modseq: u64) -> Changes {
        if modseq >= self.modseq {
            return Changes { modseq: ModSeq(self.modseq), ..Changes::default() };
        }
        let modseq = self.provable(modseq);
        let expunged = self.vanished_since(modseq).into_iter().map(|(a, b)| (Uid(a), Uid(b))).collect();
        let run = self.arrived.partition_point(|(m, _)| *m <= modseq);
        let new = self.arrived.get(run).map_or(self.messages.len(), |(_, first)| self.messages.partition_point(|m| m.uid < *first));
        let changed = self.flagged_since(modseq, new);
        let arrived = self.messages[new..].iter().map(|m| Uid(m.uid)).collect();
        Changes { expunged, changed, arrived, modseq: ModSeq(self.modseq) }
    }

    /// Of the first `old` messages, those with other flags since.
    fn flagged_since(&self, modseq: u64, old: usize) -> Vec<Uid> {
        let old = &self.messages[..old];
        if modseq < self.flagged_forgotten {
            return old.iter().filter(|m| m.modseq() > modseq).map(|m| Uid(m.uid)).collect();
        }
        let from = self.flagged.partition_point(|(m, _)| *m <= modseq);
        let mut uids: Vec<u32> = self.flagged.range(from..).map(|(_, uid)| *uid).collect();
        uids.sort_unstable();
        uids.dedup();
        uids.retain(|uid| old.binary_search_by_key(uid, |m| m.uid).is_ok());
        uids.into_iter().map(Uid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl State {
        fn start(&mut self, modseq: u64) {
            (self.modseq, self.forgotten, self.flagged_forgotten) = (modseq, modseq, modseq);
        }
        fn step(&mut self) -> u64 {
            self.modseq += 1;
            self.modseq
        }
        fn expunge(&mut self, uids: &[u32]) {
            let modseq = self.step();
            self.remove(uids);
            uids.iter().for_each(|u| self.note_expunged(modseq, *u, *u));
        }
    }

    fn message(uid: u32) -> Fresh<'static> {
        Fresh { uid, flags: Flags::default(), is_new: false, keywords: 0, size: 1, date: 0, name: b"x" }
    }

    /// What [`State`] costs, all included but for what only the history of an open folder needs.
    fn cost(s: &State) -> usize {
        s.messages.capacity() * size_of::<Message>() + s.names.cost() + 4 * (s.recent.capacity() + s.told.capacity()) + s.arrived.capacity() * 16
    }

    #[test]
    fn a_message_costs_no_more_than_promised() {
        const N: usize = 20_000;
        assert_eq!(size_of::<Message>(), 40);
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for kind in ["ours", "ours in new", "appended", "dovecot", "courier"] {
            let mut s = State::default();
            let mut worst = 0.0f64;
            for n in 1..=N as u64 {
                let (size, lines) = (random(60_000), random(900));
                let (time, micros, pid) = (1_500_000_000 + n * 97, random(1_000_000), 1000 + n / 500 * 31 % 60_000);
                let flags = Flags(random(64) as u8);
                let host = "mx1.example.org";
                let date = time as i64 + random(3) as i64;
                let (date, base) = match kind {
                    "ours" | "ours in new" => (time as i64, format!("{time}.M{micros:06}P{pid}Q{n}.{host},S={size},W={}", size + lines)),
                    "appended" => (date - 77, format!("{time}.M{micros:06}P{pid}Q{n}D{}.{host},S={size},W={}", date - 77, size + lines)),
                    "dovecot" => (date, format!("{time}.M{micros}P{pid}.{host},S={size},W={}", size + lines)),
                    _ => (date, format!("{time}.M{micros}P{pid}V000000000000FD03I{:016X}_0.{host},S={size}", random(1 << 28))),
                };
                let is_new = kind == "ours in new";
                let flags = if is_new { Flags(0) } else { flags };
                let name = if is_new { base.into_bytes().into() } else { crate::store::file::with_flags(base.as_bytes(), flags, 0) };
                s.arrive(&Fresh { uid: n as u32, flags, is_new, keywords: 0, size: size + lines, date, name: &name }, 1);
                if is_new {
                    make_room(&mut s.recent, 1);
                    s.recent.push(n as u32);
                }
                if n.is_multiple_of(1_000) {
                    worst = worst.max(cost(&s) as f64 / n as f64);
                }
            }
            assert!(worst <= 64.0, "{kind}: {worst}");
            // Half of them go: so does the memory, and the names of the others are as they were.
            let before: Vec<Vec<u8>> = s.messages.iter().skip(1).step_by(2).map(|m| s.name(m)).collect();
            let odd: Vec<u32> = (1..=N as u32).step_by(2).collect();
            s.expunge(&odd);
            s.expunged.clear();
            let some: Vec<u32> = (1..=N as u32 / 4).collect();
            s.expunge(&some);
            let after = cost(&s) as f64 / s.messages.len() as f64;
            assert!(after <= 80.0, "{kind}: {after}");
            assert!(s.messages.iter().zip(&before[before.len() - s.messages.len()..]).all(|(m, name)| s.name(m) == *name));
        }
    }

    #[test]
    fn what_a_message_holds_comes_back() {
        let mut s = State::default();
        for (n, (size, date)) in [(0, 0), (MAX_SIZE, -1), (7, 1_700_000_000), (1 << 39, -(1 << 39)), (u64::MAX, i64::MAX)].into_iter().enumerate() {
            let name = b"1.M2P3.h,S=4:2,FSab";
            s.arrive(&Fresh { uid: n as u32 + 1, flags: Flags(5), is_new: n % 2 == 0, keywords: 3 | 1 << 60, size, date, name }, 9);
            let m = s.messages[n];
            assert_eq!((m.size(), m.date()), (size.min(MAX_SIZE), date.clamp(-(1 << 39), (1 << 39) - 1)));
            assert_eq!((m.flags(), m.is_new(), m.keywords(), m.summary(), s.name(&m)), (Flags(5), n % 2 == 0, 3 | 1 << 60, None, name.into()));
            for place in [Some(0), Some(MAX_SIZE - 1), None] {
                s.set_summary(n, place);
                assert_eq!(s.messages[n].summary(), place);
            }
            s.set_size(n, 99);
            s.set_marks(n, Flags(5), 7);
            assert_eq!(s.name(&s.messages[n]), name);
            s.rename(n, false, b"1.M2P3.h,S=4:2,", Flags(0), 0);
            assert_eq!(s.name(&s.messages[n]), b"1.M2P3.h,S=4:2,");
        }
        let mut totals = Totals::default();
        s.messages.iter().for_each(|m| totals.add(m));
        assert_eq!(s.totals, totals);
    }

    #[test]
    fn more_arrivals_than_are_remembered() {
        let mut s = State::default();
        let all = 2 * MEMORY as u32;
        for uid in 1..=all {
            let m = s.step();
            s.arrive(&message(uid), m);
        }
        assert_eq!(s.arrived.len(), MEMORY);
        let since = |m: u32| s.changes_since(m.into()).arrived.first().map(|u| u.0);
        assert_eq!([since(0), since(all - 1), since(all), since(all - 8000)], [Some(1), Some(all), None, Some(all - 7999)]);
        assert_eq!(since(100), Some(1), "twice rather than never");
    }

    #[test]
    fn changes_are_told_from_any_point() {
        let mut s = State::default();
        s.start(10);
        for uid in 1..=5 {
            let m = s.step();
            s.arrive(&message(uid), m); // 11..=15
        }
        s.expunge(&[2, 3]); // 16
        let m = s.step(); // 17
        s.set_modseq(0, m);
        s.note_flagged(m, [1].into_iter());
        s.expunge(&[5]); // 18
        let since = |n| {
            let c = s.changes_since(n);
            let gone = c.expunged.iter().flat_map(|(a, b)| a.0..=b.0).collect();
            (gone, c.changed.iter().map(|u| u.0).collect(), c.arrived.iter().map(|u| u.0).collect())
        };
        let none: Vec<u32> = vec![];
        assert_eq!(since(18), (none.clone(), none.clone(), none.clone()));
        assert_eq!(since(17), (vec![5], none.clone(), none.clone()));
        assert_eq!(since(16), (vec![5], vec![1], none.clone()));
        assert_eq!(since(13), (vec![2, 3, 5], vec![1], vec![4]));
        assert_eq!(since(10), (vec![2, 3, 5], none.clone(), vec![1, 4]));
        // Before the history: everything that is not there may have gone.
        assert_eq!(since(9), (vec![2, 3, 5], none, vec![1, 4]));
    }

    #[test]
    fn a_gap_of_foreign_uids_costs_nothing() {
        let mut s = State::default();
        s.start(10);
        for uid in [1, u32::MAX - 1, u32::MAX] {
            s.arrive(&message(uid), 10);
        }
        let m = s.step();
        s.set_modseq(2, m);
        s.note_flagged(m, [u32::MAX].into_iter());
        let c = s.changes_since(0);
        assert_eq!(c.expunged, [(Uid(2), Uid(u32::MAX - 2))]);
        assert_eq!((c.changed.len(), c.arrived.len()), (0, 3));
        let c = s.changes_since(10);
        assert_eq!((c.expunged.len(), c.changed, c.arrived.len()), (0, vec![Uid(u32::MAX)], 0));
        assert_eq!(s.changes_since(11).modseq, ModSeq(11));
    }

    #[test]
    fn flag_changes_are_told_whether_remembered_or_not() {
        let mut s = State::default();
        s.start(0);
        let m = s.step();
        for uid in 1..=2 * MEMORY as u32 {
            s.arrive(&message(uid), m);
        }
        let change = |s: &mut State, uids: std::ops::RangeInclusive<u32>| {
            let m = s.step();
            for uid in uids.clone() {
                let at = s.at(uid).unwrap();
                s.set_modseq(at, m);
            }
            s.note_flagged(m, uids.collect::<Vec<_>>().into_iter());
            m
        };
        let first = change(&mut s, 7..=7);
        let some = change(&mut s, 1..=MEMORY as u32);
        assert!(s.flagged.len() == MEMORY && s.flagged_forgotten == first);
        let all = change(&mut s, 1..=2 * MEMORY as u32);
        assert!(s.flagged.is_empty() && s.flagged_forgotten == all);
        let last = change(&mut s, 3..=4);
        s.expunge(&[4]);
        let since = |m| s.changes_since(m).changed.len();
        assert_eq!([since(last), since(all), since(some), since(first), since(m)], [0, 1, 2 * MEMORY - 1, 2 * MEMORY - 1, 2 * MEMORY - 1]);
    }

    #[test]
    fn what_is_forgotten_counts_as_gone() {
        let mut s = State::default();
        s.start(0);
        let m = s.step();
        for uid in 1..=40_000 {
            s.arrive(&message(uid), m);
        }
        for uid in (2..40_000).step_by(2) {
            s.expunge(&[uid]);
        }
        assert!(s.expunged.len() <= MEMORY);
        let gone = s.vanished_since(1);
        assert_eq!(gone.len(), 19_999);
        assert_eq!(s.vanished_since(s.modseq - 2), vec![(39_996, 39_996), (39_998, 39_998)]);
    }
}
