//! The seam between the transport layer and a network.
//!
//! Implement [`NetTransport`] to bring another network; the transport layer above gives it queues,
//! expiry, reconnection and statistics. This module has traits and plain values only: no sockets,
//! no tasks, no target. Invariant: a connection delivers whole messages, in order, from a peer
//! whose identity has been proved, or it fails.
//!
//! Errors are [`anyhow::Error`], since the set of networks is open. The networks of this crate put
//! typed errors inside, to be had by `downcast_ref`: [`ConnectError`],
//! [`HandshakeError`](crate::secure::HandshakeError), [`FrameError`](crate::secure::FrameError).

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::credential::{Identity, NetCredential};
use crate::rt::{Instant, MaybeSend, MaybeSync};

/// A network: it dials, and where the platform can, it listens.
///
/// A clone is a handle to the same network and is cheap.
pub trait NetTransport: Clone + MaybeSend + MaybeSync + 'static {
    /// What [`create_listener`](Self::create_listener) gives.
    type Listener: NetListener<Connection = Self::Connection>;
    /// What [`connect`](Self::connect) and the listener's requests give.
    type Connection: NetConnection;

    /// Binds `bind_addr`; port 0 asks for any free port. The address is bound when this returns.
    ///
    /// On a platform that cannot listen (a browser), the unspecified address with port 0 gives a
    /// listener that accepts nothing, and any other address is an error.
    fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Listener>> + MaybeSend;

    /// Dials `addr` and completes once the peer has proved its identity and has accepted ours.
    ///
    /// Dropping the future abandons the dial and leaves nothing open.
    fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend;

    /// As [`connect`](Self::connect), for the socket whose listener is bound to `local_addr`. A
    /// network where an answer goes to the port that was sent from sends from that one; by default
    /// `local_addr` makes no difference.
    fn connect_from(
        &self,
        local_addr: SocketAddr,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend {
        let _ = local_addr;
        self.connect(addr, alpn_preferred, credential)
    }

    /// Turns what a person writes (`host:port`; in a browser also a `ws://` or `wss://` URL) into
    /// addresses that [`connect`](Self::connect) takes, asking DNS where there is one.
    fn resolve(
        &self,
        name: &str,
    ) -> impl Future<Output = anyhow::Result<Vec<SocketAddr>>> + MaybeSend;

    /// The longest message, in bytes, that a connection carries. Default 16 MiB.
    fn max_message_len(&self) -> usize {
        16 << 20
    }
}

/// A bound address.
pub trait NetListener: MaybeSend + MaybeSync + 'static {
    /// What [`accept`](Self::accept) gives.
    type IncomingRequest: NetIncomingRequest<Connection = Self::Connection>;
    /// What an accepted request becomes.
    type Connection: NetConnection;

    /// The bound address, with the real port.
    fn local_addr(&self) -> SocketAddr;

    /// Waits for the next peer that knocks. Cheap: no handshake runs here. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Only if the listener is broken for good; what is wrong with one peer is that request's
    /// error, and a passing shortage (no file descriptor left) is waited out.
    fn accept(&self) -> impl Future<Output = anyhow::Result<Self::IncomingRequest>> + MaybeSend;
}

/// A peer that knocked and has not been let in.
pub trait NetIncomingRequest: MaybeSend + 'static {
    /// What the request becomes.
    type Connection: NetConnection;

    /// Where it came from.
    fn remote_addr(&self) -> SocketAddr;

    /// Runs the handshake. Dropping the request, or this future, refuses the peer.
    fn accept(self) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend;
}

