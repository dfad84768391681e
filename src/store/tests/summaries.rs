//! Summaries: made once, never missed.

use super::*;
use crate::store::summary_file;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// As a summariser: its form, and the first line.
fn first_line(form: u8, message: &[u8]) -> Vec<u8> {
    let line = message.split(|b| *b == b'\r').next().unwrap_or_default();
    [&[form], line].concat()
}

fn reopen(w: &mut World, summarise: crate::store::Summarise) {
    w.store = Store::open(&w.dir.path().join("mail"), "host", summarise).unwrap();
}

fn all(f: &Folder) -> Vec<String> {
    let uids = f.uids().0;
    let (mut out, mut done) = (Vec::new(), 0);
    while done < uids.len() {
        let mut some = f.summaries(&uids[done..]);
        out.extend((0..some.len()).map(|n| String::from_utf8(some.get(n).unwrap().unwrap().to_vec()).unwrap()));
        done += some.len();
    }
    out
}

fn append(f: &Folder, text: &str) {
    let draft = Draft::from_bytes(text.into());
    f.append(&[Append { draft: &draft, flags: Flags::default(), keywords: vec![], internal_date: 7 }]).unwrap();
}

#[test]
fn what_we_put_there_nobody_opens_to_list_it() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let mut w = World::new("listed");
    reopen(&mut w, |m| {
        MADE.fetch_add(u32::from(!m.is_empty()), SeqCst);
        first_line(1, m)
    });
    w.home().create("A").unwrap();
    let to = |account: &str, folder: Option<&str>| Target { account: account.to_owned(), folder: folder.map(str::to_owned) };
    let targets = [to("alice@example.org", None), to("alice@example.org", Some("A")), to("bob@example.org", None)];
    let deliver =
        |w: &World, draft: &Draft| w.store.deliver(&targets, b"Return-Path: <>\n", draft, SystemTime::now()).into_iter().for_each(|r| r.unwrap());
    deliver(&w, &Draft::from_bytes(b"Subject: one\n\nx\n".to_vec()));
    let mut spilled = Draft::from_bytes(b"Subject: two\r\n".repeat(1000));
    spilled.spill(w.dir.path()).unwrap();
    deliver(&w, &spilled);
    append(&w.home().open("A").unwrap(), "Subject: three\r\n\r\n");
    let a = w.home().open("A").unwrap();
    let inbox = w.inbox();
    a.copy(&[Uid(3)], &inbox).unwrap();
    deliver(&w, &Draft::from_bytes(b"X: four\r\n".to_vec()));
    inbox.move_to(&[Uid(1), Uid(3)], &a).unwrap();
    assert_eq!(MADE.load(SeqCst), 4);
    drop((a, inbox));
    reopen(&mut w, |m| first_line(1, m));
    // Whoever reads one of the files now is found out.
    for dir in ["", ".A"].map(|d| w.maildir().join(d)).into_iter().chain([w.dir.path().join("mail/example.org/bob/Maildir")]) {
        for file in ["new", "cur"].into_iter().flat_map(|sub| files(&dir.join(sub)).into_iter().map(move |f| format!("{sub}/{f}"))) {
            std::fs::write(dir.join(file), "opened\r\n").unwrap();
        }
    }
    assert_eq!(all(&w.inbox()), ["\u{1}Return-Path: <>"; 2]);
    let a = all(&w.home().open("A").unwrap());
    assert_eq!(
        a,
        ["Return-Path: <>", "Return-Path: <>", "Subject: three", "Return-Path: <>", "Return-Path: <>", "Subject: three"].map(|l| format!("\u{1}{l}"))
    );
    assert_eq!(all(&w.store.home("bob@example.org").unwrap().open("INBOX").unwrap()).len(), 3);
    // But for a large message.
    let large = Draft::from_bytes(b"Large: x\r\n".repeat(500_000));
    deliver(&w, &large);
    assert_eq!(all(&w.inbox()), ["\u{1}Return-Path: <>"; 3]);
}

#[test]
fn whatever_becomes_of_the_file_the_answers_are_the_same() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let mut w = World::new("answers");
    let summarise = |m: &[u8]| {
        MADE.fetch_add(u32::from(!m.is_empty()), SeqCst);
        first_line(1, m)
    };
    reopen(&mut w, summarise);
    let want: Vec<String> = (0..20).map(|n| format!("\u{1}Subject: {n}")).collect();
    (0..20).for_each(|n| w.deliver(&format!("Subject: {n}\r\n\r\n")));
    let path = w.maildir().join(summary_file::NAME);
    let good = std::fs::read(&path).unwrap();
    let mut seed = 7usize;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..40 {
        let mut bytes = good.clone();
        let at = random(bytes.len());
        let now = w.inbox();
        // Also under a folder that is open and was read.
        let open = (round % 2 == 0).then(|| assert_eq!(all(&now), want)).map(|()| now);
        match round % 8 {
            0 | 1 => bytes[at] ^= 1 << random(8),
            2 | 3 => bytes.truncate(at),
            4 => bytes = b"gatepost-summaries 1 7 0.1.0\nof another program".to_vec(),
            5 => bytes[at..].fill(0),
            6 => drop(bytes.drain(at..(at + 30).min(good.len()))),
            _ => bytes.clear(),
        }
        std::fs::write(&path, bytes).unwrap();
        if round % 5 == 0 {
            std::fs::remove_file(&path).unwrap();
        }
        let folder = open.unwrap_or_else(|| w.inbox());
        assert_eq!(all(&folder), want, "round {round}");
        assert_eq!(all(&folder), want, "round {round}");
        // Whole again.
        let before = MADE.load(SeqCst);
        drop(folder);
        reopen(&mut w, summarise);
        assert_eq!(all(&w.inbox()), want, "round {round}");
        assert_eq!(MADE.load(SeqCst), before, "round {round}");
    }
    // What is no file at all.
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(all(&w.inbox()), want);
    w.deliver("Subject: last\r\n\r\n");
    assert_eq!(all(&w.inbox()).len(), 21);
}

