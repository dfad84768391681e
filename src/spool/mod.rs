//! The outbound queue on disk: one message file and one readable envelope file per entry. Synchronous; every
//! call is a job for the blocking pool. Knows neither DNS nor sockets nor when to retry.

use crate::{
    disk::{self, Draft},
    message::Address,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// Names one message from MAIL to its last attempt: 10 characters of Crockford's base 32, never repeated on
/// this host (clock and counter), in every log line and SMTP reply.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(Arc<str>);

impl QueueId {
    pub fn new(now: SystemTime) -> Self {
        let _ = now;
        todo!("spool room")
    }
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!("spool room")
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 3461 NOTIFY of one recipient. All false and not `never`: the default (failure and delay).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Notify {
    pub never: bool,
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    Pending,
    Delivered,
    /// Bounced or given up; the text is the last reply.
    Failed(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    pub address: Address,
    /// RFC 3461 ORCPT as given (`rfc822;…`), or the address before aliases.
    pub original: Option<String>,
    pub notify: Notify,
    pub state: State,
    /// Last reply or error, for `queue show` and delay warnings.
    pub last_error: Option<String>,
}

/// The envelope of one spooled message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub id: QueueId,
    pub arrived: SystemTime,
    /// `None`: the null sender `<>`; never bounced.
    pub sender: Option<Address>,
    pub size: u64,
    pub body_8bit: bool,
    pub smtputf8: bool,
    /// RFC 3461 RET=FULL.
    pub ret_full: bool,
    pub envid: Option<String>,
    pub recipients: Vec<Recipient>,
    pub attempts: u32,
    pub next: SystemTime,
    pub held: bool,
    /// The delay warning went out.
    pub warned: bool,
}

#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
}

/// A prepared entry: on disk and fsynced, but not yet part of the queue. [`Prepared::commit`] is one rename;
/// dropping it removes the files. After a crash before commit nothing of it is found again.
pub struct Prepared {
    pub entry: Entry,
}

impl Spool {
    /// Makes the folders, sweeps what a crash left of uncommitted entries.
    pub fn open(dir: &Path) -> disk::Result<Self> {
        let _ = dir;
        todo!("spool room")
    }
    /// Where drafts spill.
    pub fn tmp(&self) -> &Path {
        &self.dir
    }
    pub fn prepare(&self, entry: Entry, prefix: &[u8], draft: &Draft) -> disk::Result<Prepared> {
        let _ = (entry, prefix, draft);
        todo!("spool room")
    }
}
