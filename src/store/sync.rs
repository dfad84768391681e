//! Taking in what is on disk: own deliveries, other programs' files, renames and removals.
//!
//! Order under one folder's disk lock: read the directories, compare, give UIDs under the UID list's lock (and
//! look again if somebody else wrote that meanwhile), then change the state and tell the sessions.

use super::{
    Error, Folder, Result,
    dotlock::Dotlock,
    enter::arrival,
    events, file,
    found::{Found, Names},
    index::{self, Stamp},
    keywords::{self, High},
    ledger::{self, Ledger, Records},
    lock,
    log::{self, History, Log},
    scan::{self, Scan, Scope},
    state::{Batch, Mark, Message, State},
    uidlist,
    watch::Watch,
};
use crate::disk;
use std::{collections::HashMap, path::Path};

/// What the disk jobs of a folder share; whoever holds its lock is the only one to change the folder.
#[derive(Default)]
pub(super) struct Disk {
    pub loaded: bool,
    /// It was closed since, and taken back from memory.
    pub lingered: bool,
    pub ledger: Ledger,
    pub keywords: keywords::Files,
    pub log: Log,
    /// What the log has to say, until all is loaded.
    pub history: Option<History>,
    /// What other processes logged, and the state does not show yet.
    pub heard: Vec<log::Entry>,
    pub new: Watch,
    pub cur: Watch,
    /// The next UID to give: above all that anybody has given.
    pub next: u32,
    /// Where the last session of this process ended.
    pub resume: Option<Resume>,
    /// Until the UID list is read: UIDVALIDITY, and messages that were there and may still be.
    pub facts: Option<(u32, State)>,
    /// When `tmp/` was last swept.
    pub swept: i64,
    /// There are files that the last look left for the next.
    pub unfinished: bool,
    /// What the index on the disk says, or would if it could be written.
    pub written: Option<index::Header>,
    pub written_at: i64,
}

pub(super) struct Resume {
    pub list: Option<Stamp>,
    pub validity: u32,
    /// The next UID then, and the highest mod-sequence.
    pub next: u32,
    pub modseq: u64,
}

impl Resume {
    pub(super) fn of(seen: &index::Seen) -> Self {
        let c = &seen.counts;
        Self { list: Some(seen.list), validity: c.uid_validity, next: c.uid_next, modseq: c.highest_modseq }
    }
}

impl Disk {
    pub(super) fn open_log(&mut self, dir: &Path, validity: u32) -> Result<()> {
        let least = self.resume.as_ref().filter(|r| r.validity == validity).map_or(0, |r| r.modseq);
        let (log, history) = Log::open(dir, validity, disk::clock(), least)?;
        (self.log, self.history) = (log, Some(history));
        Ok(())
    }
    /// After changes of ours that began when the times were `before`.
    pub(super) fn changed_by_us(&mut self, dir: &Path, before: (i64, i64)) {
        if let Ok(after) = scan::times(dir) {
            let clock = disk::clock();
            self.new.changed_by_us(before.0, after.0, clock);
            self.cur.changed_by_us(before.1, after.1, clock);
        }
    }
}

#[derive(Default)]
struct Diff {
    renamed: Vec<(u32, Found)>,
    missing: Vec<u32>,
    unknown: Vec<Found>,
    /// A message of `cur/` has a file in `new/`.
    twin: bool,
}

/// Messages looked at under one hold of the state's lock.
pub(super) const STEP: usize = 4096;
/// So many sizes and dates that had to be looked up in files are worth a list written anew.
const LEARNED: usize = 64;
const TRIES: u32 = 5;
/// Readings of which each has to miss a file, when it may have been renamed while we read.
const READINGS: u32 = 3;
/// Time that is spent on looking into new files before the sessions get their turn.
const PATIENCE_NS: i64 = 300_000_000;

impl Folder {
    /// With the disk lock held. `force`: read the directories whatever their times.
    pub(super) fn take_in(&self, d: &mut Disk, force: bool) -> Result<()> {
        let dir = self.dir();
        let (new, cur) = self.times(&dir)?;
        let now = disk::clock();
        let heard = d.loaded && (!d.heard.is_empty() || d.log.is_changed(&dir));
        let scope = if force || heard || d.cur.is_due(cur, now) {
            Scope::All
        } else if d.new.is_due(new, now) {
            Scope::New
        } else {
            return Ok(());
        };
        let mut records = Records::new();
        if d.ledger.validity() == 0 {
            self.refresh(d, &dir, &mut records)?;
        }
        self.take_in_all(d, &dir, scope, records, None)
    }

