//! Socket activation: listeners that systemd bound for us (sd_listen_fds(3)), found by their address.

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

/// The listeners handed over.
#[derive(Debug, Default)]
pub struct Activated {
    listeners: Vec<Handed>,
}

#[derive(Debug)]
struct Handed {
    address: SocketAddr,
    /// Bound to `[::]` and takes IPv4 as well.
    both_families: bool,
    /// `None` once taken.
    listener: Option<TcpListener>,
}

/// What activation has for one configured address.
#[derive(Debug)]
pub enum Taken {
    Listener(TcpListener),
    /// A listener already taken serves this address too (systemd's `ListenStream=25` is `[::]` and `0.0.0.0` in one).
    Covered,
    /// Bind it yourself.
    Nothing,
}

impl Activated {
    /// Takes LISTEN_FDS out of the environment: once, before any thread. What is no TCP listener is left alone.
    pub fn from_env() -> io::Result<Self> {
        let mut fds = ListenFd::from_env();
        let listeners = (0..fds.len()).filter_map(|i| fds.take_tcp_listener(i).ok().flatten());
        Self::of(listeners)
    }
    fn of(listeners: impl Iterator<Item = TcpListener>) -> io::Result<Self> {
        let handed = |listener: TcpListener| {
            let address = listener.local_addr()?;
            let wildcard = address.is_ipv6() && address.ip().is_unspecified();
            let both_families = wildcard && !getsockopt(&listener, sockopt::Ipv6V6Only)?;
            Ok(Handed { address, both_families, listener: Some(listener) })
        };
        Ok(Self { listeners: listeners.map(handed).collect::<io::Result<_>>()? })
    }
    /// The listener for a configured address: the same one, or one of the same port that covers it.
    pub fn take(&mut self, address: SocketAddr) -> Taken {
        let exact = |h: &Handed| h.address == address;
        let covers = |h: &Handed| h.address.port() == address.port() && h.covers(address.ip());
        let Some(i) = self.listeners.iter().position(exact).or_else(|| self.listeners.iter().position(covers)) else { return Taken::Nothing };
        match self.listeners.get_mut(i).and_then(|h| h.listener.take()) {
            Some(listener) => Taken::Listener(listener),
            None => Taken::Covered,
        }
    }
    /// Addresses nobody asked for: a socket unit that does not fit the configuration.
    pub fn unused(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter(|h| h.listener.is_some()).map(|h| h.address)
    }
}

/// Does this host speak IPv6 at all? Booted with ipv6.disable=1, or in a container without, it does not.
pub fn has_ipv6() -> bool {
    TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

impl Handed {
    fn covers(&self, ip: IpAddr) -> bool {
        self.address.ip().is_unspecified() && (self.both_families || self.address.is_ipv6() == ip.is_ipv6())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(l: &TcpListener, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), l.local_addr().unwrap().port())
    }

    #[test]
    fn listeners_are_found_by_address() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let (a, b, c) = (port(&one, "127.0.0.1"), port(&any, "127.0.0.1"), port(&one, "127.0.0.2"));
        let mut activated = Activated::of([one, any].into_iter()).unwrap();
        assert_eq!(activated.unused().count(), 2);
        assert!(matches!(activated.take(c), Taken::Nothing));
        assert!(matches!(activated.take(a), Taken::Listener(l) if l.local_addr().unwrap() == a));
        assert!(matches!(activated.take(b), Taken::Listener(_)));
        assert!(matches!(activated.take(b), Taken::Covered));
        assert_eq!(activated.unused().count(), 0);
    }

    #[test]
    fn one_socket_for_both_families_is_taken_once() {
        let Ok(both) = TcpListener::bind("[::]:0") else { return };
        let (v4, v6) = (port(&both, "0.0.0.0"), port(&both, "::"));
        let mut activated = Activated::of([both].into_iter()).unwrap();
        assert!(matches!(activated.take(v4), Taken::Listener(_)));
        assert!(matches!(activated.take(v6), Taken::Covered));
    }
}
