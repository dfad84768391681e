//! Maildir homes and folders: deliver, read, flags, UIDs, mod-sequences, change notices.
//!
//! Synchronous: every call that says *job* touches the disk and belongs on the blocking pool, whole; the
//! others only look at memory and may be called on the executor thread (no lock is ever held across I/O there).
//! Knows no wire syntax, no async, no config files. The invariants of the disk layout stand in ARCHITECTURE.md.

use crate::disk::{self, Draft};
use event_listener::EventListener;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

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
    /// Disk or quota full: 452 4.2.2 / NO [OVERQUOTA].
    Full,
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
            Self::Full => f.write_str("the disk is full"),
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
    pub size: u64,
    pub uid_next: u32,
    pub uid_validity: u32,
    pub highest_modseq: u64,
}

/// What happened after a mod-sequence, in the order a session tells it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub expunged: Vec<Uid>,
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

/// Made of the bytes of a message once, kept beside the index, opaque here (imapd writes ENVELOPE and BODYSTRUCTURE).
pub type Summarise = fn(&[u8]) -> Vec<u8>;

pub struct Store {
    root: PathBuf,
    _summarise: Summarise,
}

impl Store {
    /// `root` is `…/mail`. `host` goes into file names.
    pub fn open(root: &Path, host: &str, summarise: Summarise) -> Result<Arc<Self>> {
        let _ = (host,);
        Ok(Arc::new(Self { root: root.to_owned(), _summarise: summarise }))
    }
    /// The account's home `DOMAIN/LOCALPART` (already checked to be safe path parts; refuses `/`, NUL, `..`).
    pub fn home(self: &Arc<Self>, account: &str) -> Result<Home> {
        let _ = (account, &self.root);
        todo!("store room")
    }
    /// Job. One message to several accounts' folders: written and fsynced once, hard-linked into every `new/`,
    /// each directory fsynced, then back. One result per target, in order; a failed one changed nothing there.
    /// `folder`: None is INBOX; a missing folder falls back to INBOX.
    pub fn deliver(self: &Arc<Self>, targets: &[Target], prefix: &[u8], draft: &Draft, now: SystemTime) -> Vec<Result<()>> {
        let _ = (targets, prefix, draft, now);
        todo!("store room")
    }
}

/// One delivery target. `header` is written before the message for this target alone (Return-Path, Delivered-To
/// are the same for all when targets share one file, so it is empty in the usual case).
#[derive(Clone, Debug)]
pub struct Target {
    pub account: String,
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
    _store: Arc<Store>,
}

impl Home {
    /// Job. Makes INBOX and the special-use folders (Drafts Sent Junk Trash Archive, subscribed) at first login.
    pub fn prepare(&self) -> Result<()> {
        todo!("store room")
    }
    /// Job. All folders, INBOX first, then by name.
    pub fn list(&self) -> Result<Vec<Listed>> {
        todo!("store room")
    }
    /// Job. Names in `subscriptions`, whether the folders are there or not.
    pub fn subscriptions(&self) -> Result<Vec<String>> {
        todo!("store room")
    }
    /// Job.
    pub fn subscribe(&self, name: &str, on: bool) -> Result<()> {
        let _ = (name, on);
        todo!("store room")
    }
    /// Job. Missing parents are made too (RFC 9051 §6.3.4).
    pub fn create(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!("store room")
    }
    /// Job. Children stay; then the name becomes non-selectable.
    pub fn delete(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!("store room")
    }
    /// Job. With its children. INBOX: its messages move to the new folder (RFC 9051 §6.3.6).
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let _ = (from, to);
        todo!("store room")
    }
    /// Job. Opens (and synchronises) a folder; sessions on one folder share it.
    pub fn open(&self, name: &str) -> Result<Arc<Folder>> {
        let _ = name;
        todo!("store room")
    }
    /// Job. STATUS without keeping the folder open.
    pub fn status(&self, name: &str) -> Result<Counts> {
        let _ = name;
        todo!("store room")
    }
}

/// A message to append: APPEND's arguments.
pub struct Append<'a> {
    pub draft: &'a Draft,
    pub flags: Flags,
    pub keywords: Vec<String>,
    /// Seconds since 1970.
    pub internal_date: i64,
}

/// An open folder, shared by all its sessions; its state is given back when the last one closes it.
pub struct Folder {
    _private: (),
}

impl Folder {
    /// Memory.
    pub fn counts(&self) -> Counts {
        todo!("store room")
    }
    /// Memory. Keyword names; the index is the bit.
    pub fn keywords(&self) -> Vec<String> {
        todo!("store room")
    }
    /// Memory. All UIDs ascending, and up to which mod-sequence that is.
    pub fn uids(&self) -> (Vec<Uid>, ModSeq) {
        todo!("store room")
    }
    /// Memory. `None` for what is not there any more.
    pub fn meta(&self, uids: &[Uid]) -> Vec<Option<Meta>> {
        let _ = uids;
        todo!("store room")
    }
    /// Memory.
    pub fn changes_since(&self, modseq: ModSeq) -> Changes {
        let _ = modseq;
        todo!("store room")
    }
    /// Memory. Messages that no session was told as \Recent yet (they were in `new/`): takes them.
    pub fn take_recent(&self) -> Vec<Uid> {
        todo!("store room")
    }
    /// Notified after every change (delivery, flags, expunge, other programs).
    pub fn listen(&self) -> EventListener {
        todo!("store room")
    }
    /// Job. Looks whether the directory changed (mtime of new/ and cur/) and takes in what did. Cheap when nothing did.
    pub fn sync(&self) -> Result<()> {
        todo!("store room")
    }
    /// Job. The message with CRLF line ends; `None`: not there any more.
    pub fn read(&self, uid: Uid) -> Result<Option<Vec<u8>>> {
        let _ = uid;
        todo!("store room")
    }
    /// Job. The summary, from memory, its file or made now.
    pub fn summary(&self, uid: Uid) -> Result<Option<Arc<[u8]>>> {
        let _ = uid;
        todo!("store room")
    }
    /// Job. Durable as `storage.md` invariant 4 says. Keywords by name; unknown ones are created. Returns those that are gone.
    pub fn store_flags(&self, uids: &[Uid], op: FlagOp, flags: Flags, keywords: &[String]) -> Result<Vec<Uid>> {
        let _ = (uids, op, flags, keywords);
        todo!("store room")
    }
    /// Job. All or none (MULTIAPPEND later). Fsynced, directory too. The new UIDs.
    pub fn append(&self, messages: &[Append<'_>]) -> Result<Vec<Uid>> {
        let _ = messages;
        todo!("store room")
    }
    /// Job. Hard links; flags, keywords and internal date kept. Pairs (source, new), all or none.
    pub fn copy(&self, uids: &[Uid], to: &Self) -> Result<Vec<(Uid, Uid)>> {
        let _ = (uids, to);
        todo!("store room")
    }
    /// Job. Renames. Pairs (source, new) of what was moved.
    pub fn move_to(&self, uids: &[Uid], to: &Self) -> Result<Vec<(Uid, Uid)>> {
        let _ = (uids, to);
        todo!("store room")
    }
    /// Job. Removes these whatever their flags; the caller chose those with \Deleted. What was removed.
    pub fn expunge(&self, uids: &[Uid]) -> Result<Vec<Uid>> {
        let _ = uids;
        todo!("store room")
    }
}
