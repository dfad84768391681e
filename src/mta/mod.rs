//! What becomes of a message: accept, resolve, stamp, sign, file, queue (when), route (where), bounce.
//!
//! One pipeline for MX, submission, `sendmail` and our own bounces ([`Mta::accept`]). Knows nothing of the
//! dialogue a message came from.
//!
//! RFC 5321 §4.4 (trace), §5 (MX), §6 (loops, bounces), 6409 §6, §8 (submission), 3461 and 3464 (notices), 6376 and
//! 8463 (DKIM), 7505 (null MX).
//!
//! Deviations: fifty hops are enough (§6.3 would have a hundred). A submission does not name its client in Received
//! unless configured. Local users (`sendmail`) are believed in what From they write, not in their envelope. Several
//! accounts share one file, so only a single one is named in Delivered-To.

mod accept;
mod admit;
mod attempt;
mod bounce;
mod events;
mod head;
mod limits;
mod queue;
mod quota;
mod refusal;
mod route;
pub mod sign;
mod stamp;

pub use crate::spool::{Notify, QueueId};
use crate::{
    accounts::{AccountId, Accounts},
    config::{Config, Live},
    disk::Draft,
    dns::Dns,
    message::Address,
    spool::Spool,
    store::Store,
};
use accept::Plan;
pub use queue::{Verb, Which};
pub use quota::Quotas;
pub use refusal::Refusal;
use std::{net::IpAddr, rc::Rc, sync::Arc};

/// Who brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Port 25, a stranger.
    Mx,
    /// Authenticated by 587 or 465.
    Submission(AccountId),
    /// `sendmail` on this host: the system user's name.
    Local(String),
    /// Bounces and warnings of our own.
    Internal,
}

/// Where it came from, for Received and the log.
#[derive(Debug, Clone)]
pub struct Client {
    pub origin: Origin,
    pub address: Option<IpAddr>,
    /// EHLO argument, already free of control characters.
    pub helo: String,
    /// `TLSv1.3 TLS13_AES_256_GCM_SHA384`, for Received.
    pub tls: Option<String>,
    /// RFC 3848: SMTP ESMTP ESMTPS ESMTPA ESMTPSA, UTF8SMTP….
    pub with: &'static str,
    /// `conn=` of the log.
    pub conn: String,
}

/// MAIL's parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParams {
    pub size: Option<u64>,
    pub body_8bit: bool,
    pub smtputf8: bool,
    pub ret_full: Option<bool>,
    pub envid: Option<String>,
}

/// One accepted RCPT.
#[derive(Debug, Clone)]
pub struct Recipient {
    pub address: Address,
    pub notify: Notify,
    pub orcpt: Option<String>,
}

/// MAIL to 250. RSET drops it whole.
pub struct Transaction {
    pub id: QueueId,
    pub client: Client,
    pub sender: Option<Address>,
    pub params: MailParams,
    pub recipients: Vec<Recipient>,
    pub draft: Draft,
}

/// The services a session needs; lives as long as the daemon.
pub struct Mta {
    pub config: Arc<Live<Config>>,
    pub accounts: Arc<Accounts>,
    pub store: Arc<Store>,
    pub spool: Arc<Spool>,
    pub dns: Dns,
    /// DKIM keys; replaced on reload.
    pub keys: Live<sign::Keys>,
    queue: queue::Table,
    limits: limits::Limits,
}

impl Mta {
    /// Without DKIM keys until `keys` is set.
    pub fn new(config: Arc<Live<Config>>, accounts: Arc<Accounts>, store: Arc<Store>, spool: Arc<Spool>, dns: Dns) -> Rc<Self> {
        let keys = Live::new(sign::Keys::default());
        Rc::new(Self { config, accounts, store, spool, dns, keys, queue: Default::default(), limits: Default::default() })
    }
    /// A fresh queue id.
    pub fn queue_id(&self) -> QueueId {
        QueueId::new(std::time::SystemTime::now())
    }
    /// May this client send as this sender? (own addresses only for submissions; our own domains are not
    /// forbidden to strangers here, that is for the checks)
    pub fn mail(&self, client: &Client, sender: Option<&Address>, params: &MailParams) -> Result<(), Refusal> {
        self.admit_sender(client, sender, params)
    }
    /// Local, alias, or relay for those who may; 550 5.1.1 (no such user), 550 5.7.1 (relay). 452 4.2.2 or 552 5.2.2 when
    /// nobody whom it means has room for a message of MAIL's SIZE, or for one at all.
    pub async fn rcpt(&self, client: &Client, params: &MailParams, to: &Address) -> Result<(), Refusal> {
        self.admit_recipient(client, to)?;
        self.admit_size(to, params.size).await
    }
    /// The pipeline. `Ok` only when every recipient's copy is durable (Maildir or spool). The text is for the 250,
    /// after the codes: `Ok: queued as 7DK2M9QX4R`. Whoever asked logs a refusal.
    pub async fn accept(self: &Rc<Self>, transaction: Transaction) -> Result<String, Refusal> {
        self.take(transaction).await
    }
    /// The queue's loop: reads the spool, attempts what is due, sleeps until the next or until `accept` adds one.
    /// Returns when the drain starts and running attempts have ended, after 30 seconds at most.
    pub async fn run_queue(self: Rc<Self>, ex: Rc<smol::LocalExecutor<'static>>, drain: crate::net::Drain) {
        self.queue_loop(ex, drain).await;
    }
}

#[cfg(test)]
mod tests;
