//! Another program at work in a folder while we look at it: nothing is taken for gone that is there, no UID moves, and
//! in the end the folder is what the directory is.

use super::{FlagOp, Flags, Folder, Store, Target, Uid, file, lock, scratch};
use crate::disk::{self, Draft};
use std::{
    collections::{BTreeMap, HashMap},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// Enough names for several calls of getdents(2).
const FILES: usize = 12000;

/// xorshift: the same run for the same seed.
struct Dice(u64);
impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

struct World {
    _dir: scratch::Dir,
    store: Arc<Store>,
    maildir: PathBuf,
    inbox: Arc<Folder>,
}

impl World {
    fn new(what: &str, files: usize) -> Self {
        let dir = scratch::Dir::new(what);
        let store = Store::open(&dir.path().join("mail"), "host", |_| Vec::new()).unwrap();
        let home = store.home("alice@example.org").unwrap();
        drop(home.open("INBOX").unwrap());
        let maildir = dir.path().join("mail/example.org/alice/Maildir");
        std::fs::write(maildir.join("tmp/one"), "Subject: x\n\ny\n").unwrap();
        for n in 0..files {
            std::fs::hard_link(maildir.join("tmp/one"), maildir.join("cur").join(format!("{n}.kept.host,S=14,W=17:2,"))).unwrap();
        }
        let inbox = home.open("INBOX").unwrap();
        Self { _dir: dir, store, maildir, inbox }
    }
    /// Base and the rest of every message, by UID, as the store has it.
    fn known(&self) -> BTreeMap<u32, String> {
        let state = lock(&self.inbox.state);
        state.messages().iter().map(|m| (m.uid(), String::from_utf8(state.name(m)).unwrap())).collect()
    }
    /// Looks until no look is due any more.
    fn settle(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while let Some(wait) = self.inbox.noticed().unwrap() {
            assert!(Instant::now() < until, "it never settles");
            std::thread::park_timeout(wait.min(Duration::from_millis(100)));
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = ["new", "cur"]
        .iter()
        .flat_map(|sub| std::fs::read_dir(dir.join(sub)).unwrap().map(|e| String::from_utf8(e.unwrap().file_name().into_vec()).unwrap()))
        .collect();
    all.sort();
    all
}

fn base(name: &str) -> String {
    String::from_utf8_lossy(file::base(name.as_bytes())).into_owned()
}

/// What a mail program does: flags of one message after another, deliveries, removals of what it brought itself.
fn churn(maildir: &Path, seed: u64, rounds: usize) {
    let mut dice = Dice(seed);
    let mut mine: Vec<PathBuf> = Vec::new();
    for round in 0..rounds {
        match dice.roll(20) {
            0 => {
                let to = maildir.join("new").join(format!("{round}.mine{seed}.host,S=14,W=17"));
                std::fs::hard_link(maildir.join("tmp/one"), &to).unwrap();
                mine.push(to);
            }
            1 if !mine.is_empty() => {
                let from = mine.swap_remove(dice.roll(mine.len()));
                // To cur/, unless we did so already.
                let name = base(from.file_name().unwrap().to_str().unwrap());
                let to = maildir.join("cur").join(format!("{name}:2,S"));
                if std::fs::rename(&from, &to).is_ok() {
                    mine.push(to);
                }
            }
            2 if !mine.is_empty() => {
                let _ = std::fs::remove_file(mine.swap_remove(dice.roll(mine.len())));
            }
            // Dates that go back tell us nothing.
            3 => std::fs::File::open(maildir.join("cur")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap(),
            _ => {
                let n = dice.roll(FILES);
                for (from, to) in [("", "S"), ("S", "RS"), ("RS", "")] {
                    let name = |flags| maildir.join("cur").join(format!("{n}.kept.host,S=14,W=17:2,{flags}"));
                    if std::fs::rename(name(from), name(to)).is_ok() {
                        break;
                    }
                }
            }
        }
    }
}

fn race(what: &str, ours: bool) {
    let w = World::new(what, FILES);
    let first: HashMap<String, u32> = w.known().into_iter().map(|(uid, name)| (base(&name), uid)).collect();
    assert_eq!(first.len(), FILES);
    let stop = AtomicBool::new(false);
    let mut owners: BTreeMap<u32, String> = BTreeMap::new();
    std::thread::scope(|s| {
        let others: Vec<_> = (1..=2)
            .map(|seed| {
                s.spawn({
                    let m = w.maildir.clone();
                    move || churn(&m, seed, 6000)
                })
            })
            .collect();
        if ours {
            s.spawn(|| {
                let mut dice = Dice(77);
                let to = [Target { account: "alice@example.org".to_owned(), folder: None }];
                while !stop.load(Ordering::SeqCst) {
                    let uid = Uid(1 + dice.roll(FILES) as u32);
                    let op = if dice.roll(2) == 0 { FlagOp::Add } else { FlagOp::Remove };
                    assert_eq!(w.inbox.store_flags(&[uid], op, Flags::FLAGGED, &["$Work".to_owned()]).unwrap(), []);
                    w.store.deliver(&to, b"", &Draft::from_bytes(b"Subject: o\n\nx\n".to_vec()), SystemTime::now()).remove(0).unwrap();
                }
            });
        }
        while !others.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            w.inbox.sync().unwrap();
            for (uid, name) in w.known() {
                let owner = owners.entry(uid).or_insert_with(|| base(&name));
                assert_eq!(*owner, base(&name), "UID {uid} moved");
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    w.settle();
    let known = w.known();
    let mut shown: Vec<String> = known.values().cloned().collect();
    shown.sort();
    assert_eq!(shown, names(&w.maildir));
    for (uid, name) in &known {
        if let Some(was) = first.get(&base(name)) {
            assert_eq!(was, uid, "{name} was there all the time");
        }
    }
    assert_eq!(first.len(), known.values().filter(|n| n.contains(".kept.")).count());
}

#[test]
fn while_others_rename_add_and_remove() {
    race("race", false);
}

#[test]
fn while_others_and_we_do() {
    race("race-both", true);
}

#[test]
fn with_whole_seconds() {
    disk::WHOLE_SECONDS.store(true, Ordering::SeqCst);
    race("race-seconds", true);
    disk::WHOLE_SECONDS.store(false, Ordering::SeqCst);
}
