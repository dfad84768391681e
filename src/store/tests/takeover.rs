//! Maildirs as other programs leave them.

use super::*;

fn put(maildir: &Path, files: &[(&str, &str)]) {
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(sub)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(maildir.join(name), text).unwrap();
    }
}

#[test]
fn fields_of_others_outlive_a_list_written_anew() {
    let mut w = World::new("fields");
    let list = "3 V77 N9 Gabc Zx\n3 P Z1 :1.a.h\n7 W9 PUIDL-1 O2 Gguid :1.b.h,S=7\n8 z1 :1.c.h\n";
    put(&w.maildir(), &[("dovecot-uidlist", list), ("cur/1.a.h:2,", "a\n"), ("cur/1.b.h,S=7:2,S", "b\r\nb\r\n"), ("cur/1.c.h:2,", "a\n")]);
    let inbox = w.inbox();
    assert_eq!((uids(&inbox), inbox.counts().uid_validity), (vec![3, 7, 8], 77));
    w.deliver("new\r\n"); // above N, so the list is written anew
    inbox.expunge(&[Uid(8)]).unwrap();
    drop(inbox);
    w.reopen();
    assert_eq!(uids(&w.inbox()), [3, 7, 9]);
    let list = std::fs::read_to_string(w.maildir().join("dovecot-uidlist")).unwrap();
    for part in ["3 V77 N", " Gabc Zx\n", "\n3 P Z1 W3 D", " :1.a.h\n", "\n7 PUIDL-1 O2 Gguid W9 D", " :1.b.h,S=7\n"] {
        assert!(list.contains(part), "{part:?} in {list}");
    }
}

#[test]
fn what_dovecot_numbers_anew_changes_its_uid() {
    let w = World::new("renumbered");
    for n in 0..3 {
        w.deliver(&format!("{n}\r\n"));
    }
    let inbox = w.inbox();
    let modseq = inbox.uids().1;
    let path = w.maildir().join("dovecot-uidlist");
    let list = std::fs::read_to_string(&path).unwrap();
    // It believed that 2 was gone, and gave it the number that was next by the header.
    let second = list.lines().find(|l| l.starts_with("2 ")).unwrap().split_once(' ').unwrap().1;
    let next: u32 = list.split(" N").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let kept: Vec<&str> = list.lines().filter(|l| !l.starts_with("2 ")).collect();
    std::fs::write(&path, format!("{}\n{next} {second}\n", kept.join("\n"))).unwrap();
    std::fs::write(w.maildir().join("dovecot.index.log"), "").unwrap();
    w.deliver("4\r\n");
    assert_eq!(uids(&inbox), [1, 3, next, next + 1]);
    let changes = inbox.changes_since(modseq);
    assert_eq!((changes.expunged, changes.arrived.len()), (vec![(Uid(2), Uid(2))], 2));
    assert_eq!(inbox.read(Uid(next)).unwrap().unwrap(), b"1\r\n");
    // And from now on N is no higher than what was given: Dovecot takes what appears below it for expunged.
    for n in 2..300 {
        w.deliver("5\r\n");
        let header = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
        let n_now: u32 = header.split(" N").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(n_now <= next + n, "{header} with {}", next + n);
    }
    assert_eq!(inbox.counts().uid_next, next + 300);
}

#[test]
fn a_folder_of_couriers() {
    let mut w = World::new("courier");
    put(
        &w.maildir(),
        &[
            ("courierimapuiddb", "1 77 12\n3 1.b.h\n4 1.a.h,S=3\n"),
            ("courierpop3dsizelist", "/3 9 99\n1.a.h,S=3:2, 3 7:99:0\n"),
            ("cur/1.a.h,S=3:2,S", "a\r\n"),
            ("cur/1.b.h:2,", "a\r\n"),
            ("new/2.c.h", "a\r\n"),
        ],
    );
    for _ in 0..2 {
        let inbox = w.inbox();
        assert_eq!((uids(&inbox), inbox.counts().uid_validity), (vec![3, 4, 12], 77));
        drop(inbox);
        w.reopen();
    }
    let list = std::fs::read_to_string(w.maildir().join("dovecot-uidlist")).unwrap();
    assert!(list.contains("\n4 PUID7-99 "), "{list}");
}

fn tree(w: &World, folders: &[&str]) {
    put(&w.maildir(), &[]);
    for folder in folders {
        put(&w.maildir().join(folder), &[]);
    }
}

fn listed(home: &Home) -> Vec<String> {
    home.list().unwrap().into_iter().map(|l| format!("{}{}", l.name, if l.selectable { "" } else { " -" })).collect()
}

