use super::*;
use crate::store::{Changes, ModSeq};

fn arrival(flags: u8) -> Arrival {
    Arrival {
        uid: None,
        name: format!("1.M2P3.h:2,{}", ["", "S"][usize::from(flags & 1)]).into_bytes().into(),
        is_new: false,
        recent: false,
        flags: Flags(flags),
        keywords: 0,
        size: 1,
        date: 0,
        learned: false,
        summary: None,
    }
}
fn entry(uids: (u32, u32), modseq: u64, what: What) -> Entry {
    Entry { first: uids.0, last: uids.1, modseq, what }
}
fn marked(flags: u8) -> What {
    What::Marked(Flags(flags), 0)
}
fn mark(uid: u32, flags: u8) -> Mark {
    Mark { uid, file: Some((false, b"1.M9P9.h:2,".as_slice().into())), flags: Flags(flags), keywords: 0 }
}
fn arrived(uids: impl Iterator<Item = u32>) -> Batch {
    Batch { arrived: uids.map(|u| (u, arrival(0))).collect(), ..Batch::default() }
}
/// UIDs 1 to 9, mod-sequence 100.
fn nine() -> State {
    let mut s = State::default();
    let batch = arrived(1..=9);
    let plan = s.plan(&[], &batch, 99);
    assert_eq!((plan.entries.len(), plan.entries[0].modseq), (9, 100));
    s.settle(&plan, batch);
    s
}
fn flags(s: &State) -> Vec<(u32, u8, u64)> {
    s.messages().iter().map(|m| (m.uid(), m.flags().0, m.modseq())).collect()
}
fn since(s: &State, modseq: u64) -> (Vec<(u32, u32)>, Vec<u32>, Vec<u32>) {
    let Changes { expunged, changed, arrived, modseq } = s.changes_since(modseq);
    assert_eq!(modseq, ModSeq(s.modseq));
    let ids = |v: Vec<crate::store::Uid>| v.into_iter().map(|u| u.0).collect();
    (expunged.into_iter().map(|(a, b)| (a.0, b.0)).collect(), ids(changed), ids(arrived))
}

#[test]
fn what_both_say_is_one_change() {
    let mut s = nine();
    let batch = Batch { marked: vec![mark(2, 1), mark(3, 1)], missing: vec![5, 6], ..Batch::default() };
    let heard = [entry((2, 2), 101, marked(1)), entry((5, 5), 102, What::Gone)];
    let plan = s.plan(&heard, &batch, 102);
    assert_eq!(plan.entries, [entry((3, 3), 103, marked(1)), entry((6, 6), 103, What::Gone)]);
    assert_eq!(plan.doubtful, []);
    assert!(s.settle(&plan, batch));
    assert_eq!((since(&s, 100), since(&s, 102)), ((vec![(5, 5), (6, 6)], vec![2, 3], vec![]), (vec![(6, 6)], vec![3], vec![])));
    assert!(s.unsure.is_empty());
}

#[test]
fn what_others_say_otherwise_is_in_doubt() {
    let mut s = nine();
    let name = |s: &State, uid| s.name(s.get(uid).unwrap());
    let before = name(&s, 2);
    let batch = Batch { marked: vec![mark(2, 1), mark(3, 2)], missing: vec![4], removed: vec![7], arrived: vec![(10, arrival(0)), (11, arrival(0))] };
    let heard = [
        entry((2, 4), 101, marked(2)),
        entry((7, 7), 102, marked(2)),
        entry((10, 11), 103, What::Arrived(Flags(1), 0)),
        entry((11, 11), 104, What::Gone),
        entry((12, 12), 105, What::Arrived(Flags(0), 0)),
    ];
    let plan = s.plan(&heard, &batch, 105);
    // That it is gone we know better: we removed it.
    assert_eq!((&plan.doubtful[..], &plan.entries[..]), (&[2, 4, 10][..], &[entry((7, 7), 106, What::Gone)][..]));
    s.settle(&plan, batch);
    assert_eq!(flags(&s)[1..4], [(2, 2, 101), (3, 2, 101), (4, 2, 101)]);
    assert_eq!((flags(&s).last(), s.next), (Some(&(10, 1, 103)), 12));
    // The next look compares the flags of these whatever their names.
    assert_eq!(s.unsure.iter().copied().collect::<Vec<_>>(), [2, 4, 10]);
    assert_eq!((name(&s, 2), name(&s, 3)), (before, b"1.M9P9.h:2,".to_vec()));
    assert_eq!(since(&s, 100), (vec![(7, 7), (11, 11)], vec![2, 3, 4], vec![10]));
    // What it finds, counts.
    let batch = Batch { marked: vec![mark(2, 1), mark(4, 2)], ..Batch::default() };
    let plan = s.plan(&[], &batch, 106);
    assert_eq!((&plan.doubtful[..], &plan.entries[..]), (&[][..], &[entry((2, 2), 107, marked(1))][..]));
    s.settle(&plan, batch);
    assert_eq!(s.unsure.into_iter().collect::<Vec<_>>(), [10]);
}