    pub(super) fn take_in_all(&self, d: &mut Disk, dir: &Path, scope: Scope, mut records: Records, held: Option<&Dotlock>) -> Result<()> {
        let (scan, mut diff, own) = self.look(d, dir, scope, &mut records, held)?;
        let read = d.keywords.refresh(dir)?;
        let high = read.map(|r| {
            keywords::merge(&mut lock_state(self).keywords, r.names);
            r.high
        });
        let mut settled = true;
        if !records.is_empty() {
            self.part_with_renumbered(&mut diff, &records);
        }
        let floor = lock_state(self).next;
        let mut found = Vec::with_capacity(diff.unknown.len());
        let mut fresh = Vec::new();
        for f in diff.unknown {
            match records.remove(file::base(&f.name)).filter(|k| k.uid >= floor) {
                Some(known) => found.push((f, Some(known))),
                None => fresh.push((f, None)),
            }
        }
        // In this order files that have no UID yet get theirs.
        fresh.sort_by_cached_key(|(f, _)| (file::time(&f.name), f.name.clone()));
        found.append(&mut fresh);
        if d.loaded && !(found.is_empty() && diff.missing.is_empty()) {
            self.touched();
        }
        let mut arrivals = Vec::with_capacity(found.len());
        // Sessions of an open folder do not wait for all; those with a number must come in at once, or they lose it.
        let until = if d.loaded && held.is_none() { disk::clock().saturating_add(PATIENCE_NS) } else { i64::MAX };
        d.unfinished = false;
        for (f, known) in found {
            if known.is_none() && disk::clock() > until && !arrivals.is_empty() {
                (d.unfinished, settled) = (true, false);
                break;
            }
            match arrival(dir, f, known, high.as_ref()) {
                Some(a) => arrivals.push(a),
                None => settled = false,
            }
            // Measuring what others delivered without saying a size may take minutes.
            if let Some(lock) = own.as_ref().or(held) {
                lock.keep();
            }
        }
        let learned = arrivals.iter().filter(|a| a.learned && a.uid.is_some()).count();
        let batch = self.found(diff.renamed, diff.missing, high.as_ref());
        settled &= self.take_arrivals(d, dir, own.as_ref().or(held), batch, arrivals)?;
        settled &= lock_state(self).unsure.is_empty();
        if learned >= LEARNED || d.ledger.wants_writing() {
            self.write_learned(d, dir, own.as_ref().or(held));
        }
        if settled {
            d.new.scanned(scan.new_time, scan.clock);
            if scan.scope == Scope::All {
                d.cur.scanned(scan.cur_time, scan.clock);
            }
        } else {
            d.new.forget();
            d.cur.forget();
        }
        Ok(())
    }

    /// Reads and compares until the answer holds; takes the UID list's lock when there is something to number.
    fn look(
        &self,
        d: &mut Disk,
        dir: &Path,
        mut scope: Scope,
        records: &mut Records,
        held: Option<&Dotlock>,
    ) -> Result<(Scan, Diff, Option<Dotlock>)> {
        let mut own = None;
        let mut checked = held.is_some();
        let (mut tries, mut readings) = (0, 0);
        let mut missed: Vec<u32> = Vec::new();
        loop {
            tries += 1;
            let mut scan = scan::scan(dir, scope).map_err(|e| self.gone_or(e))?;
            if scan::part_twins(dir, &scan, self.host()) && tries < TRIES {
                continue;
            }
            let mut diff = self.compare(std::mem::take(&mut scan.names), scope);
            if scope == Scope::New && (diff.twin || !diff.missing.is_empty()) {
                scope = Scope::All;
                continue;
            }
            if !scan.is_sure() {
                // Each rename can hide a file from one reading.
                if readings > 0 {
                    diff.missing.retain(|uid| missed.binary_search(uid).is_ok());
                }
                readings += 1;
                if !diff.missing.is_empty() && readings < READINGS {
                    missed = diff.missing;
                    continue;
                }
            }
            if !checked && (!diff.unknown.is_empty() || d.ledger.must_write()) {
                checked = true;
                match Dotlock::take(&dir.join(ledger::NAME)) {
                    Ok(lock) => own = Some(lock),
                    Err(e) if d.ledger.must_write() => return Err(e.into()),
                    // What is numbered already stays usable.
                    Err(e) => events::not_taken_in(dir, diff.unknown.len(), &e.into()),
                }
                if own.is_some() && d.ledger.is_changed(dir)? {
                    self.refresh(d, dir, records)?;
                    continue;
                }
            }
            return Ok((scan, diff, own));
        }
    }

