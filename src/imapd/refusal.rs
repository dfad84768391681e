//! A store's error as a NO (RFC 5530).

use super::session::Done;
use crate::store::Error;

/// The one place that decides what a client hears.
pub(super) fn no(error: &Error) -> Done {
    match error {
        Error::NotFound(_) => Done::no("NONEXISTENT", "No such folder."),
        Error::Exists(_) => Done::no("ALREADYEXISTS", "There is such a folder already."),
        Error::BadName(why) => Done::no("CANNOT", printable(why)),
        Error::Limit(why) => Done::no("LIMIT", printable(why)),
        Error::Full => Done::no("OVERQUOTA", "No space left."),
        Error::OverQuota(over) if over.never => Done::no("OVERQUOTA", "That is more than this account may keep."),
        Error::OverQuota(_) => Done::no("OVERQUOTA", "This account is full; remove something first."),
        // The cause names paths: that is for the log.
        Error::Disk(_) => Done::no("SERVERBUG", "The folder could not be read or written; the log of the server says why."),
    }
}

/// The same for a destination that COPY, MOVE or APPEND named (RFC 3501 §7.1).
pub(super) fn no_destination(error: &Error) -> Done {
    match error {
        Error::NotFound(_) => Done::no("TRYCREATE", "No such folder."),
        other => no(other),
    }
}

/// A reason may quote a client's folder name: no line ends in a response line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}
