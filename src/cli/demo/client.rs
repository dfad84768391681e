//! The demo's own mail reader: just enough IMAP and POP3 to fetch one message over TLS and show the dialogue.

use async_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

/// One dialogue over implicit TLS; the server's certificate must be the demo's own, under `localhost`.
pub(super) struct Dialogue {
    stream: async_rustls::client::TlsStream<smol::net::TcpStream>,
    buffer: Vec<u8>,
}

/// What one waits for at most in a demo on loopback.
const PATIENCE: Duration = Duration::from_secs(20);

impl Dialogue {
    pub(super) async fn connect(address: SocketAddr, certificate: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let pem = CertificateDer::from_pem_file(certificate).map_err(|e| format!("{}: {e}", certificate.display()))?;
        roots.add(pem).map_err(|e| e.to_string())?;
        let config = ClientConfig::builder_with_provider(Arc::new(async_rustls::rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = smol::net::TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
        let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| format!("TLS with {address}: {e}"))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub(super) async fn say(&mut self, line: &str) -> Result<(), String> {
        let bytes = format!("{line}\r\n");
        self.stream.write_all(bytes.as_bytes()).await.map_err(|e| e.to_string())?;
        self.stream.flush().await.map_err(|e| e.to_string())
    }

    /// All up to and with the line for which `last` is true.
    pub(super) async fn hear(&mut self, last: impl Fn(&str) -> bool) -> Result<String, String> {
        let reading = async {
            loop {
                if let Some(end) = end_of(&self.buffer, &last) {
                    let rest = self.buffer.split_off(end);
                    let heard = std::mem::replace(&mut self.buffer, rest);
                    return Ok(String::from_utf8_lossy(&heard).into_owned());
                }
                let mut chunk = [0u8; 4096];
                let n = self.stream.read(&mut chunk).await.map_err(|e| e.to_string())?;
                if n == 0 {
                    return Err(format!("the server hung up after `{}`", String::from_utf8_lossy(&self.buffer)));
                }
                self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
            }
        };
        smol::future::or(reading, async {
            smol::Timer::after(PATIENCE).await;
            Err("no answer within 20 seconds".to_owned())
        })
        .await
    }

    /// A command and its whole answer.
    pub(super) async fn ask(&mut self, line: &str, last: impl Fn(&str) -> bool) -> Result<String, String> {
        self.say(line).await?;
        self.hear(last).await
    }
}

fn end_of(bytes: &[u8], last: &impl Fn(&str) -> bool) -> Option<usize> {
    let mut from = 0;
    while let Some(n) = memchr::memchr(b'\n', bytes.get(from..)?) {
        let line = bytes.get(from..from + n)?;
        from += n + 1;
        if last(String::from_utf8_lossy(line).trim_end_matches('\r')) {
            return Some(from);
        }
    }
    None
}

/// Waits in IDLE until INBOX has a message, then fetches it. The answer is the message.
pub(super) async fn by_imap(address: SocketAddr, certificate: &Path, user: &str, password: &str, show: impl Fn(&str)) -> Result<String, String> {
    let mut d = Dialogue::connect(address, certificate).await?;
    d.hear(|l| l.starts_with("* OK")).await?;
    let tagged = |tag: &'static str| move |l: &str| l.starts_with(tag);
    let ok = |answer: String, tag: &str| if answer.lines().any(|l| l.starts_with(&format!("{tag} OK"))) { Ok(answer) } else { Err(answer) };
    ok(d.ask(&format!("a LOGIN {user} {password}"), tagged("a ")).await?, "a")?;
    let selected = ok(d.ask("b SELECT INBOX", tagged("b ")).await?, "b")?;
    show("C: b SELECT INBOX");
    selected.lines().filter(|l| l.contains("EXISTS") || l.contains("UIDVALIDITY")).for_each(|l| show(&format!("S: {l}")));
    if selected.contains("* 0 EXISTS") {
        d.ask("c IDLE", |l| l.starts_with('+')).await?;
        show("C: c IDLE");
        let news = d.hear(|l| l.ends_with("EXISTS") && !l.starts_with("* 0 ")).await?;
        news.lines().for_each(|l| show(&format!("S: {l}")));
        ok(d.ask("DONE", tagged("c ")).await?, "c")?;
    }
    show("C: d FETCH 1 (ENVELOPE BODY.PEEK[])");
    let fetched = ok(d.ask("d FETCH 1 (ENVELOPE BODY.PEEK[])", tagged("d ")).await?, "d")?;
    d.ask("e LOGOUT", tagged("e ")).await?;
    Ok(fetched)
}

/// Takes the first message and leaves it there.
pub(super) async fn by_pop3(address: SocketAddr, certificate: &Path, user: &str, password: &str, show: impl Fn(&str)) -> Result<String, String> {
    let mut d = Dialogue::connect(address, certificate).await?;
    let any = |_: &str| true;
    d.hear(any).await?;
    for line in [format!("USER {user}"), format!("PASS {password}"), "STAT".to_owned()] {
        let answer = d.ask(&line, any).await?;
        if !answer.starts_with("+OK") {
            return Err(answer);
        }
        if line == "STAT" {
            show("C: STAT");
            show(&format!("S: {}", answer.trim_end()));
        }
    }
    let message = d.ask("RETR 1", |l| l == "." || l.starts_with("-ERR")).await?;
    show("C: RETR 1");
    show(&format!("S: {}", message.lines().next().unwrap_or_default()));
    d.ask("QUIT", any).await?;
    if message.starts_with("+OK") { Ok(message) } else { Err(message) }
}
