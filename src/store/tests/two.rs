//! Two daemons on one tree at the same time, each with sessions that remember.

use super::*;
use crate::store::{Changes, KeywordBits};
use std::collections::{BTreeMap, BTreeSet};

/// What a session knows, kept up to date by nothing but what it is told.
#[derive(Default)]
struct Session {
    modseq: u64,
    marks: BTreeMap<u32, (u8, KeywordBits)>,
}

impl Session {
    fn look(&mut self, f: &Folder) {
        let highest = f.uids().1.0;
        assert!(highest >= self.modseq, "{highest} after {}", self.modseq);
        let Changes { expunged, changed, arrived, modseq } = f.changes_since(ModSeq(self.modseq));
        self.marks.retain(|uid, _| !expunged.iter().any(|(first, last)| (first.0..=last.0).contains(uid)));
        let told: Vec<Uid> = changed.into_iter().chain(arrived).collect();
        for m in f.meta(&told).into_iter().flatten() {
            self.marks.insert(m.uid.0, (m.flags.0, m.keywords));
        }
        // What went between the two questions is told the next time.
        self.modseq = modseq.0;
    }
}

fn marks(f: &Folder) -> BTreeMap<u32, (u8, KeywordBits)> {
    f.meta(&f.uids().0).into_iter().flatten().map(|m| (m.uid.0, (m.flags.0, m.keywords))).collect()
}

#[test]
fn two_daemons_at_work_agree_in_the_end() {
    let w = World::new("two");
    w.home().prepare().unwrap();
    let root = w.dir.path().join("mail");
    let mut sessions: Vec<(Arc<Folder>, Session, BTreeSet<u32>)> = std::thread::scope(|s| {
        let workers: Vec<_> = (0..2u32)
            .map(|who| {
                let root = &root;
                s.spawn(move || {
                    let store = Store::open(root, &format!("host{who}"), |_| Vec::new()).unwrap();
                    let inbox = store.home("alice@example.org").unwrap().open("INBOX").unwrap();
                    let mut session = Session::default();
                    let mut given = BTreeSet::new();
                    let draft = Draft::from_bytes(b"x\r\n".to_vec());
                    for n in 0..60u32 {
                        let uids: Vec<Uid> = inbox.uids().0;
                        let pick = |k: u32| uids.get((n * k) as usize % uids.len().max(1)).copied();
                        match n % 6 {
                            0 | 1 => {
                                let to = Target { account: "alice@example.org".to_owned(), folder: None };
                                store.deliver(&[to], b"", &draft, SystemTime::now()).remove(0).unwrap();
                            }
                            2 => {
                                let one = [Append { draft: &draft, flags: Flags::SEEN, keywords: vec![], internal_date: 0 }];
                                given.extend(inbox.append(&one).unwrap().iter().map(|u| u.0));
                            }
                            3 | 4 => {
                                let some: Vec<Uid> = [pick(7), pick(3)].into_iter().flatten().collect();
                                let word = vec![format!("k{}", n % 30)];
                                let op = [FlagOp::Add, FlagOp::Remove][n as usize / 6 % 2];
                                inbox.store_flags(&some, op, Flags((n % 32) as u8), &word).unwrap();
                            }
                            _ => drop(inbox.expunge(&pick(5).into_iter().collect::<Vec<_>>()).unwrap()),
                        }
                        inbox.sync().unwrap();
                        session.look(&inbox);
                    }
                    (inbox, session, given)
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    // What the one finds only now, the other hears in the second round.
    for _ in 0..2 {
        for (inbox, session, _) in &mut sessions {
            inbox.sync().unwrap();
            session.look(inbox);
        }
    }
    let [(one, knows_one, gave_one), (two, knows_two, gave_two)] = &sessions[..] else { unreachable!() };
    assert!(gave_one.is_disjoint(gave_two), "{gave_one:?} {gave_two:?}");
    assert_eq!(marks(one), marks(two));
    assert_eq!(one.uids().1, two.uids().1);
    assert_eq!((&knows_one.marks, &knows_two.marks), (&marks(one), &marks(one)));
    assert_eq!(one.keywords(), two.keywords());
    // And so does a third that reads all anew, and finds nothing that was not logged.
    let fresh = w.inbox();
    assert_eq!((marks(&fresh), fresh.uids().1), (marks(one), one.uids().1));
    assert_eq!(fresh.counts().uid_next, one.counts().uid_next);
}
