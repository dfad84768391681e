//! hickory on smol: an answer, and whether it was signed. Knows nothing of mail.

pub mod stub;

use crate::config;
use std::{net::IpAddr, rc::Rc};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists, not with this type.
    NoData,
    /// Timeout, SERVFAIL, refused, bogus: may pass.
    Temporary(String),
}

#[derive(Clone)]
pub struct Dns {
    _private: Rc<()>,
}

impl Dns {
    pub fn new(config: &config::Dns) -> Result<Self, String> {
        let _ = config;
        todo!("dns room")
    }
    /// (preference, host), ascending, hosts without the final dot; null MX (RFC 7505) is `[(0, "")]`.
    pub async fn mx(&self, domain: &str) -> Result<Vec<(u16, String)>, Error> {
        let _ = domain;
        todo!("dns room")
    }
    /// A and AAAA, asked at once; IPv6 and IPv4 alternate.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let _ = host;
        todo!("dns room")
    }
    pub async fn ptr(&self, address: IpAddr) -> Result<Vec<String>, Error> {
        let _ = address;
        todo!("dns room")
    }
    pub async fn txt(&self, name: &str) -> Result<Vec<Vec<u8>>, Error> {
        let _ = name;
        todo!("dns room")
    }
}
