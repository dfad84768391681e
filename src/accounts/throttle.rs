//! Counts wrong guesses per address (IPv6: per /64) and per account, in bounded tables that forget.
//!
//! Each count is one instant, as in the generic cell rate algorithm: a guess moves it on by [`HOLD`] / limit, time
//! catches up with it. So nothing is swept, and a limit may change with a reload.

use super::{AccountId, remember::bound};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// `limit` guesses are forgotten after this.
const HOLD: Duration = Duration::from_secs(1800);
/// An account takes this many times as many, or anybody could lock anybody out from a few addresses.
const ACCOUNT_TIMES: u32 = 10;
/// An address that logged in to an account is no stranger to it for so long.
const KNOWN_FOR: Duration = Duration::from_secs(7 * 86_400);
const FIRST_DELAY: Duration = Duration::from_millis(250);
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(4);

/// What is counted per address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Net(IpAddr);

impl Net {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            ip => Self(ip),
        }
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Default)]
pub(super) struct Throttle {
    addresses: HashMap<Net, Instant>,
    accounts: HashMap<AccountId, Instant>,
    known: HashMap<(Net, AccountId), Instant>,
}

impl Throttle {
    /// This address logged in to this account in the last days.
    pub(super) fn is_known(&self, net: Option<Net>, account: &AccountId, now: Instant) -> bool {
        net.is_some_and(|net| self.known.get(&(net, account.clone())).is_some_and(|until| *until > now))
    }

    /// Too many guesses. An account's count holds only for addresses that it does not know.
    pub(super) fn is_full(&self, net: Option<Net>, account: &AccountId, limit: u32, now: Instant) -> bool {
        let address = net.is_some_and(|net| level(self.addresses.get(&net), limit, now) >= limit);
        let many = limit.saturating_mul(ACCOUNT_TIMES);
        address || (level(self.accounts.get(account), many, now) >= many && !self.is_known(net, account, now))
    }

    /// Counts a guess before it is looked at, so that guesses side by side, or cut off, count too.
    pub(super) fn charge(&mut self, net: Option<Net>, account: &AccountId, limit: u32, now: Instant) {
        if let Some(net) = net {
            bound(&mut self.addresses, &net, now, |until| *until);
            let end = self.addresses.entry(net).or_insert(now);
            *end = (*end).max(now) + cost(limit);
        }
        bound(&mut self.accounts, account, now, |until| *until);
        let end = self.accounts.entry(account.clone()).or_insert(now);
        *end = (*end).max(now) + cost(limit.saturating_mul(ACCOUNT_TIMES));
    }

    /// It was right: takes its own charge back, no more, or one good password would buy guesses at others.
    pub(super) fn refund(&mut self, net: Option<Net>, account: &AccountId, limit: u32, now: Instant) {
        let back = |end: &mut Instant, cost| *end = end.checked_sub(cost).unwrap_or(*end);
        if let Some(end) = net.and_then(|net| self.addresses.get_mut(&net)) {
            back(end, cost(limit));
        }
        if let Some(end) = self.accounts.get_mut(account) {
            back(end, cost(limit.saturating_mul(ACCOUNT_TIMES)));
        }
        self.welcome(net, account, now);
    }

    /// A login that worked.
    pub(super) fn welcome(&mut self, net: Option<Net>, account: &AccountId, now: Instant) {
        if let Some(net) = net {
            let key = (net, account.clone());
            bound(&mut self.known, &key, now, |until| *until);
            self.known.insert(key, now + KNOWN_FOR);
        }
    }

    /// How long to keep a wrong guess waiting for its answer: doubles with each one.
    pub(super) fn delay(&self, net: Option<Net>, account: &AccountId, limit: u32, now: Instant) -> Duration {
        let guesses = match net {
            Some(net) => level(self.addresses.get(&net), limit, now),
            None => level(self.accounts.get(account), limit.saturating_mul(ACCOUNT_TIMES), now),
        };
        FIRST_DELAY.saturating_mul(1 << guesses.saturating_sub(1).min(8)).min(LONGEST_DELAY)
    }
}

fn cost(limit: u32) -> Duration {
    HOLD / limit.max(1)
}

