//! Quota: what an account keeps, against what it may keep.
//!
//! The sums are in `maildirsize`; `gatepost-quota` beside it is the lock over them, and remembers when they were last
//! counted, since when the account is full, and of which level its user was warned. Both may be deleted at any time.
//! Who has no limits is not counted: neither file, nor a system call.
//!
//! A message is booked before it is filed and an entry taken back when that fails; one that is removed is booked
//! afterwards. So a crash in between leaves too much in the books, which a count puts right before anybody is refused
//! because of it, and never too little. The lock is held shared from the entry to the file's name, and alone while all
//! is counted: no message on its way is counted twice or not at all, also by a second daemon on the same files.
//!
//! It is taken alone only by who holds no folder's lock and no booking ([`Account::check`], [`Account::settle`]), shared
//! at any time: so nobody waits in a circle.
//!
//! Trouble with the books is no reason to refuse mail: it is logged, and the message passes.

use super::{Error, Folder, Home, Result, Store, Target, Uid, events, lock, maildirsize, scan};
use crate::disk::{self, Draft, Lock};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// 0 means that there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub bytes: u64,
    pub messages: u64,
}

/// The sum of the files, which is what is on the disk; copies count once more though they are links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub messages: u64,
}

/// Something did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The account has been full since then, in seconds since 1970: the first message that did not fit, after the last that did.
    pub since: i64,
    /// It is larger than all that the account may keep.
    pub never: bool,
}

/// An account that is about to be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub usage: Usage,
    pub limits: Limits,
    pub percent: u8,
}

/// What the store has to be told of quotas.
pub trait Quotas: Send + Sync {
    fn limits(&self, account: &str) -> Limits;
    /// Percents, ascending, at which a user is warned.
    fn levels(&self) -> Vec<u8>;
    /// The message that says so. It is put into INBOX however full that is.
    fn warning(&self, account: &str, level: &Level, now: SystemTime) -> Vec<u8>;
}

const NAME: &str = "gatepost-quota";
/// Nobody is refused or warned because of an older count.
const FRESH: i64 = 15 * 60;
/// What other programs did, and what a power cut lost, is seen after this at the latest.
const OLD: i64 = 24 * 3600;
/// A level counts as left so many percents below it: who deletes a warning shall not get it anew for that.
const BACK: u64 = 5;
/// Accounts that others were seen in, remembered.
const TOUCHED: usize = 20_000;

impl Limits {
    fn any(self) -> bool {
        self != Self::default()
    }
    fn allow(self, usage: Usage) -> bool {
        (self.bytes == 0 || usage.bytes <= self.bytes) && (self.messages == 0 || usage.messages <= self.messages)
    }
    /// How full, rounded down.
    pub fn percent(self, usage: Usage) -> u64 {
        let of = |n: u64, limit: u64| (u128::from(n) * 100).checked_div(u128::from(limit)).unwrap_or(0);
        u64::try_from(of(usage.bytes, self.bytes).max(of(usage.messages, self.messages))).unwrap_or(u64::MAX)
    }
}

impl Usage {
    pub(super) fn of(bytes: u64) -> Self {
        Self { bytes, messages: 1 }
    }
    #[must_use]
    pub(super) fn plus(self, more: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(more.bytes), messages: self.messages.saturating_add(more.messages) }
    }
}

/// What `gatepost-quota` says: three numbers in lines of their own, each after its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    counted: i64,
    /// 0: not full.
    full: i64,
    warned: u8,
}

impl Marks {
    /// Total: whatever cannot be read counts as never said.
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let number = |word: &str| text.lines().find_map(|l| l.strip_prefix(word)?.trim().parse::<i64>().ok()).filter(|n| *n >= 0).unwrap_or(0);
        Self { counted: number("counted"), full: number("full"), warned: u8::try_from(number("warned")).unwrap_or(0) }
    }
    /// Always of the same length, so that it is written over itself.
    fn text(self) -> String {
        format!("counted {:>20}\nfull    {:>20}\nwarned  {:>20}\n", self.counted, self.full, self.warned)
    }
}

/// Why the books are closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Something that fitted was filed.
    Filed,
    /// Something was removed.
    Removed,
    /// Something was refused, or filed though it may not fit.
    Other,
}

