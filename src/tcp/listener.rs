//! A bound TCP port and its incoming connections.
//!
//! Accepting is cheap: it reads nothing, except which client a trusted proxy states. Protocol detection and the handshake run in
//! [`TcpIncomingRequest::accept`](NetIncomingRequest::accept), within the handshake timeout.
//! Invariant: a peer that fails authentication learns only that it was refused, and which version of the
//! protocol this side speaks if its own is another.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::accepted_streams::{Handed, Pushed, StreamReceiver};
use super::admission::{Admission, Admitted, Room};
use super::carrier::{Readers, TcpConnection};
use super::error::AcceptError;
use super::opening::{Opened, Opening, OpeningTerms, Requests};
#[cfg(feature = "http")]
use super::plain_requests::PlainRequests;
use super::proxy::Proxies;
use super::tls::TlsPolicy;
use crate::credential::NetCredential;
use crate::net::{AcceptFailure, Alpn, NetIncomingRequest, NetListener};
use crate::rt::sync::Mutex;
use crate::rt::{self, BoxFuture};
use crate::secure::{
    self, Endpoints, HandshakeError, HandshakeParams, ReceiveMemory, SecureConfig,
};

/// The wait before accepting again when the system is out of file descriptors or memory.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);
/// The time in which a trusted proxy must state its client. It does so at once, or has the head of a request
/// before it connects.
const IDENTIFY_TIME: Duration = Duration::from_secs(2);

/// A bound TCP port. Dropping it frees the port immediately.
#[derive(Debug)]
pub struct TcpListener {
    listener: tokio::net::TcpListener,
    local_addr: SocketAddr,
    admission: Admission,
    refused: AtomicU64,
    shortages: AtomicU64,
    identifying: Identifying,
    streams: Streams,
    /// Whether the port comes before `streams` the next time.
    is_port_first: AtomicBool,
    terms: Arc<Terms>,
}

/// The streams that a listener takes over besides those of its port.
#[derive(Debug)]
pub(super) struct Streams {
    /// Those that a server of the user has accepted.
    pub(super) accepted: Option<StreamReceiver>,
    /// WebSockets that were requested after other requests.
    #[cfg(feature = "http")]
    pub(super) upgraded: Option<StreamReceiver>,
}

/// The handshake parameters that all incoming connections of a listener share.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) alpn_supported: Vec<Alpn>,
    pub(super) credential: NetCredential,
    pub(super) secure: SecureConfig,
    pub(super) readers: Readers,
    pub(super) memory: ReceiveMemory,
    pub(super) proxies: Proxies,
    pub(super) tls: TlsPolicy,
    #[cfg(feature = "http")]
    pub(super) requests: Option<PlainRequests>,
    /// The most connections of trusted proxies that have not stated their client yet.
    pub(super) max_identifying: usize,
}

impl Terms {
    /// Returns whether there is a service for HTTP requests that ask for no WebSocket.
    fn takes_requests(&self) -> bool {
        #[cfg(feature = "http")]
        return self.requests.is_some();
        #[cfg(not(feature = "http"))]
        false
    }

    fn serve_requests(&self, stream: Requests, endpoints: Endpoints) {
        #[cfg(feature = "http")]
        if let Some(requests) = &self.requests {
            requests.serve(stream, endpoints);
        }
        #[cfg(not(feature = "http"))]
        drop((stream, endpoints));
    }
}

/// An incoming TCP connection that has not authenticated yet. Dropping it closes the connection.
#[derive(Debug)]
pub struct TcpIncomingRequest {
    endpoints: Endpoints,
    terms: Arc<Terms>,
    /// An error if a trusted proxy has not stated its client, or there are too many that have not.
    admitted: Result<Admitted, AcceptError>,
}

/// An incoming connection of which a trusted proxy has stated the client, or failed to.
type Identified = (Endpoints, Result<Opening, AcceptError>);

/// The connections of trusted proxies that have not stated their client yet.
type Identifying = Mutex<FuturesUnordered<BoxFuture<'static, Identified>>>;