#[test]
fn what_comes_too_late_comes_again() {
    let mut s = nine();
    s.modseq = 200;
    let heard = [entry((2, 3), 150, marked(1)), entry((4, 4), 160, What::Gone), entry((5, 5), 201, marked(1))];
    let plan = s.plan(&heard, &Batch::default(), 201);
    assert_eq!(plan.entries, [entry((2, 3), 202, marked(1)), entry((4, 4), 202, What::Gone)]);
    s.settle(&plan, Batch::default());
    assert_eq!(since(&s, 200), (vec![(4, 4)], vec![2, 3, 5], vec![]));
    assert_eq!(since(&s, 201), (vec![(4, 4)], vec![2, 3], vec![]));
}

fn adopt(s: &mut State, last: u64, log: &[Entry]) -> Vec<Entry> {
    s.adopt(90, last, |each| log.iter().for_each(|e| each(*e))).0
}

#[test]
fn a_log_gives_every_message_its_own() {
    let mut s = nine();
    let log = [
        entry((1, 4), 95, What::Arrived(Flags(0), 0)),
        entry((5, 12), 97, What::Arrived(Flags(0), 0)),
        entry((2, 2), 98, marked(0)),
        entry((10, 10), 99, What::Gone),
        entry((3, 3), 101, marked(4)),
    ];
    // Other flags than the third has; 11 and 12 are gone.
    let fresh = adopt(&mut s, 101, &log);
    assert_eq!(fresh, [entry((11, 12), 102, What::Gone), entry((3, 3), 102, marked(0))]);
    assert_eq!(flags(&s)[..5], [(1, 0, 95), (2, 0, 98), (3, 0, 102), (4, 0, 95), (5, 0, 97)]);
    assert_eq!(since(&s, 96), (vec![(10, 10), (11, 12)], vec![2, 3], vec![5, 6, 7, 8, 9]));
    assert_eq!(since(&s, 101), (vec![(11, 12)], vec![3], vec![]));
    assert_eq!(since(&s, 89).0, [(10, 10), (11, 12)], "by the holes: no log reaches that far");
    // As the log has it, and again: nothing is new.
    let log = [&log[..], &fresh].concat();
    assert_eq!((adopt(&mut s, 102, &log).len(), s.modseq), (0, 102));
    // Written anew, it says the same.
    let mut live = Vec::new();
    assert!(s.live(0, 4, &mut |m| live.push(m)) && s.live(4, 9, &mut |m| live.push(m)) && !s.live(9, 1, &mut |_| ()));
    let anew: Vec<Entry> = s.expunged().0.into_iter().map(|(m, a, b)| entry((a, b), m, What::Gone)).collect();
    let anew = live.iter().map(|m| entry((m.uid, m.uid), m.arrived, What::Arrived(m.flags, 0))).fold(anew, |mut all, e| {
        all.push(e);
        all
    });
    let later = live.iter().filter(|m| m.modseq > m.arrived).map(|m| entry((m.uid, m.uid), m.modseq, What::Marked(m.flags, 0)));
    let anew: Vec<Entry> = anew.into_iter().chain(later).collect();
    let mut t = nine();
    assert_eq!((adopt(&mut t, 102, &anew), flags(&t)), (vec![], flags(&s)));
    for m in 90..=102 {
        assert_eq!(since(&t, m), since(&s, m), "{m}");
    }
}

#[test]
fn a_message_that_no_log_knows_came_just_now() {
    let mut s = nine();
    let fresh = adopt(&mut s, 200, &[entry((1, 3), 150, What::Arrived(Flags(0), 0)), entry((5, 9), 160, What::Arrived(Flags(0), 0))]);
    assert_eq!(fresh, [entry((4, 4), 201, What::Arrived(Flags(0), 0))]);
    // Those after it were there before.
    assert_eq!(since(&s, 200), (vec![], vec![4], vec![]));
    assert_eq!(since(&s, 155), (vec![], vec![], vec![4, 5, 6, 7, 8, 9]));
    assert_eq!(adopt(&mut nine(), 200, &[]).len(), 9);
}

#[test]
fn a_log_that_takes_for_ever_to_read_counts_for_nothing() {
    let mut s = nine();
    let wide = entry((1, u32::MAX), 150, What::Arrived(Flags(0), 0));
    let fresh = s.adopt(90, 200, |each| (0..STEPS / 4).for_each(|_| each(wide))).0;
    assert_eq!((fresh.len(), s.modseq), (9, 201));
    assert_eq!(since(&s, 180).2.len(), 9);
}

#[test]
fn ranges() {
    let mut r = Ranges::default();
    for (first, last) in [(5, 9), (1, 2), (3, 4), (20, 30), (10, 10)] {
        r.add(first, last);
    }
    assert_eq!(r.0, BTreeMap::from([(1, 10), (20, 30)]));
    r.remove(4, 21);
    r.remove(25, 25);
    r.remove(100, 200);
    assert_eq!(r.0, BTreeMap::from([(1, 3), (22, 24), (26, 30)]));
    r.add(2, 27);
    assert_eq!(r.0, BTreeMap::from([(1, 30)]));
    r.remove(2, u32::MAX);
    r.add(4, 6);
    assert_eq!(r.without([2, 5, 9].into_iter()), [(1, 1), (4, 4), (6, 6)]);
    assert_eq!(r.without([1, 4, 5, 6].into_iter()), []);
}
