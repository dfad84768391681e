//! What can be seen of this host from within: its addresses, port 25, what DNS says. Never a reason to fail.

use crate::{
    config,
    dns::{self, Dns},
};
use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

/// The addresses that packets to the outside would carry, as far as they are public. Nothing is sent.
pub(super) fn addresses() -> Vec<IpAddr> {
    // Documentation prefixes would have no route on some hosts; any public address will do.
    let toward: [SocketAddr; 2] = [SocketAddr::from(([9, 9, 9, 9], 53)), SocketAddr::from(([0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe], 53))];
    let from = |to: SocketAddr| {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|a| a.ip())
    };
    toward.into_iter().filter_map(from).filter(is_public).collect()
}

fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_documentation() || shared(*ip)),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// RFC 6598: behind a carrier's address translation.
fn shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

/// Is port 25 free for us? `None`: yes.
pub(super) fn port_25() -> Option<String> {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, 25)) {
        Ok(_) => None,
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            Some("port 25 is taken by another program (ss -ltnp 'sport = :25' names it): stop that first".into())
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Some("port 25 is for root only: run gatepost as a service, or listen elsewhere".into()),
        Err(e) => Some(format!("port 25 cannot be used: {e}")),
    }
}

/// Asks DNS about this host: what is missing or wrong. Takes seconds at most.
pub(super) fn look_up(config: &config::Dns, hostname: &str, addresses: &[IpAddr]) -> Vec<String> {
    let Ok(dns) = Dns::new(config) else { return vec!["DNS cannot be asked from here: /etc/resolv.conf cannot be read".into()] };
    let ask = async {
        let mut said = Vec::new();
        let found = match dns.addresses(hostname).await {
            Ok(found) => found,
            Err(dns::Error::Temporary(_)) => return vec!["DNS does not answer here: check A, AAAA and PTR records later".to_owned()],
            Err(_) => Vec::new(),
        };
        let here: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        if found.is_empty() {
            said.push(format!("{hostname} has no address in DNS yet"));
        } else if !here.is_empty() && !found.iter().any(|a| here.contains(a)) {
            said.push(format!("{hostname} leads to {} in DNS, and this host seems to be {}", join(&found), join(addresses)));
        }
        let public = if addresses.is_empty() { found } else { addresses.to_vec() };
        for address in public {
            match dns.ptr(address).await {
                Ok(names) if names.iter().any(|n| n.eq_ignore_ascii_case(hostname)) => {}
                Ok(names) => {
                    said.push(format!("the PTR record of {address} names {}, not {hostname}: change it where the address is rented", names.join(" ")))
                }
                Err(dns::Error::Temporary(_)) => said.push(format!("DNS does not say what {address} is called")),
                Err(_) => said
                    .push(format!("{address} has no PTR record, so others will refuse its mail: set it to {hostname} where the address is rented")),
            }
        }
        said
    };
    let late = async {
        smol::Timer::after(Duration::from_secs(10)).await;
        vec!["DNS did not answer in time: check A, AAAA and PTR records later".to_owned()]
    };
    smol::block_on(dns::EXECUTOR.run(smol::future::or(ask, late)))
}

fn join(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_public_addresses_go_into_records() {
        const CASES: &[(&str, bool)] = &[
            ("9.9.9.9", true),
            ("10.1.2.3", false),
            ("192.168.1.2", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("127.0.0.1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("2620:fe::fe", true),
        ];
        for (address, want) in CASES {
            assert_eq!(super::is_public(&address.parse().unwrap()), *want, "{address}");
        }
    }
}
