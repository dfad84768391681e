//! The room from its door, on real files.

use super::{Append, Error, FlagOp, Flags, Folder, Home, ModSeq, Store, Stored, Target, Uid, scratch};
use crate::disk::{self, Draft};
use event_listener::Listener;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

mod index;
mod quota;
mod summaries;
mod takeover;
mod two;

struct World {
    dir: scratch::Dir,
    store: Arc<Store>,
}

impl World {
    fn new(what: &str) -> Self {
        let dir = scratch::Dir::new(what);
        let store = Store::open(&dir.path().join("mail"), "host", |m| m[..m.len().min(4)].to_vec()).unwrap();
        Self { dir, store }
    }
    fn home(&self) -> Home {
        self.store.home("alice@example.org").unwrap()
    }
    fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail/example.org/alice/Maildir")
    }
    fn deliver(&self, text: &str) {
        let to = Target { account: "alice@example.org".to_owned(), folder: None };
        for r in self.store.deliver(&[to], b"", &Draft::from_bytes(text.into()), SystemTime::now()) {
            r.unwrap();
        }
    }
    fn inbox(&self) -> Arc<Folder> {
        self.home().open("INBOX").unwrap()
    }
    /// As after a restart.
    fn reopen(&mut self) {
        self.store = Store::open(&self.dir.path().join("mail"), "host", |m| m[..m.len().min(4)].to_vec()).unwrap();
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn uids(f: &Folder) -> Vec<u32> {
    f.uids().0.iter().map(|u| u.0).collect()
}

#[test]
fn a_message_from_delivery_to_flags() {
    let mut w = World::new("way");
    w.deliver("Subject: one\n\nx\n");
    w.deliver("Subject: two\r\n\r\ny\r\n");
    let inbox = w.inbox();
    assert_eq!(uids(&inbox), [1, 2]);
    assert_eq!(inbox.read(Uid(1)).unwrap().unwrap(), b"Subject: one\r\n\r\nx\r\n");
    assert_eq!(inbox.read(Uid(2)).unwrap().unwrap(), b"Subject: two\r\n\r\ny\r\n");
    let meta = inbox.meta(&[Uid(1), Uid(2), Uid(3)]);
    assert_eq!(meta[0].unwrap().size, 19);
    assert!(meta[2].is_none());
    assert_eq!(inbox.take_recent(), [Uid(1), Uid(2)]);
    assert_eq!(inbox.take_recent(), []);
    assert_eq!(files(&w.maildir().join("new")).len(), 2);
    inbox.sync().unwrap();
    assert!(files(&w.maildir().join("new")).is_empty());
    assert!(files(&w.maildir().join("cur")).iter().all(|n| n.ends_with(":2,")));
    let before = inbox.uids().1;
    assert_eq!(inbox.store_flags(&[Uid(1), Uid(9)], FlagOp::Add, Flags::SEEN, &["$Label".to_owned()]).unwrap(), [Uid(9)]);
    assert_eq!(inbox.changes_since(before).changed, [Uid(1)]);
    assert_eq!(inbox.keywords(), ["$Label"]);
    let counts = inbox.counts();
    assert_eq!((counts.messages, counts.unseen, counts.uid_next), (2, 1, 3));
    drop(inbox);
    w.reopen();
    let inbox = w.inbox();
    let meta = inbox.meta(&[Uid(1)])[0].unwrap();
    assert_eq!((meta.flags, meta.keywords), (Flags::SEEN, 1));
    assert_eq!(inbox.keywords(), ["$Label"]);
    assert_eq!((inbox.counts().uid_validity, uids(&inbox)), (counts.uid_validity, vec![1, 2]));
    assert_eq!(inbox.counts(), counts);
    assert_eq!(inbox.changes_since(before).changed, [Uid(1)]);
}

#[test]
fn a_store_that_was_overtaken_is_refused() {
    let w = World::new("unless");
    for n in 0..4 {
        w.deliver(&format!("{n}\r\n"));
    }
    let inbox = w.inbox();
    let seen_by = inbox.uids().1;
    let unless = |uids: &[u32], limit| {
        let uids: Vec<Uid> = uids.iter().copied().map(Uid).collect();
        inbox.store_flags_unless(&uids, FlagOp::Add, Flags::FLAGGED.with(Flags::DELETED), &[], Some(limit)).unwrap()
    };
    let flags = || inbox.meta(&(1..=4).map(Uid).collect::<Vec<_>>()).iter().map(|m| m.map(|m| m.flags.0)).collect::<Vec<_>>();
    inbox.store_flags(&[Uid(2)], FlagOp::Add, Flags::FLAGGED, &[]).unwrap();
    // Another program marks the last, and nobody looked since.
    let last = files(&w.maildir().join("new")).pop().unwrap();
    std::fs::rename(w.maildir().join("new").join(&last), w.maildir().join("cur").join(format!("{last}:2,F"))).unwrap();
    // Where the clock of files is coarse, that may have been in the tick of our own last change.
    for sub in ["new", "cur"].map(|sub| w.maildir().join(sub)) {
        let before = disk::stat(&sub).unwrap().ctime;
        while disk::stat(&sub).unwrap().ctime == before {
            std::fs::File::open(&sub).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }
    inbox.expunge(&[Uid(3)]).unwrap();
    let stored = unless(&[4, 3, 2, 1, 1], seen_by);
    assert_eq!((stored.gone, stored.modified), (vec![Uid(3)], vec![Uid(2), Uid(4)]));
    assert_eq!(flags(), [Some(12), Some(4), None, Some(4)]);
    // With what it knows by now, the client gets its way; zero never does (RFC 7162 §3.1.3).
    assert_eq!(unless(&[1, 2, 4], ModSeq(0)).modified, [Uid(1), Uid(2), Uid(4)]);
    assert_eq!(unless(&[1, 2, 4], inbox.uids().1), Stored::default());
    assert_eq!(flags(), [Some(12), Some(12), None, Some(12)]);
    // Nobody touched this flag (§3.1.12); but who sets them all would take away the others'.
    let seen = |op| inbox.store_flags_unless(&[Uid(2), Uid(4)], op, Flags::SEEN, &["work".to_owned()], Some(seen_by)).unwrap().modified;
    assert_eq!((seen(FlagOp::Set), seen(FlagOp::Add)), (vec![Uid(2), Uid(4)], vec![]));
    assert_eq!(flags(), [Some(12), Some(13), None, Some(13)]);
    assert_eq!(seen(FlagOp::Remove), [Uid(2), Uid(4)]);
}

#[test]
fn an_open_folder_hears_of_deliveries_at_once() {
    let w = World::new("open");
    let inbox = w.inbox();
    let listener = inbox.listen();
    w.deliver("a\r\n");
    listener.wait_timeout(Duration::from_secs(5)).expect("told");
    assert_eq!(uids(&inbox), [1]);
    // Two threads at once, while a session looks.
    std::thread::scope(|s| {
        for t in 0..2 {
            let (w, inbox) = (&w, &inbox);
            s.spawn(move || {
                for n in 0..20 {
                    w.deliver(&format!("{t} {n}\r\n"));
                    inbox.sync().unwrap();
                }
            });
        }
        for _ in 0..20 {
            inbox.sync().unwrap();
        }
    });
    inbox.sync().unwrap();
    assert_eq!(uids(&inbox), (1..=41).collect::<Vec<_>>());
    let all: std::collections::BTreeSet<Vec<u8>> = inbox.uids().0.iter().map(|u| inbox.read(*u).unwrap().unwrap()).collect();
    assert_eq!(all.len(), 41);
    assert!(inbox.under_way.lock().unwrap().is_empty());
}

#[test]
fn several_recipients_share_one_file() {
    use std::os::unix::fs::MetadataExt;
    let w = World::new("links");
    let to = |a: &str, f: Option<&str>| Target { account: a.to_owned(), folder: f.map(str::to_owned) };
    w.home().create("Lists/x").unwrap();
    let targets = [
        to("alice@example.org", None),
        to("bob@example.org", None),
        to("../x@example.org", None),
        to("alice@example.org", Some("Lists/x")),
        to("alice@example.org", Some("no such")),
        to("@example.org", None),
    ];
    let results = w.store.deliver(&targets, b"Return-Path: <>\r\n", &Draft::from_bytes(b"\r\nx\n".to_vec()), SystemTime::now());
    let ok: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, true, false, true, true, false]);
    let new = w.maildir().join("new");
    let file = new.join(&files(&new)[0]);
    assert_eq!(file.metadata().unwrap().nlink(), 3);
    assert_eq!(files(&new).len(), 1, "the fallback is the same folder");
    assert!(files(&new)[0].ends_with(".host,S=21,W=22"), "{:?}", files(&new));
    assert!(files(&w.maildir().join("tmp")).is_empty());
    assert_eq!(w.home().open("Lists/x").unwrap().read(Uid(1)).unwrap().unwrap(), b"Return-Path: <>\r\n\r\nx\r\n");
}