/// An event of a listener: the client of a proxy is known, or a stream was accepted, here or elsewhere.
enum ListenerEvent {
    Identified(Identified),
    Handed(Handed),
    Accepted(io::Result<(TcpStream, SocketAddr)>),
}

impl TcpListener {
    pub(super) async fn bind(
        addr: SocketAddr,
        terms: Terms,
        admission: Admission,
        streams: Streams,
    ) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(addr).await?;
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener,
            admission,
            refused: AtomicU64::new(0),
            shortages: AtomicU64::new(0),
            identifying: Mutex::default(),
            streams,
            is_port_first: AtomicBool::new(true),
            terms: Arc::new(terms),
        })
    }

    /// Returns the number of incoming connections that were closed because too many others had not
    /// authenticated yet, or too many of trusted proxies had not stated their client.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the next connection of a trusted proxy with its client, or the next connection.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<ListenerEvent> {
        if let Poll::Ready(Some(identified)) = self.identifying.lock().poll_next_unpin(cx) {
            return Poll::Ready(ListenerEvent::Identified(identified));
        }
        // In turns, so that none of the two keeps the other waiting.
        let is_port_first = self.is_port_first.fetch_xor(true, Ordering::Relaxed);
        if is_port_first && let Poll::Ready(accepted) = self.listener.poll_accept(cx) {
            return Poll::Ready(ListenerEvent::Accepted(accepted));
        }
        if let Poll::Ready(handed) = self.streams.poll_next(cx) {
            return Poll::Ready(ListenerEvent::Handed(handed));
        }
        self.listener.poll_accept(cx).map(ListenerEvent::Accepted)
    }

    /// Begins to read which client the proxy states that has connected.
    ///
    /// # Errors
    ///
    /// Fails if too many have not stated theirs.
    fn identify(&self, endpoints: Endpoints, mut opening: Opening) -> Result<(), AcceptError> {
        let identifying = self.identifying.lock();
        let max = self.terms.max_identifying;
        // They state it at once, so this many are not honest, or not proxies of that kind.
        if identifying.len() >= max {
            drop(identifying);
            self.count_refused(endpoints.remote);
            return Err(AcceptError::TooManyUnidentified { max });
        }
        let terms = Arc::clone(&self.terms);
        identifying.push(Box::pin(async move {
            let client = opening.identify(endpoints.remote, &terms.proxies);
            let client = match rt::timeout(IDENTIFY_TIME, client).await {
                Ok(client) => client,
                Err(elapsed) => Err(AcceptError::ProxySilent { after: elapsed.0 }),
            };
            match client {
                Ok(remote) => (
                    Endpoints {
                        remote,
                        ..endpoints
                    },
                    Ok(opening),
                ),
                Err(error) => (endpoints, Err(error)),
            }
        }));
        Ok(())
    }

    fn request(
        &self,
        endpoints: Endpoints,
        opening: Result<Opening, AcceptError>,
    ) -> TcpIncomingRequest {
        let admitted = opening.map(|opening| {
            let (admitted, room) = self.admission.admit(endpoints.remote.ip(), opening);
            if room == Room::Made {
                self.count_refused(endpoints.remote);
            }
            admitted
        });
        TcpIncomingRequest {
            endpoints,
            terms: Arc::clone(&self.terms),
            admitted,
        }
    }

    fn request_of_pushed(&self, pushed: Pushed) -> TcpIncomingRequest {
        let Pushed {
            stream,
            received,
            remote,
            contents,
        } = pushed;
        let local = stream.tcp().map(TcpStream::local_addr);
        let endpoints = Endpoints {
            local: local.and_then(Result::ok).unwrap_or(self.local_addr),
            remote,
        };
        let opening = Opening::pushed(stream, received, contents);
        self.request(endpoints, Ok(opening))
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
            match poll_fn(|cx| self.poll_next(cx)).await {
                ListenerEvent::Identified((endpoints, opening)) => {
                    return Ok(self.request(endpoints, opening));
                }
                ListenerEvent::Handed(Handed::Stream(pushed)) => {
                    return Ok(self.request_of_pushed(pushed));
                }
                ListenerEvent::Handed(Handed::Lost(loss, remote)) => {
                    let endpoints = Endpoints {
                        local: self.local_addr,
                        remote,
                    };
                    return Ok(self.request(endpoints, Err(loss.into())));
                }
                ListenerEvent::Accepted(Ok((stream, remote))) => {
                    let endpoints = Endpoints {
                        local: stream.local_addr().unwrap_or(self.local_addr),
                        remote,
                    };
                    let opening = Opening::new(stream);
                    if !self.terms.proxies.trusts(remote.ip()) {
                        return Ok(self.request(endpoints, Ok(opening)));
                    }
                    if let Err(error) = self.identify(endpoints, opening) {
                        return Ok(self.request(endpoints, Err(error)));
                    }
                }
                ListenerEvent::Accepted(Err(error)) if is_about_one_stream(&error) => {}
                ListenerEvent::Accepted(Err(error)) if is_fatal(&error) => return Err(error.into()),
                ListenerEvent::Accepted(Err(error)) => self.wait_for_resources(&error).await,
            }
        }
    }
}

