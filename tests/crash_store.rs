//! Invariants 1 to 5 and 7 of the disk layout: the program is killed, or a disk operation fails, at every step of
//! a scenario. Nothing acknowledged is lost, no message is there by halves, no UID is used twice or moves, an
//! operation that failed changed nothing, and whoever remembers what was there at a mod-sequence that was told is led
//! to what is there now.
//!
//! The test starts itself anew for every step, so that `kill -9` is one.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use gatepost::{
    disk::{
        self, Draft,
        fault::{self, Kind},
    },
    store::{Append, FlagOp, Flags, Folder, Level, Limits, ModSeq, Quotas, Store, Target, Uid},
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::SystemTime,
};

const FOLDERS: [&str; 2] = ["INBOX", "Trash"];

#[derive(Clone, Copy)]
enum Op {
    Deliver(&'static str),
    /// To bob and alice; only alice's counts here.
    DeliverBoth(&'static str),
    /// Into Trash.
    Append(&'static [&'static str]),
    /// In INBOX: \Seen and a keyword.
    Flag(&'static str, &'static str),
    Copy(&'static [&'static str]),
    Move(&'static [&'static str]),
    /// From Trash.
    Expunge(&'static str),
    /// Closes and opens the folders.
    Reopen,
    /// Closes them, has their indexes written, and opens them.
    Tidy,
}

/// Contents say which message it is. `k30` is a keyword without a letter.
const OPS: &[Op] = &[
    Op::Deliver("one"),
    Op::Flag("one", "k3"),
    Op::Append(&["two", "three"]),
    Op::DeliverBoth("four"),
    Op::Flag("four", "k30"),
    Op::Flag("start", "fresh"),
    Op::Tidy,
    Op::Copy(&["one", "start"]),
    Op::Reopen,
    Op::Deliver("five"),
    Op::Move(&["four", "five"]),
    Op::Expunge("two"),
    Op::Tidy,
    Op::Reopen,
    Op::Append(&["six"]),
];

/// Flags and keywords.
type Marks = (u8, BTreeSet<String>);
/// Content to marks.
type Messages = BTreeMap<String, Marks>;

/// What should be there after so many operations.
fn after(ops: usize) -> [Messages; 2] {
    let none = || (0, BTreeSet::new());
    let (mut inbox, mut trash) = (BTreeMap::from([("start".to_owned(), none())]), BTreeMap::new());
    for op in &OPS[..ops] {
        match op {
            Op::Deliver(c) | Op::DeliverBoth(c) => drop(inbox.insert((*c).to_owned(), none())),
            Op::Append(all) => all.iter().for_each(|c| drop(trash.insert((*c).to_owned(), (Flags::DRAFT.0, BTreeSet::from(["k2".to_owned()]))))),
            Op::Flag(c, k) => {
                let m = inbox.get_mut(*c).unwrap();
                m.0 |= Flags::SEEN.0;
                m.1.insert((*k).to_owned());
            }
            Op::Copy(all) => all.iter().for_each(|c| drop(trash.insert((*c).to_owned(), inbox[*c].clone()))),
            Op::Move(all) => all.iter().for_each(|c| drop(trash.insert((*c).to_owned(), inbox.remove(*c).unwrap()))),
            Op::Expunge(c) => drop(trash.remove(*c)),
            Op::Reopen | Op::Tidy => {}
        }
    }
    [inbox, trash]
}

fn text(content: &str) -> Draft {
    Draft::from_bytes(format!("Subject: {content}\r\n\r\n{}\r\n", content.repeat(1000)).into_bytes())
}

fn open(dir: &Path) -> Arc<Store> {
    let store = Store::open(&dir.join("mail"), "host", |_| Vec::new()).unwrap();
    store.set_quotas(Roomy);
    store
}

/// Alice has limits, far away: all she does is booked.
struct Roomy;

impl Quotas for Roomy {
    fn limits(&self, account: &str) -> Limits {
        if account.starts_with("alice@") { Limits { bytes: 1 << 40, messages: 100_000 } } else { Limits::default() }
    }
    fn levels(&self) -> Vec<u8> {
        vec![80]
    }
    fn warning(&self, _: &str, _: &Level, _: SystemTime) -> Vec<u8> {
        unreachable!("far away")
    }
}

/// What the books say, when they can be read.
fn booked(maildir: &Path) -> Option<(i64, i64)> {
    let text = fs::read_to_string(maildir.join("maildirsize")).ok()?;
    let numbers = |line: &str| {
        let (size, count) = line.split_once(' ')?;
        Some((size.parse::<i64>().ok()?, count.parse::<i64>().ok()?))
    };
    text.strip_suffix('\n')?.lines().skip(1).map(numbers).try_fold((0, 0), |sum, line| line.map(|(s, c)| (sum.0 + s, sum.1 + c)))
}

