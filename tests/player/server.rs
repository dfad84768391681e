//! The real rooms on a thread of their own, as the daemon builds them, without its sockets.

use super::{conn::Sock, fixtures::Fixtures, log::Buffer};
use async_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use gatepost::{
    daemon::Rooms,
    dns::stub,
    imapd,
    net::{Wire, tls::Acceptor},
    pop3d,
    smtpd::{self, Kind},
};
use std::{
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) const SERVICES: &[&str] = &["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"];

enum Order {
    Serve(&'static str, Sock),
    Drain,
    Stop,
}

pub(crate) struct Server {
    orders: smol::channel::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(dir: &Path, fixtures: &Fixtures, log: Buffer) -> Result<Self, String> {
        let (orders, inbox) = smol::channel::unbounded();
        let (ready, started) = channel();
        let (dir, zone): (PathBuf, String) = (dir.to_owned(), fixtures.zone.clone());
        let thread = std::thread::Builder::new()
            .name("rooms".into())
            .spawn(move || {
                log.adopt();
                live(&dir, &zone, &inbox, &ready);
            })
            .map_err(|e| e.to_string())?;
        let mut server = Self { orders, thread: Some(thread) };
        match receive(&started) {
            Ok(Ok(())) => Ok(server),
            Ok(Err(why)) => Err(why),
            Err(()) => Err(server.stop().err().unwrap_or_else(|| "the rooms did not start".into())),
        }
    }

    /// A connection to a service; TLS from the first byte is the caller's.
    pub(crate) fn connect(&self, service: &'static str, tcp: bool) -> Result<Sock, String> {
        let (ours, theirs) =
            if tcp { tcp_pair() } else { UnixStream::pair().map(|(a, b)| (Sock::Unix(a), Sock::Unix(b))) }.map_err(|e| e.to_string())?;
        self.order(Order::Serve(service, theirs))?;
        Ok(ours)
    }

    pub(crate) fn drain(&self) -> Result<(), String> {
        self.order(Order::Drain)
    }

    fn order(&self, order: Order) -> Result<(), String> {
        self.orders.try_send(order).map_err(|_| "the server's thread has ended".to_owned())
    }

