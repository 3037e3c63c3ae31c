//! The TCP network on streams that a server of the user has accepted, whose type nobody knows.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use gossip_transport::NetCredential;
use gossip_transport::net::{Alpn, NetListener, NetTransport};
use gossip_transport::rt::Task;
use gossip_transport::tcp::{
    AcceptedStreams, TcpConfig, TcpConnection, TcpIncomingRequest, TcpListener, TcpTransport,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::fixtures::{Fixture, Tcp};
use crate::support::ANY_PORT;

pub(crate) struct PushedStreams;

/// Accepts connections with a server of its own, and pushes them.
#[derive(Clone)]
pub(crate) struct PushedTransport(TcpTransport);

/// A listener that is reached through the port of another server.
pub(crate) struct PushedListener {
    inner: TcpListener,
    _server: Task,
}

/// A stream that takes few bytes at a time, one slice of them, and tells nothing about itself.
pub(crate) struct Opaque(pub(crate) TcpStream);

const FEW: usize = 4_000;

impl Fixture for PushedStreams {
    type Transport = PushedTransport;

    fn hosts() -> (PushedTransport, PushedTransport) {
        let host = || PushedTransport(TcpTransport::default());
        (host(), host())
    }

    fn bind_addr() -> SocketAddr {
        Tcp::bind_addr()
    }

    fn dead_addr() -> SocketAddr {
        Tcp::dead_addr()
    }

    async fn dialled(addr: SocketAddr) -> SocketAddr {
        server(addr)
    }
}

/// Returns the address of the server whose streams go to the listener at `addr`.
fn server(addr: SocketAddr) -> SocketAddr {
    match addr.ip() == ANY_PORT.ip() {
        true => ([127, 0, 0, 2], addr.port()).into(),
        false => addr,
    }
}

impl NetTransport for PushedTransport {
    type Listener = PushedListener;
    type Connection = TcpConnection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<PushedListener> {
        let streams = AcceptedStreams::new();
        let config = TcpConfig::default().with_accepted_streams(Some(streams.clone()));
        let inner = TcpTransport::new(config);
        let inner = inner.create_listener(bind_addr, alpn_supported, credential);
        let inner = inner.await?;
        let port = tokio::net::TcpListener::bind(server(inner.local_addr())).await?;
        let server = Task::spawn(async move {
            while let Ok((stream, remote)) = port.accept().await {
                streams.push(Opaque(stream), remote).unwrap();
            }
        });
        Ok(PushedListener {
            inner,
            _server: server,
        })
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<TcpConnection> {
        let connecting = self.0.connect(server(addr), alpn_preferred, credential);
        connecting.await
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.0.resolve(name).await
    }

    fn max_message_len(&self) -> usize {
        self.0.max_message_len()
    }
}

impl NetListener for PushedListener {
    type IncomingRequest = TcpIncomingRequest;
    type Connection = TcpConnection;

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    async fn accept(&self) -> anyhow::Result<TcpIncomingRequest> {
        self.inner.accept().await
    }
}

/// A stream whose writes fail from some time on.
pub(crate) struct Unheard {
    pub(crate) stream: TcpStream,
    pub(crate) takes_nothing: Arc<AtomicBool>,
}

impl AsyncRead for Unheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.takes_nothing.load(Ordering::Relaxed) {
            true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            false => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Opaque {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut few = [0; FEW];
        let len = buf.remaining().min(FEW);
        let mut few = ReadBuf::new(&mut few[..len]);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut few);
        buf.put_slice(few.filled());
        read
    }
}

impl AsyncWrite for Opaque {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let few = buf.get(..FEW).unwrap_or(buf);
        Pin::new(&mut self.0).poll_write(cx, few)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
