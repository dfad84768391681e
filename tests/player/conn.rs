//! One connection of a script: blocking, with TLS on either side.

use super::{PATIENCE, server};
use async_rustls::rustls::{self, ClientConnection, ServerConnection, StreamOwned};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
};

pub(crate) enum Sock {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Sock {
    pub(crate) fn patient(self) -> Self {
        let wait = Some(PATIENCE);
        let _ = match &self {
            Self::Unix(s) => s.set_read_timeout(wait).and_then(|()| s.set_write_timeout(wait)),
            Self::Tcp(s) => s.set_read_timeout(wait).and_then(|()| s.set_write_timeout(wait)).and_then(|()| s.set_nodelay(true)),
        };
        self
    }
    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.shutdown(Shutdown::Write),
            Self::Tcp(s) => s.shutdown(Shutdown::Write),
        }
    }
    fn hurry(&self) {
        let _ = match self {
            Self::Unix(s) => s.set_nonblocking(true),
            Self::Tcp(s) => s.set_nonblocking(true),
        };
    }
}

impl Read for Sock {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.read(buf),
            Self::Tcp(s) => s.read(buf),
        }
    }
}

impl Write for Sock {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.write(buf),
            Self::Tcp(s) => s.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Channel {
    Plain(Sock),
    Client(Box<StreamOwned<ClientConnection, Sock>>),
    Server(Box<StreamOwned<ServerConnection, Sock>>),
    /// In the middle of a change, or broken by it.
    Gone,
}

impl Channel {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Plain(s) => s.read(buf),
            Self::Client(s) => s.read(buf),
            Self::Server(s) => s.read(buf),
            Self::Gone => Ok(0),
        };
        match read {
            // TLS without close_notify, or a peer that closed with our bytes unread: an end all the same.
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Ok(0),
            r => r,
        }
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.write_all(bytes),
            Self::Client(s) => s.write_all(bytes).and_then(|()| s.flush()),
            Self::Server(s) => s.write_all(bytes).and_then(|()| s.flush()),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
    fn sock(&self) -> Option<&Sock> {
        match self {
            Self::Plain(s) => Some(s),
            Self::Client(s) => Some(&s.sock),
            Self::Server(s) => Some(&s.sock),
            Self::Gone => None,
        }
    }
}

pub(crate) struct Conn {
    channel: Channel,
    input: Vec<u8>,
    /// A line goes on through its literals.
    imap: bool,
    remote: bool,
}

impl Conn {
    pub(crate) fn client(sock: Sock, imap: bool) -> Self {
        Self { channel: Channel::Plain(sock.patient()), input: Vec::new(), imap, remote: false }
    }
    /// One that gatepost opened.
    pub(crate) fn remote(sock: Sock) -> Self {
        Self { channel: Channel::Plain(sock.patient()), input: Vec::new(), imap: false, remote: true }
    }
    pub(crate) fn is_imap(&self) -> bool {
        self.imap
    }
    pub(crate) fn is_remote(&self) -> bool {
        self.remote
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.channel.write(bytes).map_err(|e| format!("cannot send: {e}"))
    }

    /// The next line without its CRLF.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut from = 0;
        loop {
            match self.input[from..].iter().position(|b| *b == b'\n') {
                None => self.fill()?,
                Some(n) => {
                    let end = from + n + 1;
                    let Some(body) = self.input[..end].strip_suffix(b"\r\n") else {
                        return Err(format!("a line that ends with a bare LF: {}", super::pattern::show(&self.input[..end])));
                    };
                    if let Some(literal) = literal_at_end(body).filter(|_| self.imap) {
                        while self.input.len() < end + literal {
                            self.fill()?;
                        }
                        from = end + literal;
                        continue;
                    }
                    let line = body.to_vec();
                    self.input.drain(..end);
                    return Ok(line);
                }
            }
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        let mut buf = [0; 64 * 1024];
        match self.channel.read(&mut buf) {
            Ok(0) if self.input.is_empty() => Err("the end of the connection".into()),
            Ok(0) => Err(format!("the end of the connection after: {}", super::pattern::show(&self.input))),
            Ok(n) => {
                self.input.extend_from_slice(&buf[..n]);
                Ok(())
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let so_far = if self.input.is_empty() { String::new() } else { format!(" after: {}", super::pattern::show(&self.input)) };
                Err(format!("nothing within {} s{so_far}", PATIENCE.as_secs()))
            }
            Err(e) => Err(format!("an error: {e}")),
        }
    }

    pub(crate) fn expect_end(&mut self) -> Result<(), String> {
        match self.line() {
            Err(why) if why == "the end of the connection" => Ok(()),
            Err(why) => Err(format!("expected  the end of the connection\n     got  {why}")),
            Ok(line) => Err(format!("expected  the end of the connection\n     got  {}", super::pattern::show(&line))),
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.channel.sock().map_or(Ok(()), Sock::shutdown).map_err(|e| format!("cannot shut down: {e}"))
    }

    pub(crate) fn start_tls_as_client(&mut self) -> Result<(), String> {
        let name = rustls::pki_types::ServerName::try_from("mail.example.org").expect("a host name");
        let tls = ClientConnection::new(server::client_config(), name).map_err(|e| e.to_string())?;
        self.start_tls(|sock| {
            let mut stream = Box::new(StreamOwned::new(tls, sock));
            let done = stream.conn.complete_io(&mut stream.sock);
            (Channel::Client(stream), done)
        })
    }

    pub(crate) fn start_tls_as_server(&mut self) -> Result<(), String> {
        let tls = ServerConnection::new(server::server_config()).map_err(|e| e.to_string())?;
        self.start_tls(|sock| {
            let mut stream = Box::new(StreamOwned::new(tls, sock));
            let done = stream.conn.complete_io(&mut stream.sock);
            (Channel::Server(stream), done)
        })
    }

    fn start_tls(&mut self, start: impl FnOnce(Sock) -> (Channel, io::Result<(usize, usize)>)) -> Result<(), String> {
        if !self.input.is_empty() {
            return Err(format!("TLS cannot start, plain bytes are not read yet: {}", super::pattern::show(&self.input)));
        }
        let Channel::Plain(sock) = std::mem::replace(&mut self.channel, Channel::Gone) else { return Err("TLS is on already".into()) };
        let (channel, done) = start(sock);
        self.channel = channel;
        done.map(drop).map_err(|e| format!("the TLS handshake failed: {e}"))
    }

    /// What came and no line asked for.
    pub(crate) fn unread(&mut self) -> Vec<u8> {
        if let Some(sock) = self.channel.sock() {
            sock.hurry();
        }
        let mut buf = [0; 4096];
        if let Ok(n) = self.channel.read(&mut buf) {
            self.input.extend_from_slice(&buf[..n]);
        }
        self.input.clone()
    }
}

/// The size of the literal that a line announces: `…{12}`.
fn literal_at_end(line: &[u8]) -> Option<usize> {
    let open = line.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(line.strip_suffix(b"}")?.get(open + 1..)?).ok()?.parse().ok()
}
