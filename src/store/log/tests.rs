//! The log on real files: two at once, damage in every place, boots, clocks.

use super::{
    format::{self, HEADER, Header, Item, Writer},
    *,
};
use crate::store::{Flags, scratch};
use proptest::prelude::*;
use std::{collections::BTreeMap, fs, path::PathBuf};

/// A day in 2023, in nanoseconds.
const NOW: i64 = 1_700_000_000_000_000_000;
const TEN_YEARS: i64 = 315_360_000_000_000_000;

/// One process: what it knows of the folder, all of it from the log.
struct Process {
    log: Log,
    messages: BTreeMap<u32, Live>,
    gone: Vec<(u64, u32, u32)>,
    modseq: u64,
    floor: u64,
}

impl Process {
    fn open(dir: &Path) -> Self {
        Self::open_at(dir, NOW)
    }
    fn open_at(dir: &Path, now: i64) -> Self {
        let (log, history) = Log::open(dir, 7, now, 0).unwrap();
        let mut p = Self { modseq: log.last, floor: log.floor(), log, messages: BTreeMap::new(), gone: Vec::new() };
        history.replay(|e| apply(&mut p.messages, &mut p.gone, e));
        // As a folder does that it loads.
        p.change(dir, &[]);
        p
    }
    /// Does these under one new mod-sequence. UID 0 is the next.
    fn change(&mut self, dir: &Path, what: &[(u32, u32, What)]) -> u64 {
        let Self { log, messages, gone, modseq, floor } = self;
        let mut held = log.lock(dir, &mut |e| apply(messages, gone, e));
        let next = held.last().max(*modseq) + u64::from(!what.is_empty());
        let uid = messages.keys().next_back().map_or(1, |u| u + 1);
        let or_next = |n: u32| if n == 0 { uid } else { n };
        let entries = what.iter().map(|(first, last, what)| Entry { first: or_next(*first), last: or_next(*last), modseq: next, what: *what });
        entries.clone().for_each(|e| apply(messages, gone, e));
        held.append(entries, (messages.keys().next_back().map_or(1, |u| u + 1), 100));
        *modseq = next;
        if held.wants_rewrite() {
            held.rewrite(next, *floor, (1, 100), gone, &mut |each| messages.values().for_each(|m| each(*m)));
        }
        next
    }
    fn flag(&mut self, dir: &Path, uid: u32, flags: u8) -> u64 {
        self.change(dir, &[(uid, uid, What::Marked(Flags(flags), 0))])
    }
    fn deliver(&mut self, dir: &Path) -> u64 {
        self.change(dir, &[(0, 0, What::Arrived(Flags(0), 0))])
    }
    /// Whether a client may name this mod-sequence and hear all that happened since.
    fn knows(&self, modseq: u64) -> bool {
        modseq >= self.log.floor() && modseq <= self.modseq && !self.log.gaps.iter().any(|(a, b)| *a < modseq && modseq < *b)
    }
}