fn kept(maildir: &Path) -> (i64, i64) {
    let dirs = FOLDERS.iter().map(|f| if *f == "INBOX" { maildir.to_owned() } else { maildir.join(format!(".{f}")) });
    let files = dirs.flat_map(|d| [d.join("new"), d.join("cur")]).flat_map(|d| fs::read_dir(d).unwrap());
    files.fold((0, 0), |sum, f| (sum.0 + i64::try_from(f.unwrap().metadata().unwrap().len()).unwrap(), sum.1 + 1))
}

fn folder(store: &Arc<Store>, name: &str) -> gatepost::store::Result<Arc<Folder>> {
    store.home("alice@example.org").unwrap().open(name)
}

/// What a folder shows: UID to content, and the marks.
fn look(f: &Folder) -> (BTreeMap<u32, String>, Messages) {
    let (mut uids, mut model) = (BTreeMap::new(), BTreeMap::new());
    let names = f.keywords();
    for uid in f.uids().0 {
        let bytes = f.read(uid).unwrap().unwrap();
        let s = String::from_utf8(bytes.clone()).unwrap();
        let content = s.lines().next().unwrap_or("").strip_prefix("Subject: ").unwrap_or("").to_owned();
        assert_eq!(*text(&content).bytes().unwrap(), bytes[..], "a message by halves");
        let meta = f.meta(&[uid])[0].unwrap();
        assert_eq!(meta.size, bytes.len() as u64);
        let keywords = names.iter().enumerate().filter(|(n, _)| meta.keywords & 1 << n != 0).map(|(_, k)| k.clone()).collect();
        uids.insert(uid.0, content.clone());
        assert!(model.insert(content.clone(), (meta.flags.0, keywords)).is_none(), "{content} twice");
    }
    (uids, model)
}

/// Of every message, by UID.
fn marks(f: &Folder) -> BTreeMap<u32, Marks> {
    let names = f.keywords();
    let keywords = |bits: u64| names.iter().enumerate().filter(|(n, _)| bits & 1 << n != 0).map(|(_, k)| k.clone()).collect();
    f.meta(&f.uids().0).into_iter().flatten().map(|m| (m.uid.0, (m.flags.0, keywords(m.keywords)))).collect()
}

/// Who knew this at that mod-sequence is led to what is.
fn lead(f: &Folder, modseq: u64, knew: &BTreeMap<u32, Marks>, what: &str) {
    let (is, changes) = (marks(f), f.changes_since(ModSeq(modseq)));
    let mut has = knew.clone();
    has.retain(|uid, _| !changes.expunged.iter().any(|(first, last)| (first.0..=last.0).contains(uid)));
    for uid in changes.changed.iter().chain(&changes.arrived) {
        has.insert(uid.0, is[&uid.0].clone());
    }
    assert_eq!(has, is, "{what}: {} since {modseq}: {changes:?}", f.name());
}

struct Child {
    dir: PathBuf,
    store: Arc<Store>,
    folders: Vec<Arc<Folder>>,
    disarmed: Cell<bool>,
}

