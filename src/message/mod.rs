//! Messages as octets: headers (RFC 5322, 6532), addresses (RFC 5321, 6531), MIME parts and their IMAP numbers (RFC 2045,
//! 2046, 2047, 2183, 2231, 9051 §6.4.5), dates, texts for SEARCH, and delivery status notifications (RFC 3464, 6533).
//!
//! Knows neither IMAP's nor SMTP's wire syntax, nor disk, clock or configuration. Everything works on `&[u8]` that lies
//! in memory, takes CRLF and bare LF alike, never fails on what it is given where it can show something, and never
//! panics. Nothing recurses on input; time is linear in it, and what is kept of it has a bound.
//!
//! Two readings of an address: [`Address`] is strict, for what is delivered to, logged or made a path; [`Mailbox`] is
//! whatever a header field says, for showing.

pub mod address;
pub mod address_list;
pub mod compose;
pub mod date;
pub mod decode;
pub mod dsn;
pub mod header;
pub mod mime;
pub mod preview;
pub mod search;

mod content;
mod scan;
mod section;
mod words;

pub use address::Address;
pub use address_list::{Listed, Mailbox, header_addresses};
pub use compose::Notice;
pub use date::DateTime;
pub use mime::{Part, Section, Shape, Structure};
