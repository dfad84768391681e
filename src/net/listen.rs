//! Listening sockets: bound before privileges are dropped, then accepted from with limits.

use super::{Drain, Wire, events, limits::Ticket, tls::Acceptor};
use crate::config::{Config, Live};
use nix::{
    errno::Errno,
    sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, sockopt},
};
use smol::{Async, Timer, future::FutureExt};
use std::{
    future::Future,
    io::{self, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

pub use super::limits::Limits;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// Accepted in a row before others get their turn.
const BATCH: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Waits while the process has no file descriptors left, doubling.
const SHORTAGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Binds (SO_REUSEADDR; IPv6 sockets V6ONLY so that `0.0.0.0` and `[::]` live side by side). The error names the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let make = || -> nix::Result<TcpListener> {
        let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        if address.is_ipv6() {
            socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        }
        match address {
            SocketAddr::V4(a) => socket::bind(fd.as_raw_fd(), &SockaddrIn::from(a))?,
            SocketAddr::V6(a) => socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(a))?,
        }
        socket::listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(TcpListener::from(fd))
    };
    make().map_err(|e| {
        let remedy = match e {
            Errno::EADDRINUSE => ": another program (a second gatepost, another mail server) has it",
            Errno::EACCES => ": ports below 1024 want root or CAP_NET_BIND_SERVICE",
            Errno::EADDRNOTAVAIL => ": this host has no such address",
            _ => "",
        };
        io::Error::new(io::Error::from(e).kind(), format!("cannot listen on {address}: {}{remedy}", e.desc()))
    })
}

/// Accepts until draining; TLS first where `tls` is given; hands each wire to `serve`, in its own task, and
/// catches its panic (a log line; the daemon lives on). Above the limits it says `busy` (a whole line of the
/// protocol, not under TLS) and closes. Out of file descriptors: waits, does not spin.
///
/// Returns when draining began; the sessions still running are counted in [`Limits::active`].
pub async fn serve<F, S>(
    ex: Rc<smol::LocalExecutor<'static>>,
    listener: TcpListener,
    service: &'static str,
    tls: Option<Acceptor>,
    config: Arc<Live<Config>>,
    limits: Limits,
    busy: &'static [u8],
    drain: Drain,
    serve: S,
) where
    F: Future<Output = ()> + 'static,
    S: Fn(Wire) -> F + 'static,
{
    let listener = match Async::new(listener) {
        Ok(l) => l,
        Err(e) => return events::accept_failed(service, &e),
    };
    let door = Rc::new(Door { service, tls, drain: drain.clone(), serve });
    let accepting = async {
        let mut wait = SHORTAGE.0;
        loop {
            match accept_batch(&ex, &listener, &door, &config, &limits, busy).await {
                Ok(()) => wait = SHORTAGE.0,
                Err(e) => {
                    if wait == SHORTAGE.0 {
                        events::accept_failed(service, &e);
                    }
                    Timer::after(wait).await;
                    wait = (wait * 2).min(SHORTAGE.1);
                }
            }
            smol::future::yield_now().await;
        }
    };
    accepting.or(drain.wait()).await;
}

/// What every connection of one listener needs.
struct Door<S> {
    service: &'static str,
    tls: Option<Acceptor>,
    drain: Drain,
    serve: S,
}

async fn accept_batch<F, S>(
    ex: &smol::LocalExecutor<'static>,
    listener: &Async<TcpListener>,
    door: &Rc<Door<S>>,
    config: &Live<Config>,
    limits: &Limits,
    busy: &[u8],
) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
    S: Fn(Wire) -> F + 'static,
{
    listener.readable().await?;
    for _ in 0..BATCH {
        let (stream, peer) = match listener.get_ref().accept() {
            Ok(pair) => pair,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if is_peers_fault(&e) => continue,
            Err(e) => return Err(e),
        };
        match limits.enter(peer.ip().to_canonical(), &config.get().limits) {
            Ok(ticket) => ex.spawn(door.clone().session(stream, ticket)).detach(),
            Err(full) => {
                events::refused(limits, door.service, peer.ip().to_canonical(), full);
                if door.tls.is_none() {
                    let _ = turn_away(stream, busy);
                }
            }
        }
    }
    Ok(())
}

/// accept(2): errors of the connection that was to be accepted, not of the listener.
fn is_peers_fault(e: &io::Error) -> bool {
    use Errno as E;
    e.raw_os_error().is_some_and(|n| {
        matches!(
            Errno::from_raw(n),
            E::ECONNABORTED
                | E::EINTR
                | E::EPROTO
                | E::ENETDOWN
                | E::ENOPROTOOPT
                | E::EHOSTDOWN
                | E::ENONET
                | E::EHOSTUNREACH
                | E::EOPNOTSUPP
                | E::ENETUNREACH
        )
    })
}

fn turn_away(mut stream: TcpStream, busy: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.write_all(busy)?;
    stream.shutdown(Shutdown::Write)
}

impl<S> Door<S> {
    /// One connection from accept to its end; `ticket` counts it.
    async fn session<F>(self: Rc<Self>, stream: TcpStream, ticket: Ticket)
    where
        F: Future<Output = ()> + 'static,
        S: Fn(Wire) -> F + 'static,
    {
        let wire = Async::new(stream).and_then(|s| Wire::plain(s, self.drain.clone()));
        // A peer that is gone before we looked.
        let Ok(mut wire) = wire else { return };
        events::connected(self.service, &wire);
        if let Some(tls) = &self.tls
            && let Err(ended) = wire.start_tls(tls, HANDSHAKE).await
        {
            return events::handshake_failed(self.service, &wire, &ended);
        }
        let conn: Box<str> = wire.conn().into();
        if let Err(panic) = AssertUnwindSafe((self.serve)(wire)).catch_unwind().await {
            events::panicked(self.service, &conn, &*panic);
        }
        drop(ticket);
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
