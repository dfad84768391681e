//! RFC 5322 and MIME over `&[u8]`: headers, addresses, dates, the iterative part walker, DSN text.
//!
//! Knows neither IMAP nor SMTP nor the disk. Nothing here recurses on input, and nothing panics on any bytes.

pub mod address;
pub mod address_list;
pub mod compose;
pub mod date;
pub mod decode;
pub mod dsn;
pub mod header;
pub mod mime;
pub mod outline;
pub mod search;

mod content;
mod explain;
mod scan;
mod section;
mod words;

pub use address::Address;
pub use address_list::{Listed, Mailbox, header_addresses};
pub use compose::Notice;
pub use date::DateTime;
pub use mime::{Part, Section, Shape, Structure};
pub use outline::Outline;