impl Child {
    fn say(&self, line: &str) {
        let mut f = fs::OpenOptions::new().append(true).create(true).open(self.dir.join("log")).unwrap();
        f.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    fn uid(&self, folder: usize, content: &str) -> Uid {
        let f = &self.folders[folder];
        let begin = format!("Subject: {content}\r\n");
        let find = || f.uids().0.into_iter().find(|u| f.read(*u).unwrap().unwrap().starts_with(begin.as_bytes()));
        find().unwrap_or_else(|| {
            // Delivered and safe, but the disk was too full to number it: now there is room again.
            fault::disarm();
            self.disarmed.set(true);
            f.sync().unwrap();
            find().expect("the message of this content")
        })
    }
    fn tell_uids(&self) {
        for (f, name) in self.folders.iter().zip(FOLDERS) {
            let c = f.counts();
            self.say(&format!("state {name} {} {}", c.uid_validity, c.highest_modseq));
            for (uid, content) in look(f).0 {
                self.say(&format!("uid {name} {uid} {content}"));
            }
            let marks = marks(f).into_iter().map(|(uid, (flags, k))| format!(" {uid}:{flags}:{}", k.into_iter().collect::<Vec<_>>().join(",")));
            self.say(&format!("knew {name} {}{}", f.uids().1.0, marks.collect::<String>()));
        }
    }
    fn run(&mut self, op: Op) -> gatepost::store::Result<()> {
        let to = |a: &str| Target { account: format!("{a}@example.org"), folder: None };
        let uids = |all: &[&str]| all.iter().map(|c| self.uid(0, c)).collect::<Vec<_>>();
        match op {
            Op::Deliver(c) => self.store.deliver(&[to("alice")], b"", &text(c), SystemTime::now()).remove(0)?,
            Op::DeliverBoth(c) => self.store.deliver(&[to("bob"), to("alice")], b"", &text(c), SystemTime::now()).remove(1)?,
            Op::Append(all) => {
                let drafts: Vec<Draft> = all.iter().map(|c| text(c)).collect();
                let append = |draft| Append { draft, flags: Flags::DRAFT, keywords: vec!["k2".to_owned()], internal_date: 1_000_000 };
                let messages: Vec<Append<'_>> = drafts.iter().map(append).collect();
                self.folders[1].append(&messages)?;
            }
            Op::Flag(c, k) => drop(self.folders[0].store_flags(&uids(&[c]), FlagOp::Add, Flags::SEEN, &[k.to_owned()])?),
            Op::Copy(all) => drop(self.folders[0].copy(&uids(all), &self.folders[1])?),
            Op::Move(all) => drop(self.folders[0].move_to(&uids(all), &self.folders[1])?),
            Op::Expunge(c) => drop(self.folders[1].expunge(&[self.uid(1, c)])?),
            Op::Reopen | Op::Tidy => {
                self.folders.clear();
                if matches!(op, Op::Tidy) {
                    self.store.tidy(true);
                } else {
                    self.store = open(&self.dir);
                }
                self.folders = FOLDERS.iter().map(|f| folder(&self.store, f)).collect::<Result<_, _>>()?;
            }
        }
        Ok(())
    }
}

/// In the child process: the scenario with the fault armed.
#[test]
fn child() {
    let Ok(plan) = std::env::var("CRASH_PLAN") else { return };
    let mut plan = plan.split(' ');
    let mut next = || plan.next().unwrap();
    let (dir, kind, n): (PathBuf, _, i64) = (next().into(), next(), next().parse().unwrap());
    let kind = match kind {
        "kill" => Kind::Kill,
        "io" => Kind::Io,
        _ => Kind::Full,
    };
    let store = open(&dir);
    let folders = FOLDERS.iter().map(|f| folder(&store, f).unwrap()).collect();
    let mut child = Child { dir, store, folders, disarmed: Cell::new(false) };
    child.tell_uids();
    fault::arm(n, kind);
    for (done, op) in OPS.iter().enumerate() {
        if let Err(e) = child.run(*op) {
            fault::disarm();
            // Reopen may have left nothing open.
            child.folders = FOLDERS.iter().map(|f| folder(&child.store, f).unwrap()).collect();
            for (f, want) in child.folders.iter().zip(after(done)) {
                f.sync().unwrap();
                assert_eq!(look(f).1, want, "{} after operation {done} failed: {e}", f.name());
            }
            child.tell_uids();
            child.say(&format!("failed {done}"));
            return;
        }
        child.tell_uids();
        child.say(&format!("done {}", done + 1));
    }
    if fault::disarm() > 0 && !child.disarmed.get() {
        child.say("through");
    }
}

fn prepare(dir: &Path) {
    let store = open(dir);
    let home = store.home("alice@example.org").unwrap();
    home.prepare().unwrap();
    for name in FOLDERS {
        let names: Vec<String> = (0..32).map(|n| format!("k{n}")).collect();
        home.open(name).unwrap().store_flags(&[], FlagOp::Add, Flags::default(), &names).unwrap();
    }
    let to = Target { account: "alice@example.org".to_owned(), folder: None };
    store.deliver(&[to], b"", &text("start"), SystemTime::now()).remove(0).unwrap();
}

/// What the child said before it ended.
#[derive(Default)]
struct Told {
    done: usize,
    failed: bool,
    through: bool,
    uids: BTreeSet<(String, u32, String)>,
    /// UIDVALIDITY and highest mod-sequence.
    state: BTreeMap<String, (u32, u64)>,
    /// Marks by UID at a mod-sequence of a folder.
    knew: Vec<(String, u64, BTreeMap<u32, Marks>)>,
}

fn told(dir: &Path) -> Told {
    let mut t = Told::default();
    for line in fs::read_to_string(dir.join("log")).unwrap().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["done", n] => t.done = n.parse().unwrap(),
            ["failed", _] => t.failed = true,
            ["through"] => t.through = true,
            ["uid", folder, uid, content] => drop(t.uids.insert((folder.to_owned(), uid.parse().unwrap(), content.to_owned()))),
            ["state", folder, validity, modseq] => drop(t.state.insert(folder.to_owned(), (validity.parse().unwrap(), modseq.parse().unwrap()))),
            ["knew", folder, modseq, ref marks @ ..] => {
                let marks = marks.iter().map(|m| {
                    let [uid, flags, keywords] = m.split(':').collect::<Vec<_>>()[..] else { panic!("{line}") };
                    let keywords = keywords.split(',').filter(|k| !k.is_empty()).map(str::to_owned).collect();
                    (uid.parse().unwrap(), (flags.parse().unwrap(), keywords))
                });
                t.knew.push((folder.to_owned(), modseq.parse().unwrap(), marks.collect()));
            }
            _ => panic!("{line}"),
        }
    }
    t
}

