//! SMTP (RFC 5321): command lines, replies, DATA and BDAT bodies.
//!
//! Bytes ⇄ values at any chunking, bounded, without recursion. Line ends are decided here and nowhere else: a
//! command line and a message end at CRLF only. Knows no sockets, no clock and no configuration.
//!
//! Deviation: paths are taken as strictly as §4.1.2 writes them (no space after the colon, brackets wanted).

mod body;
mod command;
mod line;
mod params;
mod path;
mod reply;

pub use body::{Body, Chunks, stuff};
pub use command::Command;
pub use line::{Frame, Framer};
pub use params::{MailParams, Notify, RcptParams};
pub use path::Path;
pub use reply::{BadReply, Enhanced, Reply, ReplyParser};