/// An account with limits, for one job.
#[derive(Clone)]
pub(super) struct Account {
    store: Arc<Store>,
    name: Arc<str>,
    maildir: Arc<Path>,
    limits: Limits,
    /// Seconds since 1970.
    now: i64,
}

fn seconds(now: SystemTime) -> i64 {
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

impl Store {
    /// Whom to ask about quotas. Without, there are none. Once, before anything is filed.
    pub fn set_quotas(&self, quotas: impl Quotas + 'static) {
        let _ = self.quotas.set(Box::new(quotas));
    }

    fn limited(self: &Arc<Self>, name: &Arc<str>, maildir: &Arc<Path>, now: i64) -> Option<Account> {
        let limits = self.quotas.get()?.limits(name);
        limits.any().then(|| Account { store: Arc::clone(self), name: Arc::clone(name), maildir: Arc::clone(maildir), limits, now })
    }
}

impl Home {
    /// `None`: nothing is limited.
    pub(super) fn limited(&self) -> Option<Account> {
        self.store.limited(&self.account, &self.maildir, disk::clock() / 1_000_000_000)
    }
    pub(super) fn limited_at(&self, now: SystemTime) -> Option<Account> {
        self.store.limited(&self.account, &self.maildir, seconds(now))
    }
    /// Memory.
    pub fn limits(&self) -> Limits {
        self.store.quotas.get().map(|q| q.limits(&self.account)).unwrap_or_default()
    }
    /// Job. What is kept here: by the books when the account has limits and they are there, or else counted now.
    pub fn usage(&self) -> Result<Usage> {
        if self.limits().any()
            && let Some(known) = maildirsize::read(&self.maildir)?
        {
            return Ok(known.usage);
        }
        Ok(maildirsize::count(&self.maildir)?)
    }
    /// Job. Whether a message of this size would fit, if it came now: [`Error::OverQuota`]. For who asks before it is sent.
    pub fn room(&self, bytes: u64, now: SystemTime) -> Result<()> {
        self.limited_at(now).map_or(Ok(()), |a| a.check(Usage::of(bytes)))
    }
    /// Job. Counts what is kept, and has the books made anew with the next message.
    pub fn recount(&self) -> Result<Usage> {
        maildirsize::remove(&self.maildir)?;
        Ok(maildirsize::count(&self.maildir)?)
    }
}

impl Folder {
    /// `None`: nothing is limited.
    pub(super) fn limited(&self) -> Option<Account> {
        let (name, maildir) = {
            let place = lock(&self.place);
            (Arc::clone(&place.account), Arc::clone(&place.maildir))
        };
        self.store.limited(&name, &maildir, disk::clock() / 1_000_000_000)
    }
    /// Job. As [`Home::room`], for a message that a client is about to append.
    pub fn room(&self, bytes: u64) -> Result<()> {
        self.limited().map_or(Ok(()), |a| a.check(Usage::of(bytes)))
    }
    /// What these messages count. Those that are gone do not.
    pub(super) fn weight(&self, uids: &[Uid]) -> Usage {
        let dir = self.dir();
        let paths = uids.iter().filter_map(|u| lock(&self.state).file(u.0).map(|(is_new, name)| scan::path(&dir, is_new, &name)));
        paths.filter_map(|p| maildirsize::size(&p).ok().flatten()).fold(Usage::default(), |sum, n| sum.plus(Usage::of(n)))
    }
    /// Others changed something here, and may not have booked it.
    pub(super) fn touched(&self) {
        if let Some(account) = self.limited() {
            account.touch();
        }
    }
}

impl Account {
    fn file(&self) -> PathBuf {
        self.maildir.join(NAME)
    }
    /// Both, under a lock of either kind.
    fn read(&self, lock: &Lock) -> disk::Result<(Marks, Option<maildirsize::Sizes>)> {
        let known = maildirsize::read(&self.maildir)?;
        Ok((Marks::parse(&lock.read(&self.file(), 256)?), known.filter(|k| k.limits == Some(self.limits))))
    }
    fn write(&self, lock: &Lock, marks: Marks) -> disk::Result<()> {
        lock.write(&self.file(), marks.text().as_bytes())
    }
    fn age(&self, marks: Marks) -> i64 {
        // From the future it says nothing.
        u32::try_from(self.now.saturating_sub(marks.counted)).map_or(i64::MAX, i64::from)
    }
    fn is_fresh(&self, marks: Marks) -> bool {
        self.age(marks) < FRESH && !self.is_touched()
    }
    fn touch(&self) {
        let mut touched = lock(&self.store.touched);
        if touched.len() >= TOUCHED {
            touched.clear();
        }
        touched.insert(Arc::clone(&self.maildir));
    }
    fn is_touched(&self) -> bool {
        lock(&self.store.touched).contains(&self.maildir)
    }
    /// With the lock held alone.
    fn recount(&self, marks: &mut Marks) -> disk::Result<Usage> {
        lock(&self.store.touched).remove(&self.maildir);
        let usage = maildirsize::count(&self.maildir)?;
        maildirsize::write(&self.maildir, self.limits, usage)?;
        marks.counted = self.now;
        events::counted(&self.name, usage);
        Ok(usage)
    }
    /// The highest level that is reached; one that was reached before holds on until well below it.
    fn level(&self, usage: Usage, before: u8) -> u8 {
        let full = self.limits.percent(usage);
        let levels = self.store.quotas.get().map(|q| q.levels()).unwrap_or_default();
        let reached = |l: u8| u64::from(l) <= if l <= before { full.saturating_add(BACK) } else { full };
        levels.into_iter().filter(|l| reached(*l)).max().unwrap_or(0)
    }

    /// Whether so much more fits. Who is refused finds the books in order: they were counted a short time ago, or now.
    pub(super) fn check(&self, more: Usage) -> Result<()> {
        if !self.limits.allow(more) {
            return Err(Error::OverQuota(Over { since: self.now, never: true }));
        }
        let over = match self.look(more) {
            // No home yet.
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => {
                events::no_books(&self.name, &e);
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Ok(Some(over)) => over,
        };
        // A limit that was lowered may have made it full all at once.
        self.settle(After::Other);
        Err(Error::OverQuota(over))
    }

    fn look(&self, more: Usage) -> disk::Result<Option<Over>> {
        let fits = |marks: Marks, known: Option<maildirsize::Sizes>| {
            let old = if self.is_touched() { FRESH } else { OLD };
            known.is_some_and(|k| !k.long && self.age(marks) < old && self.limits.allow(k.usage.plus(more)))
        };
        let shared = Lock::shared(&self.file())?;
        let (marks, known) = self.read(&shared)?;
        drop(shared);
        if fits(marks, known) {
            return Ok(None);
        }
        let alone = Lock::exclusive(&self.file())?;
        let (mut marks, known) = self.read(&alone)?;
        if fits(marks, known) {
            return Ok(None); // somebody else has counted meanwhile
        }
        let before = marks;
        let usage = match known.filter(|k| !k.long && self.is_fresh(marks)) {
            Some(k) => k.usage,
            None => self.recount(&mut marks)?,
        };
        let fits = self.limits.allow(usage.plus(more));
        if !fits && marks.full == 0 {
            marks.full = self.now;
            events::full(&self.name, usage, self.limits);
        }
        if marks != before {
            self.write(&alone, marks)?;
        }
        Ok((!fits).then_some(Over { since: marks.full, never: false }))
    }

    /// Books it, before it is filed. Without `must_fit` it is booked whatever the limit.
    pub(super) fn book(&self, more: Usage, must_fit: bool) -> Result<Booking> {
        let mut booking = Booking { account: self.clone(), lock: None, booked: None, unsettled: false };
        let entered = Lock::shared(&self.file()).and_then(|lock| {
            let (marks, known) = self.read(&lock)?;
            booking.lock = Some(lock);
            let Some(known) = known else { return Ok(None) };
            let after = known.usage.plus(more);
            if must_fit && !self.limits.allow(after) {
                // Others were quicker since the check.
                return Ok(Some(Over { since: if marks.full == 0 { self.now } else { marks.full }, never: false }));
            }
            booking.unsettled = self.level(after, marks.warned) != marks.warned || marks.full != 0;
            self.enter(more, 1)?;
            booking.booked = Some(more);
            Ok(None)
        });
        match entered {
            Ok(Some(over)) => return Err(Error::OverQuota(over)),
            // Without a home there are no books, and without books the next check counts.
            Ok(None) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => self.missed(&e),
        }
        Ok(booking)
    }

    fn enter(&self, what: Usage, sign: i64) -> disk::Result<()> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX) * sign;
        if what != Usage::default() {
            maildirsize::append(&self.maildir, number(what.bytes), number(what.messages))?;
        }
        Ok(())
    }
    /// Something is not in the books. Who looks next finds none and counts.
    fn missed(&self, e: &disk::Error) {
        events::no_books(&self.name, e);
        if maildirsize::remove(&self.maildir).is_err() {
            self.touch();
        }
    }

    /// Begins to remove something. `None` in case of trouble; then the books say too much, until somebody counts.
    pub(super) fn removal(&self) -> Removal {
        let lock = Lock::shared(&self.file()).inspect_err(|e| self.missed(e)).ok();
        Removal { account: self.clone(), lock, gone: Usage::default() }
    }

    /// After something changed: is it still full, has a level been reached? Then its user hears of it.
    pub(super) fn settle(&self, after: After) {
        let (level, before) = match self.settled(after) {
            Ok(None) => return,
            Ok(Some(found)) => found,
            Err(e) => {
                if !e.is_not_found() {
                    events::no_books(&self.name, &e);
                }
                return;
            }
        };
        let Some(quotas) = self.store.quotas.get() else { return };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.now.unsigned_abs());
        let text = quotas.warning(&self.name, &level, now);
        let to = Target { account: self.name.to_string(), folder: None };
        let done = self.store.deliver_warning(to, &Draft::from_bytes(text), now);
        events::warned(&self.name, &level, done.as_ref().err());
        // Not told, so it is due again. Somebody else's mark, written meanwhile, may go: then a warning comes twice.
        if done.is_err()
            && let Ok(alone) = Lock::exclusive(&self.file())
            && let Ok((marks, _)) = self.read(&alone)
        {
            let _ = self.write(&alone, Marks { warned: before, ..marks });
        }
    }

    /// The level to warn of, and the one before. It is marked as told: of two that see it one tells.
    fn settled(&self, after: After) -> disk::Result<Option<(Level, u8)>> {
        let alone = Lock::exclusive(&self.file())?;
        let (mut marks, Some(known)) = self.read(&alone)? else { return Ok(None) };
        let (before, mut usage) = (marks, known.usage);
        if self.level(usage, marks.warned) > marks.warned && !self.is_fresh(marks) {
            usage = self.recount(&mut marks)?;
        }
        let below =
            (self.limits.bytes == 0 || usage.bytes < self.limits.bytes) && (self.limits.messages == 0 || usage.messages < self.limits.messages);
        if marks.full != 0 && (after == After::Filed || after == After::Removed && below) {
            marks.full = 0;
        }
        marks.warned = self.level(usage, before.warned);
        if marks != before {
            self.write(&alone, marks)?;
        }
        let level = Level { usage, limits: self.limits, percent: marks.warned };
        Ok((marks.warned > before.warned).then_some((level, before.warned)))
    }
}