#[test]
fn append_copy_move_expunge() {
    let mut w = World::new("transfer");
    let home = w.home();
    home.prepare().unwrap();
    let (inbox, trash) = (home.open("inbox").unwrap(), home.open("Trash").unwrap());
    let draft = Draft::from_bytes(b"Subject: x\n\nbody\n".to_vec());
    let m = |flags, date| Append { draft: &draft, flags, keywords: vec!["k".to_owned(), "l".to_owned()], internal_date: date };
    assert_eq!(inbox.append(&[m(Flags::SEEN, 1_000_000), m(Flags::DRAFT, -5)]).unwrap(), [Uid(1), Uid(2)]);
    trash.store_flags(&[], FlagOp::Add, Flags::default(), &["l".to_owned()]).unwrap();
    assert_eq!(inbox.copy(&[Uid(1), Uid(2), Uid(7)], &trash).unwrap(), [(Uid(1), Uid(1)), (Uid(2), Uid(2))]);
    assert_eq!(inbox.copy(&[Uid(1)], &inbox).unwrap(), [(Uid(1), Uid(3))]);
    assert_eq!(inbox.move_to(&[Uid(2)], &trash).unwrap(), [(Uid(2), Uid(3))]);
    assert_eq!(inbox.move_to(&[Uid(1)], &inbox).unwrap(), [(Uid(1), Uid(4))]);
    assert_eq!((uids(&inbox), uids(&trash)), (vec![3, 4], vec![1, 2, 3]));
    let check = |inbox: &Folder, trash: &Folder| {
        let meta = trash.meta(&[Uid(1), Uid(2), Uid(3)]);
        assert_eq!(trash.keywords(), ["l", "k"]);
        let got: Vec<_> = meta.iter().map(|m| m.map(|m| (m.flags, m.internal_date, m.keywords, m.size)).unwrap()).collect();
        assert_eq!(got, [(Flags::SEEN, 1_000_000, 3, 20), (Flags::DRAFT, -5, 3, 20), (Flags::DRAFT, -5, 3, 20)]);
        assert_eq!(inbox.meta(&[Uid(4)])[0].unwrap().internal_date, 1_000_000);
    };
    check(&inbox, &trash);
    let before = trash.uids().1;
    assert_eq!(trash.expunge(&[Uid(2), Uid(9)]).unwrap(), [Uid(2)]);
    assert_eq!(trash.changes_since(before).expunged, [(Uid(2), Uid(2))]);
    assert!(trash.read(Uid(2)).unwrap().is_none());
    assert_eq!(trash.read(Uid(3)).unwrap().unwrap(), b"Subject: x\r\n\r\nbody\r\n");
    assert_eq!(inbox.copy(&[Uid(3)], &trash).unwrap(), [(Uid(3), Uid(4))]);
    trash.expunge(&[Uid(4)]).unwrap();
    assert_eq!(trash.move_to(&[Uid(1)], &inbox).unwrap(), [(Uid(1), Uid(5))]);
    assert_eq!(inbox.summaries(&[Uid(5)]).get(0).unwrap(), Some(&b"Subj"[..]));
    drop((inbox, trash, home));
    w.reopen();
    let (inbox, trash) = (w.home().open("INBOX").unwrap(), w.home().open("Trash").unwrap());
    assert_eq!((uids(&inbox), uids(&trash)), (vec![3, 4, 5], vec![3]));
    assert!(trash.counts().uid_next > 4, "numbers of the expunged do not come back");
}

