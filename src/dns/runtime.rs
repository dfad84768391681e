//! hickory's runtime on smol's sockets and timers; its background tasks go to [`EXECUTOR`].

use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time};
use smol::{
    Async, Executor, Timer,
    future::FutureExt,
    io::{AsyncRead, AsyncWrite},
};
use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpStream, UdpSocket},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Runs what hickory leaves in the background (it wants `Send` tasks, so not the daemon's local executor).
/// No answer arrives unless somebody polls it: the daemon's one thread runs
/// `smol::block_on(local.run(dns::EXECUTOR.run(main)))`.
pub static EXECUTOR: Executor<'static> = Executor::new();

/// When the caller names none.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Default)]
pub(super) struct Smol;

#[derive(Clone, Copy)]
pub(super) struct Background;

impl Spawn for Background {
    fn spawn_bg(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        EXECUTOR.spawn(task).detach();
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock;

#[async_trait::async_trait]
impl Time for Clock {
    async fn delay_for(duration: Duration) {
        Timer::after(duration).await;
    }
    async fn timeout<F: 'static + Future + Send>(duration: Duration, future: F) -> Result<F::Output, io::Error> {
        let deadline = async {
            Timer::after(duration).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        async { Ok(future.await) }.or(deadline).await
    }
}

pub(super) struct Udp(Async<UdpSocket>);

impl DnsUdpSocket for Udp {
    type Time = Clock;
    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            match self.0.get_ref().recv_from(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }
    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().send_to(bytes, to) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_writable(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }
}

pub(super) struct Tcp(Async<TcpStream>);

impl DnsTcpStream for Tcp {
    type Time = Clock;
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl RuntimeProvider for Smol {
    type Handle = Background;
    type Timer = Clock;
    type Udp = Udp;
    type Tcp = Tcp;
    fn create_handle(&self) -> Background {
        Background
    }
    fn connect_tcp(&self, to: SocketAddr, _: Option<SocketAddr>, wait: Option<Duration>) -> Pin<Box<dyn Send + Future<Output = io::Result<Tcp>>>> {
        let connect = async move {
            let stream = Async::<TcpStream>::connect(to).await?;
            stream.get_ref().set_nodelay(true)?;
            Ok(Tcp(stream))
        };
        Box::pin(async move { Clock::timeout(wait.unwrap_or(CONNECT), connect).await? })
    }
    fn bind_udp(&self, local: SocketAddr, _: SocketAddr) -> Pin<Box<dyn Send + Future<Output = io::Result<Udp>>>> {
        Box::pin(async move { Ok(Udp(Async::<UdpSocket>::bind(local)?)) })
    }
}
