//! A bound port, and the strangers that knock on it.
//!
//! Accepting is cheap: nothing is read here. The handshake runs in the request's own future, in
//! bounded time. Invariant: a stranger that is refused learns nothing but that it is refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::admission::{Admission, Admitted};
use super::carrier::{Reader, Writer, raw, websocket};
use super::sniff::{Protocol, SniffedStream, sniff};
use super::{TcpConfig, TcpConnection, TcpReader, TcpWriter, http};
use crate::credential::NetCredential;
use crate::net::{Alpn, NetIncomingRequest, NetListener};
use crate::rt;
use crate::secure::{self, Endpoints, HandshakeError};

/// The wait after the system had no descriptor or memory left for a connection.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Why a stranger was not let in, before the secure channel's own handshake; that one fails with
/// [`HandshakeError`]. The stranger is at fault, and others are not affected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Its first bytes begin no protocol that is spoken here.
    #[error("the first bytes are of no known protocol")]
    UnknownProtocol,
    /// It speaks TLS, which is not configured.
    #[error("a TLS client, and TLS is not configured here")]
    TlsNotConfigured,
    /// It speaks HTTP and asks for something else than a WebSocket. It was told so.
    #[error("an HTTP request that asks for no WebSocket")]
    NotAnUpgrade,
    /// The stream broke, or its HTTP was malformed.
    #[error("broken before its handshake: {0}")]
    Io(#[from] io::Error),
}

/// A bound port. Dropping it frees the port at once.
#[derive(Debug)]
pub struct TcpListener {
    listener: tokio::net::TcpListener,
    local_addr: SocketAddr,
    admission: Admission,
    refused: AtomicU64,
    shortages: AtomicU64,
    terms: Arc<Terms>,
}

/// What every request of a listener shares.
#[derive(Debug)]
struct Terms {
    alpn_supported: Vec<Alpn>,
    credential: NetCredential,
    config: TcpConfig,
}

/// A stranger that connected. Dropping it closes its stream.
#[derive(Debug)]
pub struct TcpIncomingRequest {
    stream: TcpStream,
    endpoints: Endpoints,
    terms: Arc<Terms>,
    admitted: Admitted,
}

impl TcpListener {
    pub(super) async fn bind(
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
        config: &TcpConfig,
        admission: Admission,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(bind_addr).await?;
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener,
            admission,
            refused: AtomicU64::new(0),
            shortages: AtomicU64::new(0),
            terms: Arc::new(Terms {
                alpn_supported: alpn_supported.to_vec(),
                credential: credential.clone(),
                config: config.clone(),
            }),
        })
    }

    /// Strangers that were turned away because too many were in handshake.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    async fn wait_out(&self, error: &io::Error) {
        let shortages = self.shortages.fetch_add(1, Ordering::Relaxed) + 1;
        if shortages.is_power_of_two() {
            tracing::warn!(%error, shortages, "cannot accept for now");
        }
        rt::sleep(SHORTAGE_PAUSE).await;
    }

    fn refuse(&self, remote: SocketAddr) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // One line for each doubling: a flood must not become a flood of lines.
        if refused.is_power_of_two() {
            tracing::warn!(%remote, refused, "too many connections in handshake, refusing");
        }
    }
}

impl NetListener for TcpListener {
    type IncomingRequest = TcpIncomingRequest;
    type Connection = TcpConnection;

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    async fn accept(&self) -> anyhow::Result<TcpIncomingRequest> {
        loop {
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_about_one_stream(&error) => continue,
                Err(error) if is_fatal(&error) => return Err(error.into()),
                Err(error) => {
                    self.wait_out(&error).await;
                    continue;
                }
            };
            let Some(admitted) = self.admission.admit(remote.ip()) else {
                self.refuse(remote);
                continue;
            };
            let endpoints = Endpoints {
                local: stream.local_addr().unwrap_or(self.local_addr),
                remote,
            };
            return Ok(TcpIncomingRequest {
                stream,
                endpoints,
                terms: Arc::clone(&self.terms),
                admitted,
            });
        }
    }
}

/// The connection was gone before it was accepted.
fn is_about_one_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// The listener itself is no more.
fn is_fatal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected | io::ErrorKind::Unsupported
    )
}

impl NetIncomingRequest for TcpIncomingRequest {
    type Connection = TcpConnection;

    fn remote_addr(&self) -> SocketAddr {
        self.endpoints.remote
    }

    async fn accept(self) -> anyhow::Result<TcpConnection> {
        let limit = self.terms.config.secure.handshake_timeout;
        match rt::timeout(limit, self.shake_hands()).await {
            Ok(result) => result,
            Err(elapsed) => Err(HandshakeError::Timeout { after: elapsed.0 }.into()),
        }
    }
}

impl TcpIncomingRequest {
    async fn shake_hands(self) -> anyhow::Result<TcpConnection> {
        let Self {
            stream,
            endpoints,
            terms,
            admitted,
        } = self;
        let (reader, writer) = negotiate(stream).await?;
        let connection = secure::accept(
            reader,
            writer,
            endpoints,
            &terms.alpn_supported,
            &terms.credential,
            &terms.config.secure,
        )
        .await?;
        drop(admitted);
        Ok(connection)
    }
}

/// Finds out what the stranger speaks and gives frames over it.
async fn negotiate(mut stream: TcpStream) -> Result<(TcpReader, TcpWriter), AcceptError> {
    stream.set_nodelay(true)?;
    let mut start = BytesMut::new();
    match sniff(&mut stream, &mut start).await? {
        Some(Protocol::Frames) => {
            let (reader, writer) = raw::split(stream, start);
            Ok((
                TcpReader(Reader::Raw(reader)),
                TcpWriter(Writer::Raw(writer)),
            ))
        }
        Some(Protocol::Http) => {
            let request = http::read_request(&mut stream, &mut start).await?;
            if request != http::Request::Upgrade {
                http::refuse(&mut stream, request).await?;
                return Err(AcceptError::NotAnUpgrade);
            }
            let (reader, writer) = websocket::upgrade(SniffedStream::new(start, stream)).await?;
            Ok((
                TcpReader(Reader::WebSocket(reader)),
                TcpWriter(Writer::WebSocket(writer)),
            ))
        }
        Some(Protocol::Tls) => Err(AcceptError::TlsNotConfigured),
        None => Err(AcceptError::UnknownProtocol),
    }
}
