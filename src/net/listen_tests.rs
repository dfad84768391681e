use super::*;
use crate::{
    config,
    net::{
        tls::tests::{Authority, scratch},
        wire::Ended,
    },
};
use smol::{LocalExecutor, io::AsyncReadExt};
use std::{cell::Cell, net::IpAddr};

const LONG: Duration = Duration::from_secs(30);

fn config(connections: usize, per_address: usize, exempt: Vec<(IpAddr, u8)>) -> Arc<Live<Config>> {
    let z = Duration::ZERO;
    Arc::new(Live::new(Config {
        file: "/".into(),
        hostname: "mail.test".into(),
        domains: vec![],
        postmaster: None,
        user: None,
        state: "/".into(),
        run: "/".into(),
        users: "/".into(),
        aliases: "/".into(),
        log: String::new(),
        listen: config::Listen::default(),
        tls: config::Tls::default(),
        dns: config::Dns::default(),
        limits: config::Limits {
            message_size: 0,
            recipients: 0,
            connections,
            connections_per_address: per_address,
            login_failures: 0,
            exempt,
            threads: 1,
        },
        queue: config::Queue { retry: z, retry_max: z, lifetime: z, warn_after: z, connections: 1, connections_per_host: 1 },
        quota: config::Quota::default(),
        smtp: config::Smtp { mx_port: 25, timeout: z, submission_received_client: false, submission_any_from: false },
        folders_as_tree: false,
        uidl_format: config::UidlFormat::default(),
        routes: vec![],
        subaddress: String::new(),
    }))
}

/// A server that says `hi` and waits for the client to go; `boom` makes it panic.
struct Server {
    ex: Rc<LocalExecutor<'static>>,
    to: SocketAddr,
    limits: Limits,
    drain: Drain,
    task: smol::Task<()>,
}

fn start(config: Arc<Live<Config>>, tls: Option<Acceptor>) -> Server {
    let ex = Rc::new(LocalExecutor::new());
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (to, limits, drain) = (listener.local_addr().unwrap(), Limits::default(), Drain::new());
    let session = |mut wire: Wire| async move {
        wire.write(b"hi\n").await.unwrap();
        if let Ok(()) = wire.next(LONG, |b| b.starts_with(b"boom").then_some((4, ()))).await {
            panic!("{}", "as asked");
        }
    };
    let task = ex.spawn(serve(ex.clone(), listener, "test", tls, config, limits.clone(), b"busy\n", drain.clone(), session));
    Server { ex, to, limits, drain, task }
}

async fn read(stream: &mut Async<TcpStream>) -> String {
    let mut got = [0; 64];
    let n = stream.read(&mut got).await.unwrap();
    String::from_utf8_lossy(&got[..n]).into_owned()
}

#[test]
fn above_the_limits_busy_is_said() {
    let cases =
        [(1, 9, vec![], ["hi\n", "busy\n"]), (9, 1, vec![], ["hi\n", "busy\n"]), (9, 1, vec![("127.0.0.0".parse().unwrap(), 8)], ["hi\n", "hi\n"])];
    for (total, per_address, exempt, want) in cases {
        let server = start(config(total, per_address, exempt), None);
        smol::block_on(server.ex.run(async {
            let mut first = Async::<TcpStream>::connect(server.to).await.unwrap();
            assert_eq!(read(&mut first).await, want[0]);
            let mut second = Async::<TcpStream>::connect(server.to).await.unwrap();
            assert_eq!(read(&mut second).await, want[1], "total {total}, per address {per_address}");
            drop((first, second));
            server.limits.empty().await;
            let mut third = Async::<TcpStream>::connect(server.to).await.unwrap();
            assert_eq!(read(&mut third).await, "hi\n");
        }));
    }
}

#[test]
fn a_panic_ends_one_session_only() {
    let server = start(config(9, 9, vec![]), None);
    smol::block_on(server.ex.run(async {
        let mut first = Wire::connect(server.to, LONG, Drain::new()).await.unwrap();
        first.write(b"boom").await.unwrap();
        first.flush().await.unwrap();
        let all = first.next(LONG, |_| None::<(usize, ())>).await;
        assert!(matches!(all, Err(Ended::Closed)));
        server.limits.empty().await;
        let mut second = Async::<TcpStream>::connect(server.to).await.unwrap();
        assert_eq!(read(&mut second).await, "hi\n");
    }));
}

#[test]
fn draining_stops_the_listener_and_its_idle_sessions() {
    let server = start(config(9, 9, vec![]), None);
    smol::block_on(server.ex.run(async {
        let mut client = Async::<TcpStream>::connect(server.to).await.unwrap();
        assert_eq!(read(&mut client).await, "hi\n");
        assert_eq!(server.limits.active(), 1);
        server.drain.start();
        server.task.await;
        server.limits.empty().await;
        assert_eq!(read(&mut client).await, "");
        assert!(Async::<TcpStream>::connect(server.to).await.is_err());
    }));
}

#[test]
fn implicit_tls_comes_first() {
    let dir = scratch("implicit");
    let authority = Authority::new();
    let acceptor = Acceptor::load(&authority.issue(&dir, "mail.test")).unwrap();
    let server = start(config(9, 9, vec![]), Some(acceptor));
    let seen = Cell::new(false);
    smol::block_on(server.ex.run(async {
        // A plain-text client on the TLS port spoils nothing for the next.
        let mut plain = Wire::connect(server.to, LONG, Drain::new()).await.unwrap();
        plain.write(b"EHLO x\r\n").await.unwrap();
        plain.flush().await.unwrap();
        let mut client = Wire::connect(server.to, LONG, Drain::new()).await.unwrap();
        client.start_tls_client(&authority.connector(&dir), "mail.test", LONG).await.unwrap();
        client.next(LONG, |b| b.starts_with(b"hi\n").then_some((3, ()))).await.unwrap();
        seen.set(true);
    }));
    assert!(seen.get());
}

#[test]
fn binding_twice_names_the_address() {
    let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let text = bind(address).unwrap_err().to_string();
    assert!(text.contains(&address.to_string()) && text.contains("another program"), "{text}");
    // IPv4 and IPv6 wildcards live side by side.
    let v4 = bind("0.0.0.0:0".parse().unwrap()).unwrap();
    if let Err(e) = bind(SocketAddr::from(([0u16; 8], v4.local_addr().unwrap().port()))) {
        assert_ne!(e.kind(), io::ErrorKind::AddrInUse);
    }
}