#[test]
fn a_tree_is_served_as_one() {
    let mut w = World::new("tree");
    tree(&w, &["Sent", "Lists/rust", "v1.0"]);
    std::fs::create_dir(w.maildir().join("control")).unwrap();
    let home = w.home();
    home.prepare().unwrap();
    assert_eq!(listed(&home), ["INBOX", "Lists -", "Lists/rust", "Sent", "v1.0"]);
    home.create("Lists/v2.0/Entwürfe").unwrap();
    assert!(w.maildir().join("Lists/v2.0/Entw&APw-rfe/cur").is_dir());
    assert!(!w.maildir().join("Lists/v2.0/maildirfolder").exists());
    assert!(matches!(home.create("Lists/v2.0"), Err(Error::Exists(_))));
    for name in ["Sent/cur", "../x", "/etc", "Sent/../../x", "subscriptions"] {
        assert!(matches!(home.create(name), Err(Error::BadName(_))), "{name}");
    }
    // Delivered to one that was restored without its empty directories.
    let rust = w.maildir().join("Lists/rust");
    std::fs::remove_dir(rust.join("tmp")).unwrap();
    std::fs::remove_dir(rust.join("new")).unwrap();
    let to = Target { account: "alice@example.org".to_owned(), folder: Some("Lists/rust".to_owned()) };
    w.store.deliver(&[to], b"", &Draft::from_bytes(b"x\r\n".to_vec()), SystemTime::now()).remove(0).unwrap();
    assert_eq!(files(&rust.join("new")).len(), 1);

    // Renamed with what is below, while a session has one of them open.
    let open = home.open("Lists/rust").unwrap();
    assert!(matches!(home.rename("Lists", "Lists/rust/x"), Err(Error::BadName(_))));
    assert!(matches!(home.rename("Lists", "Sent"), Err(Error::Exists(_))));
    home.rename("Lists", "Alte/Listen").unwrap();
    assert_eq!(listed(&home), ["INBOX", "Alte", "Alte/Listen", "Alte/Listen/rust", "Alte/Listen/v2.0", "Alte/Listen/v2.0/Entwürfe", "Sent", "v1.0"]);
    assert_eq!(open.read(Uid(1)).unwrap().unwrap(), b"x\r\n");
    assert_eq!(open.name(), "Alte/Listen/rust");
    assert!(Arc::ptr_eq(&open, &home.open("Alte/Listen/rust").unwrap()));

    // Deleted, and the children stay.
    home.open("Alte/Listen")
        .unwrap()
        .append(&[Append { draft: &Draft::from_bytes(b"y".to_vec()), flags: Flags::SEEN, keywords: vec![], internal_date: 5 }])
        .unwrap();
    let validity = home.open("Alte/Listen").unwrap().counts().uid_validity;
    let gone = home.open("Alte/Listen").unwrap();
    home.delete("Alte/Listen").unwrap();
    assert!(gone.is_gone());
    assert!(matches!(home.open("Alte/Listen"), Err(Error::NotFound(_))));
    assert_eq!(listed(&home)[..4], ["INBOX", "Alte", "Alte/Listen -", "Alte/Listen/rust"]);
    assert_eq!(uids(&home.open("Alte/Listen/rust").unwrap()), [1]);
    home.create("Alte/Listen").unwrap();
    let counts = home.open("Alte/Listen").unwrap().counts();
    assert!(counts.messages == 0 && counts.uid_validity > validity, "{counts:?}");
    home.delete("Alte/Listen/v2.0/Entwürfe").unwrap();
    assert!(!w.maildir().join("Alte/Listen/v2.0/Entw&APw-rfe").exists());
    assert!(!files(&w.maildir()).iter().any(|n| n.contains("trash")));
    // Onto directories that are above other folders: no.
    std::fs::remove_dir_all(w.maildir().join("Alte/cur")).unwrap();
    assert!(matches!(home.rename("v1.0", "Alte"), Err(Error::Exists(_))));
    home.subscribe("Alte/Listen/rust", true).unwrap();
    drop((home, open, gone));
    w.reopen();
    assert_eq!(w.home().subscriptions().unwrap(), ["Alte/Listen/rust"]);
    assert!(listed(&w.home()).contains(&"v1.0".to_owned()));
}

#[test]
fn a_home_without_folders_gets_them_as_configured() {
    let w = World::new("new-tree");
    w.store.set_tree(true);
    let home = w.home();
    home.prepare().unwrap();
    assert_eq!(listed(&home), ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]);
    assert!(w.maildir().join("Sent/cur").is_dir() && !w.maildir().join(".Sent").exists());
    // With folders it keeps what it has.
    w.store.set_tree(false);
    home.create("v1.0/x").unwrap();
    assert!(w.maildir().join("v1.0/x/cur").is_dir());
}

#[test]
fn both_layouts_in_one_home() {
    let w = World::new("mixed");
    tree(&w, &["Old/x", "Old/x/y", ".New", ".Old.flat"]);
    let home = w.home();
    assert_eq!(listed(&home), ["INBOX", "New", "Old -", "Old/flat", "Old/x", "Old/x/y"]);
    home.create("More/a").unwrap();
    assert!(w.maildir().join(".More.a").is_dir());
    home.rename("Old", "Older").unwrap();
    assert_eq!(listed(&home), ["INBOX", "More", "More/a", "New", "Older -", "Older/flat", "Older/x", "Older/x/y"]);
    assert!(w.maildir().join(".Older.flat").is_dir() && w.maildir().join("Older/x/y").is_dir());
    home.delete("Older/x").unwrap();
    home.delete("Older/flat").unwrap();
    assert_eq!(listed(&home), ["INBOX", "More", "More/a", "New", "Older -", "Older/x -", "Older/x/y"]);
}

#[test]
fn a_home_that_others_filled_gets_no_folders() {
    let w = World::new("filled");
    put(&w.maildir(), &[("dovecot-uidlist", "3 V77 N9\n")]);
    w.home().prepare().unwrap();
    assert_eq!(listed(&w.home()), ["INBOX"]);
    std::fs::remove_file(w.maildir().join("dovecot-uidlist")).unwrap();
    std::fs::write(w.maildir().join("courierimapsubscribed"), "INBOX\nINBOX.Lists.rust\n").unwrap();
    w.home().prepare().unwrap();
    assert_eq!(listed(&w.home()), ["INBOX"]);
    assert_eq!(w.home().subscriptions().unwrap(), ["INBOX", "Lists/rust"]);
}
