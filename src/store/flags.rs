//! Flags, keywords and EXPUNGE: a rename or an unlink per message, which is the commit (invariant 4).

use super::{
    Error, FlagOp, Flags, Folder, ModSeq, Result, Stored, Uid, Usage, file,
    keywords::{self, LETTERS},
    lock, maildirsize,
    quota::Removal,
    scan,
    state::{Batch, Mark},
    sync::Disk,
};
use crate::disk;
use std::path::Path;

/// A base and its keywords.
type High = (Box<[u8]>, u64);

/// One message on its way to other flags.
struct Step {
    uid: u32,
    from: (bool, Vec<u8>),
    to: Box<[u8]>,
    flags: Flags,
    keywords: u64,
    high_changed: bool,
}

impl Folder {
    /// Job. Survives `kill -9` when it returns (invariant 4 of `storage.md`). Keywords by name; unknown ones are
    /// created. Returns those that are gone. When it fails, no flag changed.
    pub fn store_flags(&self, uids: &[Uid], op: FlagOp, flags: Flags, keywords: &[String]) -> Result<Vec<Uid>> {
        Ok(self.store_flags_unless(uids, op, flags, keywords, None)?.gone)
    }

    /// Job. As [`Folder::store_flags`], but a message whose mod-sequence is above `unchanged_since` is left as it is
    /// (UNCHANGEDSINCE, RFC 7162 §3.1.3), unless it is known that what changed is none of these flags; to set all of them is
    /// to change all. Nobody comes between the question and the change.
    pub fn store_flags_unless(&self, uids: &[Uid], op: FlagOp, flags: Flags, keywords: &[String], unchanged_since: Option<ModSeq>) -> Result<Stored> {
        let mut d = lock(&self.disk);
        self.check()?;
        if unchanged_since.is_some() {
            // What other programs did shows in no mod-sequence before it is taken in.
            self.take_in(&mut d, false)?;
        }
        let bits = self.bits(&mut d, keywords, op != FlagOp::Remove)?;
        let dir = self.dir();
        let (mut left, mut modified) = (uids.to_vec(), Vec::new());
        left.sort_unstable();
        left.dedup();
        // A file that somebody renamed meanwhile is found under its new name by one more look.
        for attempt in 0..2 {
            if let Some(limit) = unchanged_since {
                let state = lock(&self.state);
                left.retain(|u| {
                    let is_newer = state.get(u.0).is_some_and(|m| m.modseq() > limit.0);
                    let refused = is_newer && (op == FlagOp::Set || !state.is_untouched(u.0, limit.0, flags, bits));
                    if refused {
                        modified.push(*u);
                    }
                    !refused
                });
            }
            let steps: Vec<Step> = left.iter().filter_map(|u| self.step(u.0, op, flags, bits)).collect();
            let missed = self.take_steps(&mut d, &dir, steps)?;
            if missed.is_empty() || attempt > 0 {
                break;
            }
            left = missed;
            self.take_in(&mut d, true)?;
        }
        let state = lock(&self.state);
        let gone = uids.iter().filter(|u| state.at(u.0).is_none()).copied().collect();
        modified.retain(|u| state.at(u.0).is_some());
        modified.sort_unstable();
        Ok(Stored { gone, modified })
    }

    /// The bits of these keywords; `define` makes the unknown ones.
    pub(super) fn bits(&self, d: &mut Disk, wanted: &[String], define: bool) -> Result<u64> {
        let mut names = lock(&self.state).keywords.clone();
        if define && wanted.iter().any(|w| keywords::find(&names, w).is_none()) {
            names = d.keywords.define(&self.dir(), names, wanted)?;
            keywords::merge(&mut lock(&self.state).keywords, names.clone());
        }
        Ok(wanted.iter().filter_map(|w| keywords::find(&names, w)).fold(0, |bits, n| bits | 1 << n))
    }

    /// `None` when there is nothing to do.
    fn step(&self, uid: u32, op: FlagOp, flags: Flags, bits: u64) -> Option<Step> {
        let state = lock(&self.state);
        let m = state.get(uid)?;
        let (flags, keywords) = match op {
            FlagOp::Set => (flags, bits),
            FlagOp::Add => (m.flags().with(flags), m.keywords() | bits),
            FlagOp::Remove => (m.flags().without(flags), m.keywords() & !bits),
        };
        if (flags, keywords) == (m.flags(), m.keywords()) {
            return None;
        }
        let name = state.name(m);
        let to = file::with_flags(&name, flags, (keywords & LETTERS) as u32);
        Some(Step { uid, from: (m.is_new(), name), to, flags, keywords, high_changed: (keywords ^ m.keywords()) & !LETTERS != 0 })
    }