/// A secure, ordered stream of messages in both directions.
///
/// Clones share the connection; it ends when it is closed or the last clone is dropped.
pub trait NetConnection: Clone + MaybeSend + MaybeSync + 'static {
    /// Our address as the peer sees it where the network can know it, else as bound here.
    fn local_addr(&self) -> SocketAddr;

    /// The peer's address: as dialled, or where the accepted connection came from.
    fn remote_addr(&self) -> SocketAddr;

    /// The identity that we proved.
    fn local_identity(&self) -> Identity;

    /// The identity that the peer proved.
    fn remote_identity(&self) -> Identity;

    /// The protocol that both sides agreed on.
    fn alpn_negotiated(&self) -> &Alpn;

    /// Sends one message. See [`send_many`](Self::send_many).
    fn send(&self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + MaybeSend {
        async move {
            let mut batch = VecDeque::from([message]);
            self.send_many(&mut batch).await
        }
    }

    /// Hands every message of `batch` to the network with one flush at the end, so that a full
    /// queue costs few system calls. A message leaves `batch` once the network owns it.
    ///
    /// Completes when the network has taken all bytes (it may wait for a slow peer as long as the
    /// connection lives); that is not a receipt from the peer. Cancel-safe: a message is either
    /// still in `batch` or will be sent whole by the next call that is awaited.
    fn send_many(
        &self,
        batch: &mut VecDeque<Bytes>,
    ) -> impl Future<Output = anyhow::Result<()>> + MaybeSend;

    /// Tells the peer that we live, without a message.
    fn keepalive(&self) -> impl Future<Output = anyhow::Result<()>> + MaybeSend;

    /// The next message; `None` once the peer has closed in order. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The connection broke or was tampered with, or the peer fell silent for longer than the
    /// network allows. Every later call fails likewise.
    fn recv(&self) -> impl Future<Output = anyhow::Result<Option<Bytes>>> + MaybeSend;

    /// Appends messages that have arrived to `messages`, at least one, waiting if there is none;
    /// false once the peer has closed in order. Cancel-safe.
    ///
    /// How many is the network's choice: as many as lie ready without another system call, and no
    /// more than about 64 KiB or 1,024 messages beside the first.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv). What came before the error has been given by earlier calls.
    fn recv_many(
        &self,
        messages: &mut Vec<Bytes>,
    ) -> impl Future<Output = anyhow::Result<bool>> + MaybeSend {
        async move {
            let message = self.recv().await?;
            let open = message.is_some();
            messages.extend(message);
            Ok(open)
        }
    }

    /// Returns when the peer was last heard: a message, a keepalive or an answered ping.
    fn last_heard(&self) -> Instant;

    /// Returns how long the peer has been silent.
    fn silence(&self) -> Duration {
        Instant::now().saturating_duration_since(self.last_heard())
    }

    /// Says goodbye with `code` and releases the connection; wakes everyone who waits on it. Waits
    /// a second at most for the network to take the goodbye. Closing twice does nothing.
    fn close(&self, code: CloseCode) -> impl Future<Output = ()> + MaybeSend;

    /// Completes when the connection has ended, whoever ended it. Cancel-safe.
    fn watch_close(&self) -> impl Future<Output = CloseReason> + MaybeSend;
}

/// No address in particular, of the family of `addr`; port 0.
pub(crate) fn unspecified_like(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The name of an application protocol, 1 to 255 bytes, agreed on in the handshake.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Alpn(Bytes);

impl Alpn {
    /// A name known at compile time.
    ///
    /// # Panics
    ///
    /// If `name` is empty or longer than 255 bytes; in a `const` that is a compile error.
    pub const fn from_static(name: &'static [u8]) -> Self {
        assert!(!name.is_empty() && name.len() <= 255);
        Self(Bytes::from_static(name))
    }

    /// A name known at run time; `None` if it is empty or longer than 255 bytes.
    pub fn new(name: impl Into<Bytes>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty() && name.len() <= 255).then_some(Self(name))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Why one side said goodbye. Codes below 256 are the crate's, the rest are free for use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// Nothing is wrong.
    pub const NORMAL: Self = Self(0);
    /// This side is going away: shutdown, or a page that is left.
    pub const GOING_AWAY: Self = Self(1);
    /// No message for longer than the idle time.
    pub const IDLE: Self = Self(2);
    /// Too many connections; this was the least recently used.
    pub const EVICTED: Self = Self(3);
    /// The peer broke the protocol or a limit.
    pub const PROTOCOL: Self = Self(4);
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub enum CloseReason {
    /// We closed it.
    Local(CloseCode),
    /// The peer closed it.
    Remote(CloseCode),
    /// It broke.
    Lost(Arc<anyhow::Error>),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(code) => write!(f, "closed here with code {}", code.0),
            Self::Remote(code) => write!(f, "closed by the peer with code {}", code.0),
            Self::Lost(error) => write!(f, "lost: {error:#}"),
        }
    }
}

/// Why a dial failed before the handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address can never be dialled (unspecified, or port 0). A retry does not help.
    #[error("{addr} cannot be dialled")]
    NotDialable {
        /// The address.
        addr: SocketAddr,
    },
    /// Nothing listens there now. A retry may help.
    #[error("could not connect to {addr}: {source}")]
    Io {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The network did not answer in time. A retry may help.
    #[error("no answer from {addr} within {after:?}")]
    Timeout {
        /// The address.
        addr: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The platform refuses (mixed content, local-network access, a full browser). A retry does
    /// not help until the cause is removed.
    #[error("{addr} may not be dialled from here: {help}")]
    NotPermitted {
        /// The address.
        addr: SocketAddr,
        /// What to do about it.
        help: String,
    },
    /// A browser says nothing more than that it failed. A retry may help.
    #[error("could not connect to {addr}: {help}")]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// What may be the cause, and what to do.
        help: String,
    },
}

/// Whether a dial to `addr` makes sense at all.
pub fn is_dialable(addr: SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}
