//! Log lines of this room.

use super::{
    Ended, Wire,
    limits::{Full, Limits},
};
use crate::journal::Line;
use std::{
    any::Any,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

const ROOM: &str = "net";
/// A flood of connections must not become a flood of lines.
const EVERY: Duration = Duration::from_secs(10);

pub(super) fn connected(service: &str, wire: &Wire) {
    Line::debug(ROOM, "connect").with("conn", wire.conn()).with("service", service).with_some("client", wire.peer()).send();
}

pub(super) fn handshake_failed(service: &str, wire: &Wire, why: &Ended) {
    Line::debug(ROOM, "tls-failed").with("conn", wire.conn()).with("service", service).with_some("client", wire.peer()).with("error", why).send();
}

pub(super) fn refused(limits: &Limits, service: &str, client: IpAddr, full: Full) {
    let Some(held_back) = limits.may_log(Instant::now(), EVERY) else { return };
    let limit = match full {
        Full::Total => "limits.connections",
        Full::Address => "limits.connections-per-address",
    };
    let line = Line::warn(ROOM, "refuse").with("service", service).with("client", client).with("limit", limit).with("open", limits.active());
    line.with_some("not-logged", (held_back > 0).then_some(held_back)).send();
}

pub(super) fn accept_failed(service: &str, e: &io::Error) {
    Line::error(ROOM, "accept-failed").with("service", service).with("error", e).send();
}

pub(super) fn panicked(service: &str, conn: &str, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Line::error(ROOM, "panic").with("conn", conn).with("service", service).with("error", text.unwrap_or("?")).send();
}
