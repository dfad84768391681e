//! What IMAP sessions log.

use crate::{
    journal::Line,
    net::{Ended, Wire},
};

const ROOM: &str = "imapd";

fn line(of: impl FnOnce(&'static str, &str) -> Line, event: &str, wire: &Wire) -> Line {
    of(ROOM, event).with("conn", wire.conn())
}

pub(super) fn login(wire: &Wire, account: &impl std::fmt::Display, method: &str) {
    let tls = wire.tls_summary();
    line(Line::info, "login", wire).with_some("client", wire.peer()).with("user", account).with("mechanism", method).with_some("tls", tls).send();
}

/// `user` is what the client claimed to be.
pub(super) fn login_failed(wire: &Wire, user: &str, reason: &str) {
    line(Line::info, "login-failed", wire).with_some("client", wire.peer()).with("user", user).with("reason", reason).send();
}

pub(super) fn ended(wire: &Wire, account: Option<&impl std::fmt::Display>, ended: &Ended) {
    line(Line::debug, "end", wire).with_some("client", wire.peer()).with_some("user", account).with("reason", ended).send();
}

/// A fault of ours or of the disk: the client hears NO [SERVERBUG], the administrator reads why.
pub(super) fn failed(wire: &Wire, account: Option<&impl std::fmt::Display>, error: &impl std::fmt::Display) {
    line(Line::error, "failed", wire).with_some("user", account).with("error", error).send();
}