    /// Those whose file was not there under its name, or of which somebody else said something else meanwhile. On failure
    /// what was done is taken back.
    fn take_steps(&self, d: &mut Disk, dir: &Path, steps: Vec<Step>) -> Result<Vec<Uid>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let (mut done, mut missed) = (Vec::new(), Vec::new());
        let renamed = self.own_change(d, dir, || {
            for step in steps {
                let (from, to) = (scan::path(dir, step.from.0, &step.from.1), scan::path(dir, false, &step.to));
                match if from == to { Ok(()) } else { disk::rename(&from, &to) } {
                    Ok(()) => done.push(step),
                    Err(e) if e.is_not_found() => missed.push(Uid(step.uid)),
                    Err(e) => return Err(Error::from(e)),
                }
            }
            Ok(())
        });
        // Last, because a full disk may refuse it, but not the renames that take all back.
        let high = done.iter().filter(|s| s.high_changed).map(|s| (file::base(&s.to), s.keywords));
        if let Err(e) = renamed.and_then(|()| d.keywords.set_high(dir, high)) {
            take_back(d, dir, &done);
            return Err(e);
        }
        let marked = done.into_iter().map(|s| Mark { uid: s.uid, file: Some((false, s.to)), flags: s.flags, keywords: s.keywords });
        let doubtful = self.commit(d, dir, Batch { marked: marked.collect(), ..Batch::default() });
        missed.extend(doubtful.into_iter().map(Uid));
        let live = lock(&self.state).messages().len();
        if d.keywords.wants_compaction(live) {
            self.compact_keywords(d, dir);
        }
        Ok(missed)
    }

    /// Failing changes nothing; the file is only longer than it need be.
    fn compact_keywords(&self, d: &mut Disk, dir: &Path) {
        let state = lock(&self.state);
        let names = state.keywords.clone();
        let with_high = state.messages().iter().filter(|m| m.keywords() & !LETTERS != 0);
        let high: Vec<High> = with_high.map(|m| (file::base(&state.name(m)).into(), m.keywords())).collect();
        drop(state);
        let _ = d.keywords.compact(dir, &names, high.iter().map(|(b, k)| (&**b, *k)));
    }

    /// Job. Removes these whatever their flags; the caller chose those with \Deleted. What was removed. When it
    /// fails half-way, what is gone is told by [`Folder::changes_since`].
    pub fn expunge(&self, uids: &[Uid]) -> Result<Vec<Uid>> {
        let mut removal = self.limited().map(|account| account.removal());
        let done = self.expunge_from(&mut lock(&self.disk), uids, removal.as_mut());
        if let Some(removal) = removal {
            removal.end();
        }
        done
    }

    fn expunge_from(&self, d: &mut Disk, uids: &[Uid], mut removal: Option<&mut Removal>) -> Result<Vec<Uid>> {
        self.check()?;
        let wanted: Vec<Uid> = self.meta(uids).into_iter().flatten().map(|m| m.uid).collect();
        let missed = self.remove(d, &wanted, removal.as_deref_mut())?;
        if !missed.is_empty() {
            // Renamed or removed by somebody else: one more look tells which.
            self.take_in(d, true)?;
            self.remove(d, &missed, removal)?;
        }
        let state = lock(&self.state);
        Ok(wanted.into_iter().filter(|u| state.at(u.0).is_none()).collect())
    }

    /// Those whose file was not there under its name.
    fn remove(&self, d: &mut Disk, uids: &[Uid], mut removal: Option<&mut Removal>) -> Result<Vec<Uid>> {
        let dir = self.dir();
        let (mut gone, mut missed) = (Vec::new(), Vec::new());
        let done = self.own_change(d, &dir, || {
            for uid in uids {
                let Some(path) = lock(&self.state).file(uid.0).map(|(is_new, name)| scan::path(&dir, is_new, &name)) else { continue };
                let size = if removal.is_some() { maildirsize::size(&path).ok().flatten() } else { None };
                match disk::remove_file(&path) {
                    Ok(()) => {
                        gone.push(uid.0);
                        if let (Some(removal), Some(size)) = (&mut removal, size) {
                            removal.add(Usage::of(size));
                        }
                    }
                    Err(e) if e.is_not_found() => missed.push(*uid),
                    Err(e) => return Err(Error::from(e)),
                }
            }
            Ok(())
        });
        gone.sort_unstable();
        gone.dedup();
        self.commit(d, &dir, Batch { removed: gone, ..Batch::default() });
        done.map(|()| missed)
    }
}

fn take_back(d: &mut Disk, dir: &Path, done: &[Step]) {
    for step in done.iter().rev() {
        let _ = disk::rename_back(&scan::path(dir, false, &step.to), &scan::path(dir, step.from.0, &step.from.1));
    }
    // Whatever could not be taken back shows at the next look.
    d.cur.forget();
}
