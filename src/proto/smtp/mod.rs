//! SMTP (RFC 5321): command lines, replies, DATA and BDAT bodies.
//!
//! Bytes ⇄ values at any chunking, bounded, without recursion. Line ends are decided here and nowhere else: a
//! command line and a message end at CRLF only. Knows no sockets, no clock and no configuration.

mod reply;

pub use reply::{BadReply, Enhanced, Reply, ReplyParser};
