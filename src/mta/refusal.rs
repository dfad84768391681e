//! [`Refusal`]: our no. Every code and text that `mta` says stands here, once.

use crate::{accounts::AccountId, disk, message::Address, store};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Our no: what the peer hears and what we log, made in one place. Our fault or in doubt: 4xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    /// RFC 3463: `(5, 7, 1)`.
    pub enhanced: (u8, u8, u8),
    pub text: String,
    /// For the log only.
    pub cause: Option<String>,
}

/// `550 5.1.1 text`, as it goes over the wire and into the log.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, subject, detail) = self.enhanced;
        write!(f, "{} {class}.{subject}.{detail} {}", self.code, self.text)
    }
}

impl Refusal {
    pub fn new(code: u16, enhanced: (u8, u8, u8), text: impl Into<String>) -> Self {
        Self { code, enhanced, text: text.into(), cause: None }
    }
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
    /// Worth another try by the client.
    pub fn is_temporary(&self) -> bool {
        self.code < 500
    }

    pub(super) fn no_such_user(to: &Address) -> Self {
        Self::new(550, (5, 1, 1), format!("<{to}> is not a mailbox here"))
    }
    pub(super) fn relay_denied(to: &Address) -> Self {
        Self::new(550, (5, 7, 1), format!("Relaying denied: mail for <{to}> is not ours; log in on port 465 or 587 to send"))
    }
    pub(super) fn sender_not_owned(account: &AccountId, sender: &Address) -> Self {
        Self::new(553, (5, 7, 1), format!("{account} may not send as <{sender}>; use one of your own addresses"))
    }
    pub(super) fn local_sender_not_owned(user: &str, sender: &Address) -> Self {
        Self::new(553, (5, 7, 1), format!("Local user {user} may not send as <{sender}>; leave out -f, or use {user}@ one of our domains"))
    }
    /// RFC 6531 §3.5, RFC 6533: an address that needs SMTPUTF8 in a transaction without.
    pub(super) fn needs_smtputf8() -> Self {
        Self::new(553, (5, 6, 7), "A non-ASCII address needs SMTPUTF8")
    }
    pub(super) fn too_big(limit: u64) -> Self {
        Self::new(552, (5, 3, 4), format!("Message is larger than the {limit} bytes allowed"))
    }
    pub(super) fn head_too_big() -> Self {
        Self::new(552, (5, 3, 4), "The header section is too large")
    }
    pub(super) fn no_recipients() -> Self {
        Self::new(554, (5, 5, 1), "No valid recipients")
    }
    pub(super) fn too_many_hops(hops: usize) -> Self {
        Self::new(554, (5, 4, 6), format!("Mail loop: {hops} Received header fields"))
    }
    pub(super) fn mail_loop(address: &str) -> Self {
        Self::new(554, (5, 4, 6), format!("Mail loop: this message was delivered to <{address}> before"))
    }
    pub(super) fn from_missing() -> Self {
        Self::new(550, (5, 7, 1), "The message must have exactly one From header field with your address")
    }
    pub(super) fn from_not_owned(account: &AccountId, from: &Address) -> Self {
        Self::new(550, (5, 7, 1), format!("{account} may not write From: <{from}>; use one of your own addresses"))
    }
}

impl From<&disk::Error> for Refusal {
    fn from(e: &disk::Error) -> Self {
        let r = if e.is_full() { full() } else { Self::new(451, (4, 3, 0), "The message could not be stored; try again later") };
        r.because(e)
    }
}

impl Refusal {
    /// The one place where a store's error becomes an SMTP refusal. `grace`: how long a full mailbox is worth another try.
    pub(super) fn of(e: &store::Error, grace: Duration, now: SystemTime) -> Self {
        let no = match e {
            store::Error::Disk(d) => return d.into(),
            store::Error::Full => full(),
            store::Error::OverQuota(over) if over.never => Self::new(552, (5, 2, 3), "The message is larger than the mailbox"),
            store::Error::OverQuota(over) => {
                let since = Duration::from_secs(u64::try_from(over.since).unwrap_or(0));
                let end = SystemTime::UNIX_EPOCH.checked_add(since).and_then(|t| t.checked_add(grace));
                if end.is_some_and(|end| end <= now) {
                    Self::new(552, (5, 2, 2), "The mailbox is full")
                } else {
                    Self::new(452, (4, 2, 2), "The mailbox is full; try again later")
                }
            }
            store::Error::NotFound(_) | store::Error::Exists(_) | store::Error::BadName(_) | store::Error::Limit(_) => {
                Self::new(451, (4, 2, 0), "The mailbox is not available; try again later")
            }
        };
        no.because(e)
    }
}

fn full() -> Refusal {
    Refusal::new(452, (4, 3, 1), "The disk is full; try again later")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::io;

    #[test]
    fn a_full_disk_is_452_any_other_trouble_451() {
        const CASES: &[(Errno, &str)] = &[
            (Errno::ENOSPC, "452 4.3.1 The disk is full; try again later"),
            (Errno::EDQUOT, "452 4.3.1 The disk is full; try again later"),
            (Errno::EIO, "451 4.3.0 The message could not be stored; try again later"),
            (Errno::EACCES, "451 4.3.0 The message could not be stored; try again later"),
        ];
        for (errno, want) in CASES {
            let e = || disk::Error::new("write", "/spool/x", io::Error::from_raw_os_error(*errno as i32));
            assert_eq!(Refusal::from(&e()).to_string(), *want);
            assert_eq!(Refusal::of(&store::Error::from(e()), Duration::ZERO, SystemTime::UNIX_EPOCH).to_string(), *want);
        }
    }

    #[test]
    fn a_full_mailbox_is_452_for_a_while() {
        const CASES: &[(i64, bool, u64, u64, &str)] = &[
            // Full since, never, grace, now.
            (100, false, 50, 100, "452 4.2.2 The mailbox is full; try again later"),
            (100, false, 50, 149, "452 4.2.2 The mailbox is full; try again later"),
            (100, false, 50, 150, "552 5.2.2 The mailbox is full"),
            (100, false, 0, 100, "552 5.2.2 The mailbox is full"),
            (i64::MAX, false, u64::MAX, 100, "452 4.2.2 The mailbox is full; try again later"),
            (100, true, 50, 100, "552 5.2.3 The message is larger than the mailbox"),
        ];
        for (since, never, grace, now, want) in CASES {
            let e = store::Error::OverQuota(store::Over { since: *since, never: *never });
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(*now);
            assert_eq!(Refusal::of(&e, Duration::from_secs(*grace), now).to_string(), *want, "{since} {grace}");
        }
    }
}