/// Booked, and about to be filed. Dropped, it is taken back.
pub(super) struct Booking {
    account: Account,
    lock: Option<Lock>,
    booked: Option<Usage>,
    unsettled: bool,
}

impl Booking {
    /// It is filed, or so much of it. The account, when there is more to do once all locks are given back.
    pub(super) fn keep(mut self, filed: Usage) -> Option<Account> {
        if let Some(booked) = self.booked.take()
            && booked != filed
            && let Err(e) = self.account.enter(booked, -1).and_then(|()| self.account.enter(filed, 1))
        {
            self.account.missed(&e);
        }
        self.unsettled.then(|| self.account.clone())
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if let Some(booked) = self.booked.take()
            && let Err(e) = self.account.enter(booked, -1)
        {
            self.account.missed(&e);
        }
        self.lock.take();
    }
}

/// Messages on their way out.
pub(super) struct Removal {
    account: Account,
    lock: Option<Lock>,
    gone: Usage,
}

impl Removal {
    /// A message that was removed.
    pub(super) fn add(&mut self, gone: Usage) {
        self.gone = self.gone.plus(gone);
    }
    /// Books what is gone. No folder's lock is held any more.
    pub(super) fn end(self) {
        let Self { account, lock, gone } = self;
        let Some(lock) = lock.filter(|_| gone != Usage::default()) else { return };
        let marks = account.enter(gone, -1).and_then(|()| account.read(&lock)).inspect_err(|e| account.missed(e));
        drop(lock);
        if marks.is_ok_and(|(marks, _)| marks.warned != 0 || marks.full != 0) {
            account.settle(After::Removed);
        }
    }
}