    /// Reads the UID list if somebody else wrote it.
    pub(super) fn refresh(&self, d: &mut Disk, dir: &Path, records: &mut Records) -> Result<()> {
        let before = d.ledger.validity();
        let Some(mut fresh) = d.ledger.refresh(dir, || self.new_validity())? else { return Ok(()) };
        let validity = d.ledger.validity();
        if d.loaded {
            // Whoever wrote the list logged it before letting go of its lock.
            let Disk { log, heard, .. } = d;
            drop(log.lock(dir, &mut |e| heard.push(e)));
        } else {
            d.open_log(dir, validity)?;
        }
        let mut state = lock_state(self);
        if before != 0 && before != validity && !d.loaded {
            // Two met a folder that had no list yet. Nobody was told anything of ours.
            *state = State::default();
            records.clear();
            d.next = 0;
        } else if before != 0 && before != validity {
            events::validity_changed(dir, before, validity);
            drop(state);
            self.mark_gone();
            return Err(Error::NotFound(self.name()));
        }
        state.validity = validity;
        if let Some((_, facts)) = d.facts.take().filter(|(v, _)| *v == validity) {
            add_facts(&mut fresh.records, &facts);
        }
        let (logged, sure) = d.log.next_uid(d.ledger.list_next());
        let logged = if logged < uidlist::MAX_NEXT { logged } else { 0 };
        let resumed = d.resume.as_ref().filter(|r| r.validity == validity);
        let next = match resumed {
            // N runs ahead; when the list is as this process left it, we know how far it really got.
            Some(r) if r.list.is_some() && r.list == d.ledger.stamp().map(Stamp::from) => r.next,
            // So does the log.
            _ if sure && fresh.next == d.ledger.list_next() => logged.max(fresh.records.values().map(|k| k.uid + 1).max().unwrap_or(0)),
            _ => fresh.next,
        };
        let next = next.max(d.ledger.floor(dir));
        // Somebody put an older list back: what was given out since stays given out.
        let next = next.max(logged).max(resumed.map_or(0, |r| r.next));
        records.extend(fresh.records);
        d.next = d.next.max(next);
        Ok(())
    }

    fn compare(&self, mut found: Names, scope: Scope) -> Diff {
        let mut diff = Diff::default();
        let unsure = lock_state(self).unsure.clone();
        self.in_steps(|m, name| match (scope, m.is_new()) {
            (Scope::New, false) => {}
            _ => match found.take(file::base(name)) {
                None => diff.missing.push(m.uid()),
                Some(f) if *f.name != *name || f.is_new != m.is_new() || unsure.contains(&m.uid()) => diff.renamed.push((m.uid(), f.to_found())),
                Some(_) => {}
            },
        });
        if scope == Scope::New && !found.is_empty() {
            self.in_steps(|m, name| diff.twin |= !m.is_new() && found.contains(file::base(name)));
        }
        diff.unknown = found.into_rest();
        diff
    }

    /// What somebody else numbered anew (Dovecot does that with what it thought expunged) goes under its old UID and comes
    /// under the new one.
    fn part_with_renumbered(&self, diff: &mut Diff, records: &Records) {
        let floor = lock_state(self).next;
        let mut moved = HashMap::new();
        self.in_steps(|m, name| {
            if records.get(file::base(name)).is_some_and(|k| k.uid != m.uid() && k.uid >= floor) {
                moved.insert(m.uid(), Found { name: name.into(), is_new: m.is_new() });
            }
        });
        for uid in &diff.missing {
            moved.remove(uid);
        }
        let renamed: Vec<_> = diff.renamed.extract_if(.., |(uid, _)| moved.contains_key(uid)).collect();
        moved.extend(renamed);
        for (uid, found) in moved {
            diff.missing.push(uid);
            diff.unknown.push(found);
        }
        diff.missing.sort_unstable();
    }

