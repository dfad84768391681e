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

/// Is `address` in one of these networks?
pub(super) fn contains(networks: &[(IpAddr, u8)], address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let (there, family) = bits(address);
    networks.iter().any(|(network, length)| {
        let (network, of) = bits(*network);
        let mask = if *length == 0 { 0 } else { u128::MAX << (128 - u32::from(*length).min(128)) };
        of == family && (there ^ network) & mask == 0
    })
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
