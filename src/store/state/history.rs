//! The log and the state: what the log says becomes state, and what is to be logged of a change.
//!
//! Another process may have logged something about the very message that a job here has just changed or looked at.
//! Which came first on the disk nobody can tell, so the log is believed, the message is *in doubt*, and one more look
//! at the disk is due: that is where the truth is.

use super::{Fresh, MEMORY, State, touched::Touch};
use crate::store::{
    Flags, KeywordBits,
    enter::Arrival,
    keywords,
    log::{Entry, Live, What},
};
use std::collections::{BTreeMap, HashMap};

/// New marks of a message, or only another name.
pub(in crate::store) struct Mark {
    pub uid: u32,
    /// `(under new/, name)`, when it has another one.
    pub file: Option<(bool, Box<[u8]>)>,
    pub flags: Flags,
    pub keywords: KeywordBits,
}

/// What a job did, or found, and what is one change for those who hear of it.
#[derive(Default)]
pub(in crate::store) struct Batch {
    pub marked: Vec<Mark>,
    /// We removed their files. Ascending.
    pub removed: Vec<u32>,
    /// They were not there when we looked. Ascending.
    pub missing: Vec<u32>,
    /// UIDs ascending, above all others.
    pub arrived: Vec<(u32, Arrival)>,
}

impl Batch {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.marked.is_empty() && self.removed.is_empty() && self.missing.is_empty() && self.arrived.is_empty()
    }
}

/// Mod-sequence, flags, keywords; `None`: gone.
type Told = Option<(u64, Flags, KeywordBits)>;

/// What comes of a batch, and of what other processes logged since the last one.
#[derive(Default)]
pub(in crate::store) struct Plan {
    /// For the log, all under one mod-sequence.
    pub entries: Vec<Entry>,
    pub doubtful: Vec<u32>,
    /// The mod-sequence for what nobody has logged yet.
    fresh: u64,
    /// The highest that is given then.
    modseq: u64,
    /// What others logged of messages that are known here or in the batch.
    told: HashMap<u32, Told>,
    /// And what went away.
    gone: Vec<(u64, u32, u32)>,
    /// Of the batch.
    lost: Vec<u32>,
}

/// Steps from run to message that a log may cost when it is read; one that we wrote costs far less.
const STEPS: usize = 10_000_000;

impl State {
    fn within(&self, e: &Entry) -> std::ops::Range<usize> {
        self.messages.partition_point(|m| m.uid < e.first)..self.messages.partition_point(|m| m.uid <= e.last)
    }

    /// `heard`: what others logged since the last plan. `last`: the highest mod-sequence in the log.
    pub(in crate::store) fn plan(&self, heard: &[Entry], batch: &Batch, last: u64) -> Plan {
        let fresh = self.modseq.max(last) + 1;
        let mut plan = Plan { fresh, ..Plan::default() };
        for e in heard {
            // Sessions were told of later ones already; this one they would miss.
            let modseq = if e.modseq > self.modseq { e.modseq } else { fresh };
            if modseq == fresh {
                plan.entries.push(Entry { modseq, ..*e });
            }
            let told = match e.what {
                What::Arrived(flags, keywords) | What::Marked(flags, keywords) => Some((modseq, flags, keywords)),
                What::Gone => {
                    plan.gone.push((modseq, e.first, e.last));
                    None
                }
            };
            let known = self.messages[self.within(e)].iter().map(|m| m.uid);
            let new = batch.arrived.partition_point(|(uid, _)| *uid < e.first)..batch.arrived.partition_point(|(uid, _)| *uid <= e.last);
            for uid in known.chain(batch.arrived[new].iter().map(|(uid, _)| *uid)) {
                if told.is_none() || plan.told.get(&uid) != Some(&None) {
                    plan.told.insert(uid, told);
                }
            }
        }
        let one = |uid, what| Entry { first: uid, last: uid, modseq: fresh, what };
        for mark in &batch.marked {
            let is = match plan.told.get(&mark.uid) {
                Some(told) => told.map(|(_, flags, keywords)| (flags, keywords)),
                None => self.get(mark.uid).map(|m| (m.flags(), m.keywords)),
            };
            match is {
                None => {}
                Some(is) if is == (mark.flags, mark.keywords) => {}
                Some(_) if plan.told.contains_key(&mark.uid) => plan.doubtful.push(mark.uid),
                Some(_) => plan.entries.push(one(mark.uid, What::Marked(mark.flags, mark.keywords))),
            }
        }
        let is_here = |uid: &u32, plan: &Plan| plan.told.get(uid) != Some(&None) && self.at(*uid).is_some();
        for uid in &batch.missing {
            match plan.told.get(uid) {
                Some(Some(_)) => plan.doubtful.push(*uid),
                _ if is_here(uid, &plan) => plan.lost.push(*uid),
                _ => {}
            }
        }
        let removed: Vec<u32> = batch.removed.iter().filter(|uid| is_here(uid, &plan)).copied().collect();
        plan.lost.extend(removed);
        plan.lost.sort_unstable();
        plan.lost.dedup();
        plan.entries.extend(plan.lost.iter().map(|uid| one(*uid, What::Gone)));
        for (uid, a) in &batch.arrived {
            match plan.told.get(uid) {
                Some(Some((_, flags, keywords))) if (*flags, *keywords) == (a.flags, a.keywords) => {}
                Some(_) => plan.doubtful.push(*uid),
                None => plan.entries.push(one(*uid, What::Arrived(a.flags, a.keywords))),
            }
        }
        plan.modseq = if plan.entries.is_empty() { self.modseq.max(last) } else { fresh };
        plan
    }

