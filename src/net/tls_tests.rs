use super::*;
use crate::net::{Drain, Ended, Wire};
use async_rustls::{TlsConnector, rustls::HandshakeKind};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use smol::{Async, future::zip};
use std::{os::unix::net::UnixStream, time::Duration};

const LONG: Duration = Duration::from_secs(30);

/// An empty folder of this test's own.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("gatepost-net-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A certificate authority for tests.
pub(crate) struct Authority {
    key: KeyPair,
    params: CertificateParams,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { key, params, pem }
    }
    /// `NAME.crt` and `NAME.key` in `dir`.
    pub(crate) fn issue(&self, dir: &Path, name: &str) -> Tls {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let (cert_file, key_file) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        fs::write(&cert_file, cert.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Tls { cert: Some(cert_file), key: Some(key_file), ..Tls::default() }
    }
    /// Trusts this authority alone.
    pub(crate) fn connector(&self, dir: &Path) -> Connector {
        let file = dir.join("roots.pem");
        fs::write(&file, &self.pem).unwrap();
        Connector::verified_by(&file).unwrap()
    }
}

fn handshake(acceptor: &Acceptor, connector: &Connector, host: &str) -> Result<(), Ended> {
    let (a, b) = Async::<UnixStream>::pair().unwrap();
    let (mut server, mut client) = (Wire::unix(a, Drain::new()), Wire::unix(b, Drain::new()));
    smol::block_on(zip(server.start_tls(acceptor, LONG), client.start_tls_client(connector, host, LONG))).1
}

#[test]
fn reload_changes_the_certificate_with_and_without_tickets() {
    let dir = scratch("reload");
    let (old, new) = (Authority::new(), Authority::new());
    let acceptor = Acceptor::load(&old.issue(&dir, "mail.test")).unwrap();
    let on_25 = acceptor.without_tickets();
    for a in [&acceptor, &on_25] {
        handshake(a, &old.connector(&dir), "mail.test").unwrap();
    }
    acceptor.reload(&new.issue(&dir, "mail.test")).unwrap();
    for a in [&acceptor, &on_25] {
        assert!(handshake(a, &old.connector(&dir), "mail.test").is_err());
        handshake(a, &new.connector(&dir), "mail.test").unwrap();
    }
    let broken = Tls { cert: Some(dir.join("missing")), key: None, ..Tls::default() };
    assert!(acceptor.reload(&broken).is_err());
    handshake(&acceptor, &new.connector(&dir), "mail.test").unwrap();
}

#[test]
fn only_a_verifying_client_minds_the_name() {
    let dir = scratch("names");
    let authority = Authority::new();
    let acceptor = Acceptor::load(&authority.issue(&dir, "mail.test")).unwrap();
    let cases = [("mail.test", true), ("mail.test.", true), ("other.test", false), ("192.0.2.1", false), ("not a name", false)];
    for (host, trusted) in cases {
        assert_eq!(handshake(&acceptor, &authority.connector(&dir), host).is_ok(), trusted, "{host}");
    }
    for host in ["mail.test", "other.test", "192.0.2.1"] {
        handshake(&acceptor, &Connector::opportunistic(), host).unwrap();
    }
    let unnamed = Connector::opportunistic().server_name("not a name", Some([192, 0, 2, 1].into())).unwrap();
    assert!(matches!(unnamed, ServerName::IpAddress(_)));
}

#[test]
fn tickets_resume_unless_switched_off() {
    let dir = scratch("tickets");
    let acceptor = Acceptor::load(&Authority::new().issue(&dir, "mail.test")).unwrap();
    for (acceptor, want) in [(acceptor.without_tickets(), HandshakeKind::Full), (acceptor, HandshakeKind::Resumed)] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
            let config = config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider()))).with_no_client_auth();
            let connector = TlsConnector::from(Arc::new(config));
            let kinds = [(); 2].map(|()| {
                smol::block_on(async {
                    let (a, b) = Async::<UnixStream>::pair().unwrap();
                    let mut server = Wire::unix(a, Drain::new());
                    let answer = async {
                        server.start_tls(&acceptor, LONG).await.unwrap();
                        server.write(b"hello").await.unwrap();
                        server.flush().await.unwrap();
                    };
                    let (client, ()) = zip(connector.connect(ServerName::try_from("mail.test").unwrap(), b), answer).await;
                    // Tickets come with the first data.
                    let mut client = client.unwrap();
                    smol::io::AsyncReadExt::read_exact(&mut client, &mut [0; 5]).await.unwrap();
                    client.get_ref().1.handshake_kind().unwrap()
                })
            });
            assert_eq!(kinds, [HandshakeKind::Full, want], "{version:?}");
        }
    }
}

#[test]
fn errors_name_file_and_remedy() {
    let dir = scratch("errors");
    let authority = Authority::new();
    let (a, b) = (authority.issue(&dir, "a.test"), authority.issue(&dir, "b.test"));
    let empty = dir.join("empty");
    fs::write(&empty, "no PEM here\n").unwrap();
    let cases = [
        (None, None, &["tls.cert"][..]),
        (Some(dir.join("missing.pem")), None, &["missing.pem", "check the path in tls.cert"]),
        (a.cert.clone(), Some(dir.join("missing.key")), &["missing.key", "check the path in tls.key"]),
        (Some(empty.clone()), a.key.clone(), &["empty", "BEGIN CERTIFICATE"]),
        (a.cert.clone(), Some(empty), &["empty", "BEGIN PRIVATE KEY"]),
        (a.cert.clone(), None, &["a.test.crt", "BEGIN PRIVATE KEY"]),
        (a.cert.clone(), b.key, &["b.test.key", "does not belong", "a.test.crt"]),
    ];
    for (cert, key, words) in cases {
        let tls = Tls { cert, key, ..Tls::default() };
        let Err(text) = Acceptor::load(&tls) else { panic!("loaded {tls:?}") };
        for word in words {
            assert!(text.contains(word), "{text:?} without {word:?}");
        }
    }
    // Certificate and key in one file.
    let both = dir.join("both.pem");
    fs::write(&both, [fs::read(a.cert.unwrap()).unwrap(), fs::read(a.key.unwrap()).unwrap()].concat()).unwrap();
    Acceptor::load(&Tls { cert: Some(both), key: None, ..Tls::default() }).unwrap();
}
