//! Maildir homes and folders: deliver, read, flags, UIDs, mod-sequences, change notices.
//!
//! Synchronous: every call that says *job* touches the disk and belongs on the blocking pool, whole; the
//! others only look at memory and may be called on the executor thread (no lock is ever held across I/O there).
//! Knows no wire syntax, no async, no config files. The invariants of the disk layout stand in ARCHITECTURE.md.
//!
//! The files: `deliver` (into `new/`), `sync` (what is on disk becomes state, with `scan`, `watch` and `enter`),
//! `notice` (when others changed it), `flags` and `transfer` (what sessions change), `commit` (each change gets its
//! mod-sequence in the `log` and becomes state), `state` (messages and their history in memory), `ledger`, `uidlist` and
//! `keywords` (Dovecot's files), `index` (what a closed folder was; `leave` writes it), `summary` (what clients list),
//! `courier` and `noted` (what other servers left), `home`, `layout`, `names` and `subscriptions` (folders), `quota`.
//!
//! Locks, in this order: a folder's `disk` (a whole job; of two folders the lower address first), the UID list's
//! dotlock (other programs), the log's (for one append), then those for memory only (`state`, `place`, `under_way`, the
//! store's maps).

mod commit;
mod courier;
mod deliver;
mod dotlock;
mod enter;
mod events;
mod file;
mod flags;
mod folder;
mod found;
mod home;
mod index;
mod keywords;
mod layout;
mod leave;
mod ledger;
mod log;
mod maildirsize;
mod names;
mod noted;
mod notice;
#[cfg(test)]
mod notice_tests;
mod packed;
mod quota;
#[cfg(test)]
mod race_tests;
mod scan;
#[cfg(test)]
mod scratch;
mod state;
mod subscriptions;
mod summary;
mod summary_file;
mod sweep;
mod sync;
#[cfg(test)]
mod tests;
mod together;
mod transfer;
mod uidlist;
mod watch;

use crate::disk::{self, Draft};
use event_listener::Event;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicBool},
};

pub use folder::Folder;
pub use noted::Noted;
pub use notice::{Look, Notices};
pub use quota::{Level, Limits, Over, Quotas, Usage};
pub use summary::Summaries;

/// RFC 9051 §2.3.1.1: never reused in a folder, strictly ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Uid(pub u32);
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UidValidity(pub u32);
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ModSeq(pub u64);

#[derive(Debug)]
pub enum Error {
    /// No such folder (or home).
    NotFound(String),
    Exists(String),
    /// A name that cannot be a folder; the text says why.
    BadName(String),
    /// More of something than there may be; the text says of what.
    Limit(&'static str),
    /// The disk is full: 452 4.3.1 / NO [OVERQUOTA].
    Full,
    /// The account is full: 452 4.2.2 or 552 5.2.2 / NO [OVERQUOTA].
    OverQuota(Over),
    Disk(disk::Error),
}

impl From<disk::Error> for Error {
    fn from(e: disk::Error) -> Self {
        if e.is_full() { Self::Full } else { Self::Disk(e) }
    }
}
impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(n) => write!(f, "no such folder: {n}"),
            Self::Exists(n) => write!(f, "folder exists already: {n}"),
            Self::BadName(why) => f.write_str(why),
            Self::Limit(why) => f.write_str(why),
            Self::Full => f.write_str("the disk is full"),
            Self::OverQuota(over) if over.never => f.write_str("larger than all that the account may keep"),
            Self::OverQuota(_) => f.write_str("the account is over its quota"),
            Self::Disk(e) => e.fmt(f),
        }
    }
}
impl std::error::Error for Error {}
pub type Result<T> = std::result::Result<T, Error>;

/// System flags as in the file name. `\Recent` is a session's matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Flags(pub u8);
impl Flags {
    pub const SEEN: Self = Self(1);
    pub const ANSWERED: Self = Self(2);
    pub const FLAGGED: Self = Self(4);
    pub const DELETED: Self = Self(8);
    pub const DRAFT: Self = Self(16);
    /// Maildir's P; shown as $Forwarded.
    pub const PASSED: Self = Self(32);
    pub fn has(self, f: Self) -> bool {
        self.0 & f.0 == f.0
    }
    #[must_use]
    pub fn with(self, f: Self) -> Self {
        Self(self.0 | f.0)
    }
    #[must_use]
    pub fn without(self, f: Self) -> Self {
        Self(self.0 & !f.0)
    }
}

/// Keywords of a message as indexes into [`Folder::keywords`]; bit n is keyword n. More than 64 in one folder
/// is refused (NO [LIMIT]).
pub type KeywordBits = u64;

/// What is known of a message without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub uid: Uid,
    pub modseq: ModSeq,
    pub flags: Flags,
    pub keywords: KeywordBits,
    /// RFC822.SIZE: with CRLF line ends.
    pub size: u64,
    /// Seconds since 1970.
    pub internal_date: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    pub messages: u32,
    pub unseen: u32,
    pub deleted: u32,
    /// Told to no session yet as \Recent (RFC 3501 §2.3.2).
    pub recent: u32,
    pub size: u64,
    pub uid_next: u32,
    pub uid_validity: u32,
    pub highest_modseq: u64,
}

/// What happened after a mod-sequence, in the order a session tells it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Ranges (first, last), ascending: what is not there now and may have been. They may span UIDs that never were,
    /// four thousand millions of them, so a session takes from its own view what lies inside.
    pub expunged: Vec<(Uid, Uid)>,
    /// Flag changes of messages that were there before.
    pub changed: Vec<Uid>,
    pub arrived: Vec<Uid>,
    /// Up to where this tells.
    pub modseq: ModSeq,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagOp {
    Set,
    Add,
    Remove,
}