/// Guesses that are not forgotten yet.
fn level(end: Option<&Instant>, limit: u32, now: Instant) -> u32 {
    let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
    u32::try_from(left.as_nanos().div_ceil(cost(limit).as_nanos().max(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Option<Net> {
        Some(Net::of(text.parse().unwrap()))
    }

    fn id(name: &str) -> AccountId {
        AccountId(name.into())
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_address_is_stopped_and_forgiven() {
        let (mut t, now, alice) = (Throttle::default(), Instant::now(), id("alice@example.org"));
        for n in 0..10 {
            assert!(!t.is_full(net("192.0.2.1"), &alice, 10, now), "{n}");
            t.charge(net("192.0.2.1"), &id(&format!("{n}@example.org")), 10, now);
        }
        assert!(t.is_full(net("192.0.2.1"), &alice, 10, now));
        assert!(!t.is_full(net("192.0.2.2"), &alice, 10, now));
        // A tenth of half an hour is one guess.
        assert!(t.is_full(net("192.0.2.1"), &alice, 10, now + 2 * MINUTE));
        assert!(!t.is_full(net("192.0.2.1"), &alice, 10, now + 3 * MINUTE));
        t.charge(net("192.0.2.1"), &alice, 10, now + 3 * MINUTE);
        assert!(t.is_full(net("192.0.2.1"), &alice, 10, now + 3 * MINUTE));
        assert_eq!(t.delay(net("192.0.2.1"), &alice, 10, now + 60 * MINUTE), FIRST_DELAY);
    }

    #[test]
    fn an_ipv6_host_is_its_64_and_a_mapped_one_is_ipv4() {
        assert_eq!(net("2001:db8:1:2::1"), net("2001:db8:1:2:ffff::"));
        assert_ne!(net("2001:db8:1:2::1"), net("2001:db8:1:3::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
    }

    #[test]
    fn an_account_is_guarded_against_many_addresses_but_not_against_its_own() {
        let (mut t, now, alice) = (Throttle::default(), Instant::now(), id("alice@example.org"));
        t.welcome(net("198.51.100.1"), &alice, now);
        for n in 0..100u8 {
            t.charge(net(&format!("192.0.2.{n}")), &alice, 10, now);
        }
        assert!(t.is_full(net("203.0.113.1"), &alice, 10, now) && t.is_full(None, &alice, 10, now));
        assert!(!t.is_full(net("203.0.113.1"), &id("bob@example.org"), 10, now));
        assert!(!t.is_full(net("198.51.100.1"), &alice, 10, now));
        assert!(t.is_full(net("198.51.100.1"), &alice, 10, now + KNOWN_FOR) == t.is_full(None, &alice, 10, now + KNOWN_FOR));
    }

    #[test]
    fn a_right_password_takes_back_its_own_charge_only() {
        let (mut t, now, alice) = (Throttle::default(), Instant::now(), id("alice@example.org"));
        for _ in 0..9 {
            t.charge(net("192.0.2.1"), &id("bob@example.org"), 10, now);
        }
        for _ in 0..50 {
            t.charge(net("192.0.2.1"), &alice, 10, now);
            t.refund(net("192.0.2.1"), &alice, 10, now);
        }
        assert!(!t.is_full(net("192.0.2.1"), &alice, 10, now));
        t.charge(net("192.0.2.1"), &id("bob@example.org"), 10, now);
        assert!(t.is_full(net("192.0.2.1"), &alice, 10, now));
    }

    #[test]
    fn answers_come_later_with_each_guess() {
        let (mut t, now, alice) = (Throttle::default(), Instant::now(), id("alice@example.org"));
        let delays: Vec<u128> = (0..7)
            .map(|_| {
                t.charge(net("192.0.2.1"), &alice, 10, now);
                t.delay(net("192.0.2.1"), &alice, 10, now).as_millis()
            })
            .collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 4000, 4000]);
    }

    #[test]
    fn networks() {
        const CASES: &[(&str, u8, &str, bool)] = &[
            ("192.0.2.0", 24, "192.0.2.77", true),
            ("192.0.2.0", 24, "192.0.3.1", false),
            ("192.0.2.0", 24, "::ffff:192.0.2.77", true),
            ("0.0.0.0", 0, "203.0.113.1", true),
            ("0.0.0.0", 0, "2001:db8::1", false),
            ("::", 0, "2001:db8::1", true),
            ("2001:db8::", 32, "2001:db8:ffff::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("::1", 128, "::1", true),
            ("127.0.0.1", 32, "127.0.0.2", false),
        ];
        for (network, bits, address, want) in CASES {
            assert_eq!(
                crate::config::contains(&[(network.parse().unwrap(), *bits)], address.parse().unwrap()),
                *want,
                "{address} in {network}/{bits}"
            );
        }
    }
}
