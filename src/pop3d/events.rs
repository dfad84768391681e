//! Log lines of this room.

use super::session::{Session, Stop};
use crate::{
    accounts::AccountId,
    journal::Line,
    net::Wire,
    proto::pop3::Command,
    store::{self, Uid},
};

const ROOM: &str = "pop3d";

pub(super) fn command(wire: &Wire, command: &Result<Command, &'static str>) {
    let verb = command.as_ref().map_or("?", Command::verb);
    Line::debug(ROOM, "command").with("conn", wire.conn()).with("verb", verb).send();
}

pub(super) fn login(wire: &Wire, account: &AccountId, mechanism: &str) {
    Line::info(ROOM, "login")
        .with("conn", wire.conn())
        .with_some("client", wire.peer())
        .with("user", account)
        .with("mechanism", mechanism)
        .with_some("tls", wire.tls_summary())
        .send();
}

pub(super) fn login_failed(wire: &Wire, user: &str, why: &str) {
    Line::info(ROOM, "login-failed").with("conn", wire.conn()).with_some("client", wire.peer()).with("user", user).with("reason", why).send();
}

pub(super) fn deleted(wire: &Wire, account: &AccountId, count: usize) {
    Line::info(ROOM, "delete").with("conn", wire.conn()).with("user", account).with("messages", count).send();
}

pub(super) fn trouble(wire: &Wire, account: &AccountId, what: &str, e: &store::Error) {
    Line::error(ROOM, "store-failed").with("conn", wire.conn()).with("user", account).with("op", what).with("error", e).send();
}

pub(super) fn seen_failed(uid: Uid, e: &store::Error) {
    Line::warn(ROOM, "seen-failed").with("uid", uid.0).with("error", e).send();
}

pub(super) fn end(s: &Session, stop: &Stop) {
    let why = match stop {
        Stop::Say(_) => "quit".to_owned(),
        Stop::Lost(e) => e.to_string(),
    };
    Line::debug(ROOM, "end")
        .with("conn", s.wire.conn())
        .with_some("client", s.wire.peer())
        .with_some("user", s.account.as_ref())
        .with("reason", why)
        .send();
}
