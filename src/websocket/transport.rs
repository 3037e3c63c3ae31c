//! Dialling and resolving.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::config::WebSocketConfig;
use super::diagnosis;
use super::frames::{self, WebSocketConnection, WebSocketReader, WebSocketWriter};
use super::listener::WebSocketListener;
use super::names::{self, ResolvedNames};
use super::openings::{Openings, Outcome};
use super::socket::Socket;
use crate::credential::NetCredential;
use crate::net::{Alpn, ConnectError, NetTransport, PartialStats, is_dialable, unspecified_like};
use crate::rt::{self, Instant};
use crate::secure::{self, Endpoints, HandshakeParams, ReceiveMemory, Suite};

/// The time limit of a handshake when opening the WebSocket has used all of the dial's time. It is
/// the shortest that [`SecureConfig`](crate::secure::SecureConfig) allows; the dial then fails with
/// a timeout.
const MIN_HANDSHAKE_TIME: Duration = Duration::from_millis(1);

/// The network of a browser tab: it dials over WebSocket, and cannot listen.
///
/// Clones share the table of resolved names and the count of open sockets.
#[derive(Debug, Clone)]
pub struct WebSocketTransport {
    config: WebSocketConfig,
    names: ResolvedNames,
    openings: Openings,
    live: Arc<AtomicUsize>,
    memory: ReceiveMemory,
}

impl WebSocketTransport {
    /// Returns a transport with the given limits.
    ///
    /// Invalid limits are reported by
    /// [`create_listener`](NetTransport::create_listener) and [`connect`](NetTransport::connect).
    pub fn new(config: WebSocketConfig) -> Self {
        Self {
            memory: config.secure.receive_memory(),
            config,
            names: ResolvedNames::default(),
            openings: Openings::default(),
            live: Arc::default(),
        }
    }

    /// Returns the number of WebSockets that this transport and its clones hold, including those
    /// that are still opening.
    pub fn open_sockets(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Opens a WebSocket to `addr` and returns its halves, without a handshake. Run
    /// [`secure::dial`] over them, or a protocol of frames that is secured by other means.
    ///
    /// The limits are used as they are, without validation: a protocol with short frames may need a
    /// smaller [`max_unread_bytes`](WebSocketConfig::max_unread_bytes) than the secure channel.
    /// Dropping the future closes the WebSocket.
    ///
    /// # Errors
    ///
    /// Fails if the WebSocket cannot be opened, or not within
    /// [`open_timeout`](WebSocketConfig::open_timeout), or
    /// [`connect_timeout`](WebSocketConfig::connect_timeout) with the time for which it gives way to others.
    pub async fn open(
        &self,
        addr: SocketAddr,
    ) -> Result<(WebSocketReader, WebSocketWriter), ConnectError> {
        let url = match self.names.url(addr) {
            Some(url) => url,
            // Also an address that stands for a name which was forgotten.
            None if !is_dialable(addr) => {
                return Err(ConnectError::NotDialable { addr });
            }
            None => names::plain_url(addr),
        };
        let after = self.config.connect_timeout;
        let opened = rt::timeout(after, self.open_in_turn(addr, &url)).await;
        opened.unwrap_or_else(|rt::Elapsed(after)| Err(ConnectError::Timeout { addr, after }))
    }

    /// Opens a WebSocket when it is its turn among those to the same host, as often as it has to give way.
    async fn open_in_turn(
        &self,
        addr: SocketAddr,
        url: &str,
    ) -> Result<(WebSocketReader, WebSocketWriter), ConnectError> {
        let after = self.config.open_timeout;
        let opening = self.openings.enter(names::host(url), url, after);
        loop {
            opening.turn().await;
            let socket = Socket::new(url, self.config.max_unread_bytes, &self.live)
                .map_err(|thrown| diagnosis::not_created(addr, url, &thrown))?;
            let opened = opening.wait(poll_fn(|cx| socket.poll_open(cx))).await;
            match opened {
                Outcome::Ended(Ok(())) => {
                    opening.ended(true);
                    return Ok(frames::halves(socket, names::is_local(url)));
                }
                Outcome::Ended(Err(error)) => {
                    opening.ended(false);
                    tracing::debug!(%addr, url, %error, "a WebSocket did not open");
                    return Err(diagnosis::not_opened(addr, url));
                }
                Outcome::TimedOut => {
                    opening.ended(false);
                    return Err(ConnectError::Timeout { addr, after });
                }
                Outcome::GiveWay => {}
            }
        }
    }
}

impl Default for WebSocketTransport {
    fn default() -> Self {
        Self::new(WebSocketConfig::default())
    }
}

impl NetTransport for WebSocketTransport {
    type Listener = WebSocketListener;
    type Connection = WebSocketConnection;

    /// Returns a listener that never accepts a connection, because a browser cannot listen.
    ///
    /// # Errors
    ///
    /// Fails with [`CannotListen`](super::CannotListen) unless `bind_addr` is the unspecified
    /// address with port 0, and with [`ConfigError`](crate::ConfigError) if the limits are invalid.
    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        _alpn_supported: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<WebSocketListener> {
        self.config.validate()?;
        Ok(WebSocketListener::bind(bind_addr)?)
    }

    /// Opens a WebSocket to `addr` and runs the handshake of the secure channel inside it. Dropping
    /// the future closes the WebSocket.
    ///
    /// # Errors
    ///
    /// Fails with [`ConnectError`], with [`HandshakeError`](crate::secure::HandshakeError), or with
    /// [`ConfigError`](crate::ConfigError) if the limits are invalid.
    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<WebSocketConnection> {
        self.config.validate()?;
        let began = Instant::now();
        let (reader, writer) = self.open(addr).await?;
        let mut config = self.config.secure.clone();
        let left = self.config.connect_timeout.saturating_sub(began.elapsed());
        config.handshake_timeout = config.handshake_timeout.min(left).max(MIN_HANDSHAKE_TIME);
        let endpoints = Endpoints {
            // A browser does not show its own address. The handshake replaces this by what the peer
            // sees.
            local: unspecified_like(addr),
            remote: addr,
        };
        let params = HandshakeParams {
            endpoints,
            alpn: alpn_preferred,
            credential,
            config: &config,
            memory: &self.memory,
        };
        Ok(secure::dial(reader, writer, Suite::ChaChaPoly, &params).await?)
    }

    fn partial_stats(&self) -> PartialStats {
        self.memory.stats()
    }

    fn max_message_len(&self) -> usize {
        self.config.secure.max_message_len
    }

    /// Returns one address for `IP:PORT`, `[IPv6]:PORT`, `HOST:PORT`, or a URL that starts with
    /// `ws://` or `wss://`. It sends no query.
    ///
    /// `localhost` is 127.0.0.1. A name that is more than an IP address and a port (another host
    /// name, TLS, a path) is given an address of the prefix 100::/64 (RFC 6666) that stands for it:
    /// `connect` on this transport and its clones accepts that address, and the browser resolves
    /// the host name. The 256 names that were used last are remembered. `HOST:PORT` without a
    /// scheme means `wss://` on a page that was loaded over `https://`, because such a page may
    /// open nothing else, and `ws://` otherwise.
    ///
    /// # Errors
    ///
    /// Fails with [`NameError`](super::NameError) if `name` has none of these forms.
    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![self.names.resolve(name)?])
    }

    /// Checks that [`resolve`](Self::resolve) accepts `name`.
    ///
    /// # Errors
    ///
    /// Fails with [`NameError`](super::NameError) if it does not.
    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        names::target(name)?;
        Ok(())
    }
}