/// What was told against what is there now. True when no fault was left to come.
fn check(dir: &Path, what: &str) -> bool {
    let told = told(dir);
    let (before, next) = (after(told.done), after(if told.failed || told.done == OPS.len() { told.done } else { told.done + 1 }));
    // A quota may hold somebody up for too much in the books, never let through what is not there.
    if let Some(booked) = booked(&place(dir, "INBOX")) {
        let kept = kept(&place(dir, "INBOX"));
        assert!(booked.0 >= kept.0 && booked.1 >= kept.1, "{what}: {booked:?} booked, {kept:?} kept");
        assert!(booked == kept || !told.through, "{what}: {booked:?} booked, {kept:?} kept, and nothing failed");
    }
    let store = open(dir);
    for ((name, old), new) in FOLDERS.into_iter().zip(before).zip(next) {
        let f = folder(&store, name).unwrap();
        let (uids, model) = look(&f);
        for content in old.keys().chain(new.keys()).chain(model.keys()) {
            let (is, was, then) = (model.get(content), old.get(content), new.get(content));
            // STORE of several marks, killed, may have done some; none was acknowledged.
            let half = |(flags, keywords): &Marks| {
                [was, then].iter().flatten().any(|m| m.0 == *flags) && [was, then].iter().flatten().any(|m| m.1 == *keywords)
            };
            assert!(
                is == was || is == then || (!told.failed && was.is_some() && is.is_some_and(half)),
                "{what}: {name} {content} is {is:?}, was {was:?}, or then {then:?}"
            );
        }
        let c = f.counts();
        let (validity, modseq) = told.state[name];
        assert_eq!(c.uid_validity, validity, "{what}: {name}");
        assert!(c.highest_modseq >= modseq, "{what}: {name} {} after {modseq}", c.highest_modseq);
        for (_, modseq, knew) in told.knew.iter().filter(|(folder, ..)| folder == name) {
            lead(&f, *modseq, knew, what);
        }
        let mut highest = 0;
        for (_, uid, content) in told.uids.iter().filter(|(f, ..)| *f == name) {
            highest = highest.max(*uid);
            match uids.get(uid) {
                Some(is) => assert_eq!(is, content, "{what}: {name} UID {uid} moved"),
                None => assert!(!old.contains_key(content) || !new.contains_key(content), "{what}: {name} UID {uid} of {content} lost: {uids:?}"),
            }
        }
        let draft = text("last");
        let given = f.append(&[Append { draft: &draft, flags: Flags::default(), keywords: vec![], internal_date: 0 }]).unwrap();
        assert!(given[0].0 > highest, "{what}: {name} UID {given:?} again");
        let litter = fs::read_dir(place(dir, name)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let litter: Vec<String> = litter.filter(|n| n.ends_with(".lock") || (told.failed && n.ends_with(".tmp"))).collect();
        assert!(litter.is_empty(), "{what}: {litter:?}");
    }
    told.through
}

fn place(dir: &Path, name: &str) -> PathBuf {
    let maildir = dir.join("mail/example.org/alice/Maildir");
    if name == "INBOX" { maildir } else { maildir.join(format!(".{name}")) }
}

fn every_step(kind: &str) {
    // A crash of the program, not of the machine: what counts is the order of the steps, not the disk.
    let shm = Path::new("/dev/shm");
    let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    let root = root.join(format!("gatepost-crash-{kind}-{:x}", disk::unique()));
    for n in 0.. {
        let what = format!("{kind} at step {n}");
        let dir = root.join(n.to_string());
        prepare(&dir);
        let plan = format!("{} {kind} {n}", dir.display());
        let out = Command::new(std::env::current_exe().unwrap()).args(["--exact", "child", "--nocapture"]).env("CRASH_PLAN", plan).output().unwrap();
        let killed = kind == "kill" && out.status.code().is_none();
        assert!(out.status.success() || killed, "{what}: {}", String::from_utf8_lossy(&out.stderr));
        let through = check(&dir, &what);
        fs::remove_dir_all(&dir).unwrap();
        if through {
            assert!(n > 50, "the scenario has more steps than {n}");
            break;
        }
    }
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn killed_at_every_step() {
    every_step("kill");
}
#[test]
fn an_io_error_at_every_step() {
    every_step("io");
}
#[test]
fn a_full_disk_from_every_step() {
    every_step("full");
}
