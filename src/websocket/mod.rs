//! The network of a browser tab: WebSocket, in a window and in a worker alike.
//!
//! It dials; it cannot listen. A dial to an IP address opens `ws://IP:PORT/`, at which a native
//! node accepts WebSockets beside TCP; for anything else (`wss://`, a host name, a path) let
//! [`resolve`](NetTransport::resolve) make an address that stands for it. Identity and encryption
//! are [`secure`]'s, inside the WebSocket, whether or not TLS is around it.
//!
//! What a browser does not offer, and what is done about it:
//!
//! - It cannot be told to read more slowly. What arrives and is not read is bounded by
//!   [`WebSocketConfig::max_unread_bytes`]; beyond that the connection ends with
//!   [`WebSocketError::Overflow`].
//! - It takes any amount to send. Writing pauses at 256 KiB, so that queues, their expiry and
//!   their drop policy act on all that is behind.
//! - It does not say why a dial failed. [`ConnectError`] says what may be the cause.
//!
//! | where | what |
//! |---|---|
//! | `socket` | one browser WebSocket: its events, its end, its bounds |
//! | `frames` | the halves of it that `secure` reads from and writes to |
//! | `names` | URLs and host names, and the addresses that stand for them |
//! | `page` | where the page came from, and the words for a failed dial |
//! | `error` | typed errors |
//!
//! Invariant: dropping a connection, or the future of a dial, closes its WebSocket and frees its
//! event handlers in `drop`.

use std::future::poll_fn;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasm_bindgen::JsCast;

use crate::credential::NetCredential;
use crate::net::{Alpn, ConnectError, NetIncomingRequest, NetListener, NetTransport, is_dialable};
use crate::rt::{self, Instant};
use crate::secure::{self, Endpoints, SecureConfig, SecureConnection, Suite};

mod error;
mod frames;
mod names;
mod page;
mod socket;

pub use error::{CannotListen, NameError, WebSocketError};
pub use frames::{WebSocketReader, WebSocketWriter};

use socket::Socket;

/// A connection over a WebSocket.
pub type WebSocketConnection = SecureConnection<WebSocketReader, WebSocketWriter>;

/// Limits of the WebSocket network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// Limits of the secure channel.
    pub secure: SecureConfig,
    /// How long a dial may take in all, the handshake included. Default 10 s.
    pub connect_timeout: Duration,
    /// The most that may arrive on one connection and wait to be read, in bytes; 64 bytes more
    /// count for each frame. Default 16 MiB: the longest message by default, and as much as the
    /// layer above queues for one peer. Whoever reads at once never comes near it.
    pub max_unread_bytes: usize,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            secure: SecureConfig::default(),
            connect_timeout: Duration::from_secs(10),
            max_unread_bytes: 16 << 20,
        }
    }
}

/// WebSocket. Clones share the table of names and the count of open sockets.
#[derive(Debug, Clone, Default)]
pub struct WebSocketTransport {
    config: WebSocketConfig,
    names: names::Names,
    live: Arc<AtomicUsize>,
}

