//! Telling the sender: failures, delays and asked-for successes (RFC 3461, RFC 3464), through [`Mta::accept`] like any mail.
//!
//! Notices have the null sender and nobody is ever told of mail with a null sender, so there is no notice about a notice.

use super::{Client, MailParams, Mta, Notify, Origin, Recipient, Transaction};
use crate::{
    config::Config,
    disk::Draft,
    message::Address,
    spool::{self, Entry},
};
use std::rc::Rc;

/// One message about all recipients that have a notice due, and, with `slow`, those that are late.
pub(super) async fn tell(mta: &Rc<Mta>, config: &Config, entry: &Entry, slow: Option<&dyn Fn(&spool::Recipient) -> bool>) -> Result<(), String> {
    let Some(sender) = entry.sender.clone() else { return Ok(()) };
    let draft = Draft::new();
    let transaction = Transaction {
        id: mta.queue_id(),
        client: internal(config),
        sender: None,
        params: MailParams { smtputf8: entry.smtputf8, ..MailParams::default() },
        recipients: vec![Recipient { address: sender, notify: Notify { never: true, ..Notify::default() }, orcpt: None }],
        draft,
    };
    mta.accept(transaction).await.map(drop).map_err(|r| r.to_string())
}

fn internal(config: &Config) -> Client {
    Client { origin: Origin::Internal, address: None, helo: config.hostname.clone(), tls: None, with: "LOCAL", conn: "-".to_owned() }
}