    /// Every message, without keeping the sessions from the state for long. With the disk lock held nobody changes it.
    fn in_steps(&self, mut each: impl FnMut(&Message, &[u8])) {
        let (mut from, mut name) = (0, Vec::new());
        loop {
            let state = lock_state(self);
            let Some(step) = state.messages().get(from..).filter(|s| !s.is_empty()) else { return };
            for m in step.iter().take(STEP) {
                state.name_into(m, &mut name);
                each(m, &name);
            }
            from += STEP;
        }
    }

    /// Renames and removals by others, and keywords read anew.
    fn found(&self, renamed: Vec<(u32, Found)>, missing: Vec<u32>, high: Option<&High>) -> Batch {
        let state = lock_state(self);
        let mut marked = high.map(|high| with_high(&state, high)).unwrap_or_default();
        for (uid, f) in renamed {
            let Some(m) = state.get(uid) else { continue };
            let (flags, letters) = file::flags(&f.name);
            let above = match high {
                Some(high) => high.get(file::base(&f.name)).copied().unwrap_or(0),
                None => m.keywords() & !keywords::LETTERS,
            };
            marked.push(Mark { uid, file: Some((f.is_new, f.name)), flags, keywords: above | u64::from(letters) });
        }
        // Of a file with another name, the name counts, which comes last.
        marked.reverse();
        marked.sort_by_key(|m| m.uid);
        marked.dedup_by_key(|m| m.uid);
        Batch { marked, missing, ..Batch::default() }
    }

    /// Moves to `cur/` what a session was told as \Recent.
    pub(super) fn move_told(&self, d: &mut Disk) {
        let told = std::mem::take(&mut lock_state(self).told);
        if told.is_empty() {
            return;
        }
        let dir = self.dir();
        let _ = self.own_change(d, &dir, || {
            for uid in told {
                let Some((_, name)) = lock_state(self).file(uid).filter(|(is_new, _)| *is_new) else { continue };
                let (flags, letters) = file::flags(&name);
                let to = file::with_flags(&name, flags, letters);
                // Failing costs nothing: the message stays in new/, where it is as good.
                if disk::rename(&scan::path(&dir, true, &name), &scan::path(&dir, false, &to)).is_ok() {
                    let mut state = lock_state(self);
                    if let Some((at, m)) = state.at(uid).map(|at| (at, state.messages()[at])) {
                        state.rename(at, false, &to, m.flags(), m.keywords());
                    }
                }
            }
            Ok(())
        });
    }

    /// Runs changes of ours to `new/` and `cur/`, and remembers the times that they made.
    pub(super) fn own_change<T>(&self, d: &mut Disk, dir: &Path, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.times(dir)?;
        let done = change();
        d.changed_by_us(dir, before);
        done
    }
    pub(super) fn times(&self, dir: &Path) -> Result<(i64, i64)> {
        scan::times(dir).map_err(|e| self.gone_or(e))
    }

    /// A missing directory means that somebody deleted the folder.
    fn gone_or(&self, e: disk::Error) -> Error {
        if !e.is_not_found() {
            return e.into();
        }
        self.mark_gone();
        Error::NotFound(self.name())
    }
}

fn lock_state(folder: &Folder) -> std::sync::MutexGuard<'_, super::state::State> {
    lock(&folder.state)
}

/// What the list does not say of the messages in it.
fn add_facts(records: &mut Records, facts: &State) {
    let mut name = Vec::new();
    for m in facts.messages() {
        facts.name_into(m, &mut name);
        if let Some(known) = records.get_mut(file::base(&name)).filter(|k| k.uid == m.uid()) {
            known.vsize.get_or_insert(m.size());
            known.date.get_or_insert(m.date());
            known.summary = m.summary();
        }
    }
}

/// Keywords that stand in our file only, as it has them now: those whose changed.
fn with_high(state: &State, high: &High) -> Vec<Mark> {
    let (mut marked, mut name) = (Vec::new(), Vec::new());
    for m in state.messages() {
        if high.is_empty() && m.keywords() & !keywords::LETTERS == 0 {
            continue;
        }
        state.name_into(m, &mut name);
        let bits = m.keywords() & keywords::LETTERS | high.get(file::base(&name)).copied().unwrap_or(0);
        if bits != m.keywords() {
            marked.push(Mark { uid: m.uid(), file: None, flags: m.flags(), keywords: bits });
        }
    }
    marked
}
