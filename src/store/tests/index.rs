//! `gatepost-index`: nobody can tell from what a folder shows whether it is there.

use super::{
    super::{Counts, Meta, index, lock},
    *,
};
use crate::disk::fault;

/// All that a folder shows, but for \Recent.
#[derive(Debug, PartialEq, Eq)]
struct View {
    messages: Vec<(Meta, String, (bool, String))>,
    keywords: Vec<String>,
    counts: Counts,
}

fn plain(c: Counts) -> Counts {
    Counts { recent: 0, ..c }
}

fn view(f: &Folder) -> View {
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    let file = |uid: Uid| lock(&f.state).file(uid.0).map(|(is_new, name)| (is_new, text(name))).unwrap();
    let messages = f.uids().0.into_iter().map(|uid| (f.meta(&[uid])[0].unwrap(), text(f.read(uid).unwrap().unwrap()), file(uid)));
    let messages = messages.collect();
    View { messages, keywords: f.keywords(), counts: plain(f.counts()) }
}

/// Until a look at the directories leaves no doubt.
fn settle(dir: &Path) {
    let changed = ["new", "cur"].map(|sub| disk::stat(&dir.join(sub)).unwrap().ctime).into_iter().max().unwrap();
    while disk::clock() - changed <= 110_000_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl World {
    fn index(&self) -> PathBuf {
        self.maildir().join(index::NAME)
    }
    /// Written, and believed by the next.
    fn tidy(&self) {
        settle(&self.maildir());
        assert_eq!(self.store.tidy(true), None);
    }
    /// Messages of every kind: in `new/`, marked, with keywords of both sorts, of ours and of others, and a gap.
    fn furnish(&self) {
        self.deliver("a\r\n");
        self.deliver("b\n");
        let inbox = self.inbox();
        inbox.take_recent();
        inbox.sync().unwrap();
        let names: Vec<String> = (0..30).map(|n| format!("k{n}")).collect();
        inbox.store_flags(&[], FlagOp::Add, Flags::default(), &names).unwrap();
        inbox.store_flags(&[Uid(2)], FlagOp::Add, Flags::SEEN, &[names[3].clone(), names[28].clone()]).unwrap();
        let draft = Draft::from_bytes(b"c\r\n".to_vec());
        let append = |n: i64| Append { draft: &draft, flags: Flags::DRAFT, keywords: vec![], internal_date: n };
        inbox.append(&[append(-7), append(1_000_000_000), append(77)]).unwrap();
        inbox.expunge(&[Uid(4)]).unwrap();
        let cur = self.maildir().join("cur");
        std::fs::write(cur.join("odd name:2,FX"), "d\n").unwrap();
        std::fs::write(cur.join("17.M1P2.kurkku,S=2:2,"), "e\n").unwrap();
        inbox.sync().unwrap();
        self.deliver("f\r\n");
    }
}

#[test]
fn a_folder_that_nobody_touched_is_one_file() {
    let mut w = World::new("one-file");
    w.furnish();
    let before = view(&w.inbox());
    w.tidy();
    w.reopen();
    fault::looks();
    let inbox = w.inbox();
    let (lists, stats) = fault::looks();
    assert!(lists == 2 && stats < 20, "{lists} lists (those that are swept) and {stats} stats");
    assert_eq!(view(&inbox), before);
    // As any other folder it goes on from there.
    w.deliver("g\r\n");
    assert_eq!(inbox.meta(&[Uid(before.counts.uid_next)])[0].unwrap().size, 3);
    drop(inbox);
    w.tidy();
    let written = std::fs::read(w.index()).unwrap();
    // Looked at only: nothing is written.
    w.inbox();
    w.tidy();
    assert_eq!(std::fs::read(w.index()).unwrap(), written);
}

#[test]
fn status_after_a_restart_reads_the_header() {
    let mut w = World::new("status-header");
    w.furnish();
    w.home().create("Trash").unwrap();
    let names: Vec<String> = w.home().list().unwrap().into_iter().map(|l| l.name).collect();
    let counts: Vec<Counts> = names.iter().map(|n| w.home().status(n).unwrap()).collect();
    settle(&w.maildir().join(".Trash"));
    w.tidy();
    w.reopen();
    fault::looks();
    let again: Vec<Counts> = names.iter().map(|n| w.home().status(n).unwrap()).collect();
    let (lists, stats) = fault::looks();
    assert!(lists <= names.len() as u64 && stats < 6 * names.len() as u64, "{lists} lists, {stats} stats");
    assert!(lock(&w.store.leaving).take(&w.maildir()).is_none() && w.store.rest(&w.maildir()).is_none(), "nothing was opened");
    assert_eq!(again[0].recent, 1, "what is in new/");
    let all = |c: &[Counts]| c.iter().copied().map(plain).collect::<Vec<_>>();
    assert_eq!(all(&again), all(&counts));
    // Not when something came, went or was renumbered.
    w.deliver("x\r\n");
    assert_eq!(w.home().status("INBOX").unwrap().messages, counts[0].messages + 1);
}

#[test]
fn damage_anywhere_changes_nothing() {
    let mut w = World::new("index-damage");
    w.furnish();
    w.inbox();
    w.tidy();
    w.reopen();
    let good = view(&w.inbox());
    let bytes = std::fs::read(w.index()).unwrap();
    let mut try_with = |damaged: Option<Vec<u8>>, what: &str| {
        match damaged {
            Some(d) => std::fs::write(w.index(), d).unwrap(),
            None => std::fs::remove_file(w.index()).unwrap(),
        }
        w.reopen();
        let status = w.home().status("INBOX").unwrap();
        assert_eq!(plain(status), good.counts, "{what}");
        assert_eq!(view(&w.inbox()), good, "{what}");
    };
    try_with(None, "deleted");
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        try_with(Some(flipped), &format!("byte {at} flipped"));
    }
    for len in (0..bytes.len()).step_by(3) {
        try_with(Some(bytes[..len].to_vec()), &format!("cut at {len}"));
        let zeros = [&bytes[..len], &vec![0; bytes.len() - len]].concat();
        try_with(Some(zeros), &format!("zeros from {len}"));
    }
    try_with(Some(vec![0xff; 5000]), "noise");
    try_with(Some([&bytes[..], b"x"].concat()), "longer");
    try_with(Some(bytes), "whole");
}

