//! Quota: what is booked, what is refused, who is warned; by an injected clock.

use super::{World, files};
use crate::{
    disk::{Draft, Lock},
    store::{Append, Error, Flags, Folder, Level, Limits, Over, Quotas, Target, Uid, Usage},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

/// One set of limits for alice; bob has none.
#[derive(Clone)]
struct Book(Arc<Mutex<Limits>>, &'static [u8]);

impl Quotas for Book {
    fn limits(&self, account: &str) -> Limits {
        if account.starts_with("alice@") { *self.0.lock().unwrap() } else { Limits::default() }
    }
    fn levels(&self) -> Vec<u8> {
        self.1.to_vec()
    }
    fn warning(&self, account: &str, level: &Level, _: SystemTime) -> Vec<u8> {
        format!("Subject: {account} {}\r\n", level.percent).into_bytes()
    }
}

struct Limited {
    w: World,
    book: Book,
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
fn to(name: &str) -> Target {
    Target { account: format!("{name}@example.org"), folder: None }
}
fn over(r: &Result<(), Error>) -> Option<Over> {
    match r {
        Ok(()) => None,
        Err(Error::OverQuota(over)) => Some(*over),
        Err(e) => panic!("{e}"),
    }
}

impl Limited {
    fn new(what: &str, bytes: u64, messages: u64) -> Self {
        Self::warning(what, bytes, messages, &[])
    }
    fn warning(what: &str, bytes: u64, messages: u64, levels: &'static [u8]) -> Self {
        let w = World::new(what);
        let book = Book(Arc::new(Mutex::new(Limits { bytes, messages })), levels);
        w.store.set_quotas(book.clone());
        Self { w, book }
    }
    fn limit(&self, bytes: u64, messages: u64) {
        *self.book.0.lock().unwrap() = Limits { bytes, messages };
    }
    fn reopen(&mut self) {
        self.w.reopen();
        self.w.store.set_quotas(self.book.clone());
    }
    fn deliver(&self, bytes: usize, seconds: u64) -> Option<Over> {
        over(&self.w.store.deliver(&[to("alice")], b"", &Draft::from_bytes(vec![b'x'; bytes]), at(seconds))[0])
    }
    fn file(&self, name: &str) -> PathBuf {
        self.w.maildir().join(name)
    }
    fn books(&self) -> String {
        std::fs::read_to_string(self.file("maildirsize")).unwrap_or_default()
    }
    /// By the books, which must be what is there.
    fn usage(&self) -> (u64, u64) {
        let known = crate::store::maildirsize::read(&self.w.maildir()).unwrap().map(|s| s.usage);
        let counted = crate::store::maildirsize::count(&self.w.maildir()).unwrap();
        assert_eq!(known, Some(counted), "{}", self.books());
        (counted.bytes, counted.messages)
    }
    fn append(&self, folder: &Folder, bytes: usize) -> Option<Over> {
        let draft = Draft::from_bytes(vec![b'x'; bytes]);
        let append = Append { draft: &draft, flags: Flags::SEEN, keywords: vec![], internal_date: 0 };
        over(&folder.append(&[append]).map(drop))
    }
    /// The warnings in INBOX, which are taken out of it without a word in the books.
    fn warnings(&self) -> Vec<String> {
        let new = self.w.maildir().join("new");
        let texts = files(&new).into_iter().map(|f| (std::fs::read_to_string(new.join(&f)).unwrap(), new.join(f)));
        texts
            .filter(|(t, _)| t.starts_with("Subject: alice"))
            .map(|(t, path)| {
                std::fs::remove_file(path).unwrap();
                t.trim().rsplit(' ').next().unwrap().to_owned()
            })
            .collect()
    }
}

#[test]
fn every_change_is_booked() {
    let l = Limited::new("quota-booked", 1_000_000, 1000);
    let t = now();
    assert_eq!(l.deliver(100, t), None);
    // There was no home yet; the next one counts.
    assert_eq!(l.books(), "");
    assert_eq!(l.deliver(10, t), None);
    assert_eq!(l.books(), "1000000S,1000C\n100 1\n10 1\n");
    let home = l.w.home();
    home.create("Sent").unwrap();
    let (inbox, sent) = (home.open("INBOX").unwrap(), home.open("Sent").unwrap());
    assert_eq!(l.append(&sent, 1000), None);
    assert_eq!(l.usage(), (1110, 3));
    let copies = inbox.copy(&inbox.uids().0, &sent).unwrap();
    assert_eq!((copies.len(), l.usage()), (2, (1220, 5)));
    // Of those that are not there any more nothing is copied nor counted.
    assert_eq!(inbox.copy(&[Uid(1), Uid(77)], &sent).unwrap().len(), 1);
    assert_eq!(l.usage(), (1320, 6));
    inbox.move_to(&[Uid(1)], &sent).unwrap();
    assert_eq!(l.usage(), (1320, 6));
    sent.expunge(&[Uid(1), Uid(2)]).unwrap();
    assert_eq!(l.usage(), (220, 4));
    // A file whose name says nothing of its size.
    std::fs::write(l.file("new/5.x.h"), "12345").unwrap();
    home.recount().unwrap();
    assert_eq!(home.usage().unwrap(), Usage { bytes: 225, messages: 5 });
    assert_eq!(l.deliver(1, t), None);
    inbox.sync().unwrap();
    let odd = inbox.meta(&inbox.uids().0).into_iter().flatten().find(|m| m.size == 5).unwrap();
    inbox.expunge(&[odd.uid]).unwrap();
    assert_eq!(l.usage(), (221, 5));
    drop(sent);
    home.rename("Sent", "Old").unwrap();
    home.delete("Old").unwrap();
    assert_eq!(l.usage(), (11, 2));
    // Nobody else's.
    assert!(l.w.store.deliver(&[to("bob")], b"", &Draft::from_bytes(vec![b'x'; 99]), at(t))[0].is_ok());
    let bob = l.w.dir.path().join("mail/example.org/bob/Maildir");
    assert!(!bob.join("maildirsize").exists() && !bob.join("gatepost-quota").exists());
    assert_eq!(l.w.store.home("bob@example.org").unwrap().usage().unwrap(), Usage { bytes: 99, messages: 1 });
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let l = Limited::new("quota-refused", 1000, 5);
    let t = now();
    assert_eq!(l.deliver(1001, t), Some(Over { since: t as i64, never: true }));
    assert_eq!(l.deliver(600, t), None);
    assert_eq!(l.deliver(600, t), Some(Over { since: t as i64, never: false }));
    assert_eq!(l.usage(), (600, 1));
    let home = l.w.home();
    home.create("Sent").unwrap();
    let (inbox, sent) = (home.open("INBOX").unwrap(), home.open("Sent").unwrap());
    assert!(l.append(&sent, 401).is_some() && sent.room(401).is_err() && sent.room(400).is_ok());
    assert!(over(&inbox.copy(&[Uid(1)], &sent).map(drop)).is_some());
    inbox.move_to(&[Uid(1)], &sent).unwrap();
    assert_eq!(sent.uids().0.len(), 1);
    assert!(files(&l.file(".Sent/tmp")).is_empty() && files(&l.file("tmp")).is_empty());
    for _ in 0..4 {
        assert_eq!(l.deliver(1, t), None);
    }
    assert!(l.deliver(1, t).is_some(), "a sixth message");
    assert_eq!(l.usage(), (604, 5));
    // The other recipient gets it, and what must arrive arrives.
    let two = l.w.store.deliver(&[to("alice"), to("bob")], b"", &Draft::from_bytes(vec![b'y'; 1]), at(t));
    assert!(over(&two[0]).is_some() && two[1].is_ok());
    assert!(l.w.store.deliver_anyway(&[to("alice")], b"", &Draft::from_bytes(vec![b'z'; 500]), at(t))[0].is_ok());
    assert_eq!(l.usage().0, 1104);
}

#[test]
fn since_when_it_is_full() {
    let mut l = Limited::new("quota-since", 1000, 0);
    let t = now();
    let since = |o: Option<Over>| o.map(|o| o.since as u64 - t);
    let room = |l: &Limited, seconds| since(over(&l.w.home().room(1, at(seconds))));
    assert_eq!(l.deliver(1000, t), None);
    assert_eq!(room(&l, t + 10), Some(10), "asking begins it too");
    assert_eq!(since(l.deliver(5, t + 20)), Some(10));
    // A restart does not end it, nor does a day.
    l.reopen();
    assert_eq!(since(l.deliver(5, t + 100_000)), Some(10));
    // Making room does, even if less than somebody wants.
    let inbox = l.w.inbox();
    l.limit(2000, 0);
    assert_eq!(since(l.deliver(1500, t + 100_001)), Some(10));
    assert_eq!(since(l.deliver(5, t + 100_002)), None);
    assert_eq!(since(l.deliver(1500, t + 100_003)), Some(100_003));
    inbox.expunge(&[Uid(2)]).unwrap();
    assert_eq!(since(l.deliver(1500, t + 100_004)), Some(100_004));
    assert_eq!(since(l.deliver(1000, t + 100_005)), None);
    assert_eq!(since(l.deliver(5, t + 100_006)), Some(100_006));
    // Whoever lost the file begins anew.
    std::fs::remove_file(l.file("gatepost-quota")).unwrap();
    assert_eq!(since(l.deliver(5, t + 100_007)), Some(100_007));
}

#[test]
fn warnings_come_once() {
    let l = Limited::warning("quota-warn", 100_000, 0, &[80, 95]);
    let t = now();
    let steps: [(usize, &[&str]); 6] = [(79_000, &[]), (1_000, &["80"]), (10_000, &[]), (5_500, &["95"]), (100, &[]), (4_400, &[])];
    for (bytes, want) in steps {
        // The first finds no books: what it made is seen with the next.
        assert_eq!(l.deliver(bytes, t), None, "{bytes}");
        assert_eq!(l.warnings(), want, "{bytes}");
        l.w.home().recount().unwrap();
    }
    assert_eq!(l.deliver(4_400, t).map(|o| o.never), Some(false));
    assert_eq!(l.warnings(), [""; 0]);
    let inbox = l.w.inbox();
    let gone = |size: u64| {
        let uid = inbox.meta(&inbox.uids().0).into_iter().flatten().find(|m| m.size == size).unwrap().uid;
        inbox.expunge(&[uid]).unwrap();
    };
    // A little below is not below: who deletes the warning shall not get another.
    gone(4_400);
    assert_eq!(l.deliver(4_000, t), None);
    assert_eq!(l.warnings(), [""; 0]);
    gone(10_000);
    assert_eq!(l.deliver(9_500, t), None);
    assert_eq!(l.warnings(), ["95"]);
    gone(79_000);
    assert_eq!(l.deliver(79_500, t), None);
    assert_eq!(l.warnings(), ["95"], "one, of the highest level");
    // A lowered limit is told at the first refusal.
    gone(79_500);
    l.limit(20_000, 0);
    assert!(l.deliver(3_000, t).is_some());
    assert_eq!(l.warnings(), ["95"]);
    assert!(l.deliver(3_000, t).is_some());
    assert_eq!(l.warnings(), [""; 0]);
    // By APPEND too.
    l.limit(50_000, 0);
    assert_eq!(l.append(&inbox, 1_000), None);
    assert_eq!(l.append(&inbox, 22_000), None);
    assert_eq!(l.warnings(), ["80"]);
}

#[test]
fn books_that_cannot_be_believed_are_made_anew() {
    let l = Limited::new("quota-anew", 1000, 10);
    let t = now();
    l.deliver(100, t);
    l.deliver(100, t);
    for bad in
        ["", "1000S,10C\n", "1000S,10C\n-5 1\n", "garbage", "1000S,10C\n\0\0\0\0", "999S,10C\n100 1\n", "1000S\n200 2\n", "1000S,10C\n9999 2\n"]
    {
        std::fs::write(l.file("maildirsize"), bad).unwrap();
        // One that says too much is not believed when it is old.
        std::fs::remove_file(l.file("gatepost-quota")).unwrap();
        l.w.home().room(10, at(t)).unwrap();
        assert_eq!(l.books(), "1000S,10C\n200 2\n", "{bad:?}");
    }
    std::fs::write(l.file("maildirsize"), "1000S,10C\n".to_owned() + &"0 0\n".repeat(1300) + "200 2\n").unwrap();
    l.w.home().room(10, at(t)).unwrap();
    assert_eq!(l.books(), "1000S,10C\n200 2\n", "too long");
    std::fs::write(l.file("gatepost-quota"), "rubbish \0 counted 99999999999999999999\nfull -1\nwarned 999").unwrap();
    assert_eq!(l.deliver(10, t), None);
    assert_eq!(l.usage(), (210, 3));
    // Quarter of an hour is fresh enough to refuse, a day to accept.
    let lies = "1000S,10C\n990 2\n";
    std::fs::write(l.file("maildirsize"), lies).unwrap();
    assert!(l.w.home().room(20, at(t + 899)).is_err());
    assert!(l.w.home().room(5, at(t + 86_000)).is_ok());
    assert_eq!(l.books(), lies);
    assert!(l.w.home().room(20, at(t + 900)).is_ok());
    assert_eq!(l.usage(), (210, 3));
    std::fs::write(l.file("maildirsize"), "1000S,10C\n1 1\n").unwrap();
    assert!(l.w.home().room(1, at(t + 900 + 86_400)).is_ok());
    assert_eq!(l.usage(), (210, 3));
}

#[test]
fn what_others_do_is_counted_before_long() {
    let l = Limited::new("quota-others", 1000, 0);
    let t = now();
    l.deliver(900, t);
    l.deliver(50, t);
    let inbox = l.w.inbox();
    assert!(l.deliver(200, t).is_some(), "counted: {}", l.books());
    let first = files(&l.file("new")).into_iter().find(|f| f.contains("S=900")).unwrap();
    std::fs::remove_file(l.file("new").join(first)).unwrap();
    // Nobody has looked.
    assert!(l.deliver(200, t + 10).is_some());
    inbox.sync().unwrap();
    assert_eq!(l.deliver(200, t + 10), None, "an open folder has seen it");
    assert_eq!(l.usage(), (250, 2));
    // What was added shows a quarter of an hour after the last count.
    std::fs::write(l.file("new/9.x.h"), vec![b'x'; 700]).unwrap();
    inbox.sync().unwrap();
    assert_eq!(l.deliver(100, t + 800), None);
    assert!(l.deliver(100, t + 10 + 900).is_some());
    assert_eq!(l.usage().0, 1050);
}

#[test]
fn trouble_with_the_books_stops_no_mail() {
    let l = Limited::new("quota-trouble", 1000, 0);
    let t = now();
    l.deliver(10, t);
    std::fs::create_dir_all(l.file("maildirsize/x")).unwrap();
    assert_eq!(l.deliver(10, t), None);
    std::fs::remove_file(l.file("gatepost-quota")).unwrap();
    std::fs::create_dir_all(l.file("gatepost-quota/x")).unwrap();
    assert_eq!(l.deliver(10, t), None);
    let inbox = l.w.inbox();
    assert_eq!(l.append(&inbox, 10), None);
    inbox.expunge(&[Uid(1)]).unwrap();
    assert_eq!(inbox.uids().0.len(), 3);
}

/// Two processes and a counting third: what is on its way is counted once.
#[test]
fn writers_beside_each_other_and_somebody_who_counts() {
    let l = Limited::new("quota-race", 100_000_000, 0);
    let t = now();
    l.deliver(1, t);
    // The UID list is there, or both would make one.
    drop(l.w.inbox());
    let other = World {
        dir: crate::store::scratch::Dir::new("unused"),
        store: crate::store::Store::open(&l.w.dir.path().join("mail"), "other", |_| Vec::new()).unwrap(),
    };
    other.store.set_quotas(l.book.clone());
    let known = || crate::store::maildirsize::read(&l.w.maildir()).unwrap().map(|s| s.usage);
    for round in 0..6 {
        let first_is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            let done = &first_is_done;
            for store in [&l.w.store, &other.store] {
                for n in 0..2 {
                    s.spawn(move || {
                        let inbox = store.home("alice@example.org").unwrap().open("INBOX").unwrap();
                        for i in 0..20 {
                            let draft = Draft::from_bytes(vec![b'x'; 10 + n * 100 + i]);
                            assert!(store.deliver(&[to("alice")], b"", &draft, at(t))[0].is_ok());
                            if i % 5 == n {
                                inbox.sync().unwrap();
                                let uids = inbox.uids().0;
                                inbox.expunge(&uids[..uids.len().min(2)]).unwrap();
                            }
                        }
                        done.store(true, std::sync::atomic::Ordering::Relaxed);
                    });
                }
            }
            // What it miscounts at last, the others no longer put right.
            s.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let alone = Lock::exclusive(&l.file("gatepost-quota")).unwrap();
                    crate::store::maildirsize::remove(&l.w.maildir()).unwrap();
                    drop(alone);
                    l.w.home().room(1, at(t)).unwrap();
                }
            });
        });
        assert_eq!(known(), Some(crate::store::maildirsize::count(&l.w.maildir()).unwrap()), "round {round}");
    }
}
