//! One SMTP dialogue with a remote host, as client. Knows nothing of the queue.
//!
//! RFC 5321 (§4.5.3.2 timeouts), 1870 SIZE, 2034, 2920 PIPELINING, 3207 STARTTLS, 3461 DSN, 4954 AUTH (PLAIN,
//! LOGIN), 6152 8BITMIME, 6531 SMTPUTF8, 7435 opportunistic TLS.
//!
//! Deviations: an 8-bit message for a host without 8BITMIME is sent as it is, as qmail and Exim do (conversion
//! would break signatures, and hosts that mind are hardly left). DATA is not pipelined: it waits until somebody
//! was accepted.

mod body;
mod dialogue;
mod envelope;
mod events;
mod offer;

pub use crate::proto::smtp::Reply;
use crate::{
    config::{RouteTls, Secret},
    message::Address,
    net::tls::Connector,
};
use dialogue::{Dialogue, Stop};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Whom to talk to.
#[derive(Debug, Clone)]
pub struct Peer {
    /// For the log, SNI and certificate check.
    pub host: String,
    pub address: SocketAddr,
    pub tls: RouteTls,
    /// User and password; said under TLS only, or to this host itself.
    pub auth: Option<(String, Secret)>,
}

/// What to send. The message file is read in blocking jobs, dot-stuffed, lone LF made CRLF, lone CR a space.
#[derive(Debug, Clone)]
pub struct Mail {
    pub helo: String,
    pub sender: Option<Address>,
    /// Each with NOTIFY and ORCPT (as given: type `;` xtext; anything else is left out).
    pub recipients: Vec<(Address, crate::spool::Notify, Option<String>)>,
    pub message: PathBuf,
    /// Octets.
    pub size: u64,
    pub body_8bit: bool,
    pub smtputf8: bool,
    pub ret_full: Option<bool>,
    /// As given: xtext.
    pub envid: Option<String>,
    /// Longest wait for one reply or for one stretch of data to leave; RFC 5321's own limits where they are shorter.
    pub timeout: Duration,
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
pub struct Unreachable {
    pub why: String,
    /// It did not even greet: whoever tries next has no better luck.
    pub down: bool,
}

/// One outcome per recipient, in order. `Err`: nothing was said about this mail here; try another host.
/// Opportunistic TLS that fails in the handshake is tried again without on a new connection.
pub async fn deliver(peer: &Peer, mail: &Mail) -> Result<Vec<Outcome>, Unreachable> {
    deliver_verifying(peer, mail, Connector::verified).await
}

/// `roots` makes the connector for certificates that must be right; called in a blocking job, and only then.
async fn deliver_verifying(
    peer: &Peer,
    mail: &Mail,
    roots: impl FnOnce() -> Result<Connector, String> + Send + 'static,
) -> Result<Vec<Outcome>, Unreachable> {
    if mail.recipients.is_empty() {
        return Ok(vec![]);
    }
    let path = mail.message.clone();
    let mut source = match smol::unblock(move || body::Source::open(&path)).await {
        Ok(source) => Some(source),
        Err(e) => {
            events::unreadable(&mail.message, &e);
            return Ok(dialogue::all(mail, &Outcome::Deferred(dialogue::unreadable())));
        }
    };
    let connector = match peer.tls {
        RouteTls::Never => None,
        RouteTls::May => Some(Connector::opportunistic()),
        RouteTls::Require | RouteTls::Implicit => Some(smol::unblock(roots).await.map_err(|why| Unreachable { why, down: false })?),
    };
    // Boxed: a delivery's state is not carried by whoever waits for it.
    let attempt = Box::pin(Dialogue::run(peer, mail, &mut source, connector.as_ref())).await;
    let attempt = match attempt {
        Err(Stop::Handshake(why)) if peer.tls == RouteTls::May => {
            events::tls_failed(peer, &why);
            Box::pin(Dialogue::run(peer, mail, &mut source, None)).await
        }
        done => done,
    };
    let result = attempt.map_err(|stop| Unreachable { why: stop.to_string(), down: matches!(stop, Stop::Down(_)) });
    if let Err(Unreachable { why, .. }) = &result {
        events::unreachable(peer, why);
    }
    result
}

#[cfg(test)]
mod tests;
