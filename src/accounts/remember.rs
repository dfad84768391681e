//! Logins that worked a moment ago, and guesses that did not: MACs under a key that lives as long as the process' book.
//!
//! A mail program logs in again every few minutes; it need not pay for a slow hash each time. A password is never kept.

use super::AccountId;
use ring::hmac;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a verified password is known without its hash.
const RIGHT_FOR: Duration = Duration::from_secs(600);
/// How long the same wrong guess counts once only: a device with an old password must not lock its household out.
const WRONG_FOR: Duration = Duration::from_secs(1800);
/// Entries in each table.
const MAX: usize = 10_000;

pub(super) struct Remembered {
    key: Option<hmac::Key>,
    right: Mutex<HashMap<AccountId, (hmac::Tag, Instant)>>,
    wrong: Mutex<HashMap<[u8; 16], Instant>>,
}

impl Remembered {
    pub(super) fn new() -> Self {
        // Without random numbers nothing is remembered; TLS will not work then either.
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).ok();
        Self { key, right: Mutex::default(), wrong: Mutex::default() }
    }

    pub(super) fn is_right(&self, account: &AccountId, password: &str, now: Instant) -> bool {
        let Some(key) = &self.key else { return false };
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((tag, until)) = right.get(account) else { return false };
        *until > now && hmac::verify(key, &message("right", &account.0, password), tag.as_ref()).is_ok()
    }

    pub(super) fn right(&self, account: &AccountId, password: &str, now: Instant) {
        let Some(key) = &self.key else { return };
        let tag = hmac::sign(key, &message("right", &account.0, password));
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        bound(&mut right, account, now, |(_, until)| *until);
        right.insert(account.clone(), (tag, now + RIGHT_FOR));
    }

    /// `who`: where the guess came from and whom it was for.
    pub(super) fn is_wrong(&self, who: &str, password: &str, now: Instant) -> bool {
        let Some(tag) = self.short(who, password) else { return false };
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get(&tag).is_some_and(|until| *until > now)
    }

    pub(super) fn wrong(&self, who: &str, password: &str, now: Instant) {
        let Some(tag) = self.short(who, password) else { return };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        bound(&mut wrong, &tag, now, |until| *until);
        wrong.insert(tag, now + WRONG_FOR);
    }

    fn short(&self, who: &str, password: &str) -> Option<[u8; 16]> {
        let tag = hmac::sign(self.key.as_ref()?, &message("wrong", who, password));
        tag.as_ref().first_chunk().copied()
    }
}

/// No two of them alike: the name's length stands before it.
fn message(kind: &str, name: &str, password: &str) -> Vec<u8> {
    format!("{kind} {} {name} {password}", name.len()).into_bytes()
}

/// Makes room for `key`: what is over goes, then the quarter that would go first.
pub(super) fn bound<K: std::hash::Hash + Eq + Clone, V>(table: &mut HashMap<K, V>, key: &K, now: Instant, until: impl Fn(&V) -> Instant) {
    if table.len() < MAX || table.contains_key(key) {
        return;
    }
    table.retain(|_, v| until(v) > now);
    if table.len() < MAX {
        return;
    }
    let mut ends: Vec<Instant> = table.values().map(&until).collect();
    let (_, quarter, _) = ends.select_nth_unstable(MAX / 4);
    let quarter = *quarter;
    table.retain(|_, v| until(v) > quarter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_stays_bounded_and_keeps_the_youngest() {
        let now = Instant::now();
        let mut table = HashMap::new();
        for n in 0..3 * MAX as u64 {
            bound(&mut table, &n, now, |until| *until);
            table.insert(n, now + Duration::from_secs(1 + n));
            assert!(table.len() <= MAX);
        }
        assert!(table.contains_key(&(3 * MAX as u64 - 1)) && !table.contains_key(&0));
        // All over: all gone.
        bound(&mut table, &u64::MAX, now + Duration::from_secs(1 << 20), |until| *until);
        assert!(table.len() < MAX);
    }

    #[test]
    fn remembers_for_minutes_only_the_same_pair() {
        let (r, now) = (Remembered::new(), Instant::now());
        let (alice, bob) = (AccountId("alice@example.org".into()), AccountId("bob@example.org".into()));
        r.right(&alice, "sesame", now);
        assert!(r.is_right(&alice, "sesame", now));
        assert!(!r.is_right(&alice, "Sesame", now) && !r.is_right(&bob, "sesame", now));
        assert!(!r.is_right(&alice, "sesame", now + RIGHT_FOR));
        r.right(&alice, "new", now);
        assert!(!r.is_right(&alice, "sesame", now) && r.is_right(&alice, "new", now));
        r.wrong("192.0.2.1 alice", "x", now);
        assert!(r.is_wrong("192.0.2.1 alice", "x", now) && !r.is_wrong("192.0.2.1 alice", "y", now) && !r.is_wrong("192.0.2.2 alice", "x", now));
        assert!(!r.is_wrong("192.0.2.1 alice", "x", now + WRONG_FOR));
    }
}
