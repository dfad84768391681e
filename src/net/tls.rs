//! Server certificates with hot reload, client configurations. rustls with ring only, TLS 1.2 and 1.3.

use crate::config::Tls;
use async_rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    rustls::{
        self, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
        sign::CertifiedKey,
    },
};
use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// Debian's bundle; other systems name theirs in SSL_CERT_FILE, as with OpenSSL.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The server side; SIGHUP replaces the certificate inside, for all clones and with or without tickets.
#[derive(Clone)]
pub struct Acceptor {
    certificate: Arc<Reloadable>,
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// Reads certificate and key (PEM; the key may be in the certificate's file). The error text names file and
    /// remedy. Blocking.
    pub fn load(tls: &Tls) -> Result<Self, String> {
        let certificate = Arc::new(Reloadable(Mutex::new(Arc::new(read(tls)?))));
        let mut config = server_config(certificate.clone());
        config.ticketer = ring::Ticketer::new().map_err(|e| format!("no key for session tickets: {e}"))?;
        Ok(Self { certificate, config: Arc::new(config) })
    }
    /// Reads again; on an error the old certificate stays. Blocking.
    pub fn reload(&self, tls: &Tls) -> Result<(), String> {
        let new = Arc::new(read(tls)?);
        *self.certificate.0.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
    /// For port 25: Microsoft's outbound servers break off when an MX sends TLS 1.3 session tickets, and servers
    /// resume next to nothing anyway.
    pub fn without_tickets(&self) -> Self {
        let mut config = server_config(self.certificate.clone());
        config.send_tls13_tickets = 0;
        Self { certificate: self.certificate.clone(), config: Arc::new(config) }
    }
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_config(certificate: Arc<Reloadable>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    // Tickets resume without memory of ours.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

struct Reloadable(Mutex<Arc<CertifiedKey>>);

impl fmt::Debug for Reloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloadable")
    }
}

impl ResolvesServerCert for Reloadable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(tls: &Tls) -> Result<CertifiedKey, String> {
    let Some(cert) = &tls.cert else { return Err("no certificate: set tls.cert to the PEM file of the certificate chain".into()) };
    let key = tls.key.as_ref().unwrap_or(cert);
    let chain = CertificateDer::pem_slice_iter(&read_file(cert, "tls.cert")?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("{}: not a PEM certificate: {e}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: no BEGIN CERTIFICATE in it: tls.cert wants the PEM file of the whole chain (fullchain.pem)", cert.display()));
    }
    let bytes = read_file(key, "tls.key")?;
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        format!("{}: no BEGIN PRIVATE KEY in it: tls.key wants the PEM file of the unencrypted private key (privkey.pem)", key.display())
    })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            format!("{}: this key does not belong to the first certificate of {}: take both from the same issue", key.display(), cert.display())
        }
        e => format!("{}: {e}", cert.display()),
    })
}

fn read_file(file: &Path, setting: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|e| {
        let remedy = match e.kind() {
            io::ErrorKind::NotFound => format!("check the path in {setting}"),
            io::ErrorKind::PermissionDenied => "let the daemon's user read it (and enter its folders)".to_owned(),
            _ => format!("see {setting}"),
        };
        format!("{}: {e}: {remedy}", file.display())
    })
}

/// The client side.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    verifies: bool,
}

impl Connector {
    /// Takes any certificate: against eavesdroppers only, which is what opportunistic TLS can do (RFC 7435).
    /// The handshake's own signatures are verified all the same.
    pub fn opportunistic() -> Self {
        static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
        let make = || {
            let config = client_builder().dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider()))).with_no_client_auth();
            Arc::new(without_resumption(config))
        };
        Self { config: CONFIG.get_or_init(make).clone(), verifies: false }
    }
    /// Wants a chain to the system's roots and the right name. The roots are read when their file changed.
    /// Blocking.
    pub fn verified() -> Result<Self, String> {
        static CACHE: Mutex<Option<(PathBuf, Option<SystemTime>, Connector)>> = Mutex::new(None);
        let file = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from(ROOTS), PathBuf::from);
        let changed = fs::metadata(&file).and_then(|m| m.modified()).ok();
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((f, when, connector)) = &*cache
            && (f, when) == (&file, &changed)
        {
            return Ok(connector.clone());
        }
        let connector = Self::verified_by(&file)?;
        *cache = Some((file, changed, connector.clone()));
        Ok(connector)
    }
    /// The same with the roots of this PEM file. Blocking.
    pub fn verified_by(roots: &Path) -> Result<Self, String> {
        let pem = fs::read(roots).map_err(|e| format!("{}: {e}: install ca-certificates", roots.display()))?;
        let mut store = RootCertStore::empty();
        let (good, _) = store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
        if good == 0 {
            return Err(format!("{}: no root certificates in it: install ca-certificates", roots.display()));
        }
        Ok(Self { config: Arc::new(without_resumption(client_builder().with_root_certificates(store).with_no_client_auth())), verifies: true })
    }
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }
    /// Hosts whose names no certificate can hold get by without SNI where nobody looks at the name.
    pub(super) fn server_name(&self, host: &str, address: Option<IpAddr>) -> io::Result<ServerName<'static>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        match (ServerName::try_from(host.to_owned()), address) {
            (Ok(name), _) => Ok(name),
            (Err(_), Some(ip)) if !self.verifies => Ok(ServerName::from(ip)),
            (Err(e), _) => Err(io::Error::new(io::ErrorKind::InvalidInput, e)),
        }
    }
}

fn client_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("ring has suites for TLS 1.2 and 1.3")
}

/// Deliveries to one host are rarely minutes apart; not worth the memory.
fn without_resumption(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
pub(crate) mod tests;