    /// Makes it so. True when there is something to tell.
    pub(in crate::store) fn settle(&mut self, plan: &Plan, batch: Batch) -> bool {
        let before = self.modseq;
        if plan.told.is_empty() && plan.gone.is_empty() && batch.is_empty() {
            self.modseq = plan.modseq;
            return before != plan.modseq;
        }
        let mut flagged = Vec::new();
        for (uid, told) in &plan.told {
            if let (Some(at), Some((modseq, flags, keywords))) = (self.at(*uid), *told) {
                let is = (self.messages[at].flags(), self.messages[at].keywords);
                self.set_marks(at, flags, keywords);
                self.set_modseq(at, modseq);
                self.unsure.insert(*uid);
                flagged.push(Touch::of(modseq, *uid, is, (flags, keywords)));
            }
        }
        for mark in batch.marked {
            let Some(at) = self.at(mark.uid) else { continue };
            let is = (self.messages[at].flags(), self.messages[at].keywords);
            let differs = is != (mark.flags, mark.keywords);
            if differs && plan.told.contains_key(&mark.uid) {
                continue;
            }
            match mark.file {
                Some((is_new, name)) => {
                    self.rename(at, is_new, &name, mark.flags, mark.keywords);
                    self.unsure.remove(&mark.uid);
                }
                None => self.set_marks(at, mark.flags, mark.keywords),
            }
            if differs {
                self.set_modseq(at, plan.fresh);
                flagged.push(Touch::of(plan.fresh, mark.uid, is, (mark.flags, mark.keywords)));
            }
        }
        flagged.sort_unstable();
        for run in flagged.chunk_by(|a, b| a.modseq == b.modseq) {
            self.note_flagged(run[0].modseq, run.iter().map(|t| t.uid));
        }
        self.touched.note(&flagged);
        let mut out = plan.lost.clone();
        for (modseq, first, last) in plan.gone.iter().filter(|g| g.0 != plan.fresh).chain(plan.gone.iter().filter(|g| g.0 == plan.fresh)) {
            out.extend(self.messages[self.within(&Entry { first: *first, last: *last, modseq: *modseq, what: What::Gone })].iter().map(|m| m.uid));
            self.note_expunged(*modseq, *first, *last);
        }
        for uid in &plan.lost {
            self.note_expunged(plan.fresh, *uid, *uid);
        }
        out.sort_unstable();
        out.dedup();
        self.remove(&out);
        self.expect(batch.arrived.len());
        for (uid, a) in batch.arrived {
            self.next = self.next.max(uid.saturating_add(1));
            let (modseq, flags, keywords) = match plan.told.get(&uid) {
                None => (plan.fresh, a.flags, a.keywords),
                Some(Some(told)) => *told,
                // Others know that it is gone again.
                Some(None) => continue,
            };
            if a.recent {
                self.recent.push(uid);
            }
            self.arrive(&Fresh { uid, flags, is_new: a.is_new, keywords, size: a.size, date: a.date, name: &a.name }, modseq);
            if let Some(at) = self.at(uid).filter(|_| a.summary.is_some()) {
                self.set_summary(at, a.summary);
            }
            if (flags, keywords) != (a.flags, a.keywords) {
                self.unsure.insert(uid);
            }
            keywords::cover(&mut self.keywords, a.keywords);
        }
        let all = plan.told.values().flatten().fold(0, |all, (_, _, k)| all | k);
        keywords::cover(&mut self.keywords, all);
        self.modseq = plan.modseq;
        true
    }

