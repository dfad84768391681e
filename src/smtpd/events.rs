//! Log lines of this room.

use super::session::{Session, Stop};
use crate::{
    accounts::AccountId,
    disk,
    journal::Line,
    message::Address,
    mta::{QueueId, Refusal},
    net::Ended,
    proto::smtp::{Command, Reply},
};
const ROOM: &str = "smtpd";

fn from(sender: Option<&Address>) -> String {
    sender.map_or_else(|| "<>".to_owned(), |a| format!("<{a}>"))
}

/// The dialogue, with neither secrets nor content.
pub(super) fn command(s: &Session, command: &Result<Command, Reply>) {
    match command {
        Ok(c) => Line::debug(ROOM, "command").with("conn", s.wire.conn()).with("verb", c.verb()).send(),
        Err(_) => Line::debug(ROOM, "bad-command").with("conn", s.wire.conn()).send(),
    }
}

pub(super) fn reply(s: &Session, reply: &Reply) {
    let line = Line::debug(ROOM, "reply").with("conn", s.wire.conn());
    // A challenge of ours is a prompt and no secret, but what is not logged cannot leak.
    if reply.code == 334 { line.with("reply", reply.code) } else { line.with("reply", reply) }.send();
}

pub(super) fn login(s: &Session, account: &AccountId, mechanism: &str) {
    Line::info(ROOM, "login")
        .with("conn", s.wire.conn())
        .with_some("client", s.wire.peer())
        .with("user", account)
        .with("mechanism", mechanism)
        .with_some("tls", s.wire.tls_summary())
        .send();
}

pub(super) fn login_failed(s: &Session, user: &str, why: &str) {
    Line::info(ROOM, "login-failed").with("conn", s.wire.conn()).with_some("client", s.wire.peer()).with("user", user).with("reason", why).send();
}

/// Mail from there will not come, or come in the clear: somebody will ask why.
pub(super) fn tls_failed(s: &Session, why: &Ended) {
    Line::info(ROOM, "tls-failed").with("conn", s.wire.conn()).with_some("client", s.wire.peer()).with("error", why).send();
}

fn refused(s: &Session, verb: &str, id: &QueueId) -> Line {
    Line::info(ROOM, "refuse").with("conn", s.wire.conn()).with("qid", id).with_some("client", s.wire.peer()).with("verb", verb)
}

pub(super) fn sender_refused(s: &Session, id: &QueueId, sender: Option<&Address>, why: &Refusal) {
    refused(s, "MAIL", id).with("from", from(sender)).with("reply", Reply::from(why)).with_some("cause", why.cause.as_deref()).send();
}

pub(super) fn recipient_refused(s: &Session, to: &Address, why: &Refusal) {
    let Some(open) = &s.transaction else { return };
    refused(s, "RCPT", &open.mail.id)
        .with("from", from(open.mail.sender.as_ref()))
        .with("to", format!("<{to}>"))
        .with("reply", Reply::from(why))
        .with_some("cause", why.cause.as_deref())
        .send();
}

pub(super) fn message_refused(s: &Session, id: &QueueId, reply: &Reply, cause: Option<&str>) {
    refused(s, "DATA", id).with("reply", reply).with_some("cause", cause).send();
}

pub(super) fn spill_failed(s: &Session, id: &QueueId, e: &disk::Error) {
    Line::error(ROOM, "spill-failed").with("conn", s.wire.conn()).with("qid", id).with("error", e).send();
}

pub(super) fn end(s: &Session, stop: &Stop) {
    let why = match stop {
        Stop::Say(reply) if reply.code == 221 => "quit".to_owned(),
        Stop::Say(reply) => reply.to_string(),
        Stop::Lost(e) => e.to_string(),
    };
    // One that does all right needs no line: each of its messages has one. Nor does a port scan.
    let unremarkable = why == "quit" || s.hello.is_none() && matches!(stop, Stop::Lost(_));
    let line = if unremarkable { Line::debug(ROOM, "end") } else { Line::info(ROOM, "end") };
    line.with("conn", s.wire.conn())
        .with_some("client", s.wire.peer())
        .with_some("qid", s.current())
        .with_some("helo", s.hello.as_ref().map(|h| &h.name))
        .with("messages", s.counts.messages)
        .with("reason", why)
        .send();
}
