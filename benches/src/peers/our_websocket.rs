//! Ours as a browser speaks it: records inside a WebSocket, ChaChaPoly, on the listener's one port.
//!
//! Natively the library only accepts WebSockets; the dialling end, which is a browser's part, is
//! made here of the library's seam and a WebSocket client.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use gossip_transport::net::{Alpn, NetIncomingRequest, NetListener, NetTransport};
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, SecureConfig,
    SecureConnection, Suite,
};
use gossip_transport::{NetCredential, TransportLayerSocket, TransportLayerTransport, Trust};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Config, Message, WebSocketStream};

use super::{OurSocket, config, network, secret};
use crate::peer::{Link, Node};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const FLUSH_THRESHOLD: usize = 256 << 10;

type Stream = WebSocketStream<TcpStream>;
type DiallingSocket = TransportLayerSocket<Dialling, Bytes>;

/// See the module.
#[derive(Debug)]
pub struct OurWebSocket {
    listening: Arc<OurSocket>,
    /// Made with the first connection.
    dialling: OnceLock<Arc<DiallingSocket>>,
}

/// A peer of either socket.
#[derive(Debug)]
pub enum OurWebSocketLink {
    /// One that has dialled.
    Accepted(Arc<OurSocket>, SocketAddr),
    /// One that was dialled.
    Dialled(Arc<DiallingSocket>, SocketAddr),
}

impl Link for OurWebSocketLink {
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
    type Link = OurWebSocketLink;
    type From = SocketAddr;

    async fn bind() -> anyhow::Result<Self> {
        let socket = network(|_| {}).open("127.0.0.1:0".parse()?).await?;
        Ok(Self {
            listening: Arc::new(socket),
            dialling: OnceLock::new(),
        })
    }

    fn addr(&self) -> SocketAddr {
        self.listening.local_addr()
    }

    async fn connect(&self, to: SocketAddr) -> anyhow::Result<OurWebSocketLink> {
        let credential = NetCredential::generate(Trust::secret(secret()));
        let transport = TransportLayerTransport::with_config(Dialling, credential, config());
        let socket = Arc::new(transport.open("0.0.0.0:0".parse()?).await?);
        let outgoing = socket.get_or_create_outgoing_connection(to)?;
        outgoing.connected(CONNECT_LIMIT).await?;
        let _ = self.dialling.set(Arc::clone(&socket));
        Ok(OurWebSocketLink::Dialled(socket, to))
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, Bytes)> {
        match self.dialling.get() {
            Some(socket) => Ok(socket.recv().await?),
            None => Ok(self.listening.recv().await?),
        }
    }

    fn link_to(&self, to: SocketAddr) -> OurWebSocketLink {
        OurWebSocketLink::Accepted(Arc::clone(&self.listening), to)
    }
}

/// The network of one who dials only.
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
        let connection = secure::dial(
            Reader(reader),
            Writer(writer),
            endpoints,
            Suite::ChaChaPoly,
            alpn_preferred,
            credential,
            &config,
        );
        Ok(connection.await?)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![name.parse()?])
    }
}

/// Frames as binary messages.
#[derive(Debug)]
pub struct Reader(SplitStream<Stream>);

/// Frames as binary messages.
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

/// Accepts nobody.
#[derive(Debug)]
pub struct NoListener(SocketAddr);

/// Cannot exist.
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
