//! A small authoritative name server over UDP for `gatepost demo` and for tests: a zone of records as text,
//! one `name TYPE data` a line (MX, A, AAAA, TXT, PTR, CNAME). Names outside the zone do not exist.

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, MX, PTR, TXT},
    },
};
use std::{io, net::SocketAddr, rc::Rc};

/// Records of a zone file without classes, TTLs or directives.
#[derive(Debug, Default, Clone)]
pub struct Zone(Vec<(Name, RData)>);

impl Zone {
    /// `Err` names the line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut records = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(';')) {
            records.push(record(line).ok_or_else(|| format!("zone line `{line}`: expected `name TYPE data`"))?);
        }
        Ok(Self(records))
    }

    /// What an authoritative server says: records, NODATA or NXDOMAIN.
    fn answer(&self, query: &Message) -> Message {
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.authoritative = true;
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        let Some(q) = query.queries.first() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return reply;
        };
        reply.add_query(q.clone());
        let mut known = false;
        for (name, data) in self.0.iter().filter(|(name, _)| *name == q.name) {
            known = true;
            if data.record_type() == q.query_type || data.record_type() == RecordType::CNAME {
                reply.add_answer(Record::from_rdata(name.clone(), 60, data.clone()));
            }
        }
        // RFC 8020: a name above an existing one exists.
        known = known || self.0.iter().any(|(name, _)| q.name.zone_of(name));
        if !known {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        reply
    }
}

fn record(line: &str) -> Option<(Name, RData)> {
    let (name, rest) = line.split_once(char::is_whitespace)?;
    let (kind, data) = rest.trim().split_once(char::is_whitespace)?;
    let absolute = |n: &str| Name::from_ascii(format!("{}.", n.trim_end_matches('.'))).ok();
    let data = data.trim();
    let data = match kind.to_ascii_uppercase().as_str() {
        "A" => RData::A(data.parse::<std::net::Ipv4Addr>().ok()?.into()),
        "AAAA" => RData::AAAA(data.parse::<std::net::Ipv6Addr>().ok()?.into()),
        "MX" => {
            let (preference, host) = data.split_once(char::is_whitespace)?;
            let host = if host.trim() == "." { Name::root() } else { absolute(host.trim())? };
            RData::MX(MX::new(preference.parse().ok()?, host))
        }
        "TXT" => RData::TXT(TXT::new(vec![data.trim_matches('"').to_owned()])),
        "PTR" => RData::PTR(PTR(absolute(data)?)),
        "CNAME" => RData::CNAME(CNAME(absolute(data)?)),
        _ => return None,
    };
    Some((absolute(name)?.to_lowercase(), data))
}

/// Answers on an ephemeral loopback port until the future is dropped. `told` hears each question (`MX example.net`).
pub async fn serve(socket: Rc<smol::net::UdpSocket>, zone: Rc<std::cell::RefCell<Zone>>, told: impl Fn(&str)) {
    let mut buf = [0u8; 1500];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buf).await else { continue };
        let Ok(query) = Message::from_vec(&buf[..n]) else { continue };
        if let Some(q) = query.queries.first() {
            told(&format!("{} {}", q.query_type, q.name.to_ascii().trim_end_matches('.')));
        }
        let reply = zone.borrow().answer(&query);
        if let Ok(bytes) = reply.to_vec() {
            let _ = socket.send_to(&bytes, from).await;
        }
    }
}

/// The socket for [`serve`], and its address for `dns.servers`.
pub async fn bind() -> io::Result<(Rc<smol::net::UdpSocket>, SocketAddr)> {
    let socket = smol::net::UdpSocket::bind(("127.0.0.1", 0)).await?;
    let address = socket.local_addr()?;
    Ok((Rc::new(socket), address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::Query;

    #[test]
    fn answers_as_an_authority_does() {
        let zone = Zone::parse("example.net MX 10 mx.example.net\nmx.example.net A 127.0.0.1\nnull.test MX 0 .\n").unwrap();
        const CASES: &[(&str, RecordType, ResponseCode, usize)] = &[
            ("example.net.", RecordType::MX, ResponseCode::NoError, 1),
            ("EXAMPLE.net.", RecordType::MX, ResponseCode::NoError, 1),
            ("example.net.", RecordType::A, ResponseCode::NoError, 0),
            ("net.", RecordType::A, ResponseCode::NoError, 0),
            ("mx.example.net.", RecordType::A, ResponseCode::NoError, 1),
            ("null.test.", RecordType::MX, ResponseCode::NoError, 1),
            ("nobody.test.", RecordType::A, ResponseCode::NXDomain, 0),
        ];
        for (name, kind, code, answers) in CASES {
            let mut m = Message::query();
            m.add_query(Query::query(Name::from_ascii(name).unwrap(), *kind));
            let reply = zone.answer(&m);
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (*code, *answers), "{name} {kind}");
        }
        assert!(Zone::parse("broken").is_err());
    }
}
