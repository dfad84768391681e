//! A change becomes one mod-sequence: it is done on the disk, then logged, then state, then told to the sessions.
//!
//! Killed in between, it shows at the next start as a difference between folder and log, and is logged then.

use super::{
    Folder, lock,
    log::Held,
    state::Batch,
    sync::{Disk, STEP},
};
use std::path::Path;

impl Folder {
    /// With the disk lock held, after the change on the disk. Takes in what other processes logged, too. Returns the
    /// UIDs that those logged something else of: one more look at the directories tells what is so.
    pub(super) fn commit(&self, d: &mut Disk, dir: &Path, batch: Batch) -> Vec<u32> {
        if !d.loaded {
            // The history begins when all is read.
            let mut state = lock(&self.state);
            let plan = state.plan(&[], &batch, 0);
            state.settle(&plan, batch);
            return Vec::new();
        }
        if batch.is_empty() && d.heard.is_empty() && !d.log.is_changed(dir) {
            return Vec::new();
        }
        let next = self.next_noted(d);
        let mut heard = std::mem::take(&mut d.heard);
        let mut held = d.log.lock(dir, &mut |e| heard.push(e));
        let plan = lock(&self.state).plan(&heard, &batch, held.last());
        held.append(plan.entries.iter().copied(), next);
        let mut state = lock(&self.state);
        let news = state.settle(&plan, batch);
        if state.gaps != held.gaps() {
            state.gaps = held.gaps().to_vec();
        }
        drop(state);
        self.shorten(&mut held, next);
        drop(held);
        if !heard.is_empty() {
            // Files have other names by now, and some are new.
            d.new.forget();
            d.cur.forget();
        }
        if news {
            self.tell();
        }
        plan.doubtful
    }

    /// The end of loading: every message gets the mod-sequence that the log has for it.
    pub(super) fn begin_history(&self, d: &mut Disk, dir: &Path) {
        let history = d.history.take().unwrap_or_default();
        let next = self.next_noted(d);
        let mut heard = std::mem::take(&mut d.heard);
        let floor = d.log.floor();
        let mut held = d.log.lock(dir, &mut |e| heard.push(e));
        let mut state = lock(&self.state);
        let (entries, cost) = state.adopt(floor, held.last(), |each| {
            history.replay(&mut *each);
            heard.iter().for_each(|e| each(*e));
        });
        held.weigh(cost, state.messages().len());
        state.gaps = held.gaps().to_vec();
        drop(state);
        held.append(entries.into_iter(), next);
        self.shorten(&mut held, next);
    }

    /// The next UID, and the N of the UID list that goes with it.
    fn next_noted(&self, d: &Disk) -> (u32, u32) {
        (d.next.max(lock(&self.state).next), d.ledger.list_next())
    }

    fn shorten(&self, held: &mut Held<'_>, next: (u32, u32)) {
        if !held.wants_rewrite() {
            return;
        }
        let state = lock(&self.state);
        let (modseq, (gone, floor)) = (state.modseq, state.expunged());
        drop(state);
        held.rewrite(modseq, floor, next, &gone, &mut |each| {
            let mut from = 0;
            while lock(&self.state).live(from, STEP, each) {
                from += STEP;
            }
        });
    }
}
