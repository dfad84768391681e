//! The log lines of this room: one function per event, keys in fixed order.

use super::{Client, Origin, QueueId, Verb, accept::Filed};
use crate::{
    journal::Line,
    message::Address,
    spool::{Entry, Recipient, State},
};
use std::{fmt::Display, time::Duration};

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

pub(super) fn loaded(entries: usize) {
    Line::info("queue", "loaded").with("entries", entries).send();
}

/// Somebody's hand on an entry.
pub(super) fn verb(id: &QueueId, verb: Verb) {
    let name = match verb {
        Verb::Retry => "retry",
        Verb::Hold => "hold",
        Verb::Release => "release",
        Verb::Drop => "drop",
    };
    Line::info("queue", name).with("qid", id).send();
}

/// A remote host took it.
pub(super) fn sent(id: &QueueId, r: &Recipient, reply: &dyn Display) {
    Line::info("queue", "sent")
        .with("qid", id)
        .with("to", format!("<{}>", r.address))
        .with_some("host", r.remote.as_ref())
        .with("reply", reply)
        .send();
}

pub(super) fn deferred(id: &QueueId, r: &Recipient, attempts: u32) {
    Line::info("queue", "deferred")
        .with("qid", id)
        .with("to", format!("<{}>", r.address))
        .with_some("host", r.remote.as_ref())
        .with("attempts", attempts)
        .with_some("reply", r.last_error.as_ref())
        .send();
}

/// A recipient was given up; `notice` says whether the sender hears of it.
pub(super) fn bounced(id: &QueueId, r: &Recipient) {
    let reply = if let State::Failed(why) = &r.state { Some(why) } else { None };
    Line::info("queue", "bounced")
        .with("qid", id)
        .with("to", format!("<{}>", r.address))
        .with_some("host", r.remote.as_ref())
        .with_some("reply", reply)
        .with("notice", if r.notice { "yes" } else { "no" })
        .send();
}

/// The sender was told; `notice` is the id of the message that says so.
pub(super) fn told(entry: &Entry, notice: &QueueId) {
    Line::info("queue", "notice").with("qid", &entry.id).with("to", envelope(entry.sender.as_ref())).with("notice", notice).send();
}

/// The entry has left the queue.
pub(super) fn finished(entry: &Entry, age: Duration) {
    Line::info("queue", "removed").with("qid", &entry.id).with("attempts", entry.attempts).with("age", age.as_secs()).send();
}

/// Our own trouble; nothing is lost by it.
pub(super) fn trouble(id: Option<&QueueId>, why: &dyn Display) {
    Line::error("queue", "trouble").with_some("qid", id).with("reason", why).send();
}
