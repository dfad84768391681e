use super::*;
use hickory_resolver::proto::{
    op::Message,
    rr::{
        Record,
        rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TXT},
    },
};
use smol::Async;
use std::{
    cell::Cell,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    time::Instant,
};

fn n(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// One name of the responder's zone: answers by type, or a response code.
fn zone(name: &str, kind: RecordType) -> Result<Vec<RData>, ResponseCode> {
    let mx = |p, host: &str| RData::MX(MX::new(p, n(host)));
    let all = match name {
        "example.org." => vec![
            mx(20, "Backup.Example.ORG."),
            mx(10, "mx.example.org."),
            mx(10, "mx.example.org."),
            RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all".into()])),
            RData::TXT(TXT::new(vec!["other".into()])),
        ],
        "null.example.org." => vec![mx(0, ".")],
        "alias.example.org." => vec![RData::CNAME(CNAME(n("example.org."))), mx(10, "mx.example.org.")],
        "mx.example.org." => vec![
            RData::A(A(Ipv4Addr::new(192, 0, 2, 1))),
            RData::A(A(Ipv4Addr::new(192, 0, 2, 2))),
            RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
        ],
        "only4.example.org." => vec![RData::A(A(Ipv4Addr::new(192, 0, 2, 3)))],
        "1.2.0.192.in-addr.arpa." => vec![RData::PTR(PTR(n("MX.example.org.")))],
        "broken.example.org." => return Err(ResponseCode::ServFail),
        "refused.example.org." => return Err(ResponseCode::Refused),
        "half.example.org." if kind == RecordType::AAAA => return Err(ResponseCode::ServFail),
        "half.example.org." => vec![RData::A(A(Ipv4Addr::new(192, 0, 2, 4)))],
        "referral.example.org." => vec![],
        _ => return Err(ResponseCode::NXDomain),
    };
    Ok(all.into_iter().filter(|d| d.record_type() == kind || d.record_type() == RecordType::CNAME).collect())
}

fn answer(question: &Message) -> Message {
    let query = question.queries[0].clone();
    let name = query.name().to_lowercase();
    let mut reply = question.clone().into_response();
    reply.additionals.clear();
    reply.metadata.recursion_available = true;
    match zone(&name.to_ascii(), query.query_type()) {
        Err(code) => reply.metadata.response_code = code,
        Ok(data) => reply.answers = data.into_iter().map(|d| Record::from_rdata(name.clone(), 60, d)).collect(),
    }
    if name.to_ascii() == "referral.example.org." {
        reply.authorities.push(Record::from_rdata(name, 60, RData::NS(NS(n("ns.example.net.")))));
    } else if reply.answers.is_empty() {
        reply.authorities.push(Record::from_rdata(n("example.org."), 60, RData::SOA(SOA::new(n("ns."), n("root."), 1, 1, 1, 1, 60))));
    }
    reply
}

/// Runs `test` against a name server of its own; gives the number of questions it was asked.
fn with_zone<T>(test: impl AsyncFnOnce(Dns, &Cell<usize>) -> T) -> T {
    let socket = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
    let config = config::Dns { servers: vec![socket.get_ref().local_addr().unwrap()], timeout: Duration::from_secs(5) };
    let asked = Cell::new(0);
    let serve = async {
        let mut buffer = [0; 4096];
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
            asked.set(asked.get() + 1);
            let reply = answer(&Message::from_vec(&buffer[..len]).unwrap());
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    };
    let dns = Dns::new(&config).unwrap();
    smol::block_on(EXECUTOR.run(test(dns, &asked).or(serve)))
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

#[test]
fn mail_exchangers_come_in_order() {
    with_zone(async |dns, _| {
        let two = vec![(10, "mx.example.org".to_owned()), (20, "backup.example.org".to_owned())];
        for name in ["example.org", "EXAMPLE.org", "example.org."] {
            assert_eq!(dns.mx(name).await, Ok(two.clone()), "{name}");
        }
        assert_eq!(dns.mx("alias.example.org").await, Ok(vec![(10, "mx.example.org".into())]));
        assert_eq!(dns.mx("null.example.org").await, Ok(vec![(0, String::new())]));
        assert_eq!(dns.mx("mx.example.org").await, Err(Error::NoData));
        assert_eq!(dns.mx("nowhere.example.org").await, Err(Error::NoSuchName));
    });
}

#[test]
fn addresses_alternate_and_half_an_answer_counts() {
    with_zone(async |dns, asked| {
        assert_eq!(dns.addresses("mx.example.org").await, Ok(ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"])));
        assert_eq!(dns.addresses("only4.example.org").await, Ok(ips(&["192.0.2.3"])));
        assert_eq!(dns.addresses("half.example.org").await, Ok(ips(&["192.0.2.4"])));
        assert_eq!(dns.addresses("example.org").await, Err(Error::NoData));
        assert_eq!(dns.addresses("nowhere.example.org").await, Err(Error::NoSuchName));
        assert!(matches!(dns.addresses("broken.example.org").await, Err(Error::Temporary(_))));
        let before = asked.get();
        for (host, want) in [("192.0.2.9", ips(&["192.0.2.9"])), ("2001:db8::9", ips(&["2001:db8::9"]))] {
            assert_eq!(dns.addresses(host).await, Ok(want));
        }
        assert!(dns.addresses("localhost").await.unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
        assert_eq!(asked.get(), before, "asked about what needs no asking");
    });
}

#[test]
fn other_records() {
    with_zone(async |dns, asked| {
        assert_eq!(dns.txt("example.org").await, Ok(vec![b"v=spf1 -all".to_vec(), b"other".to_vec()]));
        let before = asked.get();
        assert_eq!(dns.txt("example.org").await.unwrap().len(), 2);
        assert_eq!(asked.get(), before, "the cache was not used");
        assert_eq!(dns.ptr("192.0.2.1".parse().unwrap()).await, Ok(vec!["mx.example.org".into()]));
        assert_eq!(dns.ptr("::ffff:192.0.2.1".parse().unwrap()).await, Ok(vec!["mx.example.org".into()]));
        assert_eq!(dns.ptr("192.0.2.77".parse().unwrap()).await, Err(Error::NoSuchName));
    });
}

#[test]
fn what_may_pass_is_temporary() {
    with_zone(async |dns, _| {
        for name in ["broken.example.org", "refused.example.org", "referral.example.org"] {
            let got = dns.mx(name).await;
            assert!(matches!(got, Err(Error::Temporary(_))), "{name}: {got:?}");
        }
    });
}

#[test]
fn what_is_no_name_does_not_exist() {
    let long = "x".repeat(64);
    let longer = "a.".repeat(200);
    with_zone(async |dns, asked| {
        for name in ["", ".", "a..b", &long, &longer, "no name\u{e9}"] {
            assert_eq!(dns.mx(name).await, Err(Error::NoSuchName), "{name:?}");
            assert_eq!(asked.get(), 0, "{name:?}");
        }
    });
}

#[test]
fn a_dead_server_is_given_up_in_bounded_time() {
    // Bound and never answered.
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let _tcp = TcpListener::bind(address);
    let timeout = Duration::from_millis(50);
    let dns = Dns::new(&config::Dns { servers: vec![address], timeout }).unwrap();
    let start = Instant::now();
    let got = smol::block_on(EXECUTOR.run(dns.mx("example.org")));
    assert!(matches!(got, Err(Error::Temporary(_))), "{got:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn reload_takes_the_new_servers() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let old = Dns::new(&config::Dns { servers: vec![dead.local_addr().unwrap()], timeout: Duration::from_millis(10) }).unwrap();
    with_zone(async |fresh, _| {
        old.0.replace(fresh.asking());
        assert!(old.clone().mx("example.org").await.is_ok());
    });
    assert!(old.reload(&config::Dns { servers: vec![dead.local_addr().unwrap()], timeout: Duration::from_secs(1) }).is_ok());
}

#[test]
fn resolv_conf() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["127.0.0.1"]),
        ("search -bad.domain-\n# nameserver 192.0.2.9\n", &["127.0.0.1"]),
        ("nameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver nonsense\n", &["192.0.2.1", "2001:db8::1"]),
    ];
    for (text, want) in cases {
        assert_eq!(name_servers(text), ips(want), "{text:?}");
    }
}