impl Streams {
    fn poll_next(&self, cx: &Context<'_>) -> Poll<Handed> {
        #[cfg(feature = "http")]
        if let Some(upgraded) = &self.upgraded
            && let Poll::Ready(handed) = upgraded.poll_next(cx)
        {
            return Poll::Ready(handed);
        }
        match &self.accepted {
            Some(accepted) => accepted.poll_next(cx),
            None => Poll::Pending,
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

    /// Returns `false` if the connection was refused already, so that it takes no place of a handshake.
    fn needs_handshake(&self) -> bool {
        self.admitted.is_ok()
    }

    async fn accept(self) -> anyhow::Result<TcpConnection> {
        let admitted = self.admitted?;
        let limit = self.terms.secure.handshake_timeout;
        let mut authenticating = pin!(authenticate(self.endpoints, &self.terms, &admitted));
        let authenticating = poll_fn(|cx| match admitted.poll_evicted(cx) {
            Poll::Ready(()) => Poll::Ready(Err(AcceptError::TooManyUnauthenticated.into())),
            Poll::Pending => authenticating.as_mut().poll(cx),
        });
        match rt::timeout(limit, authenticating).await {
            Ok(result) => result,
            Err(elapsed) => Err(HandshakeError::Timeout { after: elapsed.0 }.into()),
        }
    }

    fn failure(error: &anyhow::Error) -> Option<AcceptFailure> {
        if let Some(error) = error.downcast_ref::<AcceptError>() {
            return error.failure();
        }
        let error = error.downcast_ref::<HandshakeError>();
        Some(error.map_or(AcceptFailure::Other, HandshakeError::failure))
    }
}

async fn authenticate(
    mut endpoints: Endpoints,
    terms: &Terms,
    admitted: &Admitted,
) -> anyhow::Result<TcpConnection> {
    let stream = admitted.take_stream();
    let stream = stream.ok_or(AcceptError::TooManyUnauthenticated)?;
    let opening = OpeningTerms {
        tls: &terms.tls,
        proxies: &terms.proxies,
        takes_requests: terms.takes_requests(),
        readers: &terms.readers,
    };
    let opened = stream.open(opening, &mut endpoints.remote).await?;
    let (reader, writer) = match opened {
        Opened::Carrier(reader, writer) => (reader, writer),
        Opened::Requests(requests) => {
            terms.serve_requests(requests, endpoints);
            return Err(AcceptError::PlainRequest.into());
        }
    };
    let params = HandshakeParams {
        endpoints,
        alpn: &terms.alpn_supported,
        credential: &terms.credential,
        config: &terms.secure,
        memory: &terms.memory,
    };
    Ok(secure::accept(reader, writer, &params).await?)
}
