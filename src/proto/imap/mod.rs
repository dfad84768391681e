//! IMAP4rev1 as bytes and values (RFC 3501; with RFC 9051's clarifications): commands in, responses out.
//!
//! Cut first, parse second: the [`Framer`] finds where a command ends, literals included, before anybody looks
//! at what it says, so the literal of a bad command can never be taken for a command. Parsing is total over any
//! bytes and its recursion ([`search`] alone) has a stated depth.
//!
//! Extensions spoken here: LITERAL+ (RFC 7888), SASL-IR (4959), IDLE (2177), UIDPLUS (4315), MOVE (6851),
//! NAMESPACE (2342), UNSELECT (3691), CHILDREN (3348), ID (2971), ENABLE (5161), ESEARCH (4731), SPECIAL-USE (6154),
//! LIST-EXTENDED (5258), LIST-STATUS (5819), STATUS=SIZE (8438), CONDSTORE and QRESYNC (7162).
//!
//! Must not know: sockets, the clock, which commands a session allows, the store.

pub mod append;
pub mod command;
pub mod condstore;
pub mod cursor;
pub mod date;
pub mod fetch;
pub mod flag;
pub mod framer;
pub mod list;
pub mod mailbox;
pub mod response;
pub mod search;
pub mod sequence;

pub use append::Append;
pub use command::{Command, Tagged};
pub use cursor::Error;
pub use fetch::{Item, Section, Text};
pub use flag::Flag;
pub use framer::{Frame, Framer};
pub use sequence::SequenceSet;