    /// Begins the history of messages that were just read from the disk: `replay` hands on what the log has, `last` is
    /// where mod-sequences go on. Returns what the log does not have, under one mod-sequence, and what reading it cost.
    pub(in crate::store) fn adopt(&mut self, floor: u64, last: u64, replay: impl FnOnce(&mut dyn FnMut(Entry))) -> (Vec<Entry>, usize) {
        self.expunged.clear();
        self.arrived.clear();
        self.flagged.clear();
        self.forgotten = floor;
        let mut logged = vec![Logged::default(); self.messages.len()];
        let mut live = Ranges::default();
        let mut steps = 0;
        replay(&mut |e| {
            let within = self.within(&e);
            steps += within.len();
            if steps > STEPS + 64 * logged.len() {
                return;
            }
            for (l, m) in logged[within.clone()].iter_mut().zip(&mut self.messages[within]) {
                match e.what {
                    What::Arrived(flags, keywords) => {
                        let arrived = if l.is_live { l.arrived } else { e.modseq };
                        (*l, m.modseq) = (Logged { arrived, keywords, flags, is_live: true }, e.modseq);
                    }
                    What::Marked(flags, keywords) => ((l.flags, l.keywords), m.modseq) = ((flags, keywords), e.modseq),
                    What::Gone => l.is_live = false,
                }
            }
            match e.what {
                What::Arrived(..) => live.add(e.first, e.last),
                What::Gone => {
                    live.remove(e.first, e.last);
                    self.note_expunged(e.modseq, e.first, e.last);
                }
                What::Marked(..) => {}
            }
        });
        if steps > STEPS + 64 * logged.len() {
            // Not written by us. Nothing in it counts.
            logged.iter_mut().for_each(|l| l.is_live = false);
            (live, self.forgotten) = (Ranges::default(), last);
        }
        let fresh = last + 1;
        let mut entries = Vec::new();
        for (first, last) in live.without(self.messages.iter().map(|m| m.uid)) {
            entries.push(Entry { first, last, modseq: fresh, what: What::Gone });
            self.note_expunged(fresh, first, last);
        }
        for (l, m) in logged.iter_mut().zip(&mut self.messages) {
            let is = (m.flags(), m.keywords);
            let what = match l.is_live {
                false => What::Arrived(is.0, is.1),
                true if is != (l.flags, l.keywords) => What::Marked(is.0, is.1),
                true => continue,
            };
            entries.push(Entry { first: m.uid, last: m.uid, modseq: fresh, what });
            m.modseq = fresh;
            if !l.is_live {
                l.arrived = fresh;
            }
        }
        // A message that was found late came no later than those after it.
        let mut latest = u64::MAX;
        for l in logged.iter_mut().rev() {
            latest = latest.min(l.arrived);
            l.arrived = latest;
        }
        for (l, m) in logged.iter().zip(&self.messages) {
            if self.arrived.back().is_none_or(|(last, _)| *last < l.arrived) {
                self.arrived.push_back((l.arrived, m.uid));
            }
        }
        while self.arrived.len() > MEMORY {
            self.forget_arrivals();
        }
        self.modseq = if entries.is_empty() { last } else { fresh };
        self.flagged_forgotten = self.modseq;
        self.touched.begin(self.modseq);
        (entries, steps)
    }

    /// Some of the messages, from this index on, as they go into a log; false when there are no more.
    pub(in crate::store) fn live(&self, from: usize, step: usize, each: &mut dyn FnMut(Live)) -> bool {
        let Some(messages) = self.messages.get(from..).filter(|m| !m.is_empty()) else { return false };
        for m in messages.iter().take(step) {
            let run = self.arrived.partition_point(|(_, first)| *first <= m.uid).checked_sub(1);
            let arrived = run.and_then(|r| self.arrived.get(r)).map_or(m.modseq, |(modseq, _)| m.modseq.min(*modseq));
            each(Live { uid: m.uid, arrived, modseq: m.modseq, flags: m.flags(), keywords: m.keywords });
        }
        true
    }
    /// What went away, and what of it is forgotten.
    pub(in crate::store) fn expunged(&self) -> (Vec<(u64, u32, u32)>, u64) {
        (self.expunged.iter().copied().collect(), self.forgotten)
    }
}

/// A message as the log has it.
#[derive(Clone, Copy, Default)]
struct Logged {
    arrived: u64,
    keywords: KeywordBits,
    flags: Flags,
    is_live: bool,
}

/// UIDs: first to last.
#[derive(Default)]
struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    fn add(&mut self, first: u32, last: u32) {
        self.remove(first, last);
        let (mut first, mut last) = (first, last);
        if let Some((a, b)) = self.0.range(..first).next_back().map(|(a, b)| (*a, *b))
            && b + 1 == first
        {
            first = a;
        }
        if let Some(b) = last.checked_add(1).and_then(|after| self.0.remove(&after)) {
            last = b;
        }
        self.0.insert(first, last);
    }
    fn remove(&mut self, first: u32, last: u32) {
        while let Some((a, b)) = self.0.range(..=last).next_back().map(|(a, b)| (*a, *b)).filter(|(_, b)| *b >= first) {
            self.0.remove(&a);
            if a < first {
                self.0.insert(a, first - 1);
            }
            if b > last {
                self.0.insert(last + 1, b);
            }
        }
    }
    /// What is left without these, ascending.
    fn without(&self, uids: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
        let mut uids = uids.peekable();
        let mut left = Vec::new();
        for (&first, &last) in &self.0 {
            let mut from = first;
            while uids.next_if(|u| *u < first).is_some() {}
            while let Some(uid) = uids.next_if(|u| *u <= last) {
                if from < uid {
                    left.push((from, uid - 1));
                }
                from = uid.saturating_add(1);
            }
            if from <= last {
                left.push((from, last));
            }
        }
        left
    }
}
