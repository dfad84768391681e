//! One connection's bytes: input buffer, optional TLS, deadlines.
//!
//! Idle connections cost no buffer: reads go through one scratch buffer of the thread and only what arrived
//! is kept. Joint 1 of the architecture: net owns bytes, proto owns lines and literals. A session hands in a
//! closure that cuts, so neither room imports the other.

use super::{
    Drain,
    stream::{Raw, Stream},
    tls::{Acceptor, Connector},
};
use crate::config;
use async_rustls::{TlsAcceptor, TlsConnector, TlsStream, rustls::ProtocolVersion};
use event_listener::EventListener;
use smol::{Async, Timer, future::FutureExt};
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

/// What one read can bring, and what the thread keeps for all its connections.
const SCRATCH: usize = 64 * 1024;
/// `cut` that leaves more than this untouched will never be satisfied: the connection ends with an error.
/// Framers refuse far shorter lines; this is the last wall against unbounded memory.
pub const INPUT_MAX: usize = 1024 * 1024;
/// Output that goes out without waiting for [`Wire::flush`].
const OUTPUT_MAX: usize = 64 * 1024;
/// Empty buffers above this are given back.
const KEEP: usize = 512;
/// Reads and large writes in a row before the other connections get their turn: smol does not preempt, and a
/// fast peer keeps its socket ready for ever.
const TURNS: u8 = 4;
/// Patience with a slow reader before the first `next` set another.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a draining daemon still waits for the rest of a command.
const REST: Duration = Duration::from_secs(2);
const GOODBYE: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Why there is nothing more to read.
#[derive(Debug)]
pub enum Ended {
    /// EOF, also TLS without close_notify. Never the end of data.
    Closed,
    Timeout,
    Draining,
    Io(io::Error),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed"),
            Self::Timeout => f.write_str("timed out"),
            Self::Draining => f.write_str("shutting down"),
            Self::Io(e) => write!(f, "{e}"),
        }
    }
}

impl From<io::Error> for Ended {
    /// A peer that went away, however rudely, is `Closed`.
    fn from(e: io::Error) -> Self {
        use io::ErrorKind as K;
        match e.kind() {
            K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::NotConnected | K::WriteZero => Self::Closed,
            K::TimedOut => Self::Timeout,
            _ => Self::Io(e),
        }
    }
}

/// One connection. Not `Clone`, not shared: it belongs to its session.
pub struct Wire {
    stream: Stream,
    input: Vec<u8>,
    /// Up to here `input` was cut already.
    start: usize,
    output: Vec<u8>,
    /// Up to here `output` was handed to the stream.
    sent: usize,
    /// The stream may still hold bytes of ours (TLS).
    unflushed: bool,
    turns: u8,
    patience: Duration,
    drain: Drain,
    peer: Option<IpAddr>,
    conn: Box<str>,
}

impl Wire {
    /// Sets TCP_NODELAY: with Nagle each TLS connection stalls for some 40 ms.
    pub fn plain(stream: Async<TcpStream>, drain: Drain) -> io::Result<Self> {
        stream.get_ref().set_nodelay(true)?;
        let peer = stream.get_ref().peer_addr()?.ip().to_canonical();
        Ok(Self::new(Raw::Tcp(stream), Some(peer), drain))
    }
    /// A UNIX socket: local submission, control, and the tests' in-memory wire (`UnixStream::pair`).
    pub fn unix(stream: Async<UnixStream>, drain: Drain) -> Self {
        Self::new(Raw::Unix(stream), None, drain)
    }
    /// As a client.
    pub async fn connect(address: SocketAddr, timeout: Duration, drain: Drain) -> Result<Self, Ended> {
        let stream = within(timeout, Async::<TcpStream>::connect(address)).await?;
        Ok(Self::plain(stream, drain)?)
    }
    fn new(raw: Raw, peer: Option<IpAddr>, drain: Drain) -> Self {
        Self {
            stream: Stream::Bare(raw),
            input: Vec::new(),
            start: 0,
            output: Vec::new(),
            sent: 0,
            unflushed: false,
            turns: TURNS,
            patience: PATIENCE,
            drain,
            peer,
            conn: next_conn(),
        }
    }
    /// Client address, IPv4-mapped IPv6 as IPv4; `None` on a UNIX socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
    /// Short id for `conn=`, unique while the daemon runs: base 36 counter.
    pub fn conn(&self) -> &str {
        &self.conn
    }
    /// Waits until `cut` finds something in the buffered bytes. `cut` gets all that is buffered (also nothing)
    /// and answers `Some((consumed, value))`, or `None` for more. Ends with `Draining` when the daemon stops and
    /// nothing is buffered, or what is buffered stays half a command for two seconds. Cancel-safe: what was read stays buffered.
    ///
    /// Output is flushed before waiting for the peer, so replies to pipelined commands leave in one piece.
    /// `timeout` is for the whole of what `cut` waits for, not from byte to byte. `Io` when `cut` leaves more
    /// than [`INPUT_MAX`] bytes untouched.
    pub async fn next<T>(&mut self, timeout: Duration, cut: impl FnMut(&[u8]) -> Option<(usize, T)>) -> Result<T, Ended> {
        self.wait(timeout, cut, true).await
    }
    /// The same in the middle of data: draining waits.
    pub async fn next_undisturbed<T>(&mut self, timeout: Duration, cut: impl FnMut(&[u8]) -> Option<(usize, T)>) -> Result<T, Ended> {
        self.wait(timeout, cut, false).await
    }
    /// What arrived and was not cut yet.
    pub fn buffered(&self) -> usize {
        self.input.len() - self.start
    }
    /// Throws away what is buffered.
    pub fn discard_buffered(&mut self) {
        self.consume(self.buffered());
    }

