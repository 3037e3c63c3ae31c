//! This crate over the protocol that browsers use: records inside a WebSocket on the listener's only
//! port, with or without TLS around it.
//!
//! Natively the library only accepts WebSockets. The dialling end, which is a browser otherwise, is
//! built here from the library's network traits and a WebSocket client, with TLS by tokio-rustls.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use gossip_transport::net::{Alpn, NetIncomingRequest, NetListener, NetTransport};
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeParams,
    SecureConfig, SecureConnection, Suite,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{NetCredential, TransportLayerSocket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_websockets::{ClientBuilder, Config, Message, WebSocketStream};

use super::ours::{CONNECT_LIMIT, OurSocket, network_over};
use super::tls_settings;
use crate::peer::{Node, SendHalf};

/// Bytes that the WebSocket client collects before it writes.
pub(super) const FLUSH_THRESHOLD: usize = 256 << 10;

/// This crate over a WebSocket without TLS, with ChaChaPoly.
pub type OurWebSocket = OverWebSocket<Plain>;
/// This crate over a WebSocket inside TLS, with ChaChaPoly inside, as browsers dial it.
pub type OurWss = OverWebSocket<InsideTls>;
/// This crate over a WebSocket inside TLS, with AES-GCM inside, the cipher between native nodes.
pub type OurWssAes = OverWebSocket<AesInsideTls>;

/// What is around a WebSocket, and which cipher is inside.
pub trait Wire: Debug + Clone + Send + Sync + 'static {
    /// The name of the peer in tables.
    const NAME: &'static str;
    /// The scheme of the URL.
    const SCHEME: &'static str;
    /// The cipher of the secure channel.
    const SUITE: Suite;
    /// The stream that carries the WebSocket.
    type Stream: AsyncRead + AsyncWrite + Unpin + Debug + Send + 'static;

    /// Returns the network of the listening end.
    fn listening() -> anyhow::Result<TcpTransport>;

    /// Prepares a dialled stream for the WebSocket.
    fn open(stream: TcpStream) -> impl Future<Output = anyhow::Result<Self::Stream>> + Send;
}

/// A WebSocket over TCP.
#[derive(Debug, Clone)]
pub struct Plain;

/// A WebSocket inside TLS.
#[derive(Debug, Clone)]
pub struct InsideTls;

/// A WebSocket inside TLS, with the cipher that is used between native nodes.
#[derive(Debug, Clone)]
pub struct AesInsideTls;

impl Wire for Plain {
    const NAME: &'static str = "**gossip-transport**, encrypted, WebSocket";
    const SCHEME: &'static str = "ws";
    const SUITE: Suite = Suite::ChaChaPoly;
    type Stream = TcpStream;

    fn listening() -> anyhow::Result<TcpTransport> {
        Ok(TcpTransport::default())
    }

    async fn open(stream: TcpStream) -> anyhow::Result<TcpStream> {
        Ok(stream)
    }
}

impl Wire for InsideTls {
    const NAME: &'static str = "**gossip-transport**, wss, ChaChaPoly inside";
    const SCHEME: &'static str = "wss";
    const SUITE: Suite = Suite::ChaChaPoly;
    type Stream = TlsStream<TcpStream>;

    fn listening() -> anyhow::Result<TcpTransport> {
        tls_settings::listening()
    }

    async fn open(stream: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        tls_settings::dial(stream).await
    }
}

impl Wire for AesInsideTls {
    const NAME: &'static str = "**gossip-transport**, wss, AES-GCM inside";
    const SCHEME: &'static str = "wss";
    const SUITE: Suite = Suite::AesGcm;
    type Stream = TlsStream<TcpStream>;

    fn listening() -> anyhow::Result<TcpTransport> {
        tls_settings::listening()
    }

    async fn open(stream: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        tls_settings::dial(stream).await
    }
}

type DiallingSocket<W> = TransportLayerSocket<Dialling<W>, Bytes>;

/// A socket of this crate, one end of which is a WebSocket client.
#[derive(Debug)]
pub enum OverWebSocket<W: Wire> {
    /// The native end.
    Listening(Arc<OurSocket>),
    /// The end that stands for a browser.
    Dialling(Arc<DiallingSocket<W>>),
}

/// A peer of either socket.
#[derive(Debug)]
pub enum OurWebSocketSendHalf<W: Wire> {
    /// A peer that has dialled.
    Accepted(Arc<OurSocket>, SocketAddr),
    /// A peer that was dialled.
    Dialled(Arc<DiallingSocket<W>>, SocketAddr),
}

impl<W: Wire> SendHalf<Bytes> for OurWebSocketSendHalf<W> {
    #[inline]
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Accepted(socket, to) => socket.send(*to, message).await?,
            Self::Dialled(socket, to) => socket.send(*to, message).await?,
        }
        Ok(())
    }
}

