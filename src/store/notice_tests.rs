//! Notices on real directories, with a thread in the daemon's place.

use super::{Folder, Home, Notices, Store, Target, scratch};
use crate::disk::Draft;
use event_listener::Listener;
use nix::poll::{PollFd, PollFlags, poll};
use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    dir: scratch::Dir,
    store: Arc<Store>,
    notices: Arc<Notices>,
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    fn new(what: &str) -> Self {
        let dir = scratch::Dir::new(what);
        let store = Store::open(&dir.path().join("mail"), "host", |_| Vec::new()).unwrap();
        let notices = store.notices();
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (notices, stop, looks) = (notices.clone(), stop.clone(), looks.clone());
            std::thread::spawn(move || {
                let source = notices.source().unwrap();
                while !stop.load(Ordering::SeqCst) {
                    notices.read();
                    while let Some(look) = notices.due() {
                        looks.fetch_add(1, Ordering::SeqCst);
                        look.run();
                    }
                    poll(&mut [PollFd::new(source.as_fd(), PollFlags::POLLIN)], 20u16).unwrap();
                }
            })
        };
        Self { dir, store, notices, stop, looks, thread: Some(thread) }
    }
    fn home(&self) -> Home {
        self.store.home("alice@example.org").unwrap()
    }
    fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail/example.org/alice/Maildir")
    }
    fn inbox(&self) -> Arc<Folder> {
        self.home().open_watched("INBOX").unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            t.join().unwrap();
        }
    }
}

/// As an idle session waits: for the folder's event, never by looking itself.
fn wait(folder: &Folder, what: &str, mut is_so: impl FnMut(&Folder) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let event = folder.listen();
        if is_so(folder) {
            return;
        }
        assert!(event.wait_deadline(until).is_some(), "never noticed: {what}");
    }
}

fn count(folder: &Folder) -> usize {
    folder.uids().0.len()
}

fn put(dir: &Path, name: &str) {
    std::fs::write(dir.join("tmp").join(name), "Subject: x\n\ny\n").unwrap();
    std::fs::rename(dir.join("tmp").join(name), dir.join("new").join(name)).unwrap();
}

#[test]
fn what_others_do_is_told() {
    let w = World::new("notice");
    let inbox = w.inbox();
    let dir = w.maildir();
    put(&dir, "1.a.b");
    wait(&inbox, "a delivery", |f| count(f) == 1);
    std::fs::rename(dir.join("new/1.a.b"), dir.join("cur/1.a.b:2,FS")).unwrap();
    wait(&inbox, "a rename", |f| f.counts().unseen == 0);
    std::fs::remove_file(dir.join("cur/1.a.b:2,FS")).unwrap();
    wait(&inbox, "a removal", |f| count(f) == 0);
    // Again and again: each look sets the watches anew.
    for n in 0..3 {
        put(&dir, &format!("2.{n}.b"));
        wait(&inbox, "another delivery", |f| count(f) == n + 1);
    }
}

#[test]
fn fifty_thousand_events_are_few_looks() {
    let w = World::new("storm");
    let inbox = w.inbox();
    let dir = w.maildir();
    std::fs::write(dir.join("tmp/one"), "x\n").unwrap();
    for n in 0..5_000 {
        std::fs::hard_link(dir.join("tmp/one"), dir.join(format!("cur/{n}.a.b,S=2,W=3:2,"))).unwrap();
    }
    wait(&inbox, "all of them", |f| count(f) == 5_000);
    // Each look follows the one before by a second at least.
    let looks = w.looks.load(Ordering::SeqCst);
    assert!(looks < 60, "{looks} looks");
}

#[test]
fn a_folder_that_is_moved_or_removed_by_hand_is_gone() {
    let w = World::new("gone");
    for (name, moved) in [("Moved", true), ("Removed", false)] {
        w.home().create(name).unwrap();
        let folder = w.home().open_watched(name).unwrap();
        let dir = w.maildir().join(format!(".{name}"));
        if moved {
            std::fs::rename(&dir, w.maildir().join(".Elsewhere")).unwrap();
        } else {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        wait(&folder, name, Folder::is_gone);
        assert!(!w.home().list().unwrap().iter().any(|l| l.name == name));
    }
}

#[test]
fn a_folder_renamed_by_us_is_still_watched() {
    let w = World::new("renamed");
    w.home().create("a").unwrap();
    let folder = w.home().open_watched("a").unwrap();
    w.home().rename("a", "b").unwrap();
    put(&w.maildir().join(".b"), "1.a.b");
    wait(&folder, "a delivery", |f| count(f) == 1);
}

#[test]
fn the_last_session_takes_the_watches_with_it() {
    let w = World::new("closed");
    let (a, b) = (w.inbox(), w.inbox());
    assert_eq!(w.notices.watches(), 3);
    drop(a);
    assert_eq!(w.notices.watches(), 3);
    drop(b);
    assert_eq!(w.notices.watches(), 0);
    // A folder that is opened for a moment only costs none.
    let c = w.home().open("INBOX").unwrap();
    assert_eq!(w.notices.watches(), 0);
    let d = w.inbox();
    assert_eq!(w.notices.watches(), 3);
    drop(c);
    put(&w.maildir(), "1.a.b");
    wait(&d, "a delivery", |f| count(f) == 1);
}

#[test]
fn the_next_folder_in_the_same_directory_has_the_watches() {
    let w = World::new("next");
    let old = w.inbox();
    let list = w.maildir().join("dovecot-uidlist");
    // Somebody gives it another UIDVALIDITY.
    let text = std::fs::read_to_string(&list).unwrap();
    let (head, rest) = text.split_once(" V").unwrap();
    let after = rest.split_once(' ').unwrap().1;
    std::fs::write(&list, format!("{head} V77 {after}")).unwrap();
    put(&w.maildir(), "1.a.b");
    wait(&old, "its end", Folder::is_gone);
    let new = w.inbox();
    assert_eq!(new.counts().uid_validity, 77);
    drop(old);
    put(&w.maildir(), "2.a.b");
    wait(&new, "a delivery", |f| count(f) == 2);
}

#[test]
fn a_delivery_of_ours_is_told_once() {
    let w = World::new("ours");
    let inbox = w.inbox();
    let to = Target { account: "alice@example.org".to_owned(), folder: None };
    for r in w.store.deliver(&[to], b"", &Draft::from_bytes(b"Subject: x\n\ny\n".to_vec()), SystemTime::now()) {
        r.unwrap();
    }
    assert_eq!(count(&inbox), 1);
    let modseq = inbox.uids().1;
    assert_eq!(inbox.take_recent().len(), 1);
    // What was told goes to cur/ at a look that nobody asked for.
    let until = Instant::now() + PATIENCE;
    while std::fs::read_dir(w.maildir().join("cur")).unwrap().count() == 0 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    assert_eq!(inbox.uids().1, modseq);
}