#[test]
fn what_others_did_meanwhile_is_found() {
    let mut w = World::new("meanwhile");
    w.furnish();
    let before = view(&w.inbox());
    w.tidy();
    let (cur, new) = (w.maildir().join("cur"), w.maildir().join("new"));
    let index = std::fs::read(w.index()).unwrap();
    w.reopen();
    // One removed, one marked, one moved, one more on either side, and a directory whose mtime says that nothing happened.
    std::fs::remove_file(cur.join("odd name:2,FX")).unwrap();
    std::fs::rename(cur.join("17.M1P2.kurkku,S=2:2,"), cur.join("17.M1P2.kurkku,S=2:2,Sb")).unwrap();
    let letter = files(&new).pop().unwrap();
    std::fs::rename(new.join(&letter), cur.join(format!("{letter}:2,T"))).unwrap();
    std::fs::write(cur.join("5.h:2,S"), "y\n").unwrap();
    std::fs::write(new.join("6.h"), "z\n").unwrap();
    for dir in [&cur, &new] {
        std::fs::File::open(dir).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let with = view(&w.inbox());
    assert_eq!(with.counts.messages, before.counts.messages + 1);
    let flags = |v: &View, uid: u32| v.messages.iter().find(|m| m.0.uid == Uid(uid)).map(|m| (m.0.flags, m.0.keywords));
    let uid_of = |text: &str| before.messages.iter().find(|m| m.1 == text).unwrap().0.uid.0;
    assert_eq!(flags(&with, uid_of("d\r\n")), None);
    assert_eq!(flags(&with, uid_of("e\r\n")), Some((Flags::SEEN, 2)));
    assert_eq!(flags(&with, uid_of("f\r\n")), Some((Flags::DELETED, 0)));
    assert_eq!(with.messages.last().unwrap().1, "z\r\n");
    // Without an index, and with that old one again, it is the same.
    let list = std::fs::read(w.maildir().join("dovecot-uidlist")).unwrap();
    for old in [None, Some(&index)] {
        match old {
            None => drop(std::fs::remove_file(w.index())),
            Some(old) => std::fs::write(w.index(), old).unwrap(),
        }
        w.reopen();
        let again = view(&w.inbox());
        assert_eq!((&again.messages, &again.keywords), (&with.messages, &with.keywords));
        std::fs::write(w.maildir().join("dovecot-uidlist"), &list).unwrap();
    }
}

#[test]
fn a_restored_backup_is_what_counts() {
    let mut w = World::new("backup");
    w.furnish();
    let then = view(&w.inbox());
    w.tidy();
    let copy = w.dir.path().join("backup");
    let cp = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    cp(&w.maildir(), &copy);
    let inbox = w.inbox();
    let all = inbox.uids().0;
    inbox.expunge(&all[1..3]).unwrap();
    inbox.store_flags(&all[..1], FlagOp::Add, Flags::FLAGGED, &["k29".to_owned()]).unwrap();
    w.deliver("later\r\n");
    let last = inbox.counts().uid_next;
    drop(inbox);
    w.tidy();
    let newer = std::fs::read(w.index()).unwrap();
    for index_too in [true, false] {
        w.reopen();
        std::fs::remove_dir_all(w.maildir()).unwrap();
        cp(&copy, &w.maildir());
        if !index_too {
            // Somebody leaves it out of the backup, so that the later one stays.
            std::fs::write(w.index(), &newer).unwrap();
        }
        let mut now = view(&w.inbox());
        // Of a log that is a copy nobody knows how old it is.
        assert!(now.counts.highest_modseq > then.counts.highest_modseq);
        now.messages.iter_mut().zip(&then.messages).for_each(|(now, then)| now.0.modseq = then.0.modseq);
        assert_eq!((&now.messages, &now.keywords), (&then.messages, &then.keywords));
        w.deliver("after\r\n");
        let uid = uids(&w.inbox()).pop().unwrap();
        assert!(uid >= if index_too { then.counts.uid_next } else { last }, "{uid}");
    }
}

#[test]
fn after_a_boot_numbers_go_on_above_the_reserved() {
    let mut w = World::new("boot");
    w.furnish();
    let next = w.inbox().counts().uid_next;
    w.tidy();
    let rewrite = |w: &World, boot| {
        let mut index = index::read(&w.maildir()).unwrap();
        let state = index.state().unwrap();
        index.header.boot = boot;
        index::write(&w.maildir(), &index::encode(&index.header, &state).unwrap()).unwrap();
        index.header.seen.reserved
    };
    rewrite(&w, disk::boot_id());
    w.reopen();
    assert_eq!((w.home().status("INBOX").unwrap().uid_next, w.inbox().counts().uid_next), (next, next));
    let reserved = rewrite(&w, Some([7; 16]));
    assert!(reserved > next);
    w.reopen();
    assert_eq!((w.home().status("INBOX").unwrap().uid_next, w.inbox().counts().uid_next), (reserved, reserved));
}

#[test]
fn without_an_index_all_goes_on() {
    let mut w = World::new("no-index");
    // Nothing can be put there: as if the disk were full, or read-only.
    std::fs::create_dir_all(w.index().join("x")).unwrap();
    w.furnish();
    let before = view(&w.inbox());
    w.tidy();
    assert!(lock(&w.store.leaving).take(&w.maildir()).is_none(), "not tried for ever");
    assert_eq!(w.home().status("INBOX").unwrap().uid_next, before.counts.uid_next);
    w.deliver("x\r\n");
    assert_eq!(uids(&w.inbox()).pop(), Some(before.counts.uid_next), "numbering goes on without a gap");
    assert_eq!(files(&w.maildir()).iter().filter(|f| f.ends_with(".tmp")).count(), 0);
    w.reopen();
    assert_eq!(view(&w.inbox()).messages[..before.messages.len()], before.messages);
}

#[test]
fn a_closed_folder_is_taken_back_from_memory() {
    let w = World::new("taken-back");
    w.furnish();
    w.home().create("x").unwrap();
    w.home().create("y").unwrap();
    let inbox = w.inbox();
    assert_eq!(inbox.take_recent(), [Uid(3), Uid(5), Uid(8)]);
    let before = inbox.uids().1;
    inbox.store_flags(&[Uid(1)], FlagOp::Add, Flags::SEEN, &[]).unwrap();
    drop(inbox);
    let inbox = w.inbox();
    assert_eq!(inbox.changes_since(before).changed, [Uid(1)], "its history too");
    assert_eq!(inbox.take_recent(), []);
    drop(inbox);
    // Renamed or deleted, what was known of the old place is nothing there.
    for name in ["x", "y"] {
        w.home().open(name).unwrap();
    }
    w.home().rename("x", "z").unwrap();
    w.home().delete("y").unwrap();
    w.home().create("x").unwrap();
    assert_ne!(w.home().open("x").unwrap().counts().uid_validity, w.home().open("z").unwrap().counts().uid_validity);
    w.tidy();
    assert!(!w.maildir().join(".y").exists());
    for name in [".x", ".z"] {
        assert!(w.maildir().join(name).join(index::NAME).is_file());
    }
}

#[test]
fn one_in_which_much_changed_is_written_while_it_is_open() {
    let mut w = World::new("much");
    let inbox = w.inbox();
    let draft = Draft::from_bytes(b"c\r\n".to_vec());
    let append = |n: usize| {
        let all: Vec<_> = (0..n).map(|_| Append { draft: &draft, flags: Flags::default(), keywords: vec![], internal_date: 0 }).collect();
        inbox.append(&all).unwrap()
    };
    append(1000);
    let untidy = w.store.untidy();
    w.tidy();
    assert!(!w.index().exists());
    append(10);
    untidy.wait_timeout(Duration::from_secs(5)).expect("told");
    w.tidy();
    assert!(w.index().is_file());
    let before = view(&inbox);
    // Killed.
    std::mem::forget(inbox);
    w.reopen();
    fault::looks();
    let inbox = w.inbox();
    let (lists, stats) = fault::looks();
    assert!(view(&inbox) == before && lists == 2 && stats < 20, "{lists} lists, {stats} stats");
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let w = World::new("room");
    let names: Vec<String> = (0..3).map(|n| format!("f{n}")).collect();
    for name in &names {
        w.home().create(name).unwrap();
        w.home().open(name).unwrap();
    }
    assert_eq!(lock(&w.store.leaving).len(), 3);
    lock(&w.store.leaving).crowd();
    w.deliver("x\r\n");
    w.inbox();
    assert_eq!(uids(&w.inbox()), [1]);
    assert_eq!(lock(&w.store.leaving).len(), 3);
    w.tidy();
    assert_eq!(lock(&w.store.leaving).len(), 0);
}
