//! Where: which hosts take mail for an address, in what order (RFC 5321 §5, RFC 7505).

use crate::{
    config::{Config, Route, RouteTls, Secret},
    dns::{self, Dns},
    message::Address,
    smtpc::Reply,
};
use std::net::{IpAddr, Ipv6Addr};

/// One transaction can serve all recipients with the same destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    /// `[[route]]` number n, which has a host.
    Via(usize),
    /// The MX hosts of a domain, or an address literal; `[[route]]` number n may ask for TLS.
    Domain(String, Option<usize>),
}

/// A host to try.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// A name without brackets, or an IP address.
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) tls: RouteTls,
    pub(super) auth: Option<(String, Secret)>,
}

/// More hosts of one domain are not tried in one attempt.
const MAX_HOSTS: usize = 10;
/// Nor more addresses of one host.
const MAX_ADDRESSES: usize = 4;

impl Destination {
    /// By the first route that matches.
    pub(super) fn of(config: &Config, sender: Option<&Address>, to: &Address) -> Self {
        match config.routes.iter().enumerate().find(|(_, r)| matches(r, sender, to)) {
            Some((n, r)) if r.via.is_some() => Self::Via(n),
            other => Self::Domain(to.domain.clone(), other.map(|(n, _)| n)),
        }
    }

    /// The hosts in the order to try. `Err`: 5xx when there is nowhere to go, 4xx when that may pass.
    pub(super) async fn hosts(&self, config: &Config, dns: &Dns, seed: u64) -> Result<Vec<Host>, Reply> {
        match self {
            Self::Via(n) => {
                // The route was there when the attempt began, and so was this configuration.
                let route = config.routes.get(*n);
                let Some((route, (host, port))) = route.and_then(|r| Some((r, r.via.clone()?))) else { return Ok(Vec::new()) };
                let auth = route.user.clone().zip(route.password.clone());
                Ok(vec![Host { name: bare(&host), port, tls: route.tls, auth }])
            }
            Self::Domain(domain, n) => {
                let tls = n.and_then(|n| config.routes.get(n)).map_or(RouteTls::May, |r| r.tls);
                let names = if domain.starts_with('[') {
                    vec![
                        literal(domain)
                            .ok_or_else(|| Reply::new(550, (5, 1, 2), format!("{domain} is not an address that can be reached")))?
                            .to_string(),
                    ]
                } else {
                    exchangers(&config.hostname, domain, dns, seed).await?
                };
                Ok(names.into_iter().map(|name| Host { name, port: config.smtp.mx_port, tls, auth: None }).collect())
            }
        }
    }
}

impl Host {
    pub(super) async fn addresses(&self, dns: &Dns) -> Result<Vec<IpAddr>, String> {
        // Some publish an address where the name of a host belongs; everybody else delivers to it.
        if let Ok(ip) = self.name.parse() {
            return Ok(vec![ip]);
        }
        let mut found = dns.addresses(&self.name).await.map_err(|e| match e {
            dns::Error::NoSuchName | dns::Error::NoData => format!("{} has no address", self.name),
            dns::Error::Temporary(why) => format!("address of {}: {why}", self.name),
        })?;
        found.truncate(MAX_ADDRESSES);
        Ok(found)
    }
}

fn matches(route: &Route, sender: Option<&Address>, to: &Address) -> bool {
    let to_matches = route.to.is_empty() || route.to.iter().any(|p| domain_matches(p, &to.domain));
    let from_matches = route.from.is_empty()
        || sender.is_some_and(|s| {
            let whole = s.to_string();
            route.from.iter().any(|p| if p.contains('@') { p.eq_ignore_ascii_case(&whole) } else { domain_matches(p, &s.domain) })
        });
    to_matches && from_matches
}

/// `example.org` is itself, `.example.org` also all below it, `*` any.
fn domain_matches(pattern: &str, domain: &str) -> bool {
    match pattern.strip_prefix('.') {
        _ if pattern == "*" => true,
        None => pattern.eq_ignore_ascii_case(domain),
        Some(base) => {
            let (p, d) = (pattern.to_ascii_lowercase(), domain.to_ascii_lowercase());
            d == base.to_ascii_lowercase() || d.ends_with(&p)
        }
    }
}

async fn exchangers(own: &str, domain: &str, dns: &Dns, seed: u64) -> Result<Vec<String>, Reply> {
    match dns.mx(domain).await {
        Ok(list) => order(own, domain, list, seed),
        // RFC 5321 §5.1: only when there is no MX is the domain its own host; an error is not "no MX".
        Err(dns::Error::NoData) => match dns.addresses(domain).await {
            Ok(_) => Ok(vec![domain.to_owned()]),
            Err(dns::Error::NoData | dns::Error::NoSuchName) => {
                Err(Reply::new(550, (5, 1, 2), format!("{domain} takes no mail: it has neither MX nor address")))
            }
            Err(dns::Error::Temporary(why)) => Err(Reply::new(451, (4, 4, 3), format!("address of {domain}: {why}"))),
        },
        Err(dns::Error::NoSuchName) => Err(Reply::new(550, (5, 1, 2), format!("There is no domain {domain}"))),
        Err(dns::Error::Temporary(why)) => Err(Reply::new(451, (4, 4, 3), format!("MX of {domain}: {why}"))),
    }
}

