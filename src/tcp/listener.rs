//! A bound TCP port and its incoming connections.
//!
//! Accepting is cheap: it reads nothing. Protocol detection and the handshake run in
//! [`TcpIncomingRequest::accept`](NetIncomingRequest::accept), within the handshake timeout.
//! Invariant: a peer that fails authentication learns only that it was refused, and which version of the
//! protocol this side speaks if its own is another.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::admission::{Admission, Admitted, Room};
use super::carrier::{Acks, Reader, TcpConnection, TcpReader, TcpWriter, Writer, raw, websocket};
use super::error::AcceptError;
use super::http;
use super::notices::Notices;
use super::sniff::{Protocol, sniff};
use crate::credential::NetCredential;
use crate::net::{AcceptFailure, Alpn, NetIncomingRequest, NetListener};
use crate::rt;
use crate::secure::{
    self, Endpoints, HandshakeError, HandshakeParams, PartialMessages, SecureConfig,
};

/// The wait before accepting again when the system is out of file descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A bound TCP port. Dropping it frees the port immediately.
#[derive(Debug)]
pub struct TcpListener {
    listener: tokio::net::TcpListener,
    local_addr: SocketAddr,
    admission: Admission,
    refused: AtomicU64,
    shortages: AtomicU64,
    terms: Arc<Terms>,
}

/// The handshake parameters that all incoming connections of a listener share.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) alpn_supported: Vec<Alpn>,
    pub(super) credential: NetCredential,
    pub(super) secure: SecureConfig,
    pub(super) acks: Acks,
    pub(super) partials: PartialMessages,
    pub(super) notices: Notices,
}

/// An incoming TCP connection that has not authenticated yet. Dropping it closes the connection.
#[derive(Debug)]
pub struct TcpIncomingRequest {
    endpoints: Endpoints,
    terms: Arc<Terms>,
    admitted: Admitted,
}

impl TcpListener {
    pub(super) async fn bind(
        addr: SocketAddr,
        terms: Terms,
        admission: Admission,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(addr).await?;
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener,
            admission,
            refused: AtomicU64::new(0),
            shortages: AtomicU64::new(0),
            terms: Arc::new(terms),
        })
    }

    /// Returns the number of incoming connections that were closed because too many others had not
    /// authenticated yet.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Logs that `accept` failed for lack of resources, and waits until it may work again.
    async fn wait_for_resources(&self, error: &io::Error) {
        let shortages = self.shortages.fetch_add(1, Ordering::Relaxed) + 1;
        if shortages.is_power_of_two() {
            tracing::warn!(%error, shortages, "cannot accept a connection, retrying");
        }
        rt::sleep(SHORTAGE_PAUSE).await;
    }

    fn count_refused(&self, newcomer: SocketAddr) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // One line per doubling, so that a flood of connections does not flood the log.
        if refused.is_power_of_two() {
            tracing::warn!(%newcomer, refused, "ended a connection, too many are unauthenticated");
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
                    self.wait_for_resources(&error).await;
                    continue;
                }
            };
            let endpoints = Endpoints {
                local: stream.local_addr().unwrap_or(self.local_addr),
                remote,
            };
            let (admitted, room) = self.admission.admit(remote.ip(), stream);
            if room == Room::Made {
                self.count_refused(remote);
            }
            return Ok(TcpIncomingRequest {
                endpoints,
                terms: Arc::clone(&self.terms),
                admitted,
            });
        }
    }
}

/// Returns whether the connection failed before it was accepted, while the listener still works.
fn is_about_one_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Returns whether the listener can never accept again.
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
        let limit = self.terms.secure.handshake_timeout;
        let mut authenticating = pin!(self.authenticate());
        let authenticating = poll_fn(|cx| match self.admitted.poll_evicted(cx) {
            Poll::Ready(()) => Poll::Ready(Err(AcceptError::TooManyUnauthenticated.into())),
            Poll::Pending => authenticating.as_mut().poll(cx),
        });
        match rt::timeout(limit, authenticating).await {
            Ok(result) => result,
            Err(elapsed) => Err(HandshakeError::Timeout { after: elapsed.0 }.into()),
        }
    }

    fn failure(error: &anyhow::Error) -> AcceptFailure {
        if let Some(error) = error.downcast_ref::<AcceptError>() {
            return error.failure();
        }
        let error = error.downcast_ref::<HandshakeError>();
        error.map_or(AcceptFailure::Other, HandshakeError::failure)
    }
}

impl TcpIncomingRequest {
    async fn authenticate(&self) -> anyhow::Result<TcpConnection> {
        let (endpoints, terms) = (self.endpoints, &self.terms);
        let stream = self.admitted.take_stream();
        let stream = stream.ok_or(AcceptError::TooManyUnauthenticated)?;
        let opened = open_carrier(stream, &terms.acks).await;
        if let Err(AcceptError::Http10) = &opened {
            terms.notices.http10(endpoints.remote);
        }
        let (reader, writer) = opened?;
        let params = HandshakeParams {
            endpoints,
            alpn: &terms.alpn_supported,
            credential: &terms.credential,
            config: &terms.secure,
            partials: &terms.partials,
        };
        Ok(secure::accept(reader, writer, &params).await?)
    }
}

/// Detects the protocol of an incoming connection and returns the carrier of frames over it.
async fn open_carrier(
    mut stream: TcpStream,
    acks: &Acks,
) -> Result<(TcpReader, TcpWriter), AcceptError> {
    stream.set_nodelay(true)?;
    let mut start = BytesMut::new();
    match sniff(&mut stream, &mut start).await? {
        Some(Protocol::Frames) => {
            let (reader, writer) = raw::split(stream, start, acks);
            Ok((
                TcpReader(Reader::Raw(reader)),
                TcpWriter(Writer::Raw(writer)),
            ))
        }
        Some(Protocol::Http) => {
            let request = http::read_request(&mut stream, &mut start).await?;
            http::answer(&mut stream, request).await?;
            let (reader, writer) = websocket::split(stream, start, acks);
            Ok((
                TcpReader(Reader::WebSocket(Box::new(reader))),
                TcpWriter(Writer::WebSocket(writer)),
            ))
        }
        Some(Protocol::Tls) => Err(AcceptError::TlsNotConfigured),
        None => Err(AcceptError::UnknownProtocol),
    }
}