#[test]
fn other_programs_at_work() {
    let w = World::new("foreign");
    w.deliver("one\r\n");
    let inbox = w.inbox();
    inbox.take_recent();
    inbox.sync().unwrap();
    let (cur, new) = (w.maildir().join("cur"), w.maildir().join("new"));
    let name = files(&cur)[0].clone();
    let renamed = format!("{name}FX");
    std::fs::rename(cur.join(&name), cur.join(&renamed)).unwrap();
    assert_eq!(inbox.read(Uid(1)).unwrap().unwrap(), b"one\r\n");
    inbox.sync().unwrap();
    assert_eq!(inbox.meta(&[Uid(1)])[0].unwrap().flags, Flags::FLAGGED);
    inbox.store_flags(&[Uid(1)], FlagOp::Set, Flags::SEEN, &[]).unwrap();
    assert!(files(&cur)[0].ends_with(":2,SX"), "unknown letters stay");
    // Delivered by something that knows nothing of sizes, and not even of time.
    std::fs::write(new.join("17.b.h"), "two\n").unwrap();
    std::fs::write(cur.join("odd name:2,FRa"), "three\n").unwrap();
    std::fs::write(new.join(".hidden"), "").unwrap();
    inbox.sync().unwrap();
    assert_eq!(uids(&inbox), [1, 2, 3]);
    let meta = inbox.meta(&[Uid(2), Uid(3)]);
    assert_eq!(meta[0].unwrap().flags, Flags::FLAGGED.with(Flags::ANSWERED));
    assert_eq!((meta[0].unwrap().size, meta[1].unwrap().size), (7, 5));
    assert_eq!(inbox.keywords(), ["unknown-0"]);
    // A second file of the same base becomes a message of its own.
    std::fs::write(cur.join("17.b.h:2,S"), "other\n").unwrap();
    inbox.sync().unwrap();
    assert_eq!(uids(&inbox).len(), 4);
    let texts: std::collections::BTreeSet<Vec<u8>> = inbox.uids().0.iter().map(|u| inbox.read(*u).unwrap().unwrap()).collect();
    assert_eq!(texts.len(), 4);
    for f in files(&cur) {
        std::fs::remove_file(cur.join(f)).unwrap();
    }
    inbox.sync().unwrap();
    assert_eq!(uids(&inbox).len(), 1);
    let left = inbox.uids().0;
    for f in files(&new).iter().filter(|f| !f.starts_with('.')) {
        std::fs::remove_file(new.join(f)).unwrap();
    }
    assert!(inbox.read(left[0]).unwrap().is_none());
    assert_eq!(inbox.counts().messages, 0);
}

