//! hickory on smol: an answer, or which kind of none. Knows nothing of mail.
//!
//! RFC 1035, RFC 2308 (NXDOMAIN and NODATA), RFC 3596. The resolver believes the configured servers; it does
//! not validate DNSSEC. `localhost`, 127/8 and ::1 (RFC 6761) are answered inside hickory and never asked;
//! `/etc/hosts` comes before DNS for addresses.

pub mod stub;

mod runtime;
pub use runtime::EXECUTOR;

use crate::config;
use async_rustls::rustls::{self, ClientConfig, RootCertStore};
use hickory_resolver::{
    Hosts, Resolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RData, RecordType},
    },
};
use smol::{Timer, future::FutureExt};
use std::{
    cell::RefCell,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Answers kept; 1000 fat ones cost some 8 MB.
const CACHE: u64 = 512;
/// For one question to one server, unless configured.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Questions after the first went unanswered.
const REPEATS: usize = 1;
/// Questions under way at once.
const ACTIVE: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists, not with this type.
    NoData,
    /// Timeout, SERVFAIL, refused, bogus: may pass.
    Temporary(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("no such name"),
            Self::NoData => f.write_str("no record of this type"),
            Self::Temporary(why) => write!(f, "DNS fails for now: {why}"),
        }
    }
}

/// The resolver with its cache. Every question ends within three times the configured timeout.
#[derive(Clone)]
pub struct Dns(Rc<RefCell<Arc<Asking>>>);

struct Asking {
    resolver: Resolver<runtime::Smol>,
    hosts: Hosts,
    patience: Duration,
}

impl Dns {
    /// Reads `/etc/resolv.conf` (unless servers are configured) and `/etc/hosts`: blocking, at start.
    /// Nothing is answered unless [`EXECUTOR`] is polled.
    pub fn new(config: &config::Dns) -> Result<Self, String> {
        Ok(Self(Rc::new(RefCell::new(Arc::new(Asking::new(config)?)))))
    }
    /// Takes new servers, for all clones; on an error the old ones stay. Forgets the cache.
    pub fn reload(&self, config: &config::Dns) -> Result<(), String> {
        let new = Arc::new(Asking::new(config)?);
        self.0.replace(new);
        Ok(())
    }
    fn asking(&self) -> Arc<Asking> {
        self.0.borrow().clone()
    }
    /// (preference, host), ascending, hosts without the final dot; null MX (RFC 7505) is `[(0, "")]`.
    pub async fn mx(&self, domain: &str) -> Result<Vec<(u16, String)>, Error> {
        let mut found = self.records(&name(domain)?, RecordType::MX, mx).await?;
        found.sort();
        found.dedup();
        Ok(found)
    }
    /// A and AAAA, asked at once; IPv6 and IPv4 alternate. Numeric hosts and `/etc/hosts` need no DNS.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let name = name(host)?;
        let known = self.asking().in_hosts(&name);
        if !known.is_empty() {
            return Ok(known);
        }
        let ask = |kind| self.records(&name, kind, ip);
        let (v6, v4) = smol::future::zip(ask(RecordType::AAAA), ask(RecordType::A)).await;
        both(v6, v4)
    }
    /// Names of an address, without the final dot.
    pub async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, Error> {
        let name = Name::from(address.to_canonical());
        self.records(&name, RecordType::PTR, |d| if let RData::PTR(p) = d { Some(plain(p)) } else { None }).await
    }
    /// Each record's strings in one piece.
    pub async fn txt(&self, domain: &str) -> Result<Vec<Vec<u8>>, Error> {
        self.records(&name(domain)?, RecordType::TXT, |d| if let RData::TXT(t) = d { Some(t.txt_data.concat()) } else { None }).await
    }

    async fn records<T>(&self, name: &Name, kind: RecordType, pick: impl Fn(&RData) -> Option<T>) -> Result<Vec<T>, Error> {
        let asking = self.asking();
        let deadline = async {
            Timer::after(asking.patience).await;
            Err(Error::Temporary("no answer in time".into()))
        };
        // Boxed: hickory's future is large, and every session that asks would carry it.
        let ask = Box::pin(asking.resolver.lookup(name.clone(), kind));
        let lookup: Lookup = async { ask.await.map_err(|e| why_none(&e)) }.or(deadline).await?;
        // An alias' own CNAME record stands among the answers.
        let found: Vec<T> = lookup.answers().iter().filter_map(|r| pick(&r.data)).collect();
        if found.is_empty() { Err(Error::NoData) } else { Ok(found) }
    }
}

