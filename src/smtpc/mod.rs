//! One SMTP dialogue with a remote host, as client. Knows nothing of the queue.

use crate::{
    config::{RouteTls, Secret},
    message::Address,
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Whom to talk to.
#[derive(Debug, Clone)]
pub struct Peer {
    /// For the log, SNI and certificate check.
    pub host: String,
    pub address: SocketAddr,
    pub tls: RouteTls,
    pub auth: Option<(String, Secret)>,
}

/// What to send. The message file is read in blocking jobs, dot-stuffed, lone LF made CRLF.
#[derive(Debug, Clone)]
pub struct Mail {
    pub helo: String,
    pub sender: Option<Address>,
    pub recipients: Vec<(Address, crate::spool::Notify, Option<String>)>,
    pub message: PathBuf,
    pub size: u64,
    pub body_8bit: bool,
    pub smtputf8: bool,
    pub ret_full: bool,
    pub envid: Option<String>,
    pub timeout: Duration,
}

/// A remote's reply, or our own words in its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub enhanced: Option<(u8, u8, u8)>,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its 250 after DATA. `dsn`: the remote announced DSN, so a requested success notice is its job.
    Delivered { reply: Reply, dsn: bool },
    /// 5xx for this recipient (or for all).
    Refused(Reply),
    /// 4xx, connection lost: try again later.
    Deferred(Reply),
}

/// Ends early, before any recipient was answered: the next host may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable(pub String);

/// One outcome per recipient, in order. `Err`: nothing was said about this mail here; try another host.
/// Opportunistic TLS that fails in the handshake is tried again without on a new connection.
pub async fn deliver(peer: &Peer, mail: &Mail) -> Result<Vec<Outcome>, Unreachable> {
    let _ = (peer, mail);
    todo!("smtpc room")
}