    async fn wait<T>(&mut self, timeout: Duration, mut cut: impl FnMut(&[u8]) -> Option<(usize, T)>, disturb: bool) -> Result<T, Ended> {
        self.patience = timeout;
        let mut timer = None;
        loop {
            if let Some((used, value)) = cut(self.input.get(self.start..).unwrap_or_default()) {
                self.consume(used);
                return Ok(value);
            }
            if self.buffered() > INPUT_MAX {
                return Err(Ended::Io(io::Error::new(io::ErrorKind::InvalidData, "too much input without an end")));
            }
            if !self.output.is_empty() || self.unflushed {
                self.push(true).await?;
            }
            self.fill(&mut timer, timeout, disturb).await?;
        }
    }
    /// Reads once.
    async fn fill(&mut self, timer: &mut Option<Timer>, timeout: Duration, disturb: bool) -> Result<(), Ended> {
        self.take_turn().await;
        self.input.drain(..std::mem::take(&mut self.start));
        let mut draining: Option<EventListener> = None;
        let mut rest: Option<Timer> = None;
        poll_fn(|cx| {
            if disturb && self.drain.started() {
                // Half a line may become a whole one, but not at leisure.
                let over = self.input.is_empty() || Pin::new(rest.get_or_insert_with(|| Timer::after(REST))).poll(cx).is_ready();
                if over {
                    return Poll::Ready(Err(Ended::Draining));
                }
            }
            match self.poll_input(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Ended::Closed)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e.into())),
                Poll::Pending => {}
            }
            if disturb && !self.drain.started() && Pin::new(draining.get_or_insert_with(|| self.drain.0.1.listen())).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Pin::new(timer.get_or_insert_with(|| Timer::after(timeout))).poll(cx).map(|_| Err(Ended::Timeout))
        })
        .await
    }
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH_BUFFER.with_borrow_mut(|scratch| {
            let got = self.stream.poll_read(cx, scratch);
            if let Poll::Ready(Ok(n)) = &got {
                self.input.extend_from_slice(scratch.get(..*n).unwrap_or_default());
            }
            got
        })
    }
    fn consume(&mut self, used: usize) {
        self.start += used.min(self.buffered());
        if self.buffered() == 0 {
            self.start = 0;
            empty(&mut self.input);
        }
    }
    async fn take_turn(&mut self) {
        if self.turns == 0 {
            self.turns = TURNS;
            smol::future::yield_now().await;
        }
        self.turns -= 1;
    }

    /// Appends to the output buffer; goes out at [`Wire::flush`], at the next wait for input, or on the way when
    /// it is large. Bounded: waits for a slow reader, at most `timeout` of the last `next` without any progress.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.output.is_empty() && rest.len() >= OUTPUT_MAX {
                let sent = self.send(rest).await?;
                rest = rest.get(sent..).unwrap_or_default();
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(OUTPUT_MAX.saturating_sub(self.output.len())));
            self.output.extend_from_slice(now);
            rest = later;
            if self.output.len() >= OUTPUT_MAX {
                self.push(false).await?;
            }
        }
        Ok(())
    }
    /// Hands over some of what would fill the output buffer anyway.
    async fn send(&mut self, bytes: &[u8]) -> Result<usize, Ended> {
        self.take_turn().await;
        let patience = self.patience;
        let mut timer = None;
        poll_fn(|cx| match self.stream.poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Ended::Closed)),
            Poll::Ready(sent) => {
                self.unflushed = true;
                Poll::Ready(sent.map_err(Ended::from))
            }
            Poll::Pending => Pin::new(timer.get_or_insert_with(|| Timer::after(patience))).poll(cx).map(|_| Err(Ended::Timeout)),
        })
        .await
    }
    pub async fn flush(&mut self) -> Result<(), Ended> {
        self.push(true).await
    }
    /// Throws away what was written and not sent, after an error: what the peer said last can still be read.
    pub fn discard_output(&mut self) {
        self.output = Vec::new();
        self.sent = 0;
        self.unflushed = false;
    }
    /// How long a write may go without any progress, until the next `next` says otherwise.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }
    /// Empties the output buffer; cancel-safe, what was not sent stays.
    async fn push(&mut self, flush: bool) -> Result<(), Ended> {
        if self.output.len() >= OUTPUT_MAX {
            self.take_turn().await;
        }
        let patience = self.patience;
        let mut timer = None;
        poll_fn(|cx| {
            let sent = self.sent;
            match self.poll_output(cx, flush) {
                Poll::Ready(r) => return Poll::Ready(r.map_err(Ended::from)),
                Poll::Pending if self.sent > sent => timer = None,
                Poll::Pending => {}
            }
            Pin::new(timer.get_or_insert_with(|| Timer::after(patience))).poll(cx).map(|_| Err(Ended::Timeout))
        })
        .await
    }
    fn poll_output(&mut self, cx: &mut Context<'_>, flush: bool) -> Poll<io::Result<()>> {
        while let Some(rest) = self.output.get(self.sent..).filter(|r| !r.is_empty()) {
            match std::task::ready!(self.stream.poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
            self.unflushed = true;
        }
        self.sent = 0;
        empty(&mut self.output);
        if flush && self.unflushed {
            std::task::ready!(self.stream.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// STARTTLS, server side. Refuses (`Err`, connection to be dropped) while anything is buffered: the injection
    /// of RFC 3207 §6 / CVE-2011-0411. Send and flush the 220 first.
    pub async fn start_tls(&mut self, acceptor: &Acceptor, timeout: Duration) -> Result<(), Ended> {
        let raw = self.take_bare()?;
        let handshake = Box::pin(TlsAcceptor::from(acceptor.config()).accept(raw));
        self.stream = Stream::Tls(Box::new(TlsStream::Server(within(timeout, handshake).await?)));
        Ok(())
    }
    /// STARTTLS, client side; `host` for SNI and, with a verifying connector, for the certificate.
    pub async fn start_tls_client(&mut self, connector: &Connector, host: &str, timeout: Duration) -> Result<(), Ended> {
        let raw = self.take_bare()?;
        let name = connector.server_name(host, self.peer).map_err(Ended::Io)?;
        let handshake = Box::pin(TlsConnector::from(connector.config()).connect(name, raw));
        self.stream = Stream::Tls(Box::new(TlsStream::Client(within(timeout, handshake).await?)));
        Ok(())
    }
    /// The socket under this wire, given that nothing in the clear could slip into the encrypted part.
    fn take_bare(&mut self) -> Result<Raw, Ended> {
        if self.buffered() > 0 || !self.output.is_empty() {
            self.stream = Stream::Gone;
            return Err(Ended::Io(io::Error::new(io::ErrorKind::InvalidData, "plain text where the TLS handshake begins")));
        }
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Bare(raw) => Ok(raw),
            Stream::Tls(_) => Err(Ended::Io(io::Error::new(io::ErrorKind::InvalidInput, "TLS is on already"))),
            Stream::Gone => Err(Ended::Closed),
        }
    }
    /// May a password pass here? Under TLS, or from a client of one of these networks.
    pub fn is_private(&self, plaintext: &[(IpAddr, u8)]) -> bool {
        self.is_tls() || self.peer.is_some_and(|peer| config::contains(plaintext, peer))
    }
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
    /// `TLSv1.3 TLS13_AES_256_GCM_SHA384`
    pub fn tls_summary(&self) -> Option<String> {
        let Stream::Tls(tls) = &self.stream else { return None };
        let state = tls.get_ref().1;
        let version = match state.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLSv1.2",
        };
        Some(format!("{version} {:?}", state.negotiated_cipher_suite()?.suite()))
    }
    /// Says goodbye (close_notify, shutdown), at most a second. What the peer still sends is read and thrown
    /// away: closing a socket with unread input resets it, and the peer would lose our last words.
    pub async fn close(mut self) {
        let goodbye = async {
            self.flush().await.ok()?;
            poll_fn(|cx| self.stream.poll_close(cx)).await.ok()?;
            for _ in 0..TURNS {
                self.input.clear();
                let n = poll_fn(|cx| self.poll_input(cx)).await.ok()?;
                if n == 0 {
                    break;
                }
            }
            Some(())
        };
        goodbye
            .or(async {
                Timer::after(GOODBYE).await;
                None
            })
            .await;
    }
}

/// An I/O future with a deadline.
async fn within<T>(timeout: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, Ended> {
    let deadline = async {
        Timer::after(timeout).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    Ok(work.or(deadline).await?)
}

fn empty(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

fn next_conn() -> Box<str> {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let mut n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut digits = Vec::new();
    while n > 0 || digits.is_empty() {
        digits.push(char::from_digit((n % 36) as u32, 36).expect("below 36").to_ascii_uppercase());
        n /= 36;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