fn apply(messages: &mut BTreeMap<u32, Live>, gone: &mut Vec<(u64, u32, u32)>, e: Entry) {
    match e.what {
        What::Arrived(flags, keywords) => {
            for uid in e.first..=e.last {
                messages.insert(uid, Live { uid, arrived: e.modseq, modseq: e.modseq, flags, keywords });
            }
        }
        What::Marked(flags, keywords) => {
            for (_, m) in messages.range_mut(e.first..=e.last) {
                (m.modseq, m.flags, m.keywords) = (e.modseq, flags, keywords);
            }
        }
        What::Gone => {
            messages.retain(|uid, _| !(e.first..=e.last).contains(uid));
            gone.push((e.modseq, e.first, e.last));
        }
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join(NAME)
}
/// The machine was started anew.
fn reboot(dir: &Path) {
    let mut bytes = fs::read(file(dir)).unwrap();
    let header = Header::parse(&bytes).unwrap();
    bytes[..HEADER].copy_from_slice(&Header { boot: [1; 16], ..header }.bytes());
    write_in_place(dir, &bytes);
}
fn write_in_place(dir: &Path, bytes: &[u8]) {
    fs::write(file(dir), bytes).unwrap();
}

#[test]
fn a_history_goes_on_after_a_restart() {
    let dir = scratch::Dir::new("log-restart");
    let dir = dir.path();
    let mut p = Process::open(dir);
    let begin = p.modseq;
    p.change(dir, &[(1, 200_000, What::Arrived(Flags(1), 0))]);
    p.flag(dir, 5, 3);
    p.change(dir, &[(7, 9, What::Gone), (11, 11, What::Gone)]);
    assert!(fs::metadata(file(dir)).unwrap().len() < 250);
    let q = Process::open_at(dir, NOW - TEN_YEARS);
    assert_eq!((q.modseq, &q.messages, &q.gone), (begin + 3, &p.messages, &p.gone));
    assert!(q.knows(begin) && q.knows(q.modseq) && !q.knows(begin - 1));
    let (log, _) = Log::open(dir, 7, NOW, 0).unwrap();
    assert_eq!([log.next_uid(100), log.next_uid(101)], [(200_001, true), (200_001, false)]);
}

#[test]
fn a_boot_leaves_a_gap_above_what_was_written() {
    let dir = scratch::Dir::new("log-boot");
    let dir = dir.path();
    let mut p = Process::open(dir);
    let begin = p.modseq;
    for _ in 0..10 {
        p.deliver(dir);
    }
    let written = fs::metadata(file(dir)).unwrap().len();
    let mut told = p.modseq;
    for _ in 0..5 {
        told = p.deliver(dir);
    }
    // The power failed: of ten blocks the first stayed.
    fs::File::options().write(true).open(file(dir)).unwrap().set_len(written - 3).unwrap();
    reboot(dir);
    assert!(!Log::open(dir, 7, NOW, 0).unwrap().0.next_uid(100).1);
    let q = Process::open_at(dir, NOW - TEN_YEARS);
    assert_eq!(q.messages.len(), 9);
    assert!(q.modseq > told && q.knows(q.modseq));
    assert!((begin..begin + 10).all(|m| q.knows(m)) && (begin + 10..=told).all(|m| !q.knows(m)));
    // Many of them: bounded, and never too few.
    let mut never = q.modseq + 1;
    for n in 0..40 {
        reboot(dir);
        let q = Process::open_at(dir, NOW - TEN_YEARS);
        assert!(q.modseq > never && !q.knows(never), "{n}");
        assert!(q.log.gaps.len() <= GAPS && q.knows(q.modseq));
        never = q.modseq + 1;
    }
    let q = Process::open(dir);
    assert!(q.knows(begin) && (begin + 10..=told).all(|m| !q.knows(m)));
}

#[test]
fn another_file_is_another_history() {
    let dir = scratch::Dir::new("log-other");
    let dir = dir.path();
    let mut p = Process::open(dir);
    let first = p.deliver(dir);
    fs::copy(file(dir), dir.join("backup")).unwrap();
    let told = p.deliver(dir);
    // An old copy is put in its place; the clock is right.
    fs::rename(dir.join("backup"), file(dir)).unwrap();
    let q = Process::open(dir);
    assert!(q.modseq > told && q.knows(first) && !q.knows(told));
    // Of another UIDVALIDITY nothing counts, but the numbers do.
    let (log, history) = Log::open(dir, 8, NOW - TEN_YEARS, 0).unwrap();
    let mut entries = 0;
    history.replay(|_| entries += 1);
    assert!(log.last > q.modseq && log.floor() == log.last && entries == 0 && log.next_uid(100) == (0, false));
    // Gone; the clock is right.
    fs::remove_file(file(dir)).unwrap();
    let late = Process::open_at(dir, i64::try_from(q.modseq).unwrap() * 1_000_000 + 1_000_000);
    assert!(late.modseq > q.modseq && late.messages.is_empty() && !late.knows(told));
    // This process knows better than a clock that is wrong.
    fs::remove_file(file(dir)).unwrap();
    assert!(Log::open(dir, 7, NOW - TEN_YEARS, late.modseq).unwrap().0.last > late.modseq);
}

#[test]
fn every_truncation_and_every_flipped_byte() {
    let dir = scratch::Dir::new("log-damage");
    let dir = dir.path();
    let mut p = Process::open(dir);
    // What was known when a number was given.
    let mut history = vec![(p.modseq, p.messages.clone())];
    for n in 1..12 {
        match n % 4 {
            0 => p.change(dir, &[(n, n, What::Gone)]),
            1 => p.flag(dir, n / 2, 9),
            _ => p.change(dir, &[(n * 10, n * 10 + 3, What::Arrived(Flags(2), 1 << n))]),
        };
        history.push((p.modseq, p.messages.clone()));
    }
    let good = fs::read(file(dir)).unwrap();
    let told = p.modseq;
    let check = |what: String| {
        let (mut log, read) = Log::open(dir, 7, NOW - TEN_YEARS, 0).unwrap();
        assert!(log.last > told, "{what}: {} after {told}", log.last);
        assert!(!log.next_uid(100).1, "{what}");
        let (mut messages, mut gone) = (BTreeMap::new(), Vec::new());
        read.replay(|e| apply(&mut messages, &mut gone, e));
        // Who may name a number finds in the log what was so when it was given, or later.
        let known = |m: u64| m >= log.floor() && !log.gaps.iter().any(|(a, b)| *a < m && m < *b);
        let newest = history.iter().rposition(|(_, then)| *then == messages);
        for (at, (m, _)) in history.iter().enumerate() {
            assert!(!known(*m) || newest.is_some_and(|n| at <= n), "{what}: {m}");
        }
        assert!(known(log.last));
        let mut heard = 0;
        assert!(log.lock(dir, &mut |_| heard += 1).wants_rewrite() && heard == 0, "{what}");
    };
    for len in 0..good.len() {
        write_in_place(dir, &good[..len]);
        // An end between two blocks shows only by the boot, and nothing else than one leaves it.
        if len >= HEADER {
            reboot(dir);
        }
        // Below that nothing is left but the clock.
        if len >= HEADER {
            check(format!("length {len}"));
        }
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at * 5 % 8);
        write_in_place(dir, &bad);
        check(format!("byte {at}"));
    }
}

