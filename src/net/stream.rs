//! The byte streams under a [`super::Wire`]: TCP or UNIX, bare or under TLS, one type for all.

use async_rustls::TlsStream;
use smol::{
    Async,
    io::{AsyncRead, AsyncWrite},
};
use std::{
    io,
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    pin::Pin,
    task::{Context, Poll},
};

/// A socket without TLS.
#[derive(Debug)]
pub(super) enum Raw {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buffer),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, bytes),
            Self::Unix(s) => Pin::new(s).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // async-io's own close only flushes: without a FIN a client that waits for the end after QUIT waits in vain.
            Self::Tcp(s) => Poll::Ready(s.get_ref().shutdown(Shutdown::Write)),
            Self::Unix(s) => Poll::Ready(s.get_ref().shutdown(Shutdown::Write)),
        }
    }
}

/// TLS state is some kilobytes, hence boxed: a plain connection does not pay for it.
pub(super) enum Stream {
    Bare(Raw),
    Tls(Box<TlsStream<Raw>>),
    /// A handshake failed or was abandoned half way; reads as closed.
    Gone,
}

impl Stream {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Bare(s) => Pin::new(s).poll_read(cx, buffer),
            Self::Tls(s) => Pin::new(&mut **s).poll_read(cx, buffer),
            Self::Gone => Poll::Ready(Ok(0)),
        }
    }
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Bare(s) => Pin::new(s).poll_write(cx, bytes),
            Self::Tls(s) => Pin::new(&mut **s).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Ok(0)),
        }
    }
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bare(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(&mut **s).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bare(s) => Pin::new(s).poll_close(cx),
            Self::Tls(s) => Pin::new(&mut **s).poll_close(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