impl WebSocketTransport {
    /// With `config`.
    pub fn new(config: WebSocketConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// WebSockets that this transport and its clones hold now, those that are opening included.
    pub fn open_sockets(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Opens a WebSocket to `addr` and gives its halves, without a handshake: to run
    /// [`secure::dial`] over, or a protocol of frames that is secured elsewhere.
    ///
    /// Dropping the future closes the WebSocket.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or not within
    /// [`connect_timeout`](WebSocketConfig::connect_timeout).
    pub async fn open(
        &self,
        addr: SocketAddr,
    ) -> Result<(WebSocketReader, WebSocketWriter), ConnectError> {
        let url = match self.names.url(addr) {
            Some(url) => url,
            None if names::is_stand_in(addr) || !is_dialable(addr) => {
                return Err(ConnectError::NotDialable { addr });
            }
            None => names::plain_url(addr),
        };
        let socket =
            Socket::new(&url, self.config.max_unread_bytes, &self.live).map_err(|thrown| {
                let name = thrown
                    .dyn_ref::<js_sys::Error>()
                    .map_or_else(String::new, |error| String::from(error.name()));
                page::not_created(addr, &url, &name, &socket::text(&thrown))
            })?;
        let after = self.config.connect_timeout;
        let opened = rt::timeout(after, poll_fn(|cx| socket.poll_open(cx))).await;
        match opened {
            Ok(Ok(())) => Ok(frames::halves(socket)),
            Ok(Err(error)) => {
                tracing::debug!(%addr, url, %error, "a WebSocket did not open");
                Err(page::not_opened(addr, &url))
            }
            Err(rt::Elapsed(after)) => Err(ConnectError::Timeout { addr, after }),
        }
    }
}

impl NetTransport for WebSocketTransport {
    type Listener = WebSocketListener;
    type Connection = WebSocketConnection;

    /// A browser cannot listen: see [`NetTransport::create_listener`]; the error is
    /// [`CannotListen`].
    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        _alpn_supported: &[Alpn],
        _credential: &NetCredential,
    ) -> anyhow::Result<WebSocketListener> {
        if !bind_addr.ip().is_unspecified() || bind_addr.port() != 0 {
            return Err(CannotListen { addr: bind_addr }.into());
        }
        Ok(WebSocketListener {
            local_addr: bind_addr,
        })
    }

    /// See [`NetTransport::connect`]. The errors are [`ConnectError`] and
    /// [`HandshakeError`](crate::secure::HandshakeError).
    async fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<WebSocketConnection> {
        let began = Instant::now();
        let (reader, writer) = self.open(addr).await?;
        let mut config = self.config.secure.clone();
        let left = self.config.connect_timeout.saturating_sub(began.elapsed());
        config.handshake_timeout = config.handshake_timeout.min(left);
        let endpoints = Endpoints {
            local: unspecified(addr),
            remote: addr,
        };
        let connection = secure::dial(
            reader,
            writer,
            endpoints,
            Suite::ChaChaPoly,
            alpn_preferred,
            credential,
            &config,
        );
        Ok(connection.await?)
    }

    fn max_message_len(&self) -> usize {
        self.config.secure.max_message_len
    }

    /// Takes `IP:PORT`, `[IPv6]:PORT`, `HOST:PORT`, and URLs that begin with `ws://` or `wss://`.
    /// Gives one address and asks nobody.
    ///
    /// `localhost` is 127.0.0.1. What is more than an IP address and a port (another host name,
    /// TLS, a path) gets an address out of 100::/64 (RFC 6666) that stands for it: on this
    /// transport and its clones, `connect` takes it and lets the browser find the host. The 256
    /// names that were used last are remembered. `HOST:PORT` without a scheme means `wss://` on a
    /// page that was loaded over `https://`, which may open nothing else, and `ws://` elsewhere.
    ///
    /// # Errors
    ///
    /// [`NameError`].
    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        Ok(vec![self.names.resolve(name)?])
    }
}

/// Our own address, which a browser does not tell; the peer says what it sees.
fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Never accepts: a browser cannot listen.
#[derive(Debug)]
pub struct WebSocketListener {
    local_addr: SocketAddr,
}

/// Cannot exist.
#[derive(Debug)]
pub enum WebSocketIncomingRequest {}

impl NetListener for WebSocketListener {
    type IncomingRequest = WebSocketIncomingRequest;
    type Connection = WebSocketConnection;

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    async fn accept(&self) -> anyhow::Result<WebSocketIncomingRequest> {
        std::future::pending().await
    }
}

impl NetIncomingRequest for WebSocketIncomingRequest {
    type Connection = WebSocketConnection;

    fn remote_addr(&self) -> SocketAddr {
        match *self {}
    }

    async fn accept(self) -> anyhow::Result<WebSocketConnection> {
        match self {}
    }
}