#[test]
fn folders_come_and_go() {
    let mut w = World::new("folders");
    let home = w.home();
    assert_eq!(home.list().unwrap().len(), 1);
    home.prepare().unwrap();
    home.create("Lists/rust/dev/").unwrap();
    assert!(matches!(home.create("Lists/rust"), Err(Error::Exists(_))));
    assert!(matches!(home.create("inbox"), Err(Error::Exists(_))));
    assert!(matches!(home.create("v1.0"), Err(Error::BadName(_))));
    std::fs::create_dir(w.maildir().join(".v1&AC4-0")).unwrap();
    assert_eq!(home.status("v1.0").unwrap().messages, 0);
    assert!(w.maildir().join(".v1&AC4-0/maildirfolder").is_file());
    home.delete("Lists/rust").unwrap();
    let listed: Vec<_> = home.list().unwrap().into_iter().map(|l| (l.name, l.selectable, l.subscribed, l.children)).collect();
    let want = |n: &str, sel, sub, ch| (n.to_owned(), sel, sub, ch);
    assert_eq!(
        listed,
        [
            want("INBOX", true, true, false),
            want("Archive", true, true, false),
            want("Drafts", true, true, false),
            want("Junk", true, true, false),
            want("Lists", true, false, true),
            want("Lists/rust", false, false, true),
            want("Lists/rust/dev", true, false, false),
            want("Sent", true, true, false),
            want("Trash", true, true, false),
            want("v1.0", true, false, false),
        ]
    );
    home.delete("Junk").unwrap();
    home.subscribe("Junk", false).unwrap();
    home.prepare().unwrap();
    assert!(home.list().unwrap().iter().all(|l| l.name != "Junk"), "what the user removed stays away");
    assert!(matches!(home.open("Junk").map(drop), Err(Error::NotFound(_))));
    assert!(matches!(home.status("Junk"), Err(Error::NotFound(_))));
    // Renaming takes the children along, and the sessions that have them open.
    let dev = home.open("Lists/rust/dev").unwrap();
    let draft = Draft::from_bytes(b"x\r\n".to_vec());
    dev.append(&[Append { draft: &draft, flags: Flags::default(), keywords: vec![], internal_date: 0 }]).unwrap();
    assert!(matches!(home.rename("Lists", "Lists/sub"), Err(Error::BadName(_))));
    assert!(matches!(home.rename("Lists", "Sent"), Err(Error::Exists(_))));
    assert!(matches!(home.rename("none", "x"), Err(Error::NotFound(_))));
    home.rename("Lists", "Old/Lists").unwrap();
    assert_eq!(dev.name(), "Old/Lists/rust/dev");
    dev.store_flags(&[Uid(1)], FlagOp::Add, Flags::SEEN, &[]).unwrap();
    assert!(Arc::ptr_eq(&dev, &home.open("Old/Lists/rust/dev").unwrap()));
    // A deleted folder is gone for them; one of the same name is another.
    home.delete("Old/Lists/rust/dev").unwrap();
    assert!(dev.is_gone());
    assert!(matches!(dev.sync(), Err(Error::NotFound(_))));
    let validity = dev.counts().uid_validity;
    home.create("Old/Lists/rust/dev").unwrap();
    let again = home.open("Old/Lists/rust/dev").unwrap();
    assert!(again.counts().uid_validity > validity);
    assert_eq!(again.counts().messages, 0);
    // INBOX keeps its place and gives its messages.
    w.deliver("y\r\n");
    home.rename("INBOX", "Saved").unwrap();
    assert_eq!((home.status("INBOX").unwrap().messages, home.status("Saved").unwrap().messages), (0, 1));
    assert!(!files(&w.maildir()).iter().any(|f| f.starts_with("..")));
    drop((dev, again, home));
    w.reopen();
    assert_eq!(w.home().subscriptions().unwrap(), ["INBOX", "Archive", "Drafts", "Sent", "Trash"]);
}

