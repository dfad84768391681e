//! [`QueueId`]: the clock in microseconds, never the same twice.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Names one message from MAIL to its last attempt: 10 characters of Crockford's base 32, never repeated on
/// this host (clock and counter), in every log line and SMTP reply. Ids sort by time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(Arc<str>);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 10;
/// 2025-01-01 in seconds of UNIX time; 50 bits of microseconds from there last until 2060.
const EPOCH: u64 = 1_735_689_600;
const MASK: u64 = (1 << 50) - 1;

/// The last number given out. Should the clock stand still or step back, ids go on from here; the spool lifts it
/// above every id that it finds on disk, so that holds across restarts too.
static LAST: AtomicU64 = AtomicU64::new(0);

impl QueueId {
    pub fn new(now: SystemTime) -> Self {
        let micros = now.duration_since(UNIX_EPOCH + Duration::from_secs(EPOCH)).map_or(0, |d| d.as_micros() as u64) & MASK;
        let before = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(micros.max(last + 1))).unwrap_or_else(|last| last);
        Self::from_number(micros.max(before + 1) & MASK)
    }
    /// Also takes what a person may type: lower case, and `I L O` for `1 1 0` as Crockford says.
    pub fn parse(text: &str) -> Option<Self> {
        Self::number(text).map(Self::from_number)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Later ids are greater than this one.
    pub(super) fn seen(&self) {
        if let Some(n) = Self::number(&self.0) {
            LAST.fetch_max(n, Ordering::SeqCst);
        }
    }
    fn number(text: &str) -> Option<u64> {
        if text.len() != LENGTH {
            return None;
        }
        text.bytes().try_fold(0, |n, b| {
            let b = match b.to_ascii_uppercase() {
                b'I' | b'L' => b'1',
                b'O' => b'0',
                b => b,
            };
            let digit = ALPHABET.iter().position(|a| *a == b)?;
            Some(n << 5 | digit as u64)
        })
    }
    fn from_number(n: u64) -> Self {
        let text: String = (0..LENGTH).rev().map(|i| char::from(ALPHABET[(n >> (5 * i)) as usize & 31])).collect();
        Self(text.into())
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_repeat_though_the_clock_stands_or_steps_back() {
        let now = UNIX_EPOCH + Duration::from_secs(EPOCH + 86_400);
        let mut last = QueueId::new(now);
        for n in 0..1000 {
            let id = QueueId::new(now - Duration::from_secs(n));
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        assert!(QueueId::new(UNIX_EPOCH) > last, "a clock before our epoch");
    }

    #[test]
    fn ids_go_on_above_what_the_spool_holds() {
        let found = QueueId::parse("0ZZZZZZZZZ").expect("an id");
        found.seen();
        assert!(QueueId::new(UNIX_EPOCH) > found);
    }

    #[test]
    fn parse() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("7DK2M9QX4R", Some("7DK2M9QX4R")),
            ("7dk2m9qx4r", Some("7DK2M9QX4R")),
            ("OIL2M9QX4R", Some("0112M9QX4R")),
            ("7DK2M9QX4U", None),
            ("7DK2M9QX4", None),
            ("7DK2M9QX4RR", None),
            ("../../etc/", None),
            ("7DK2M9QXé", None),
            ("", None),
        ];
        for (text, want) in CASES {
            assert_eq!(QueueId::parse(text).as_ref().map(QueueId::as_str), *want, "{text:?}");
        }
    }
}
