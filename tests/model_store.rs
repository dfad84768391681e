//! Random operations of sessions, deliveries and other programs on two folders, against a model that is a map. Two
//! daemons share the folders.
//!
//! After every operation both daemons have: the same messages with the same marks under the same UIDs; no UID ever
//! meant another message; new UIDs are above all before; mod-sequences grew; and what `changes_since` tells leads from
//! what a session or a client knew to what is there, be that from before restarts, from the other daemon, or lost.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use gatepost::{
    disk::{self, Draft},
    store::{Append, FlagOp, Flags, Folder, ModSeq, Store, Target, Uid},
};
use proptest::{prelude::*, sample::Index};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

const FOLDERS: [&str; 2] = ["INBOX", "Archive/2024"];
const HOSTS: [&str; 2] = ["one", "two"];

#[derive(Clone, Debug)]
enum Op {
    Deliver {
        folder: usize,
        crlf: bool,
    },
    Append {
        folder: usize,
        count: u8,
        flags: u8,
        keyword: u8,
    },
    Store {
        folder: usize,
        which: Vec<Index>,
        op: u8,
        flags: u8,
        keyword: u8,
    },
    Copy {
        from: usize,
        to: usize,
        which: Vec<Index>,
    },
    Move {
        from: usize,
        to: usize,
        which: Vec<Index>,
    },
    Expunge {
        folder: usize,
        which: Vec<Index>,
    },
    /// A session asks for \Recent, and looks again.
    Recent {
        folder: usize,
    },
    /// The last session goes and another comes.
    Close,
    Restart,
    /// Indexes are written, so that they are believed by whoever opens the folders next.
    Tidy,
    /// An index is deleted, damaged, or an older one is put in its place.
    Spoil {
        folder: usize,
        how: u8,
        at: Index,
    },
    ForeignFlags {
        folder: usize,
        which: Index,
        flags: String,
    },
    ForeignDelivery {
        folder: usize,
        new: bool,
        flags: String,
    },
    ForeignRemoval {
        folder: usize,
        which: Index,
    },
    /// Somebody removed the log while nothing ran.
    LoseLog {
        folder: usize,
    },
    /// A power cut took the end of the log.
    LoseHistory {
        folder: usize,
        bytes: u16,
    },
    /// A power cut took the last lines of the UID list.
    LoseLines {
        folder: usize,
        bytes: u8,
    },
}

/// Which daemon it is that acts, and what it does.
fn op() -> impl Strategy<Value = (usize, Op)> {
    let folder = || 0..FOLDERS.len();
    let which = || prop::collection::vec(any::<Index>(), 1..4);
    let letters = || "[DFPRST]{0,3}X?";
    let op = prop_oneof![
        3 => (folder(), any::<bool>()).prop_map(|(folder, crlf)| Op::Deliver { folder, crlf }),
        2 => (folder(), 1..4u8, 0..64u8, 0..40u8).prop_map(|(folder, count, flags, keyword)| Op::Append { folder, count, flags, keyword }),
        4 => (folder(), which(), 0..3u8, 0..64u8, 0..40u8).prop_map(|(folder, which, op, flags, keyword)| Op::Store { folder, which, op, flags, keyword }),
        2 => (folder(), folder(), which()).prop_map(|(from, to, which)| Op::Copy { from, to, which }),
        2 => (folder(), folder(), which()).prop_map(|(from, to, which)| Op::Move { from, to, which }),
        2 => (folder(), which()).prop_map(|(folder, which)| Op::Expunge { folder, which }),
        1 => folder().prop_map(|folder| Op::Recent { folder }),
        1 => Just(Op::Close),
        1 => Just(Op::Restart),
        1 => Just(Op::Tidy),
        2 => (folder(), 0..4u8, any::<Index>()).prop_map(|(folder, how, at)| Op::Spoil { folder, how, at }),
        2 => (folder(), any::<Index>(), letters()).prop_map(|(folder, which, flags)| Op::ForeignFlags { folder, which, flags }),
        2 => (folder(), any::<bool>(), letters()).prop_map(|(folder, new, flags)| Op::ForeignDelivery { folder, new, flags }),
        1 => (folder(), any::<Index>()).prop_map(|(folder, which)| Op::ForeignRemoval { folder, which }),
        1 => (folder(), any::<u8>()).prop_map(|(folder, bytes)| Op::LoseLines { folder, bytes }),
        1 => folder().prop_map(|folder| Op::LoseLog { folder }),
        1 => (folder(), 0..200u16).prop_map(|(folder, bytes)| Op::LoseHistory { folder, bytes }),
    ];
    (0..2usize, op)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    content: String,
    flags: u8,
    keywords: BTreeSet<String>,
}

