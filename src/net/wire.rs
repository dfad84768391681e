//! One connection's bytes: input buffer, optional TLS, deadlines.
//!
//! Idle connections cost no buffer: reads go through one scratch buffer of the thread and only what arrived
//! is kept. Joint 1 of the architecture: net owns bytes, proto owns lines and literals. A session hands in a
//! closure that cuts, so neither room imports the other.

use super::{Drain, tls::Acceptor};
use std::{io, net::IpAddr, time::Duration};

/// Why there is nothing more to read.
#[derive(Debug)]
pub enum Ended {
    /// EOF, also TLS without close_notify. Never the end of data.
    Closed,
    Timeout,
    Draining,
    Io(io::Error),
}

pub struct Wire {
    _private: (),
}

impl Wire {
    pub fn plain(stream: smol::Async<std::net::TcpStream>, drain: Drain) -> io::Result<Self> {
        let _ = (stream, drain);
        todo!("net room")
    }
    /// A UNIX socket: local submission, control, and the tests' in-memory wire (`UnixStream::pair`).
    pub fn unix(stream: smol::Async<std::os::unix::net::UnixStream>, drain: Drain) -> Self {
        let _ = (stream, drain);
        todo!("net room")
    }
    /// Client address; `None` on a UNIX socket.
    pub fn peer(&self) -> Option<IpAddr> {
        todo!("net room")
    }
    /// Short id for `conn=`, unique while the daemon runs: base 36 counter.
    pub fn conn(&self) -> &str {
        todo!("net room")
    }
    /// Waits until `cut` finds something in the buffered bytes. `cut` gets all that is buffered (also nothing)
    /// and answers `Some((consumed, value))`, or `None` for more. Ends with `Draining` when the daemon stops and
    /// nothing is buffered. Cancel-safe: what was read stays buffered.
    pub async fn next<T>(&mut self, timeout: Duration, cut: impl FnMut(&[u8]) -> Option<(usize, T)>) -> Result<T, Ended> {
        let _ = (timeout, cut);
        todo!("net room")
    }
    /// The same in the middle of data: draining waits.
    pub async fn next_undisturbed<T>(&mut self, timeout: Duration, cut: impl FnMut(&[u8]) -> Option<(usize, T)>) -> Result<T, Ended> {
        let _ = (timeout, cut);
        todo!("net room")
    }
    /// What arrived and was not cut yet.
    pub fn buffered(&self) -> usize {
        todo!("net room")
    }
    /// Throws away what is buffered.
    pub fn discard_buffered(&mut self) {
        todo!("net room")
    }
    /// Appends to the output buffer; goes out at [`Wire::flush`], or on the way when it is large. Bounded: waits
    /// for a slow reader, at most `timeout` of the last `next`.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let _ = bytes;
        todo!("net room")
    }
    pub async fn flush(&mut self) -> Result<(), Ended> {
        todo!("net room")
    }
    /// STARTTLS, server side. Refuses (`Err`, connection to be dropped) while anything is buffered: the injection
    /// of RFC 3207 §6 / CVE-2011-0411. Send and flush the 220 first.
    pub async fn start_tls(&mut self, acceptor: &Acceptor, timeout: Duration) -> Result<(), Ended> {
        let _ = (acceptor, timeout);
        todo!("net room")
    }
    pub fn is_tls(&self) -> bool {
        todo!("net room")
    }
    /// `TLSv1.3 TLS13_AES_256_GCM_SHA384`
    pub fn tls_summary(&self) -> Option<String> {
        todo!("net room")
    }
    /// Says goodbye (close_notify, shutdown), at most a second.
    pub async fn close(self) {
        todo!("net room")
    }
}
