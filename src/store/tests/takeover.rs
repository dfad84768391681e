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
