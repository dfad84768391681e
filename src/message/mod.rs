//! RFC 5322 and MIME over `&[u8]`: headers, addresses, dates, the iterative part walker, DSN text.
//!
//! Knows neither IMAP nor SMTP nor the disk. Nothing here recurses on input, and nothing panics on any bytes.

pub mod address;
pub use address::Address;