#[test]
fn two_append_and_write_anew_under_each_others_eyes() {
    let dir = scratch::Dir::new("log-two");
    let dir = dir.path();
    let mut first = Process::open(dir);
    first.change(dir, &[(1, 50, What::Arrived(Flags(0), 0))]);
    let rounds = 1500u32;
    let mut all: Vec<Process> = std::thread::scope(|s| {
        let workers: Vec<_> = (0..3u32)
            .map(|t| {
                s.spawn(move || {
                    let mut p = Process::open(dir);
                    let mut highest = 0;
                    for n in 0..rounds {
                        let m = match n % 5 {
                            0 => p.deliver(dir),
                            _ => p.flag(dir, (n * 7 + t) % 50 + 1, (n + t) as u8),
                        };
                        assert!(m > highest);
                        highest = m;
                    }
                    p
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    all.push(first);
    all.push(Process::open(dir));
    let base = Header::parse(&fs::read(file(dir)).unwrap()).unwrap().base;
    assert!(base > 1000, "it was written anew");
    for p in &mut all {
        p.change(dir, &[]);
    }
    let (newest, others) = all.split_last().unwrap();
    assert_eq!(newest.messages.len() as u32, 50 + 3 * rounds / 5, "every UID once");
    assert_eq!(newest.modseq, others[0].modseq);
    for p in others {
        assert_eq!((&p.messages, p.modseq), (&newest.messages, newest.modseq));
        assert_eq!(p.log.gaps, []);
    }
    let litter: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(litter, [NAME]);
}

#[test]
fn removed_or_spoilt_under_two() {
    let dir = scratch::Dir::new("log-removed");
    let dir = dir.path();
    let (mut a, mut b) = (Process::open(dir), Process::open(dir));
    a.deliver(dir);
    let last = a.deliver(dir);
    // What stood in the removed file is not lost to who has it open.
    fs::remove_file(file(dir)).unwrap();
    b.change(dir, &[]);
    assert_eq!((&b.messages, b.modseq), (&a.messages, last));
    a.flag(dir, 1, 8);
    let now = b.flag(dir, 2, 8);
    a.change(dir, &[]);
    assert_eq!((&a.messages, a.modseq), (&b.messages, now));
    let c = Process::open(dir);
    assert_eq!((&c.messages, c.modseq), (&b.messages, now));
    assert!(c.knows(last) && c.log.gaps.is_empty());
    // One could not write what it did, ...
    let e = || disk::Error::new("write", file(dir), std::io::ErrorKind::StorageFull.into());
    drop(a.log.lock(dir, &mut |_| ()));
    a.log.spoil(&file(dir), &e());
    let told = now + 1;
    // ... and ends: the other cannot know what that was.
    assert!(!Log::open(dir, 7, NOW, 0).unwrap().0.next_uid(100).1);
    b.flag(dir, 2, 16);
    assert!(b.modseq > told && !b.knows(told) && b.knows(now));
    assert_eq!(Process::open(dir).modseq, b.modseq);
    // It goes on, and all is well again.
    b.log.spoil(&file(dir), &e());
    b.flag(dir, 2, 17);
    let c = Process::open(dir);
    assert_eq!((c.modseq, &c.messages), (b.modseq, &b.messages));
    // Another name keeps the old file alive, as in a backup made of links.
    fs::hard_link(file(dir), dir.join("backup")).unwrap();
    let mut c = Process::open(dir);
    c.log.stale = true;
    c.change(dir, &[]);
    let last = c.flag(dir, 1, 2);
    b.change(dir, &[]);
    assert_eq!((b.modseq, &b.messages), (last, &c.messages));
    fs::rename(dir.join("backup"), file(dir)).unwrap();
    assert!(Log::open(dir, 7, NOW - TEN_YEARS, 0).unwrap().0.last > last);
}

#[test]
fn what_is_no_file_stops_nobody() {
    let dir = scratch::Dir::new("log-none");
    let dir = dir.path();
    fs::create_dir(file(dir)).unwrap();
    let mut p = Process::open(dir);
    let first = p.deliver(dir);
    assert!(p.deliver(dir) > first && p.log.failed);
    fs::remove_dir(file(dir)).unwrap();
    p.deliver(dir);
    assert!(!p.log.failed);
    let q = Process::open(dir);
    assert_eq!((&q.messages, q.modseq), (&p.messages, first + 2));
}

#[test]
fn the_limit_is_ahead() {
    let dir = scratch::Dir::new("log-limit");
    let dir = dir.path();
    let mut p = Process::open(dir);
    for _ in 0..3 {
        p.modseq += LEASE - 1;
        let given = p.deliver(dir);
        assert!(Header::parse(&fs::read(file(dir)).unwrap()).unwrap().limit > given);
    }
}

fn item() -> impl Strategy<Value = Item> {
    let what = prop_oneof![
        (0..64u8, prop_oneof![Just(0), any::<u64>()]).prop_map(|(f, k)| What::Arrived(Flags(f), k)),
        (0..64u8, Just(0)).prop_map(|(f, k)| What::Marked(Flags(f), k)),
        Just(What::Gone),
    ];
    let modseq = prop_oneof![0..10u64, 0..=MODSEQ_MAX];
    let uid = prop_oneof![1..100u32, 1..=u32::MAX];
    prop_oneof![
        8 => (uid, 0..3u32, modseq.clone(), what).prop_map(|(first, more, modseq, what)| {
            Item::Entry(Entry { first, last: first.saturating_add(more), modseq, what })
        }),
        1 => (modseq.clone(), modseq).prop_map(|(a, b)| Item::Gap(a.min(b), a.max(b))),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Item::Next(a, b)),
    ]
}

/// One message each.
fn apart(items: impl IntoIterator<Item = Item>) -> Vec<Item> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Entry(e) => out.extend((e.first..=e.last).map(|uid| Item::Entry(Entry { first: uid, last: uid, ..e }))),
            other => out.push(other),
        }
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in prop::collection::vec(item(), 0..50), noise: Vec<u8>) {
        let mut writer = Writer::default();
        for item in &items {
            match *item {
                Item::Entry(e) => writer.push(e),
                Item::Gap(a, b) => writer.gap(a, b),
                Item::Next(a, b) => writer.next(a, b),
            }
        }
        let mut bytes = writer.finish();
        let sound = bytes.len();
        bytes.extend_from_slice(&noise);
        let mut read = Vec::new();
        prop_assert_eq!(format::parse(&bytes, &mut |i| read.push(i)), sound);
        prop_assert_eq!(apart(read), apart(items));
        let _ = Header::parse(&noise);
        // Whatever the checksum covers.
        let block = [&(noise.len() as u32).to_le_bytes()[..], &crc32fast::hash(&noise).to_le_bytes(), &noise].concat();
        format::parse(&block, &mut |i| if let Item::Entry(e) = i { assert!(e.first > 0 && e.first <= e.last && e.modseq <= MODSEQ_MAX) });
    }
}
