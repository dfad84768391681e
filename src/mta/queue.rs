//! When: the queue's table, its loop, and the verbs of `gatepost queue`.
//!
//! The spool is read once, at start; from then on the table is what the queue knows, and each change of it is
//! written to the spool before anything builds on it. An entry that is *busy* (an attempt or a verb is writing it)
//! is changed by nobody else: verbs leave a note in its slot, which is taken up at the end.

use super::{Mta, QueueId, events, route::Destination};
use crate::{
    config::{self, Config},
    disk,
    net::Drain,
    spool::{Entry, State},
};
use event_listener::Event;
use smol::future::FutureExt as _;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, SystemTime},
};

/// Attempts at once; their connections have limits of their own.
const MAX_BUSY: usize = 500;
/// Of these for one destination, or four for each of its connections: a host that is slow or dead, however much mail it
/// has waiting here, must not keep what others are waiting for.
const MAX_IN_LANE: usize = 20;
/// Entries that a verb takes at once, and in how many jobs: a disk makes many files durable together in the time of one.
const BATCH: usize = 200;
const JOBS: usize = 8;
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

/// One destination's share of the attempts.
#[derive(Default)]
struct Lane {
    busy: usize,
    /// Due, but not in the schedule: looked at again when a busy one ends.
    waiting: BTreeSet<QueueId>,
}

#[derive(Default)]
struct Lanes {
    by: BTreeMap<Destination, Lane>,
    /// In which lane a busy entry is.
    of: HashMap<QueueId, Destination>,
}

/// The entries in memory.
#[derive(Default)]
pub(super) struct Table {
    slots: RefCell<BTreeMap<QueueId, Slot>>,
    /// What is neither held nor busy nor waiting in a lane, by time.
    schedule: RefCell<BTreeSet<(SystemTime, QueueId)>>,
    lanes: RefCell<Lanes>,
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
        self.leave_lane(id);
        self.changed.notify(usize::MAX);
    }

    /// Takes a place in the lane of the entry's destination, or has it wait there for one.
    fn enter_lane(&self, id: &QueueId, config: &Config) -> bool {
        let slots = self.slots.borrow();
        let Some(to) = slots.get(id).and_then(|s| lane_of(config, &s.entry)) else { return true };
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.by.entry(to.clone()).or_default();
        if lane.busy >= MAX_IN_LANE.max(config.queue.connections_per_host.saturating_mul(4)) {
            lane.waiting.insert(id.clone());
            return false;
        }
        lane.busy += 1;
        lanes.of.insert(id.clone(), to);
        true
    }

    /// Gives the place in its lane, if it has one, to the oldest that waits there.
    fn leave_lane(&self, id: &QueueId) {
        let mut lanes = self.lanes.borrow_mut();
        let Some(to) = lanes.of.remove(id) else { return };
        let Some(lane) = lanes.by.get_mut(&to) else { return };
        lane.busy -= 1;
        let slots = self.slots.borrow();
        while let Some(next) = lane.waiting.pop_first() {
            // Verbs may have held it or taken it off since, or put it back into the schedule.
            if let Some(slot) = slots.get(&next).filter(|s| !s.busy) {
                self.plan(&slot.entry);
                // Should the one that was called not come, the last to leave calls all.
                if lane.busy > 0 {
                    break;
                }
            }
        }
        if lane.busy == 0 {
            lanes.by.remove(&to);
        }
    }

    fn forget(&self, id: &QueueId) {
        self.slots.borrow_mut().remove(id);
    }

    /// What is due, made busy, and when to look again.
    fn due(&self, now: SystemTime, config: &Config) -> (Vec<Entry>, Duration) {
        let mut due = Vec::new();
        loop {
            let first = self.schedule.borrow().first().cloned();
            match first {
                None => return (due, NAP),
                Some((at, _)) if at > now => return (due, at.duration_since(now).unwrap_or_default().min(NAP)),
                Some(_) if self.busy.get() >= MAX_BUSY => return (due, NAP),
                Some((at, id)) => {
                    self.schedule.borrow_mut().remove(&(at, id.clone()));
                    if self.enter_lane(&id, config) {
                        match self.begin(&id) {
                            Some(entry) => due.push(entry),
                            None => self.leave_lane(&id),
                        }
                    }
                }
            }
        }
    }

    fn matching(&self, which: &Which) -> Vec<QueueId> {
        self.slots.borrow().values().filter(|s| which.matches(&s.entry)).map(|s| s.entry.id.clone()).collect()
    }

    /// For an entry that is busy: what a verb wants of it.
    fn note(&self, id: &QueueId, verb: Verb) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id) else { return };
        match verb {
            Verb::Hold => slot.entry.held = true,
            Verb::Release => slot.entry.held = false,
            // It is being attempted.
            Verb::Retry => return,
            Verb::Drop => {}
        }
        slot.note = Some(verb);
    }

    /// What a verb makes of an entry that it has made busy.
    fn act(&self, mut entry: Entry, verb: Verb) -> Entry {
        match verb {
            Verb::Hold => entry.held = true,
            Verb::Release => entry.held = false,
            Verb::Retry => {}
            Verb::Drop => {
                self.forget(&entry.id);
                return entry;
            }
        }
        if verb != Verb::Hold {
            entry.next = SystemTime::now();
        }
        if let Some(slot) = self.slots.borrow_mut().get_mut(&entry.id) {
            slot.entry = entry.clone();
        }
        entry
    }

    /// A copy of every entry, oldest first.
    fn list(&self) -> Vec<Entry> {
        self.slots.borrow().values().map(|s| s.entry.clone()).collect()
    }
}

