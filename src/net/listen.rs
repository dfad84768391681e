//! Listening sockets: bound before privileges are dropped, then accepted from with limits.

use super::{Drain, Wire};
use crate::config::{Config, Live};
use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
};

/// Binds (SO_REUSEADDR; IPv6 sockets V6ONLY so that `0.0.0.0` and `[::]` live side by side). The error names the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let _ = address;
    todo!("net room")
}

/// Counts connections in all and per address (IPv6 by /64), shared by all listeners.
#[derive(Clone, Default)]
pub struct Limits {
    _private: Rc<()>,
}

/// Accepts until draining; TLS first where `tls` is given; hands each wire to `serve`, in its own task, and
/// catches its panic (a log line; the daemon lives on). Above the limits it says `busy` (a whole line of the
/// protocol) and closes. Out of file descriptors: waits, does not spin.
pub async fn serve<F, S>(
    ex: Rc<smol::LocalExecutor<'static>>,
    listener: TcpListener,
    service: &'static str,
    tls: Option<super::tls::Acceptor>,
    config: Arc<Live<Config>>,
    limits: Limits,
    busy: &'static [u8],
    drain: Drain,
    serve: S,
) where
    F: Future<Output = ()> + 'static,
    S: Fn(Wire) -> F + 'static,
{
    let _ = (ex, listener, service, tls, config, limits, busy, drain, &serve);
    todo!("net room")
}
