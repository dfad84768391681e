//! When: the queue's table, its loop, and the verbs of `gatepost queue`.
//!
//! The spool is read once, at start; from then on the table is what the queue knows, and each change of it is
//! written to the spool before anything builds on it. An entry that is *busy* (an attempt or a verb is writing it)
//! is changed by nobody else: verbs leave a note in its slot, which is taken up at the end.

use super::{Mta, QueueId, events};
use crate::{config, disk, net::Drain, spool::Entry};
use event_listener::Event;
use smol::future::FutureExt as _;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, SystemTime},
};

/// Attempts at once; their connections have limits of their own.
const MAX_BUSY: usize = 500;
/// How long attempts under way may go on when the daemon stops.
const DRAIN: Duration = Duration::from_secs(30);
/// The longest sleep: a clock that was set is noticed after this.
const NAP: Duration = Duration::from_secs(60);

struct Slot {
    entry: Entry,
    busy: bool,
    /// A verb that came while it was busy.
    note: Option<Verb>,
}

/// The entries in memory.
#[derive(Default)]
pub(super) struct Table {
    slots: RefCell<BTreeMap<QueueId, Slot>>,
    /// What is neither held nor busy, by time.
    schedule: RefCell<BTreeSet<(SystemTime, QueueId)>>,
    pub(super) busy: Cell<usize>,
    pub(super) changed: Event,
}

impl Table {
    /// A new entry; one that is known already stays as it is.
    pub(super) fn add(&self, entry: Entry) {
        let mut slots = self.slots.borrow_mut();
        if slots.contains_key(&entry.id) {
            return;
        }
        self.plan(&entry);
        slots.insert(entry.id.clone(), Slot { entry, busy: false, note: None });
        drop(slots);
        self.changed.notify(usize::MAX);
    }

    fn plan(&self, entry: &Entry) {
        if !entry.held {
            self.schedule.borrow_mut().insert((entry.next, entry.id.clone()));
        }
    }

    /// Makes an entry busy. `None`: it is gone or busy already.
    fn begin(&self, id: &QueueId) -> Option<Entry> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(id).filter(|s| !s.busy)?;
        slot.busy = true;
        self.schedule.borrow_mut().remove(&(slot.entry.next, id.clone()));
        self.busy.set(self.busy.get() + 1);
        Some(slot.entry.clone())
    }

    /// The state that a busy entry reached, for those who look and for after a panic. Takes up what verbs noted.
    pub(super) fn reached(&self, entry: &mut Entry) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&entry.id) {
            entry.held = slot.entry.held;
            slot.entry = entry.clone();
        }
    }

    /// What a verb noted while the entry was busy, and the entry as it is then.
    fn noted(&self, id: &QueueId) -> Option<(Verb, Entry)> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(id)?;
        Some((slot.note.take()?, slot.entry.clone()))
    }

    /// Ends being busy.
    fn end(&self, id: &QueueId) {
        self.busy.set(self.busy.get() - 1);
        if let Some(slot) = self.slots.borrow_mut().get_mut(id) {
            slot.busy = false;
            self.plan(&slot.entry);
        }
        self.changed.notify(usize::MAX);
    }

    fn forget(&self, id: &QueueId) {
        self.slots.borrow_mut().remove(id);
    }

    /// What is due, made busy, and when to look again.
    fn due(&self, now: SystemTime) -> (Vec<Entry>, Duration) {
        let mut due = Vec::new();
        loop {
            let first = self.schedule.borrow().first().cloned();
            match first {
                None => return (due, NAP),
                Some((at, _)) if at > now => return (due, at.duration_since(now).unwrap_or_default().min(NAP)),
                Some(_) if self.busy.get() >= MAX_BUSY => return (due, NAP),
                Some((at, id)) => match self.begin(&id) {
                    Some(entry) => due.push(entry),
                    None => {
                        self.schedule.borrow_mut().remove(&(at, id));
                    }
                },
            }
        }
    }

    /// A copy of every entry, oldest first.
    fn list(&self) -> Vec<Entry> {
        self.slots.borrow().values().map(|s| s.entry.clone()).collect()
    }
}

/// `gatepost queue VERB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attempt now.
    Retry,
    /// No attempts until released.
    Hold,
    Release,
    /// Remove without telling anybody.
    Drop,
}

/// Which entries a verb is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    All,
    Id(QueueId),
    /// With a recipient in this domain that is not finished.
    Domain(String),
}

impl Which {
    /// `all`, an id, or a domain (which has a dot and so is no id).
    pub fn parse(text: &str) -> Self {
        match text {
            "all" => Self::All,
            _ => QueueId::parse(text).map_or_else(|| Self::Domain(text.to_ascii_lowercase()), Self::Id),
        }
    }
    pub fn matches(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Id(id) => *id == entry.id,
            Self::Domain(d) => entry.recipients.iter().any(|r| r.state == crate::spool::State::Pending && r.address.domain == *d),
        }
    }
}

impl Mta {
    /// A copy of the queue, oldest first.
    pub fn queue_list(&self) -> Vec<Entry> {
        self.queue.list()
    }

