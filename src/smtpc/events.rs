//! Log lines of this room.

use super::Peer;
use crate::{journal::Line, proto::smtp::Reply};
use std::{io, path::Path};

const ROOM: &str = "smtpc";

pub(super) fn said(conn: &str, line: &str) {
    Line::debug(ROOM, "send").with("conn", conn).with("line", line).send();
}

pub(super) fn heard(conn: &str, reply: &Reply) {
    Line::debug(ROOM, "reply").with("conn", conn).with("line", reply).send();
}

pub(super) fn connected(conn: &str, peer: &Peer) {
    Line::debug(ROOM, "connect").with("conn", conn).with("host", &peer.host).with("address", peer.address).send();
}

pub(super) fn encrypted(conn: &str, tls: Option<String>) {
    Line::debug(ROOM, "tls").with("conn", conn).with_some("tls", tls).send();
}

pub(super) fn tls_failed(peer: &Peer, why: &str) {
    Line::info(ROOM, "tls-failed").with("host", &peer.host).with("address", peer.address).with("error", why).with("next", "plain").send();
}

pub(super) fn unreachable(peer: &Peer, why: &str) {
    Line::info(ROOM, "unreachable").with("host", &peer.host).with("address", peer.address).with("error", why).send();
}

pub(super) fn unreadable(file: &Path, e: &io::Error) {
    Line::error(ROOM, "unreadable").with("file", file.display()).with("error", e).send();
}
