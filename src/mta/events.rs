//! The log lines of this room: one function per event, keys in fixed order.

use super::{Client, Origin, QueueId, Refusal, accept::Filed};
use crate::{journal::Line, message::Address};
use std::fmt::Display;

fn envelope(sender: Option<&Address>) -> String {
    sender.map_or_else(|| "<>".to_owned(), |s| format!("<{s}>"))
}

/// Every recipient's copy is durable.
pub(super) fn accepted(client: &Client, filed: &Filed, rcpts: usize) {
    let queued = filed.entry.as_ref().map_or(0, |e| e.recipients.iter().filter(|r| !r.notice).count());
    let (origin, who) = match &client.origin {
        Origin::Mx => ("mx", None),
        Origin::Submission(a) => ("submission", Some(a.to_string())),
        Origin::Local(user) => ("local", Some(user.clone())),
        Origin::Internal => ("internal", None),
    };
    Line::info("mta", "accept")
        .with("conn", &client.conn)
        .with("qid", &filed.id)
        .with_some("client", client.address)
        .with("origin", origin)
        .with_some("user", who)
        .with("from", envelope(filed.sender.as_ref()))
        .with("rcpts", rcpts)
        .with("size", filed.size)
        .with("local", filed.delivered.len())
        .with("queued", queued)
        .with("dkim", if filed.signed { "signed" } else { "none" })
        .with_some("msgid", filed.message_id.as_ref())
        .send();
    for account in &filed.delivered {
        delivered(&filed.id, account);
    }
    for (account, why) in &filed.late {
        Line::warn("mta", "late").with("qid", &filed.id).with("account", account).with("reason", why).send();
    }
    for why in &filed.unsigned {
        Line::warn("mta", "unsigned").with("qid", &filed.id).with("reason", why).send();
    }
}

pub(super) fn delivered(id: &QueueId, account: &dyn Display) {
    Line::info("mta", "delivered").with("qid", id).with("account", account).send();
}

/// Our no to MAIL, RCPT or the message.
pub(super) fn refused(client: &Client, id: Option<&QueueId>, verb: &str, sender: Option<&Address>, to: Option<&Address>, refusal: &Refusal) {
    Line::info("mta", "refuse")
        .with("conn", &client.conn)
        .with_some("qid", id)
        .with_some("client", client.address)
        .with("verb", verb)
        .with("from", envelope(sender))
        .with_some("to", to.map(|t| format!("<{t}>")))
        .with("reply", refusal)
        .with_some("cause", refusal.cause.as_ref())
        .send();
}
