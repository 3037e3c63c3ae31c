//! Helpers for the tests of the listener: a server that reports the outcome of each handshake, a
//! WebSocket client that carries frames, and plain TCP streams that send arbitrary bytes.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use gossip_transport::net::{Alpn, NetIncomingRequest as _, NetListener as _, NetTransport as _};
use gossip_transport::rt::Task;
use gossip_transport::secure::{
    Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeError, SecureConnection,
};
use gossip_transport::tcp::{TcpConfig, TcpConnection, TcpTransport};
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

use crate::support::layer::dial_over;
use crate::support::{ANY_PORT, member, soon};

pub const ALPN: Alpn = Alpn::from_static(b"listener-test/1");

pub fn config(change: impl FnOnce(&mut TcpConfig)) -> TcpConfig {
    let mut config = TcpConfig::default();
    change(&mut config);
    config
}

/// A listener on a free port that runs the handshake of each incoming connection in its own task.
pub struct Server {
    pub addr: SocketAddr,
    pub secret: ClusterSecret,
    pub credential: NetCredential,
    outcomes: mpsc::Receiver<anyhow::Result<TcpConnection>>,
    _task: Task,
}

impl Server {
    pub async fn start(config: TcpConfig) -> Self {
        Self::start_trusting(config, |trust| trust).await
    }

    /// Starts a server that trusts its cluster as `adapt` says.
    pub async fn start_trusting(config: TcpConfig, adapt: impl FnOnce(Trust) -> Trust) -> Self {
        Self::start_with(ANY_PORT, config, adapt).await
    }

    /// Starts a server at an address.
    pub async fn start_at(addr: SocketAddr, config: TcpConfig) -> Self {
        Self::start_with(addr, config, |trust| trust).await
    }

    async fn start_with(
        addr: SocketAddr,
        config: TcpConfig,
        adapt: impl FnOnce(Trust) -> Trust,
    ) -> Self {
        let secret = ClusterSecret::generate();
        let credential = NetCredential::generate(adapt(Trust::secret(secret.clone())));
        let listener = TcpTransport::new(config)
            .create_listener(addr, &[ALPN], &credential)
            .await
            .unwrap();
        let addr = listener.local_addr();
        let (report, outcomes) = mpsc::channel(64);
        let task = Task::spawn(async move {
            let mut handshakes = JoinSet::new();
            loop {
                let request = listener.accept().await.unwrap();
                let report = report.clone();
                handshakes.spawn(async move {
                    let outcome = request.accept().await;
                    let _ = report.send(outcome).await;
                });
            }
        });
        Self {
            addr,
            secret,
            credential,
            outcomes,
            _task: task,
        }
    }

    /// Returns the outcome of the next handshake that ends.
    pub async fn outcome(&mut self) -> anyhow::Result<TcpConnection> {
        soon(self.outcomes.recv()).await.unwrap()
    }

    /// Returns the error of the next handshake that ends. Panics if the handshake succeeds or fails
    /// with another type of error.
    pub async fn failure<E: std::error::Error + Send + Sync + 'static>(&mut self) -> E {
        let error = self.outcome().await.expect_err("should have been refused");
        error.downcast().unwrap()
    }

    pub fn member(&self) -> NetCredential {
        member(&self.secret)
    }

    pub async fn dial_raw(&self) -> anyhow::Result<TcpConnection> {
        let dialling = async {
            let credential = self.member();
            let transport = TcpTransport::default();
            transport.connect(self.addr, &[ALPN], &credential).await
        };
        soon(dialling).await
    }

    pub async fn dial_websocket(&self) -> Result<WebSocketConnection, HandshakeError> {
        let (reader, writer) = self.upgrade().await;
        self.shake_hands(reader, writer, &self.member()).await
    }

    /// Opens a WebSocket without a handshake inside.
    pub async fn upgrade(&self) -> (WebSocketReader, WebSocketWriter) {
        self.upgrade_at(self.addr, "/any/path?at=all").await
    }

    /// Opens a WebSocket at another server.
    pub async fn upgrade_at(
        &self,
        addr: SocketAddr,
        path: &str,
    ) -> (WebSocketReader, WebSocketWriter) {
        let stream = TcpStream::connect(addr).await.unwrap();
        let uri = format!("ws://{addr}{path}");
        let builder = ClientBuilder::new().uri(&uri).unwrap();
        let (stream, _answer) = soon(builder.connect_on(stream)).await.unwrap();
        split(stream)
    }

    pub async fn shake_hands<S: Stream>(
        &self,
        reader: WebSocketReader<S>,
        writer: WebSocketWriter<S>,
        credential: &NetCredential,
    ) -> Result<WebSocketConnection<S>, HandshakeError> {
        let endpoints = Endpoints {
            local: ANY_PORT,
            remote: self.addr,
        };
        dial_over((reader, writer), endpoints, ALPN, credential).await
    }
}

/// Returns the carrier of frames over a WebSocket.
pub fn split<S: Stream>(stream: WebSocketStream<S>) -> (WebSocketReader<S>, WebSocketWriter<S>) {
    let (writer, reader) = stream.split();
    (WebSocketReader(reader), WebSocketWriter(writer))
}

pub type WebSocketConnection<S = TcpStream> =
    SecureConnection<WebSocketReader<S>, WebSocketWriter<S>>;

pub struct WebSocketReader<S = TcpStream>(pub SplitStream<WebSocketStream<S>>);
pub struct WebSocketWriter<S = TcpStream>(pub SplitSink<WebSocketStream<S>, Message>);

/// A stream that a WebSocket can be in.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

impl<S: Stream> FrameReader for WebSocketReader<S> {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        match self.0.next().await {
            None => Ok(None),
            Some(Err(error)) => Err(io::Error::other(error)),
            Some(Ok(message)) if message.is_binary() => Ok(Some(FrameEvent::Frame(
                BytesMut::from(message.into_payload()),
            ))),
            Some(Ok(_)) => Ok(Some(FrameEvent::Activity)),
        }
    }
}

impl<S: Stream> FrameWriter for WebSocketWriter<S> {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        loop {
            poll_fn(|cx| self.0.poll_ready_unpin(cx))
                .await
                .map_err(io::Error::other)?;
            let Some(frame) = frames.pop() else { break };
            let message = Message::binary(frame);
            self.0.start_send_unpin(message).map_err(io::Error::other)?;
        }
        self.0.flush().await.map_err(io::Error::other)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.close().await.map_err(io::Error::other)
    }
}

/// Connects to `addr` and sends `start`.
pub async fn connect(addr: SocketAddr, start: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(start).await.unwrap();
    stream
}

/// Connects to `addr` from the address `ip` of the loopback network.
pub async fn connect_from(ip: [u8; 4], addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    socket.connect(addr).await.unwrap()
}

/// Returns all bytes that arrive on `stream` until it ends or breaks.
pub async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read) = soon(stream.read(&mut chunk)).await {
        if read == 0 {
            break;
        }
        received.extend_from_slice(&chunk[..read]);
    }
    received
}