impl Asking {
    fn new(config: &config::Dns) -> Result<Self, String> {
        let servers = if config.servers.is_empty() {
            let text = match fs::read_to_string(RESOLV_CONF) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
                text => text.map_err(|e| format!("{RESOLV_CONF}: {e}: name your DNS servers in dns.servers"))?,
            };
            name_servers(&text).into_iter().map(|ip| server(ip, 53)).collect()
        } else {
            config.servers.iter().map(|s| server(s.ip(), s.port())).collect()
        };
        let timeout = if config.timeout.is_zero() { TIMEOUT } else { config.timeout };
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.attempts = REPEATS;
        options.cache_size = CACHE;
        options.max_active_requests = ACTIVE;
        let resolver = Resolver::builder_with_config(ResolverConfig::from_parts(None, vec![], servers), runtime::Smol)
            .with_options(options)
            .with_tls_config(no_tls())
            .build()
            .map_err(|e| format!("DNS resolver: {e}"))?;
        Ok(Self { resolver, hosts: Hosts::from_system().unwrap_or_default(), patience: timeout.saturating_mul(3) })
    }
    fn in_hosts(&self, name: &Name) -> Vec<IpAddr> {
        let ask = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found: Vec<Lookup> = [RecordType::AAAA, RecordType::A].into_iter().filter_map(ask).collect();
        found.iter().flat_map(Lookup::answers).filter_map(|r| ip(&r.data)).collect()
    }
}

/// Of resolv.conf(5) only this matters here: names are always whole. Without any, the one on this host.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok();
    let found: Vec<IpAddr> = text.lines().filter_map(server).collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { found }
}

fn server(ip: IpAddr, port: u16) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
        c.port = port;
        c
    });
    NameServerConfig::new(ip, true, connections.into())
}

/// hickory would read the system's root certificates for DNS over TLS, which is not used: a megabyte.
fn no_tls() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// What is no name at all does not exist. U-labels are for the caller to convert.
fn name(text: &str) -> Result<Name, Error> {
    let mut name = Name::from_ascii(text).map_err(|_| Error::NoSuchName)?;
    // Never with a search domain appended.
    name.set_fqdn(true);
    if name.is_root() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::NoSuchName);
    }
    Ok(name)
}

fn plain(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').map_or_else(|| text.clone(), str::to_owned)
}

fn mx(data: &RData) -> Option<(u16, String)> {
    let RData::MX(mx) = data else { return None };
    Some((mx.preference, plain(&mx.exchange)))
}

fn ip(data: &RData) -> Option<IpAddr> {
    data.ip_addr()
}

/// Half an answer is one; without any, the case that may pass wins.
fn both(v6: Result<Vec<IpAddr>, Error>, v4: Result<Vec<IpAddr>, Error>) -> Result<Vec<IpAddr>, Error> {
    match (v6, v4) {
        (Ok(a), Ok(b)) => {
            let (mut a, mut b, mut all) = (a.into_iter(), b.into_iter(), Vec::new());
            loop {
                let pair = (a.next(), b.next());
                if pair == (None, None) {
                    return Ok(all);
                }
                all.extend(pair.0);
                all.extend(pair.1);
            }
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(Error::Temporary(why)), Err(_)) | (Err(_), Err(Error::Temporary(why))) => Err(Error::Temporary(why)),
        (Err(Error::NoSuchName), Err(Error::NoSuchName)) => Err(Error::NoSuchName),
        _ => Err(Error::NoData),
    }
}

fn why_none(e: &NetError) -> Error {
    match e {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Error::NoSuchName,
            // A referral: this server does not recurse, so it did not say that there is nothing.
            ResponseCode::NoError if none.soa.is_none() && none.ns.as_ref().is_some_and(|ns| !ns.is_empty()) => {
                Error::Temporary("the DNS server refers to others instead of answering".into())
            }
            ResponseCode::NoError => Error::NoData,
            code => Error::Temporary(code.to_string()),
        },
        e => Error::Temporary(e.to_string()),
    }
}

#[cfg(test)]
mod tests;