/// What became of a STORE: all others have the flags that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub gone: Vec<Uid>,
    /// Ascending: changed by somebody since the mod-sequence that was named.
    pub modified: Vec<Uid>,
}

/// Made of the bytes of a message once, kept beside the index, opaque here (imapd writes ENVELOPE and BODYSTRUCTURE).
/// Its first byte says in which form it is, also when there is no message: those of other forms are made anew.
pub type Summarise = fn(&[u8]) -> Vec<u8>;

pub struct Store {
    root: PathBuf,
    host: String,
    summarise: Summarise,
    /// Of the summaries that it makes.
    form: Option<u8>,
    /// Folders that some session has open, by directory.
    open: Mutex<HashMap<PathBuf, Weak<Folder>>>,
    /// Closed ones that are not written down yet; bounded.
    leaving: Mutex<leave::Leaving>,
    /// What is remembered of others; bounded.
    rests: Mutex<HashMap<PathBuf, leave::Rest>>,
    untidy: Event,
    quotas: OnceLock<Box<dyn Quotas>>,
    /// Homes without folders get theirs in a tree.
    tree: AtomicBool,
    /// Homes with limits in which other programs were seen, by `Maildir/`; bounded.
    touched: Mutex<HashSet<Arc<Path>>>,
    notices: Arc<Notices>,
    together: together::Together,
    _locks: dotlock::Token,
}

/// Closed folders that are remembered, some 200 bytes each.
const RESTS: usize = 20_000;

/// A poisoned lock means that a job panicked; what it guarded is still consistent enough to go on with, because
/// every change to it is made whole at the end of a job.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// `root` is `…/mail`. `host` goes into file names.
    pub fn open(root: &Path, host: &str, summarise: Summarise) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            root: root.to_owned(),
            host: file::escape_host(host),
            summarise,
            form: summarise(b"").first().copied(),
            open: Mutex::default(),
            leaving: Mutex::default(),
            untidy: Event::new(),
            rests: Mutex::default(),
            quotas: OnceLock::new(),
            tree: AtomicBool::new(false),
            touched: Mutex::default(),
            notices: Arc::default(),
            together: together::Together::default(),
            _locks: dotlock::Token::new(root),
        }))
    }

    /// Folders that are opened by [`Home::open_watched`] from now on are watched for what other programs do there; the
    /// caller sees to it that the looks which become due are made.
    pub fn notices(&self) -> Arc<Notices> {
        self.notices.begin();
        Arc::clone(&self.notices)
    }

    /// Memory. The home of `alice@example.org`: `ROOT/example.org/alice`. Nothing is made yet.
    /// Refuses what is no safe pair of path parts: empty, with a leading dot, `/`, NUL or control characters.
    pub fn home(self: &Arc<Self>, account: &str) -> Result<Home> {
        let bad = || Error::BadName(format!("not an account: {account:?}"));
        let (local, domain) = account.rsplit_once('@').ok_or_else(bad)?;
        let safe = |part: &str| !part.is_empty() && part.len() <= 255 && !part.starts_with('.') && !part.chars().any(|c| c == '/' || c.is_control());
        if !safe(local) || !safe(domain) {
            return Err(bad());
        }
        let maildir = self.root.join(domain).join(local).join("Maildir");
        Ok(Home { store: Arc::clone(self), account: account.into(), maildir: maildir.into() })
    }

    /// The one copy of a folder's state, not loaded yet when nobody had it open.
    fn shared(self: &Arc<Self>, place: folder::Place) -> Arc<Folder> {
        if let Some(folder) = self.lingering(&place.dir) {
            return folder;
        }
        let mut open = lock(&self.open);
        // Another session was faster.
        if let Some(folder) = open.get(&*place.dir).and_then(Weak::upgrade) {
            return folder;
        }
        let dir = place.dir.to_path_buf();
        let folder = Arc::new(Folder::new(self, place));
        open.insert(dir, Arc::downgrade(&folder));
        folder
    }
    /// The folder, if some session has it open.
    fn opened(&self, dir: &Path) -> Option<Arc<Folder>> {
        lock(&self.open).get(dir).and_then(Weak::upgrade)
    }
    /// A directory that was deleted or renamed: whatever comes there next is another folder.
    fn forget(&self, dir: &Path) {
        lock(&self.open).remove(dir);
        lock(&self.leaving).take(dir);
        lock(&self.rests).remove(dir);
    }
    fn moved(&self, folder: &Arc<Folder>, to: &Path) {
        lock(&self.open).insert(to.to_owned(), Arc::downgrade(folder));
    }
    fn rest(&self, dir: &Path) -> Option<leave::Rest> {
        lock(&self.rests).get(dir).cloned()
    }
}

/// One delivery target.
#[derive(Clone, Debug)]
pub struct Target {
    pub account: String,
    /// `None` is INBOX.
    pub folder: Option<String>,
}

/// A folder as LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// UTF-8, `/` between levels, `INBOX` for the inbox.
    pub name: String,
    /// False for a parent that only exists because a child does (`\NonExistent`/`\NoSelect`).
    pub selectable: bool,
    pub subscribed: bool,
    pub children: bool,
}

/// One account's folders. Names are UTF-8 with `/` as separator; on disk Maildir++ `.A.B` in modified UTF-7.
#[derive(Clone)]
pub struct Home {
    store: Arc<Store>,
    account: Arc<str>,
    maildir: Arc<Path>,
}

/// A message to append: APPEND's arguments.
pub struct Append<'a> {
    pub draft: &'a Draft,
    pub flags: Flags,
    pub keywords: Vec<String>,
    /// Seconds since 1970.
    pub internal_date: i64,
}
