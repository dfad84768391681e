//! gatepost: one small daemon that does the whole job of a mail server.
//!
//! The rooms in reading order; `ARCHITECTURE.md` has the map, the arrows and the ways of a message.
//! `tests/rooms.rs` fails when a room imports one it must not know.
#![deny(unsafe_code)] // only `os/` may lift it, with a reason at each block

pub mod cli;
pub mod control;
pub mod daemon;

pub mod imapd;
pub mod mta;
pub mod pop3d;
pub mod smtpc;
pub mod smtpd;

pub mod message;
pub mod proto;

pub mod accounts;
pub mod config;
pub mod spool;
pub mod store;

pub mod disk;
pub mod dns;
pub mod journal;
pub mod net;
pub mod os;
