//! How many connections: in all, and per address.

use crate::config;
use event_listener::Event;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
    time::{Duration, Instant},
};

/// Counts connections in all and per address (IPv6 by /64), shared by all listeners.
#[derive(Clone, Default)]
pub struct Limits(Rc<Counts>);

#[derive(Default)]
struct Counts {
    total: Cell<usize>,
    addresses: RefCell<HashMap<IpAddr, usize>>,
    none_left: Event,
    /// When the last refusal was logged, and how many were not since.
    quiet: Cell<(Option<Instant>, usize)>,
}

/// Which limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Total,
    Address,
}

/// A counted connection; dropping it gives the place back.
pub(super) struct Ticket {
    counts: Rc<Counts>,
    address: IpAddr,
}

impl Limits {
    /// `peer` in canonical form. Limits are read at each call, so a reload counts at once.
    pub(super) fn enter(&self, peer: IpAddr, limits: &config::Limits) -> Result<Ticket, Full> {
        let counts = &self.0;
        if counts.total.get() >= limits.connections {
            return Err(Full::Total);
        }
        let address = group(peer);
        let mut addresses = counts.addresses.borrow_mut();
        let here = addresses.entry(address).or_default();
        let exempt = config::contains(&limits.exempt, peer);
        if !exempt && *here >= limits.connections_per_address {
            if *here == 0 {
                addresses.remove(&address);
            }
            return Err(Full::Address);
        }
        *here += 1;
        counts.total.set(counts.total.get() + 1);
        Ok(Ticket { counts: counts.clone(), address })
    }
    /// Connections now open.
    pub fn active(&self) -> usize {
        self.0.total.get()
    }
    /// Waits until none is open.
    pub async fn empty(&self) {
        while self.active() > 0 {
            let l = self.0.none_left.listen();
            if self.active() > 0 {
                l.await;
            }
        }
    }
    /// Lets one log line through per `every`; `Some(n)`: n were held back before it.
    pub(super) fn may_log(&self, now: Instant, every: Duration) -> Option<usize> {
        let (last, held) = self.0.quiet.get();
        if last.is_some_and(|l| now.saturating_duration_since(l) < every) {
            self.0.quiet.set((last, held.saturating_add(1)));
            return None;
        }
        self.0.quiet.set((Some(now), 0));
        Some(held)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let c = &self.counts;
        c.total.set(c.total.get().saturating_sub(1));
        let mut addresses = c.addresses.borrow_mut();
        if let Some(n) = addresses.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                addresses.remove(&self.address);
            }
        }
        if c.total.get() == 0 {
            c.none_left.notify(usize::MAX);
        }
    }
}

/// One IPv6 customer has at least a /64.
fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        const CASES: &[(&str, u8, &str, bool)] = &[
            ("127.0.0.0", 8, "127.9.9.9", true),
            ("127.0.0.0", 8, "128.0.0.1", false),
            ("192.0.2.7", 32, "192.0.2.7", true),
            ("192.0.2.7", 32, "192.0.2.6", false),
            ("192.0.2.7", 99, "192.0.2.6", false),
            ("0.0.0.0", 0, "203.0.113.9", true),
            ("0.0.0.0", 0, "::1", false),
            ("::", 0, "2001:db8::1", true),
            ("2001:db8::", 32, "2001:db8:ffff::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("::ffff:10.0.0.0", 8, "10.1.1.1", true),
        ];
        for (base, prefix, address, want) in CASES {
            assert_eq!(config::contains(&[(base.parse().unwrap(), *prefix)], address.parse().unwrap()), *want, "{address} in {base}/{prefix}");
        }
    }

    #[test]
    fn refusals_are_logged_once_in_a_while() {
        let limits = Limits::default();
        let (start, every) = (Instant::now(), Duration::from_secs(10));
        assert_eq!(limits.may_log(start, every), Some(0));
        assert_eq!(limits.may_log(start + Duration::from_secs(1), every), None);
        assert_eq!(limits.may_log(start + Duration::from_secs(2), every), None);
        assert_eq!(limits.may_log(start + Duration::from_secs(10), every), Some(2));
    }
}
