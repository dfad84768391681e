//! Bytes ⇄ values at any chunking. No sockets, no async, no clock, no config, no disk.

pub mod imap;
pub mod pop3;
pub mod sasl;
pub mod smtp;