/// By the first that waits: nearly all mail has one destination. Homes of ours share none.
fn lane_of(config: &Config, entry: &Entry) -> Option<Destination> {
    let first = entry.recipients.iter().find(|r| r.state == State::Pending)?;
    (!first.local).then(|| Destination::of(config, entry.sender.as_ref(), &first.address))
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
    /// `all`, an id, or a domain (which has a dot and so is no id), in Unicode or not.
    pub fn parse(text: &str) -> Self {
        let domain = || crate::message::address::domain(text).unwrap_or_else(|| text.to_ascii_lowercase());
        match text {
            "all" => Self::All,
            _ => QueueId::parse(text).map_or_else(|| Self::Domain(domain()), Self::Id),
        }
    }
    pub fn matches(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Id(id) => *id == entry.id,
            Self::Domain(d) => entry.recipients.iter().any(|r| r.state == State::Pending && r.address.domain == *d),
        }
    }
}

impl Mta {
    /// A copy of the queue, oldest first.
    pub fn queue_list(&self) -> Vec<Entry> {
        self.queue.list()
    }

    /// Does it to all that match and says which those were; durable when it returns, but for entries that are being
    /// attempted: with them it is done when the attempt ends, if they are still there.
    pub async fn queue_do(&self, verb: Verb, which: &Which) -> Result<Vec<QueueId>, String> {
        if matches!(verb, Verb::Retry | Verb::Release) {
            self.limits.forgive();
        }
        let ids = self.queue.matching(which);
        for some in ids.chunks(BATCH) {
            self.queue_do_some(verb, some).await?;
        }
        Ok(ids)
    }

    async fn queue_do_some(&self, verb: Verb, ids: &[QueueId]) -> Result<(), String> {
        let mut mine = Vec::with_capacity(ids.len());
        for id in ids {
            match self.queue.begin(id) {
                Some(entry) => {
                    events::verb(id, verb);
                    mine.push(self.queue.act(entry, verb));
                }
                None => self.queue.note(id, verb),
            }
        }
        let taken: Vec<QueueId> = mine.iter().map(|e| e.id.clone()).collect();
        let (spool, gone) = (self.spool.clone(), taken.clone());
        let done = match verb {
            Verb::Drop => smol::unblock(move || spool.remove_all(&gone)).await,
            Verb::Hold | Verb::Release => self.write_all(mine).await,
            // A start that forgets it comes back to the old time, and nothing is lost.
            Verb::Retry => Ok(()),
        };
        for id in &taken {
            self.finish(id).await;
        }
        done.map_err(|e| e.to_string())
    }

    async fn write_all(&self, entries: Vec<Entry>) -> disk::Result<()> {
        let job = |some: &[Entry]| {
            let (spool, some) = (self.spool.clone(), some.to_vec());
            smol::unblock(move || some.iter().try_for_each(|e| spool.update(e)))
        };
        let jobs: Vec<_> = entries.chunks(entries.len().div_ceil(JOBS).max(1)).map(job).collect();
        let mut done = Ok(());
        for job in jobs {
            done = done.and(job.await);
        }
        done
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
            let (due, pause) = self.queue.due(SystemTime::now(), &self.config.get());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Address, spool::Recipient};

    fn entry(id: u32, to: &str) -> Entry {
        Entry {
            id: QueueId::parse(&format!("{id:010}")).expect("an id"),
            arrived: SystemTime::UNIX_EPOCH,
            sender: None,
            size: 0,
            body_8bit: false,
            smtputf8: false,
            ret_full: None,
            envid: None,
            recipients: vec![Recipient::new(Address::parse(to).expect("an address"))],
            attempts: 0,
            next: SystemTime::UNIX_EPOCH,
            held: false,
            warned: false,
        }
    }

    #[test]
    fn much_mail_for_one_host_does_not_stop_that_for_others() {
        let text = "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\nlisten.submission = []\nlisten.submissions = []\n\
                    listen.imap = []\nlisten.imaps = []\nlisten.pop3 = []\nlisten.pop3s = []\n";
        let (config, _) = config::parse(std::path::Path::new("/etc/gatepost.conf"), text).expect("a configuration");
        let (table, now) = (Table::default(), SystemTime::now());
        let due = || table.due(now, &config).0.into_iter().map(|e| e.id).collect::<Vec<_>>();
        for n in 0..50 {
            table.add(entry(n, "x@slow.example"));
        }
        table.add(entry(50, "x@fast.example"));
        let first = due();
        assert_eq!(first.len(), MAX_IN_LANE + 1);
        assert!(first.contains(&entry(50, "x@fast.example").id));
        assert!(due().is_empty());
        // One that waits is held, one is gone, one is with a verb: the next takes the place.
        let [held, gone, busy] = [20, 21, 22].map(|n| entry(n, "x@slow.example").id);
        table.slots.borrow_mut().get_mut(&held).expect("there").entry.held = true;
        table.forget(&gone);
        assert!(table.begin(&busy).is_some());
        for id in &first[..2] {
            table.forget(id);
            table.end(id);
        }
        let second = due();
        assert!(second.iter().all(|id| *id > busy) && !second.is_empty(), "{second:?}");
        // All come in the end.
        let mut under_way: Vec<QueueId> = first[2..].iter().chain(&second).cloned().collect();
        let mut seen = under_way.len() + 2;
        table.end(&busy);
        while let Some(id) = under_way.pop() {
            table.forget(&id);
            table.end(&id);
            let more = due();
            seen += more.len();
            under_way.extend(more);
        }
        assert_eq!(seen, 51 - 2, "all but the held and the gone");
        let lanes = table.lanes.borrow();
        assert!(lanes.by.is_empty() && lanes.of.is_empty() && table.busy.get() == 0);
    }
}