/// By preference, equal ones shuffled by `seed`; ourselves and what is not preferred to us dropped (RFC 5321 §5.1).
fn order(own: &str, domain: &str, mut list: Vec<(u16, String)>, mut seed: u64) -> Result<Vec<String>, Reply> {
    if !list.is_empty() && list.iter().all(|(_, host)| host.is_empty() || host == ".") {
        return Err(Reply::new(556, (5, 1, 10), format!("{domain} does not take mail (null MX)")));
    }
    list.retain(|(_, host)| !host.is_empty() && host != ".");
    if let Some(ours) = list.iter().filter(|(_, host)| host.trim_end_matches('.').eq_ignore_ascii_case(own)).map(|(p, _)| *p).min() {
        list.retain(|(p, _)| *p < ours);
    }
    if list.is_empty() {
        return Err(Reply::new(554, (5, 4, 6), format!("Mail for {domain} comes back to this host, which is not configured for it")));
    }
    let mut keyed: Vec<(u16, u64, String)> = Vec::with_capacity(list.len());
    for (preference, host) in list {
        // Knuth's generator; its high bits are good enough to spread load.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        keyed.push((preference, seed >> 33, host.trim_end_matches('.').to_owned()));
    }
    keyed.sort();
    keyed.truncate(MAX_HOSTS);
    Ok(keyed.into_iter().map(|(_, _, host)| host).collect())
}

/// `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
fn literal(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inside.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inside.get(5..)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => inside.parse().ok(),
    }
}

/// A smarthost may be written in brackets, as other mailers do to say "no MX".
fn bare(host: &str) -> String {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &[&str], from: &[&str]) -> Route {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        Route { to: own(to), from: own(from), via: None, tls: RouteTls::May, user: None, password: None, password_file: None }
    }

    #[test]
    fn routes_match() {
        type Case = (&'static [&'static str], &'static [&'static str], Option<&'static str>, &'static str, bool);
        const CASES: &[Case] = &[
            (&[], &[], None, "x@b.example", true),
            (&["*"], &[], None, "x@b.example", true),
            (&["b.example"], &[], None, "x@B.example", true),
            (&["b.example"], &[], None, "x@a.b.example", false),
            (&[".b.example"], &[], None, "x@a.b.example", true),
            (&[".b.example"], &[], None, "x@b.example", true),
            (&[".b.example"], &[], None, "x@bb.example", false),
            (&["c.example", "b.example"], &[], None, "x@b.example", true),
            (&[], &["a.example"], Some("s@a.example"), "x@b.example", true),
            (&[], &["a.example"], None, "x@b.example", false),
            (&[], &["s@a.example"], Some("S@a.example"), "x@b.example", true),
            (&[], &["t@a.example"], Some("s@a.example"), "x@b.example", false),
            (&["b.example"], &["a.example"], Some("s@a.example"), "x@b.example", true),
            (&["b.example"], &["z.example"], Some("s@a.example"), "x@b.example", false),
        ];
        for (to, from, sender, rcpt, want) in CASES {
            let sender = sender.and_then(Address::parse);
            let rcpt = Address::parse(rcpt).expect("an address");
            assert_eq!(matches(&route(to, from), sender.as_ref(), &rcpt), *want, "{to:?} {from:?} {sender:?} {rcpt}");
        }
    }

    #[test]
    fn hosts_come_in_order() {
        type Case = (&'static [(u16, &'static str)], Result<&'static [&'static str], (u16, (u8, u8, u8))>);
        const CASES: &[Case] = &[
            (&[(20, "b."), (10, "a")], Ok(&["a", "b"])),
            (&[(0, "")], Err((556, (5, 1, 10)))),
            (&[(0, ".")], Err((556, (5, 1, 10)))),
            (&[(0, ""), (10, "a")], Ok(&["a"])),
            (&[(10, "a"), (20, "Mail.Example.org."), (20, "b"), (30, "c")], Ok(&["a"])),
            (&[(10, "mail.example.org"), (20, "c")], Err((554, (5, 4, 6)))),
            (&[(10, "192.0.2.1")], Ok(&["192.0.2.1"])),
        ];
        for (list, want) in CASES {
            let list = list.iter().map(|(p, h)| (*p, (*h).to_owned())).collect();
            let got = order("mail.example.org", "b.example", list, 7);
            match want {
                Ok(hosts) => assert_eq!(got.as_deref(), Ok(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>().as_slice())),
                Err((code, enhanced)) => {
                    let r = got.expect_err("nowhere to go");
                    assert_eq!((r.code, r.enhanced), (*code, Some(*enhanced)));
                }
            }
        }
    }

    #[test]
    fn equal_hosts_share_the_load() {
        let list = || vec![(10, "a".to_owned()), (10, "b".to_owned()), (5, "first".to_owned())];
        let firsts: Vec<String> = (0..40).map(|s| order("x", "d", list(), s * 77).expect("hosts")[1].clone()).collect();
        assert!(firsts.iter().any(|h| h == "a") && firsts.iter().any(|h| h == "b"));
        assert!((0..40).all(|s| order("x", "d", list(), s).expect("hosts")[0] == "first"));
    }

    #[test]
    fn literals() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("[192.0.2.1]", Some("192.0.2.1")),
            ("[IPv6:2001:db8::1]", Some("2001:db8::1")),
            ("[ipv6:2001:db8::1]", Some("2001:db8::1")),
            ("[192.0.2.999]", None),
            ("[x]", None),
            ("[]", None),
            ("192.0.2.1", None),
            ("[IPv6:é]", None),
        ];
        for (text, want) in CASES {
            assert_eq!(literal(text).map(|i| i.to_string()).as_deref(), *want, "{text}");
        }
    }
}