#[test]
fn another_form_is_made_anew() {
    let mut w = World::new("form");
    reopen(&mut w, |m| first_line(b'1', m));
    w.deliver("a\r\n");
    w.deliver("b\r\n");
    assert_eq!(all(&w.inbox()), ["1a", "1b"]);
    reopen(&mut w, |m| first_line(b'2', m));
    let inbox = w.inbox();
    inbox.copy(&[Uid(1)], &inbox).unwrap();
    assert_eq!(all(&inbox), ["2a", "2b", "2a"]);
    drop(inbox);
    for file in ["new", "cur"].into_iter().flat_map(|sub| files(&w.maildir().join(sub)).into_iter().map(move |f| format!("{sub}/{f}"))) {
        std::fs::write(w.maildir().join(file), "opened\r\n").unwrap();
    }
    reopen(&mut w, |m| first_line(b'2', m));
    assert_eq!(all(&w.inbox()), ["2a", "2b", "2a"]);
}

#[test]
fn two_daemons_on_one_folder_find_each_others() {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let mut w = World::new("twosum");
    let summarise = |m: &[u8]| {
        MADE.fetch_add(u32::from(!m.is_empty()), SeqCst);
        first_line(1, m)
    };
    reopen(&mut w, summarise);
    w.deliver("first\r\n");
    let other = Store::open(&w.dir.path().join("mail"), "other", summarise).unwrap();
    let theirs = other.home("alice@example.org").unwrap().open("INBOX").unwrap();
    let ours = w.inbox();
    std::thread::scope(|s| {
        for (store, who) in [(&w.store, "ours"), (&other, "theirs")] {
            s.spawn(move || {
                for n in 0..20 {
                    let to = Target { account: "alice@example.org".to_owned(), folder: None };
                    let draft = Draft::from_bytes(format!("{who} {n}\r\n").into());
                    store.deliver(&[to], b"", &draft, SystemTime::now()).remove(0).unwrap();
                }
            });
        }
        for f in [&ours, &theirs] {
            s.spawn(move || (0..20).for_each(|_| drop(all(f))));
        }
    });
    let made = MADE.load(SeqCst);
    for f in [&ours, &theirs] {
        f.sync().unwrap();
        assert_eq!(uids(f).len(), 41);
        for (uid, line) in f.uids().0.into_iter().zip(all(f)) {
            assert_eq!(first_line(1, &f.read(uid).unwrap().unwrap()), line.as_bytes());
        }
    }
    // A look that came just between the file and its record made one of its own.
    assert_eq!(MADE.load(SeqCst), made, "all are in the file by now");
}

#[test]
fn the_file_does_not_grow_without_end() {
    let mut w = World::new("grow");
    reopen(&mut w, |m| first_line(1, m));
    (0..10).for_each(|n| w.deliver(&format!("{n}\r\n")));
    let path = w.maildir().join(summary_file::NAME);
    let size = || std::fs::metadata(&path).unwrap().len();
    let dead = |from: u64, count: u64| {
        let mut records = Vec::new();
        (from..from + count).for_each(|n| assert!(summary_file::write(&mut records, n, &[1; 50])));
        summary_file::append(&w.maildir(), &records).unwrap();
    };
    let want: Vec<String> = (0..10).map(|n| format!("\u{1}{n}")).collect();
    let inbox = w.inbox();
    assert_eq!(all(&inbox), want);
    let small = size();
    dead(1, 900);
    assert_eq!(all(&inbox), want);
    let some = size();
    assert!(some > small + 900 * 50);
    // Enough of them; and what comes behind is found.
    dead(1000, 900);
    w.deliver("last\r\n");
    let want: Vec<String> = want.into_iter().chain(["\u{1}last".to_owned()]).collect();
    assert_eq!(all(&inbox), want);
    assert!(size() < 2 * small, "{} after {small}", size());
    w.deliver("later\r\n");
    assert_eq!(all(&inbox).pop().unwrap(), "\u{1}later");
    // Nobody lists this folder any more, but somebody opens it.
    dead(1, 2000);
    inbox.expunge(&inbox.uids().0).unwrap();
    drop(inbox);
    let litter = |w: &World| files(&w.maildir()).into_iter().filter(|n| n.ends_with(".tmp")).count();
    reopen(&mut w, |m| first_line(1, m));
    drop(w.inbox());
    assert!(size() < 100, "{}", size());
    assert_eq!(litter(&w), 0);
}