#[test]
fn status_of_closed_folders_is_remembered_and_true() {
    let w = World::new("status");
    w.deliver("a\r\n");
    assert_eq!(w.home().status("INBOX").unwrap().messages, 1);
    assert!(w.store.opened(&w.maildir()).is_none());
    w.deliver("b\r\n");
    let second = w.home().status("INBOX").unwrap();
    assert_eq!((second.messages, second.uid_next), (2, 3));
    assert_eq!(uids(&w.inbox()), [1, 2], "numbering goes on without a gap");
    assert_eq!(files(&w.maildir().join("new")).len(), 2, "looking does not make a message old");
}

#[test]
fn accounts_that_are_no_paths() {
    let w = World::new("accounts");
    for bad in ["", "alice", "@", "a@", "@b", "a/b@c", "a@b/c", "..@c", ".a@c", "a@.c", "a\0@c", "a@..", "a\n@c"] {
        assert!(matches!(w.store.home(bad).map(drop), Err(Error::BadName(_))), "{bad:?}");
    }
    assert_eq!(w.home().maildir(), w.maildir());
}

#[test]
fn a_damaged_list_costs_no_more_than_it_must() {
    let mut w = World::new("damage");
    for _ in 0..3 {
        w.deliver("x\r\n");
    }
    let validity = w.inbox().counts().uid_validity;
    let list = w.maildir().join("dovecot-uidlist");
    let text = std::fs::read_to_string(&list).unwrap();
    // A power cut took the last lines: those messages are new, no number comes twice.
    let cut = text.rfind("\n3 ").unwrap();
    std::fs::write(&list, &text[..cut + 3]).unwrap();
    w.reopen();
    let inbox = w.inbox();
    assert_eq!(inbox.counts().uid_validity, validity);
    assert_eq!(uids(&inbox)[..2], [1, 2]);
    assert!(uids(&inbox)[2] > 100);
    drop(inbox);
    // Nothing left: other UIDVALIDITY.
    std::fs::write(&list, "").unwrap();
    w.reopen();
    let inbox = w.inbox();
    assert!(inbox.counts().uid_validity > validity);
    assert_eq!(uids(&inbox), [1, 2, 3]);
    // Lost under an open folder, we still know it.
    std::fs::remove_file(&list).unwrap();
    w.deliver("y\r\n");
    assert_eq!(uids(&inbox), [1, 2, 3, 4]);
    let validity = inbox.counts().uid_validity;
    drop(inbox);
    w.reopen();
    assert_eq!((uids(&w.inbox()), w.inbox().counts().uid_validity), (vec![1, 2, 3, 4], validity));
}

