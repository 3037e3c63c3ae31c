//! A network of your own: Unix domain sockets below the transport layer.
//!
//! A network implements [`NetTransport`]. The quickest way is to carry frames: with a
//! [`FrameReader`] and a [`FrameWriter`], [`secure`] adds the handshake, encryption and messages of
//! any length, and its connection is a `NetConnection` already.
//!
//! The address `127.0.0.1:PORT` stands for the file `PORT.sock` in a folder. The permissions of the
//! folder decide who may connect; unlike `TcpTransport`, this network does not limit the number of
//! handshakes that run at the same time.
//!
//! ```sh
//! cargo run --example custom_network
//! ```
#![cfg(unix)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use gossip_transport::net::{
    Alpn, ConnectError, NetIncomingRequest, NetListener, NetTransport, check_listenable,
    is_dialable,
};
use gossip_transport::secure::{
    self, Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, HandshakeParams,
    ReceiveMemory, SecureConfig, SecureConnection, Suite,
};
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("custom-network-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = run(&folder, |line| println!("{line}")).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

/// Sends a message from one socket to another, and the answer back over the same connection.
pub(crate) async fn run(folder: &Path, mut print: impl FnMut(String)) -> anyhow::Result<()> {
    let secret = ClusterSecret::generate();
    let open = async |port: u16| {
        let credential = NetCredential::generate(Trust::secret(secret.clone()));
        let transport = TransportLayerTransport::new(UnixTransport::new(folder), credential);
        transport.open((Ipv4Addr::LOCALHOST, port).into()).await
    };
    let (ada, bob) = (open(1).await?, open(2).await?);

    ada.send(bob.local_addr(), Bytes::from_static(b"ping"))
        .await?;
    let (from, message): (SocketAddr, Bytes) = bob.recv().await?;
    print(format!("bob received {message:?} from {from}"));

    bob.send(from, Bytes::from_static(b"pong")).await?;
    let (from, message) = ada.recv().await?;
    print(format!("ada received {message:?} from {from}"));
    Ok(())
}

/// Unix domain sockets in one folder.
#[derive(Debug, Clone)]
pub(crate) struct UnixTransport {
    folder: Arc<Path>,
    config: SecureConfig,
    memory: ReceiveMemory,
}

impl UnixTransport {
    /// Creates a network whose socket files are in `folder`, which must exist.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            memory: SecureConfig::default().receive_memory(),
            config: SecureConfig::default(),
        }
    }

    fn file(&self, port: u16) -> PathBuf {
        self.folder.join(format!("{port}.sock"))
    }

    /// Binds `port`, or the first port that is free if it is 0.
    fn bind(&self, port: u16) -> io::Result<(UnixListener, u16)> {
        let ports = if port == 0 { 1..=u16::MAX } else { port..=port };
        for port in ports {
            match UnixListener::bind(self.file(port)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                result => return Ok((result?, port)),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl NetTransport for UnixTransport {
    type Listener = Listener;
    type Connection = SecureConnection<Reader, Writer>;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Listener> {
        check_listenable(bind_addr)?;
        let (socket, port) = self.bind(bind_addr.port())?;
        Ok(Listener {
            socket,
            addr: SocketAddr::new(bind_addr.ip(), port),
            file: self.file(port),
            accepted: AtomicU16::new(0),
            acceptor: Arc::new(Acceptor {
                alpn: alpn_supported.to_vec(),
                credential: credential.clone(),
                config: self.config.clone(),
                memory: self.memory.clone(),
            }),
        })
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Connection> {
        if !is_dialable(addr) {
            return Err(ConnectError::NotDialable { addr }.into());
        }
        let stream = UnixStream::connect(self.file(addr.port()))
            .await
            .map_err(|source| ConnectError::Io { addr, source })?;
        let (reader, writer) = split(stream);
        // The acceptor assigns our address and reports it in the handshake.
        let local = (Ipv4Addr::UNSPECIFIED, 0).into();
        let params = HandshakeParams {
            endpoints: Endpoints {
                local,
                remote: addr,
            },
            alpn: alpn_preferred,
            credential,
            config: &self.config,
            memory: &self.memory,
        };
        Ok(secure::dial(reader, writer, Suite::preferred(), &params).await?)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![name.parse()?])
    }

    fn max_message_len(&self) -> usize {
        self.config.max_message_len
    }
}

/// A bound socket file. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    addr: SocketAddr,
    file: PathBuf,
    /// Number of connections so far, from which the addresses of their peers are made.
    accepted: AtomicU16,
    acceptor: Arc<Acceptor>,
}

/// The parameters of incoming handshakes.
#[derive(Debug)]
struct Acceptor {
    alpn: Vec<Alpn>,
    credential: NetCredential,
    config: SecureConfig,
    memory: ReceiveMemory,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If this fails, the port stays in use.
        let _ = std::fs::remove_file(&self.file);
    }
}

impl NetListener for Listener {
    type IncomingRequest = Request;
    type Connection = SecureConnection<Reader, Writer>;

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    async fn accept(&self) -> anyhow::Result<Request> {
        let (stream, _) = self.socket.accept().await?;
        // The dialling end of a Unix socket has no address. Each is given an address of its own, on
        // another host than the listeners, so that answers find their connection.
        let port = self.accepted.fetch_add(1, Ordering::Relaxed).max(1);
        Ok(Request {
            stream,
            endpoints: Endpoints {
                local: self.addr,
                remote: ([127, 0, 0, 2], port).into(),
            },
            acceptor: Arc::clone(&self.acceptor),
        })
    }
}

/// An incoming connection before the handshake. Dropping it closes the stream.
#[derive(Debug)]
pub(crate) struct Request {
    stream: UnixStream,
    endpoints: Endpoints,
    acceptor: Arc<Acceptor>,
}

impl NetIncomingRequest for Request {
    type Connection = SecureConnection<Reader, Writer>;

    fn remote_addr(&self) -> SocketAddr {
        self.endpoints.remote
    }

    async fn accept(self) -> anyhow::Result<Self::Connection> {
        let (reader, writer) = split(self.stream);
        let params = HandshakeParams {
            endpoints: self.endpoints,
            alpn: &self.acceptor.alpn,
            credential: &self.acceptor.credential,
            config: &self.acceptor.config,
            memory: &self.acceptor.memory,
        };
        Ok(secure::accept(reader, writer, &params).await?)
    }
}

fn split(stream: UnixStream) -> (Reader, Writer) {
    let (reading, writing) = stream.into_split();
    let buffer = BytesMut::new();
    (
        Reader {
            stream: reading,
            buffer,
        },
        Writer { stream: writing },
    )
}

/// Reads frames, each after its length as a big-endian `u16`.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    /// Bytes that have been read and not returned. They are kept here rather than in a future, so
    /// that dropping a call of `read_frame` loses nothing.
    buffer: BytesMut,
}

impl Reader {
    fn split_frame(&mut self) -> Option<BytesMut> {
        let (len, rest) = self.buffer.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*len));
        if rest.len() < len {
            return None;
        }
        self.buffer.advance(2);
        Some(self.buffer.split_to(len))
    }
}

impl FrameReader for Reader {
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        loop {
            if let Some(frame) = self.split_frame() {
                return Ok(Some(FrameEvent::Frame(frame)));
            }
            self.buffer.reserve(64 << 10);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }
}

/// Writes frames as they are in a [`FrameBuffer`].
#[derive(Debug)]
pub(crate) struct Writer {
    stream: OwnedWriteHalf,
}

impl FrameWriter for Writer {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        while !frames.is_empty() {
            // Removes the bytes that the socket has taken from the buffer, so that the next call
            // continues where a dropped one stopped.
            if self.stream.write_buf(frames.bytes_mut()).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
