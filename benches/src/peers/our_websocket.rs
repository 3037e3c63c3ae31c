//! This crate over the protocol that browsers use: records inside a WebSocket, ChaChaPoly, on the
//! listener's only port.
//!
//! Natively the library only accepts WebSockets. The dialling end, which is a browser otherwise, is
//! built here from the library's network traits and a WebSocket client.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use gossip_transport::net::{Alpn, NetIncomingRequest, NetListener, NetTransport};
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeParams,
    SecureConfig, SecureConnection, Suite,
};
use gossip_transport::{NetCredential, TransportLayerSocket, TransportLayerTransport, Trust};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Config, Message, WebSocketStream};

use super::{OurSocket, config, network, secret};
use crate::peer::{Node, SendHalf};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Bytes that the WebSocket client collects before it writes.
const FLUSH_THRESHOLD: usize = 256 << 10;

type Stream = WebSocketStream<TcpStream>;
type DiallingSocket = TransportLayerSocket<Dialling, Bytes>;

/// A socket of this crate, one end of which is a WebSocket client.
#[derive(Debug)]
pub enum OurWebSocket {
    /// The native end.
    Listening(Arc<OurSocket>),
    /// The end that stands for a browser.
    Dialling(Arc<DiallingSocket>),
}

/// A peer of either socket.
#[derive(Debug)]
pub enum OurWebSocketSendHalf {
    /// A peer that has dialled.
    Accepted(Arc<OurSocket>, SocketAddr),
    /// A peer that was dialled.
    Dialled(Arc<DiallingSocket>, SocketAddr),
}

impl SendHalf<Bytes> for OurWebSocketSendHalf {
    #[inline]
    async fn send(&self, message: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Accepted(socket, to) => socket.send(*to, message).await?,
            Self::Dialled(socket, to) => socket.send(*to, message).await?,
        }
        Ok(())
    }
}

impl Node for OurWebSocket {
    const NAME: &'static str = "**gossip-transport**, encrypted, WebSocket";
    type Message = Bytes;
    type SendHalf = OurWebSocketSendHalf;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let socket = network().open("127.0.0.1:0".parse()?).await?;
        Ok(Self::Listening(Arc::new(socket)))
    }

    async fn bind_dialler() -> anyhow::Result<Self> {
        let credential = NetCredential::generate(Trust::secret(secret()));
        let transport = TransportLayerTransport::with_config(Dialling, credential, config());
        let socket = transport.open("0.0.0.0:0".parse()?).await?;
        Ok(Self::Dialling(Arc::new(socket)))
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::Listening(socket) => socket.local_addr(),
            Self::Dialling(socket) => socket.local_addr(),
        }
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<OurWebSocketSendHalf> {
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

    fn send_half_to(&self, to: SocketAddr) -> anyhow::Result<OurWebSocketSendHalf> {
        Ok(match self {
            Self::Listening(socket) => OurWebSocketSendHalf::Accepted(Arc::clone(socket), to),
            Self::Dialling(socket) => OurWebSocketSendHalf::Dialled(Arc::clone(socket), to),
        })
    }
}

/// A network that only dials.
#[derive(Debug, Clone)]
pub struct Dialling;

type Connection = SecureConnection<Reader, Writer>;

impl NetTransport for Dialling {
    type Listener = NoListener;
    type Connection = Connection;

    async fn create_listener(
        &self,
        addr: SocketAddr,
        _alpn_supported: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<NoListener> {
        Ok(NoListener(addr))
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let builder = ClientBuilder::new()
            .uri(&format!("ws://{addr}/"))?
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
        let connection = secure::dial(Reader(reader), Writer(writer), Suite::ChaChaPoly, &params);
        Ok(connection.await?)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![name.parse()?])
    }
}

/// Reads frames from binary messages.
#[derive(Debug)]
pub struct Reader(SplitStream<Stream>);

/// Writes frames as binary messages.
#[derive(Debug)]
pub struct Writer(SplitSink<Stream, Message>);

impl FrameReader for Reader {
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

impl FrameWriter for Writer {
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
pub struct NoListener(SocketAddr);

/// An incoming connection, of which there is none.
#[derive(Debug)]
pub enum NoRequest {}

impl NetListener for NoListener {
    type IncomingRequest = NoRequest;
    type Connection = Connection;

    fn local_addr(&self) -> SocketAddr {
        self.0
    }

    async fn accept(&self) -> anyhow::Result<NoRequest> {
        std::future::pending().await
    }
}

impl NetIncomingRequest for NoRequest {
    type Connection = Connection;

    fn remote_addr(&self) -> SocketAddr {
        match *self {}
    }

    async fn accept(self) -> anyhow::Result<Connection> {
        match self {}
    }
}