impl<W: Wire> Node for OverWebSocket<W> {
    const NAME: &'static str = W::NAME;
    type Message = Bytes;
    type SendHalf = OurWebSocketSendHalf<W>;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let network = network_over(W::listening()?);
        let socket = network.open("127.0.0.1:0".parse()?).await?;
        Ok(Self::Listening(Arc::new(socket)))
    }

    async fn bind_dialler() -> anyhow::Result<Self> {
        let network = network_over(Dialling(PhantomData));
        let socket = network.open("0.0.0.0:0".parse()?).await?;
        Ok(Self::Dialling(Arc::new(socket)))
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::Listening(socket) => socket.local_addr(),
            Self::Dialling(socket) => socket.local_addr(),
        }
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<OurWebSocketSendHalf<W>> {
        match self {
            Self::Listening(_) => anyhow::bail!("a native node dials no WebSocket"),
            Self::Dialling(socket) => {
                let outgoing = socket.get_or_create_outgoing_connection(to)?;
                outgoing.connected(CONNECT_LIMIT).await?;
            }
        }
        self.send_half_to(to)
    }

    #[inline]
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, Bytes)> {
        match self {
            Self::Listening(socket) => Ok(socket.recv().await?),
            Self::Dialling(socket) => Ok(socket.recv().await?),
        }
    }

    fn send_half_to(&self, to: SocketAddr) -> anyhow::Result<OurWebSocketSendHalf<W>> {
        Ok(match self {
            Self::Listening(socket) => OurWebSocketSendHalf::Accepted(Arc::clone(socket), to),
            Self::Dialling(socket) => OurWebSocketSendHalf::Dialled(Arc::clone(socket), to),
        })
    }
}

/// A network that only dials.
#[derive(Debug, Clone)]
pub struct Dialling<W>(PhantomData<W>);

type Stream<W> = WebSocketStream<<W as Wire>::Stream>;
type Connection<W> = SecureConnection<Reader<Stream<W>>, Writer<Stream<W>>>;

impl<W: Wire> NetTransport for Dialling<W> {
    type Listener = NoListener<W>;
    type Connection = Connection<W>;

    async fn create_listener(
        &self,
        addr: SocketAddr,
        _alpn_supported: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<NoListener<W>> {
        Ok(NoListener(addr, PhantomData))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Connection<W>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let stream = W::open(stream).await?;
        let builder = ClientBuilder::new()
            .uri(&format!("{}://{addr}/", W::SCHEME))?
            .config(Config::default().flush_threshold(FLUSH_THRESHOLD));
        let (writer, reader) = builder.connect_on(stream).await?.0.split();
        let endpoints = Endpoints {
            local,
            remote: addr,
        };
        let config = SecureConfig::default();
        let params = HandshakeParams {
            endpoints,
            alpn: alpn_preferred,
            credential,
            config: &config,
            memory: &config.receive_memory(),
        };
        let connection = secure::dial(Reader(reader), Writer(writer), W::SUITE, &params);
        Ok(connection.await?)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![name.parse()?])
    }
}

/// Reads frames from binary messages.
#[derive(Debug)]
pub struct Reader<S>(SplitStream<S>);

/// Writes frames as binary messages.
#[derive(Debug)]
pub struct Writer<S>(SplitSink<S, Message>);

impl<S> FrameReader for Reader<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let Some(message) = self.0.next().await else {
            return Ok(None);
        };
        let message = message.map_err(io::Error::other)?;
        Ok(Some(if message.is_binary() {
            FrameEvent::Frame(BytesMut::from(message.into_payload()))
        } else {
            FrameEvent::Activity
        }))
    }
}

impl<S> FrameWriter for Writer<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !frames.is_empty() {
            let ready = poll_fn(|cx| self.0.poll_ready_unpin(cx)).await;
            ready.map_err(io::Error::other)?;
            if let Some(frame) = frames.pop() {
                let sent = self.0.start_send_unpin(Message::binary(frame));
                sent.map_err(io::Error::other)?;
            }
        }
        self.0.flush().await.map_err(io::Error::other)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.close().await.map_err(io::Error::other)
    }
}

/// A listener that never accepts anything.
#[derive(Debug)]
pub struct NoListener<W>(SocketAddr, PhantomData<W>);

/// An incoming connection, of which there is none.
#[derive(Debug)]
pub struct NoRequest<W>(Infallible, PhantomData<W>);

impl<W: Wire> NetListener for NoListener<W> {
    type IncomingRequest = NoRequest<W>;
    type Connection = Connection<W>;

    fn local_addr(&self) -> SocketAddr {
        self.0
    }

    async fn accept(&self) -> anyhow::Result<NoRequest<W>> {
        std::future::pending().await
    }
}

impl<W: Wire> NetIncomingRequest for NoRequest<W> {
    type Connection = Connection<W>;

    fn remote_addr(&self) -> SocketAddr {
        match self.0 {}
    }

    async fn accept(self) -> anyhow::Result<Connection<W>> {
        match self.0 {}
    }
}