    /// `Err`: it panicked.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let _ = self.orders.try_send(Order::Stop);
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                Err(format!("the server panicked: {text}"))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn receive<T>(from: &Receiver<T>) -> Result<T, ()> {
    from.recv_timeout(super::PATIENCE).map_err(drop)
}

fn tcp_pair() -> std::io::Result<(Sock, Sock)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    theirs.set_nodelay(true)?;
    Ok((Sock::Tcp(ours), Sock::Tcp(theirs)))
}

/// The whole life of the server's thread.
fn live(dir: &Path, zone: &str, inbox: &smol::channel::Receiver<Order>, ready: &Sender<Result<(), String>>) {
    let ex = Rc::new(smol::LocalExecutor::new());
    smol::block_on(ex.run(gatepost::dns::EXECUTOR.run(async {
        match open(dir, zone, &ex).await {
            Err(why) => {
                let _ = ready.send(Err(why));
            }
            Ok((rooms, tasks)) => {
                let _ = ready.send(Ok(()));
                obey(&rooms, &ex, inbox).await;
                // The queue holds the executor that it runs on, and the spool with its lock: neither would ever go.
                for task in tasks {
                    task.cancel().await;
                }
            }
        }
    })));
}

async fn open(dir: &Path, zone: &str, ex: &Rc<smol::LocalExecutor<'static>>) -> Result<(Rooms, [smol::Task<()>; 2]), String> {
    let zone = stub::Zone::parse(zone)?;
    let (socket, address) = stub::bind().await.map_err(|e| e.to_string())?;
    ex.spawn(stub::serve(socket, Rc::new(std::cell::RefCell::new(zone)), |_| ())).detach();
    let text = std::fs::read_to_string(dir.join("gatepost.conf.in")).map_err(|e| e.to_string())?;
    let file = dir.join("gatepost.conf");
    std::fs::write(&file, text.replace("\"DNS\"", &format!("\"{address}\""))).map_err(|e| e.to_string())?;
    let all = |problems: Vec<gatepost::config::Problem>| problems.iter().map(|p| format!("{p}\n")).collect::<String>();
    let (config, _) = gatepost::config::load(&file).map_err(all)?;
    let rooms = Rooms::build(config)?;
    let queue = ex.spawn(rooms.mta.clone().run_queue(ex.clone(), rooms.drain.clone()));
    let watch = ex.spawn(rooms.watch());
    Ok((rooms, [queue, watch]))
}

async fn obey(rooms: &Rooms, ex: &Rc<smol::LocalExecutor<'static>>, inbox: &smol::channel::Receiver<Order>) {
    while let Ok(order) = inbox.recv().await {
        match order {
            Order::Stop => return,
            Order::Drain => rooms.drain.start(),
            Order::Serve(service, sock) => {
                let wire = match sock {
                    Sock::Unix(s) => smol::Async::new(s).map(|s| Wire::unix(s, rooms.drain.clone())),
                    Sock::Tcp(s) => smol::Async::new(s).and_then(|s| Wire::plain(s, rooms.drain.clone())),
                };
                let Ok(wire) = wire else { continue };
                serve(rooms, ex, service, wire);
            }
        }
    }
}

fn serve(rooms: &Rooms, ex: &Rc<smol::LocalExecutor<'static>>, service: &'static str, wire: Wire) {
    let tls = service.ends_with('s').then(|| rooms.tls.clone()).flatten();
    match service {
        "smtp" => {
            let service = rooms.smtp(Kind::Mx);
            ex.spawn(secured(wire, tls, |w| smtpd::serve(service, w))).detach();
        }
        "submission" | "submissions" => {
            let service = rooms.smtp(Kind::Submission);
            ex.spawn(secured(wire, tls, |w| smtpd::serve(service, w))).detach();
        }
        "imap" | "imaps" => {
            let service = rooms.imap();
            ex.spawn(secured(wire, tls, |w| imapd::serve(service, w))).detach();
        }
        _ => {
            let service = rooms.pop3();
            ex.spawn(secured(wire, tls, |w| pop3d::serve(service, w))).detach();
        }
    }
}

async fn secured<F: Future<Output = ()>>(mut wire: Wire, tls: Option<Acceptor>, serve: impl FnOnce(Wire) -> F) {
    if let Some(acceptor) = tls
        && wire.start_tls(&acceptor, Duration::from_secs(20)).await.is_err()
    {
        return;
    }
    serve(wire).await;
}

/// Where gatepost finds the remote hosts that a script plays.
pub(crate) struct Remote {
    pub(crate) address: String,
    pub(crate) port: u16,
    listener: TcpListener,
}

impl Remote {
    pub(crate) fn accept(&self, patience: Duration) -> Result<Sock, String> {
        let until = Instant::now() + patience;
        self.listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(|e| e.to_string())?;
                    return Ok(Sock::Tcp(stream));
                }
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Err(_) => return Err(format!("gatepost did not connect to {} within {} s", self.address, patience.as_secs())),
            }
        }
    }
}

/// 127.0.0.1 and the further addresses, all on one port.
pub(crate) fn remotes(further: &[String]) -> Result<Vec<Remote>, String> {
    'port: for _ in 0..20 {
        let first = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        let port = first.local_addr().map_err(|e| e.to_string())?.port();
        let mut all = vec![Remote { address: "127.0.0.1".into(), port, listener: first }];
        for address in further {
            let Ok(listener) = TcpListener::bind((address.as_str(), port)) else { continue 'port };
            all.push(Remote { address: address.clone(), port, listener });
        }
        return Ok(all);
    }
    Err(format!("no port is free on all of {}", further.join(" ")))
}

/// Certificate and key as PEM, made once per process.
pub(crate) fn certificate() -> (&'static str, &'static str) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    let (cert, key) = MADE.get_or_init(|| {
        let names = ["mail.example.org", "mx.example.net", "localhost"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).expect("a self-signed certificate can be made");
        (made.cert.pem(), made.signing_key.serialize_pem())
    });
    (cert, key)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// For the server's side of scripted remotes.
pub(crate) fn server_config() -> Arc<ServerConfig> {
    let (cert, key) = certificate();
    let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("our own PEM");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("our own PEM");
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("ring has them");
    Arc::new(config.with_no_client_auth().with_single_cert(vec![cert], key).expect("they belong together"))
}

/// Accepts any certificate: scripts test dialogues, not trust.
pub(crate) fn client_config() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("ring has them");
    Arc::new(config.dangerous().with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth())
}

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