    /// Does it to all that match and says which those were; durable when it returns.
    pub async fn queue_do(&self, verb: Verb, which: &Which) -> Result<Vec<QueueId>, String> {
        let ids: Vec<QueueId> = self.queue.list().into_iter().filter(|e| which.matches(e)).map(|e| e.id).collect();
        for id in &ids {
            self.queue_do_one(verb, id).await?;
        }
        Ok(ids)
    }

    async fn queue_do_one(&self, verb: Verb, id: &QueueId) -> Result<(), String> {
        let Some(mut entry) = self.queue.begin(id) else {
            if let Some(slot) = self.queue.slots.borrow_mut().get_mut(id) {
                match verb {
                    Verb::Hold => slot.entry.held = true,
                    Verb::Release => slot.entry.held = false,
                    // It is being attempted.
                    Verb::Retry => return Ok(()),
                    Verb::Drop => {}
                }
                slot.note = Some(verb);
            }
            return Ok(());
        };
        events::verb(id, verb);
        let spool = self.spool.clone();
        let done = if verb == Verb::Drop {
            self.queue.forget(id);
            let gone = id.clone();
            smol::unblock(move || spool.remove(&gone)).await
        } else {
            entry.held = match verb {
                Verb::Hold => true,
                Verb::Release => false,
                _ => entry.held,
            };
            if verb != Verb::Hold {
                entry.next = SystemTime::now();
            }
            if let Some(slot) = self.queue.slots.borrow_mut().get_mut(id) {
                slot.entry = entry.clone();
            }
            smol::unblock(move || spool.update(&entry)).await
        };
        self.finish(id).await;
        done.map_err(|e| e.to_string())
    }

    /// Ends being busy, after what was noted meanwhile is done.
    async fn finish(&self, id: &QueueId) {
        while let Some((verb, entry)) = self.queue.noted(id) {
            events::verb(id, verb);
            if verb == Verb::Drop {
                self.remove(id).await;
                continue;
            }
            let spool = self.spool.clone();
            if let Err(e) = smol::unblock(move || spool.update(&entry)).await {
                events::trouble(Some(id), &e);
            }
        }
        self.queue.end(id);
    }

    /// Takes a finished entry off the queue and the disk.
    pub(super) async fn remove(&self, id: &QueueId) {
        self.queue.forget(id);
        let (spool, gone) = (self.spool.clone(), id.clone());
        if let Err(e) = smol::unblock(move || spool.remove(&gone)).await {
            events::trouble(Some(id), &e);
        }
    }

    /// See [`Mta::run_queue`].
    pub(super) async fn queue_loop(self: Rc<Self>, ex: Rc<smol::LocalExecutor<'static>>, drain: Drain) {
        while let Err(e) = self.load_queue().await {
            events::trouble(None, &e);
            drain.wait().or(nap(NAP)).await;
            if drain.started() {
                return;
            }
        }
        let stop = Drain::new();
        while !drain.started() {
            let changed = self.queue.changed.listen();
            let (due, pause) = self.queue.due(SystemTime::now());
            for entry in due {
                let (mta, ex2, stop) = (self.clone(), ex.clone(), stop.clone());
                ex.spawn(async move { mta.guarded(ex2, entry).or(stop.wait()).await }).detach();
            }
            changed.or(nap(pause)).or(drain.wait()).await;
        }
        self.idle().or(nap(DRAIN)).await;
        // As good as kill -9: what was not acknowledged is attempted again after the next start.
        stop.start();
    }

    async fn load_queue(&self) -> disk::Result<()> {
        let spool = self.spool.clone();
        let entries = smol::unblock(move || spool.list()).await?;
        events::loaded(entries.len());
        for entry in entries {
            self.queue.add(entry);
        }
        Ok(())
    }

    /// Until nothing is busy.
    async fn idle(&self) {
        loop {
            let changed = self.queue.changed.listen();
            if self.queue.busy.get() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// One attempt at an entry. A panic in it ends it, not the daemon; the entry goes on from the state it had reached.
    async fn guarded(self: Rc<Self>, ex: Rc<smol::LocalExecutor<'static>>, entry: Entry) {
        let id = entry.id.clone();
        if AssertUnwindSafe(self.attempt(ex, entry)).catch_unwind().await.is_err() {
            events::trouble(Some(&id), &"an attempt panicked");
            if let Some(slot) = self.queue.slots.borrow_mut().get_mut(&id) {
                slot.entry.attempts = slot.entry.attempts.saturating_add(1);
                slot.entry.next = SystemTime::now() + backoff(&self.config.get().queue, &slot.entry);
            }
        }
        self.finish(&id).await;
    }
}

async fn nap(time: Duration) {
    smol::Timer::after(time).await;
}

/// The wait after `attempts` of them: the first wait, doubled each time up to the longest, and up to a tenth more or
/// less, which depends on the entry alone, so that mail that failed together does not come back together.
pub(super) fn backoff(queue: &config::Queue, entry: &Entry) -> Duration {
    let doubled = queue.retry.saturating_mul(1_u32.checked_shl(entry.attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let base = doubled.min(queue.retry_max);
    let hash = entry
        .id
        .as_str()
        .bytes()
        .chain(entry.attempts.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let percent = 90 + (hash >> 32) % 21;
    base.saturating_mul(percent as u32) / 100
}