/// One folder as it should be.
#[derive(Default)]
struct Model {
    now: BTreeMap<u32, Message>,
    /// What every UID ever meant.
    meant: BTreeMap<u32, String>,
    validity: u32,
    modseq: u64,
    /// What some client once knew, and up to which mod-sequence.
    clients: Vec<Known>,
}

type Known = (u64, BTreeMap<u32, Message>);

struct Daemon {
    store: Arc<Store>,
    folders: Vec<Arc<Folder>>,
    /// What a session knows that never ends.
    known: [Known; 2],
}

impl Daemon {
    fn new(dir: &Path, host: &str) -> Self {
        let store = Store::open(dir, host, |_| Vec::new()).unwrap();
        let folders = open(&store);
        Self { store, folders, known: Default::default() }
    }
}

struct World {
    dir: PathBuf,
    daemons: Vec<Daemon>,
    /// The daemon that acts.
    who: usize,
    models: [Model; 2],
    count: u32,
    /// Indexes as they were some time.
    indexes: [Option<Vec<u8>>; 2],
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn open(store: &Arc<Store>) -> Vec<Arc<Folder>> {
    let home = store.home("alice@example.org").unwrap();
    FOLDERS.iter().map(|f| home.open(f).unwrap()).collect()
}

impl World {
    fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let dir = dir.join(format!("gatepost-model-{}-{:x}", std::process::id(), disk::unique()));
        let store = Store::open(&dir, "host", |_| Vec::new()).unwrap();
        store.home("alice@example.org").unwrap().create(FOLDERS[1]).unwrap();
        let daemons = HOSTS.map(|h| Daemon::new(&dir, h)).into();
        let mut world = Self { dir, daemons, who: 0, models: Default::default(), count: 0, indexes: Default::default() };
        for f in 0..2 {
            (world.models[f].validity, world.models[f].modseq) = (world.folder(f).counts().uid_validity, world.folder(f).uids().1.0);
        }
        world
    }
    fn folder(&self, folder: usize) -> &Folder {
        &self.daemons[self.who].folders[folder]
    }
    fn place(&self, folder: usize) -> PathBuf {
        let maildir = self.dir.join("example.org/alice/Maildir");
        if folder == 0 { maildir } else { maildir.join(".Archive.2024") }
    }
    fn content(&mut self) -> String {
        self.count += 1;
        format!("Subject: {}\r\n\r\n{}\r\n", self.count, "x\r\n".repeat(self.count as usize % 7))
    }
    fn pick(&self, folder: usize, which: &[Index]) -> Vec<Uid> {
        let all: Vec<u32> = self.models[folder].now.keys().copied().collect();
        let picked: BTreeSet<u32> = if all.is_empty() { BTreeSet::new() } else { which.iter().map(|i| *i.get(&all)).collect() };
        picked.into_iter().map(Uid).collect()
    }
    /// The file of a message, as another program finds it.
    fn file(&self, folder: usize, uid: u32) -> PathBuf {
        let want = self.models[folder].now[&uid].content.replace("\r\n", "\n");
        let list = fs::read_to_string(self.place(folder).join("dovecot-uidlist")).unwrap();
        let base = list.lines().find_map(|l| l.strip_prefix(&format!("{uid} "))?.split_once(':').map(|(_, b)| b.to_owned())).unwrap();
        let found = ["new", "cur"].iter().flat_map(|d| fs::read_dir(self.place(folder).join(d)).unwrap()).map(|e| e.unwrap().path());
        let path = found.into_iter().find(|p| p.file_name().unwrap().to_str().unwrap().split(':').next() == Some(&base)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().replace("\r\n", "\n"), want);
        path
    }
    /// Kernels before 6.13 give changes of one tick one time; that is not what is tested here.
    fn touch(&self, folder: usize) {
        for sub in ["new", "cur"] {
            fs::File::open(self.place(folder).join(sub)).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }
    /// Until its directories changed so long ago that a look at them leaves no doubt.
    fn settle(&self, folder: usize) {
        for sub in ["new", "cur"] {
            let changed = disk::stat(&self.place(folder).join(sub)).unwrap().ctime;
            while disk::clock() - changed <= 110_000_000 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
    fn arrived(&mut self, folder: usize, uid: u32, message: Message) {
        let model = &mut self.models[folder];
        let before = model.meant.insert(uid, message.content.clone());
        assert_eq!(before, None, "UID {uid} again");
        assert!(model.meant.keys().next_back() == Some(&uid), "UID {uid} is below {:?}", model.meant.keys().next_back());
        model.now.insert(uid, message);
    }
    /// A message that came without our being told its UID.
    fn found(&mut self, folder: usize, message: Message) {
        self.folder(folder).sync().unwrap();
        let new: Vec<Uid> = self.folder(folder).uids().0.into_iter().filter(|u| !self.models[folder].now.contains_key(&u.0)).collect();
        assert_eq!(new.len(), 1, "{message:?}");
        self.arrived(folder, new[0].0, message);
    }

    fn run(&mut self, op: &Op) {
        let keyword = |n: u8| if n < 36 { BTreeSet::from([format!("k{n}")]) } else { BTreeSet::new() };
        match op.clone() {
            Op::Deliver { folder, crlf } => {
                let content = self.content();
                let text = if crlf { content.clone() } else { content.replace("\r\n", "\n") };
                let to = Target { account: "alice@example.org".to_owned(), folder: Some(FOLDERS[folder].to_owned()) };
                self.daemons[self.who].store.deliver(&[to], b"", &Draft::from_bytes(text.into()), SystemTime::now()).remove(0).unwrap();
                assert_eq!(self.folder(folder).counts().messages as usize, self.models[folder].now.len() + 1, "told at once");
                self.found(folder, Message { content, flags: 0, keywords: BTreeSet::new() });
            }
            Op::Append { folder, count, flags, keyword: k } => {
                let contents: Vec<String> = (0..count).map(|_| self.content()).collect();
                let drafts: Vec<Draft> = contents.iter().map(|c| Draft::from_bytes(c.clone().into())).collect();
                let keywords: Vec<String> = keyword(k).into_iter().collect();
                let appends: Vec<Append<'_>> = drafts
                    .iter()
                    .map(|draft| Append { draft, flags: Flags(flags), keywords: keywords.clone(), internal_date: i64::from(k) })
                    .collect();
                let uids = self.folder(folder).append(&appends).unwrap();
                for (uid, content) in uids.into_iter().zip(contents) {
                    self.arrived(folder, uid.0, Message { content, flags, keywords: keyword(k) });
                }
            }
            Op::Store { folder, which, op, flags, keyword: k } => {
                let uids = self.pick(folder, &which);
                let keywords: Vec<String> = keyword(k).into_iter().collect();
                let how = [FlagOp::Set, FlagOp::Add, FlagOp::Remove][usize::from(op)];
                assert_eq!(self.folder(folder).store_flags(&uids, how, Flags(flags), &keywords).unwrap(), []);
                for uid in uids {
                    let m = self.models[folder].now.get_mut(&uid.0).unwrap();
                    match how {
                        FlagOp::Set => (m.flags, m.keywords) = (flags, keyword(k)),
                        FlagOp::Add => {
                            m.flags |= flags;
                            m.keywords.extend(keyword(k));
                        }
                        FlagOp::Remove => {
                            m.flags &= !flags;
                            m.keywords.retain(|x| !keyword(k).contains(x));
                        }
                    }
                }
            }
            Op::Copy { from, to, which } => {
                for (old, new) in self.folder(from).copy(&self.pick(from, &which), self.folder(to)).unwrap() {
                    let m = self.models[from].now[&old.0].clone();
                    self.arrived(to, new.0, m);
                }
            }
            Op::Move { from, to, which } => {
                let uids = self.pick(from, &which);
                let pairs = self.folder(from).move_to(&uids, self.folder(to)).unwrap();
                assert_eq!(pairs.len(), uids.len());
                for (old, new) in pairs {
                    let m = self.models[from].now.remove(&old.0).unwrap();
                    self.arrived(to, new.0, m);
                }
            }
            Op::Expunge { folder, which } => {
                let uids = self.pick(folder, &which);
                assert_eq!(self.folder(folder).expunge(&uids).unwrap(), uids);
                uids.iter().for_each(|u| drop(self.models[folder].now.remove(&u.0)));
            }
            Op::Recent { folder } => {
                self.folder(folder).take_recent();
                self.folder(folder).sync().unwrap();
                assert_eq!(fs::read_dir(self.place(folder).join("new")).unwrap().count(), 0);
            }
            Op::Close => {
                let daemon = &mut self.daemons[self.who];
                daemon.folders.clear();
                daemon.folders = open(&daemon.store);
            }
            Op::Restart => {
                let before: Vec<_> = (0..2).map(|f| self.folder(f).counts()).collect();
                let daemon = &mut self.daemons[self.who];
                daemon.folders.clear();
                let known = std::mem::take(&mut daemon.known);
                *daemon = Daemon { known, ..Daemon::new(&self.dir, HOSTS[self.who]) };
                for (f, before) in before.into_iter().enumerate() {
                    let now = self.folder(f).counts();
                    // The other one may have been the last to hear of a change.
                    assert_eq!((now.uid_next, now.highest_modseq), (before.uid_next, before.highest_modseq), "{}", FOLDERS[f]);
                }
            }
            Op::Tidy => {
                (0..2).for_each(|f| self.settle(f));
                let daemon = &mut self.daemons[self.who];
                daemon.folders.clear();
                daemon.store.tidy(true);
                daemon.folders = open(&daemon.store);
            }
            Op::Spoil { folder, how, at } => {
                let path = self.place(folder).join("gatepost-index");
                let Some(mut bytes) = fs::read(&path).ok().filter(|b| !b.is_empty()) else { return };
                let old = self.indexes[folder].replace(bytes.clone());
                let n = at.index(bytes.len());
                match (how, old) {
                    (0, _) => fs::remove_file(&path).unwrap(),
                    (1, Some(old)) => fs::write(&path, old).unwrap(),
                    (2, _) => fs::write(&path, &bytes[..n]).unwrap(),
                    _ => {
                        bytes[n] ^= 0x10;
                        fs::write(&path, bytes).unwrap();
                    }
                }
                self.run(&Op::Restart);
            }
            Op::ForeignFlags { folder, which, flags } => {
                let Some(uid) = self.pick(folder, &[which]).pop() else { return };
                let path = self.file(folder, uid.0);
                let base = path.file_name().unwrap().to_str().unwrap().split(':').next().unwrap().to_owned();
                fs::rename(&path, self.place(folder).join("cur").join(format!("{base}:2,{flags}"))).unwrap();
                self.touch(folder);
                // Letters are gone with the old name; the other program knows nothing of them.
                let letters: BTreeSet<String> = self.folder(folder).keywords().into_iter().take(26).collect();
                let m = self.models[folder].now.get_mut(&uid.0).unwrap();
                m.flags = bits(&flags);
                m.keywords.retain(|k| !letters.contains(k));
            }
            Op::ForeignDelivery { folder, new, flags } => {
                let content = self.content();
                let name = format!("{}.foreign_{}.elsewhere", self.count, self.count);
                let (sub, info, flags) = if new { ("new", String::new(), String::new()) } else { ("cur", format!(":2,{flags}"), flags) };
                fs::write(self.place(folder).join(sub).join(name + &info), content.replace("\r\n", "\n")).unwrap();
                self.touch(folder);
                self.found(folder, Message { content, flags: bits(&flags), keywords: BTreeSet::new() });
            }
            Op::ForeignRemoval { folder, which } => {
                let Some(uid) = self.pick(folder, &[which]).pop() else { return };
                fs::remove_file(self.file(folder, uid.0)).unwrap();
                self.touch(folder);
                self.models[folder].now.remove(&uid.0);
            }
            Op::LoseLines { folder, bytes } => {
                let path = self.place(folder).join("dovecot-uidlist");
                self.restart_all(|| {
                    let text = fs::read(&path).unwrap();
                    let header = text.iter().position(|b| *b == b'\n').unwrap() + 1;
                    fs::write(&path, &text[..text.len().saturating_sub(bytes.into()).max(header)]).unwrap();
                });
                self.renumbered(folder);
            }
            Op::LoseLog { folder } => {
                let path = self.place(folder).join("gatepost-log");
                let before = self.models[folder].modseq;
                // Faster than the clock, and ahead of it for seconds after a power cut: no daemon is.
                let ahead = before.saturating_sub(millis());
                if ahead < 1000 {
                    self.restart_all(|| {
                        fs::remove_file(path).unwrap();
                        while millis() <= before {
                            std::thread::yield_now();
                        }
                    });
                    assert!(self.folder(folder).counts().highest_modseq > before);
                }
            }
            Op::LoseHistory { folder, bytes } => {
                let path = self.place(folder).join("gatepost-log");
                let before = self.models[folder].modseq;
                self.restart_all(|| {
                    let text = fs::read(&path).unwrap();
                    // Another file, as after a boot: nobody knows how old it is.
                    fs::write(path.with_extension("copy"), &text[..text.len().saturating_sub(bytes.into()).max(72)]).unwrap();
                    fs::rename(path.with_extension("copy"), &path).unwrap();
                });
                assert!(self.folder(folder).counts().highest_modseq > before);
            }
        }
    }

    /// Stops both daemons, does this, and starts them again.
    fn restart_all(&mut self, meanwhile: impl FnOnce()) {
        let known: Vec<_> = self.daemons.drain(..).map(|d| d.known).collect();
        meanwhile();
        self.daemons = HOSTS.iter().zip(known).map(|(h, known)| Daemon { known, ..Daemon::new(&self.dir, h) }).collect();
    }

    /// Messages whose lines were lost have new UIDs, above all others; the rest keep theirs.
    fn renumbered(&mut self, folder: usize) {
        let there: BTreeSet<u32> = self.folder(folder).uids().0.iter().map(|u| u.0).collect();
        let mut lost: Vec<Message> = Vec::new();
        self.models[folder].now.retain(|uid, m| there.contains(uid) || (lost.push(m.clone()), false).1);
        for uid in there.iter().filter(|u| !self.models[folder].now.contains_key(u)).copied().collect::<Vec<_>>() {
            let content = String::from_utf8(self.folder(folder).read(Uid(uid)).unwrap().unwrap()).unwrap();
            let meta = self.folder(folder).meta(&[Uid(uid)])[0].unwrap();
            // Copies of one message differ in their marks at most.
            let at = lost.iter().position(|m| m.content == content && m.flags == meta.flags.0 && m.keywords == self.keywords(folder, meta.keywords));
            let m = lost.remove(at.expect("one of those that were lost"));
            self.arrived(folder, uid, m);
        }
        assert_eq!(lost, []);
    }

    fn keywords(&self, folder: usize, bits: u64) -> BTreeSet<String> {
        self.folder(folder).keywords().into_iter().enumerate().filter(|(n, _)| bits & 1 << n != 0).map(|(_, k)| k).collect()
    }

    fn check(&mut self) {
        for folder in 0..2 {
            // The second look tells the first daemon what the other found.
            for who in [0, 1, 0] {
                self.who = who;
                self.check_folder(folder);
            }
            let model = &mut self.models[folder];
            if model.clients.len() < 8 || self.count.is_multiple_of(5) {
                model.clients.push((model.modseq, model.now.clone()));
            }
        }
    }

    fn check_folder(&mut self, folder: usize) {
        let f = Arc::clone(&self.daemons[self.who].folders[folder]);
        f.sync().unwrap();
        let mut is = BTreeMap::new();
        for uid in f.uids().0 {
            let meta = f.meta(&[uid])[0].unwrap();
            let content = String::from_utf8(f.read(uid).unwrap().unwrap()).unwrap();
            assert_eq!(content.len() as u64, meta.size);
            is.insert(uid.0, Message { content, flags: meta.flags.0, keywords: self.keywords(folder, meta.keywords) });
        }
        let model = &mut self.models[folder];
        assert_eq!(is, model.now, "{}", FOLDERS[folder]);
        let counts = f.counts();
        assert_eq!((counts.messages as usize, counts.uid_validity), (is.len(), model.validity));
        assert!(model.meant.keys().next_back().is_none_or(|u| counts.uid_next > *u));
        assert_eq!(counts.unseen as usize, is.values().filter(|m| m.flags & Flags::SEEN.0 == 0).count());
        // Whichever of the two is asked.
        assert!(counts.highest_modseq >= model.modseq, "{} after {}", counts.highest_modseq, model.modseq);
        model.modseq = counts.highest_modseq;
        let known = std::mem::take(&mut self.daemons[self.who].known[folder]);
        lead(&f, &known, &is);
        for client in &self.models[folder].clients {
            lead(&f, client, &is);
        }
        self.daemons[self.who].known[folder] = (counts.highest_modseq, is);
    }
}

/// Who knew this is led to what is.
fn lead(f: &Folder, known: &Known, is: &BTreeMap<u32, Message>) {
    let changes = f.changes_since(ModSeq(known.0));
    let mut view: BTreeSet<u32> = known.1.keys().copied().collect();
    for (first, last) in &changes.expunged {
        view.retain(|u| !(first.0..=last.0).contains(u) || is.contains_key(u));
        assert!(is.range(first.0..=last.0).next().is_none(), "{changes:?}");
    }
    view.extend(changes.arrived.iter().chain(&changes.changed).map(|u| u.0));
    assert_eq!(view, is.keys().copied().collect(), "{changes:?} since {}", known.0);
    for (uid, m) in is {
        let same = known.1.get(uid).is_some_and(|k| (k.flags, &k.keywords) == (m.flags, &m.keywords));
        assert!(same || changes.changed.contains(&Uid(*uid)) || changes.arrived.contains(&Uid(*uid)), "{uid} changed, not told");
    }
    assert_eq!(changes.modseq, f.uids().1);
}

/// Since 1970.
fn millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn bits(letters: &str) -> u8 {
    let known = [('S', Flags::SEEN), ('R', Flags::ANSWERED), ('F', Flags::FLAGGED), ('T', Flags::DELETED), ('D', Flags::DRAFT), ('P', Flags::PASSED)];
    known.iter().filter(|(l, _)| letters.contains(*l)).fold(0, |all, (_, f)| all | f.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_a_map(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        for (who, op) in &ops {
            world.who = *who;
            world.run(op);
            world.check();
        }
    }
}