#[test]
fn what_may_not_be_read_says_where() {
    use std::os::unix::fs::PermissionsExt;
    let w = World::new("unreadable");
    w.deliver("a\r\n");
    let cur = w.maildir().join("cur");
    std::fs::set_permissions(&cur, std::fs::Permissions::from_mode(0o000)).unwrap();
    let denied = std::fs::read_dir(&cur).is_err(); // root reads everything
    if denied {
        let e = w.home().open("INBOX").map(drop).unwrap_err();
        assert!(e.to_string().contains(&cur.display().to_string()), "{e}");
    }
    std::fs::set_permissions(&cur, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::remove_dir(&cur).unwrap();
    assert_eq!(uids(&w.inbox()), [1], "a missing cur/ is made again");
    // A file in the place of a directory.
    std::fs::remove_dir(&cur).unwrap();
    std::fs::write(&cur, "").unwrap();
    let e = w.home().open("INBOX").map(drop).unwrap_err();
    assert!(e.to_string().contains("cur"), "{e}");
    // A home that cannot be made; the other one gets its message.
    std::fs::write(w.dir.path().join("mail/example.org/bob"), "").unwrap();
    let to = |a: &str| Target { account: format!("{a}@example.org"), folder: None };
    let results = w.store.deliver(&[to("bob"), to("carol")], b"", &Draft::from_bytes(b"x\r\n".to_vec()), SystemTime::now());
    assert!(matches!(&results[..], [Err(Error::Disk(e)), Ok(())] if e.to_string().contains("bob/Maildir")), "{results:?}");
}

#[test]
fn stale_drafts_are_swept() {
    let w = World::new("sweep");
    w.deliver("a\r\n");
    let tmp = w.maildir().join("tmp");
    let hour = 3_600_000_000_000;
    for name in ["dated back", "still written to"] {
        std::fs::write(tmp.join(name), "").unwrap();
    }
    let date = |name: &str, at| std::fs::File::options().write(true).open(tmp.join(name)).unwrap().set_modified(at).unwrap();
    date("dated back", SystemTime::UNIX_EPOCH);
    date("still written to", SystemTime::now() + Duration::from_secs(20 * 3600));
    w.inbox();
    assert_eq!(files(&tmp).len(), 2, "APPEND dates its file back before it moves it");
    super::sweep::run(&w.maildir(), crate::disk::clock() + 35 * hour);
    assert_eq!(files(&tmp).len(), 2);
    super::sweep::run(&w.maildir(), crate::disk::clock() + 40 * hour);
    assert_eq!(files(&tmp), ["still written to"]);
    for name in [".dovecot-uidlist.77.tmp", ".other.tmp"] {
        std::fs::write(w.maildir().join(name), "").unwrap();
    }
    super::sweep::run(&w.maildir(), crate::disk::clock() + 40 * hour);
    let left = files(&w.maildir());
    assert!(left.contains(&".other.tmp".to_owned()) && !left.iter().any(|f| f.ends_with("77.tmp")), "{left:?}");
    assert!(left.contains(&"dovecot-uidlist".to_owned()));
}

#[test]
fn copies_both_ways_at_once_end() {
    let w = World::new("both-ways");
    w.home().create("x").unwrap();
    w.deliver("a\r\n");
    let (inbox, x) = (w.inbox(), w.home().open("x").unwrap());
    inbox.copy(&[Uid(1)], &x).unwrap();
    std::thread::scope(|s| {
        let (inbox, x) = (&inbox, &x);
        s.spawn(move || (0..20).for_each(|_| assert_eq!(inbox.copy(&[Uid(1)], x).unwrap().len(), 1)));
        s.spawn(move || (0..20).for_each(|_| assert_eq!(x.copy(&[Uid(1)], inbox).unwrap().len(), 1)));
    });
    assert_eq!((inbox.counts().messages, x.counts().messages), (21, 21));
}

#[test]
fn recent_is_told_once_and_truly() {
    let mut w = World::new("recent");
    w.deliver("a\r\n");
    w.home().prepare().unwrap();
    let status = |w: &World, name: &str| w.home().status(name).unwrap().recent;
    assert_eq!(status(&w, "INBOX"), 1);
    let inbox = w.inbox();
    assert_eq!((inbox.peek_recent(), inbox.peek_recent(), inbox.counts().recent), (vec![Uid(1)], vec![Uid(1)], 1));
    assert_eq!(inbox.take_recent(), [Uid(1)]);
    assert_eq!((inbox.peek_recent(), inbox.counts().recent), (vec![], 0));
    // Closed before it could be moved out of new/: it was told all the same.
    drop(inbox);
    w.deliver("b\r\n");
    assert_eq!(status(&w, "INBOX"), 1);
    let inbox = w.inbox();
    assert_eq!(inbox.take_recent(), [Uid(2)]);
    inbox.sync().unwrap();
    assert!(files(&w.maildir().join("new")).is_empty());
    // Appended to a folder that nobody has open.
    let draft = Draft::from_bytes(b"x\r\n".to_vec());
    let append = |to: &Folder| to.append(&[Append { draft: &draft, flags: Flags::SEEN, keywords: vec![], internal_date: 0 }]).unwrap();
    for _ in 0..3 {
        append(&w.home().open("Drafts").unwrap());
    }
    w.home().open("Drafts").unwrap().expunge(&[Uid(2)]).unwrap();
    assert_eq!(status(&w, "Drafts"), 2);
    assert_eq!(w.home().open("Drafts").unwrap().take_recent(), [Uid(1), Uid(3)]);
    assert_eq!((status(&w, "Drafts"), w.home().open("Drafts").unwrap().take_recent().len()), (0, 0));
    // More holes than are remembered: then new/ says it.
    drop(inbox);
    for _ in 0..140 {
        w.deliver("c\r\n");
    }
    let inbox = w.inbox();
    let odd: Vec<Uid> = inbox.uids().0.into_iter().filter(|u| u.0 % 2 == 1 && u.0 > 2).collect();
    inbox.expunge(&odd).unwrap();
    drop(inbox);
    assert_eq!(status(&w, "INBOX"), 70);
    assert_eq!(w.inbox().take_recent().len(), 70);
    w.reopen();
    assert_eq!(status(&w, "INBOX"), 70, "a crash may tell it again");
}

#[test]
fn an_unclean_stop_gives_no_uid_twice() {
    let mut w = World::new("unclean");
    let list = w.maildir().join("dovecot-uidlist");
    let draft = Draft::from_bytes(b"x\r\n".to_vec());
    let append = |f: &Folder| f.append(&[Append { draft: &draft, flags: Flags::default(), keywords: vec![], internal_date: 0 }]).unwrap()[0].0;
    let mut told = 0;
    for stop in 0..6 {
        let inbox = w.inbox();
        let first = append(&inbox);
        assert!(first > told, "UID {first} after {told}");
        // Written anew and fsynced; what follows is appended without.
        let durable = std::fs::read(&list).unwrap();
        for _ in 0..20 {
            told = append(&inbox);
            w.deliver("y\r\n");
        }
        told = told.max(inbox.uids().0.last().unwrap().0);
        let now = std::fs::read(&list).unwrap();
        assert!(now.starts_with(&durable) && now.len() > durable.len());
        drop(inbox);
        // The power cut takes all, or some, or leaves zeros; and the log, which would have known.
        std::fs::remove_file(w.maildir().join("gatepost-log")).unwrap();
        let mut left = now[..durable.len() + (now.len() - durable.len()) * (stop % 3) / 3].to_vec();
        if stop >= 3 {
            left.resize(now.len(), 0);
        }
        std::fs::write(&list, left).unwrap();
        w.reopen();
    }
    let inbox = w.inbox();
    let texts: Vec<Vec<u8>> = inbox.uids().0.iter().map(|u| inbox.read(*u).unwrap().unwrap()).collect();
    assert_eq!((texts.len(), texts.iter().filter(|t| **t == b"y\r\n").count()), (6 * 41, 6 * 20));
}

#[test]
fn an_older_list_put_back_gives_no_uid_twice() {
    let w = World::new("put-back");
    let list = w.maildir().join("dovecot-uidlist");
    w.deliver("a\r\n");
    drop(w.inbox());
    let line = std::fs::read_to_string(&list).unwrap().lines().nth(1).unwrap().to_owned();
    let validity = w.home().status("INBOX").unwrap().uid_validity;
    (0..3).for_each(|_| w.deliver("b\r\n"));
    assert_eq!(uids(&w.inbox()), [1, 2, 3, 4]);
    std::fs::write(&list, format!("3 V{validity} N2\n{line}\n")).unwrap();
    let inbox = w.inbox();
    assert_eq!((uids(&inbox), inbox.counts().uid_validity), (vec![1, 5, 6, 7], validity));
}

#[test]
fn a_look_that_failed_is_not_half_believed() {
    let mut w = World::new("half");
    w.deliver("a\r\n");
    w.deliver("b\r\n");
    w.inbox().store_flags(&[Uid(2)], FlagOp::Add, Flags::SEEN, &["word".to_owned()]).unwrap();
    w.reopen();
    let maildir: Arc<Path> = w.maildir().into();
    // Two sessions wait for one folder; the first meets trouble.
    let folder = w.store.shared(super::folder::Place {
        name: "INBOX".to_owned(),
        dir: Arc::clone(&maildir),
        account: "alice@example.org".into(),
        maildir: Arc::clone(&maildir),
    });
    let (keywords, aside) = (maildir.join("dovecot-keywords"), maildir.join("aside"));
    std::fs::rename(&keywords, &aside).unwrap();
    std::fs::create_dir(&keywords).unwrap();
    folder.load().unwrap_err();
    std::fs::remove_dir(&keywords).unwrap();
    std::fs::rename(&aside, &keywords).unwrap();
    folder.load().unwrap();
    assert_eq!((uids(&folder), folder.keywords()), (vec![1, 2], vec!["word".to_owned()]));
}

#[test]
fn names_that_lie_and_files_that_are_none() {
    use std::os::unix::fs::symlink;
    let w = World::new("lies");
    w.inbox();
    let cur = w.maildir().join("cur");
    nix::unistd::mkfifo(&cur.join("1.pipe.h:2,S"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(cur.join("2.dir.h:2,S")).unwrap();
    symlink("nowhere", cur.join("3.dangling.h:2,")).unwrap();
    symlink("4.loop.h:2,", cur.join("4.loop.h:2,")).unwrap();
    let max = u64::MAX;
    for n in [5, 6] {
        std::fs::write(cur.join(format!("{n}.huge.h,S={max},W={max}:2,")), "a\n").unwrap();
    }
    std::fs::write(cur.join("7.small.h,S=4,W=4:2,"), "a\nb\n").unwrap();
    std::fs::write(cur.join("8.large.h,S=400,W=999999:2,"), "\0\r\r\n").unwrap();
    // As Dovecot: a link is what it leads to.
    std::fs::write(w.dir.path().join("else"), "c\n").unwrap();
    symlink(w.dir.path().join("else"), cur.join("9.link.h:2,")).unwrap();
    let inbox = w.inbox();
    assert_eq!(uids(&inbox).len(), 5);
    assert_eq!(inbox.counts().size, 3 + 3 + 4 + 999_999 + 3);
    for uid in inbox.uids().0 {
        let bytes = inbox.read(uid).unwrap().unwrap();
        assert_eq!(inbox.meta(&[uid])[0].unwrap().size, bytes.len() as u64);
        assert_eq!(memchr::memmem::find_iter(&bytes, "\n").count(), memchr::memmem::find_iter(&bytes, "\r\n").count());
    }
    assert_eq!(inbox.counts().size, 3 + 3 + 6 + 4 + 3);
    // Larger than memory should be for one message; the others do not suffer.
    std::fs::File::create(cur.join("10.sparse.h,S=1,W=1:2,")).unwrap().set_len(1 << 40).unwrap();
    inbox.sync().unwrap();
    let sparse = *inbox.uids().0.last().unwrap();
    assert!(matches!(inbox.read(sparse), Err(Error::Disk(_))));
    inbox.expunge(&[sparse]).unwrap();
    assert_eq!(inbox.expunge(&inbox.uids().0).unwrap().len(), 5);
    assert!(w.dir.path().join("else").exists());
}

#[test]
fn what_is_deleted_is_a_folder_and_no_more() {
    use std::os::unix::fs::symlink;
    let w = World::new("no-folder");
    w.home().prepare().unwrap();
    std::fs::write(w.maildir().join(".dovecot.sieve"), "keep;").unwrap();
    assert!(matches!(w.home().delete("dovecot/sieve"), Err(Error::NotFound(_))));
    assert!(w.maildir().join(".dovecot.sieve").is_file());
    let outside = w.dir.path().join("outside");
    std::fs::create_dir_all(outside.join("cur")).unwrap();
    std::fs::write(outside.join("cur/1.a.h:2,"), "x").unwrap();
    symlink(&outside, w.maildir().join(".Linked")).unwrap();
    assert_eq!(w.home().status("Linked").unwrap().messages, 1);
    w.home().delete("Linked").unwrap();
    assert!(outside.join("cur/1.a.h:2,").is_file() && !w.maildir().join(".Linked").exists());
}

#[test]
fn numbers_run_out() {
    let w = World::new("exhausted");
    w.deliver("a\r\n");
    let inbox = w.inbox();
    let validity = inbox.counts().uid_validity;
    drop(inbox);
    let list = w.maildir().join("dovecot-uidlist");
    let line = std::fs::read_to_string(&list).unwrap().lines().nth(1).unwrap().replacen("1 ", "4278190070 ", 1);
    std::fs::write(&list, format!("3 V{validity} N4278190073\n1 :gone\n{line}\n")).unwrap();
    let inbox = w.inbox();
    let before = inbox.uids().1;
    assert_eq!(uids(&inbox), [4_278_190_070]);
    let all = inbox.changes_since(ModSeq(0)).expunged;
    assert_eq!(all, [(Uid(1), Uid(4_278_190_069)), (Uid(4_278_190_071), Uid(4_278_190_072))]);
    let mut told = std::collections::BTreeSet::from([4_278_190_070]);
    for _ in 0..20 {
        w.deliver("b\r\n");
        told.extend(inbox.changes_since(before).arrived.iter().map(|u| u.0));
    }
    assert!(inbox.is_gone() && told.len() < 10);
    // The old one is still held by a session; the next sees the new one.
    let again = w.inbox();
    assert!(again.counts().uid_validity > validity);
    assert_eq!(uids(&again), (1..=21).collect::<Vec<_>>());
    assert!(matches!(inbox.sync(), Err(Error::NotFound(_))));
    drop(inbox);
    assert!(Arc::ptr_eq(&again, &w.inbox()));
}

#[test]
fn the_last_validity_is_followed_by_another() {
    let w = World::new("last-validity");
    std::fs::create_dir_all(w.maildir()).unwrap();
    std::fs::write(w.maildir().join("dovecot-uidvalidity"), "ffffffff").unwrap();
    let first = w.inbox().counts().uid_validity;
    w.home().create("x").unwrap();
    let second = w.home().status("x").unwrap().uid_validity;
    assert!(first > 0 && first < second && second < u32::MAX);
}

#[test]
fn what_was_measured_is_written_down() {
    let w = World::new("measured");
    w.inbox();
    let (list, cur) = (w.maildir().join("dovecot-uidlist"), w.maildir().join("cur"));
    let mut text = "3 V7 N101\n".to_owned();
    for n in 1..=100 {
        std::fs::write(cur.join(format!("{n}.M1P1.kurkku,S=4:2,S")), "a\nb\n").unwrap();
        text.push_str(&format!("{n} P9 :{n}.M1P1.kurkku,S=4\n"));
    }
    std::fs::write(&list, &text).unwrap();
    let w2 = Store::open(&w.dir.path().join("mail"), "host", |_| Vec::new()).unwrap();
    let inbox = w2.home("alice@example.org").unwrap().open("INBOX").unwrap();
    assert_eq!((uids(&inbox), inbox.counts().uid_validity, inbox.counts().size), ((1..=100).collect(), 7, 600));
    let text = std::fs::read_to_string(&list).unwrap();
    assert_eq!(text.lines().filter(|l| l.contains(" P9 W6 D")).count(), 100, "{text}");
    assert!(text.starts_with("3 V7 N101\n"), "nothing was given out");
}
