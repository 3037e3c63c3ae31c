//! The traits that a network implements for the transport layer.
//!
//! Implement [`NetTransport`] to add a network. The transport layer adds queues, expiry, reconnection
//! and statistics to it. This module contains traits and plain values only: no sockets, no tasks and
//! nothing that depends on the target. Invariant: a connection delivers whole messages, in order, from
//! a peer that has proved its identity, or it fails.
//!
//! Errors are [`anyhow::Error`], since anyone can add a network. The networks of this crate put typed
//! errors inside, which `downcast_ref` returns: [`ConnectError`],
//! [`HandshakeError`](crate::secure::HandshakeError), [`FrameError`](crate::secure::FrameError) and
//! [`ConfigError`](crate::ConfigError).

pub(crate) mod address;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::credential::{Claims, Grounds, Identity, NetCredential};
use crate::rt::{Instant, MaybeSend, MaybeSync};
pub use address::{NotListenable, canonical, check_listenable, is_dialable, is_link_local};
pub(crate) use address::{may_be_dialled, unspecified_like};

/// A network, which can dial and, where the platform allows it, listen.
///
/// Clones are cheap handles to the same network.
pub trait NetTransport: Clone + MaybeSend + MaybeSync + 'static {
    /// The listener that [`create_listener`](Self::create_listener) returns.
    type Listener: NetListener<Connection = Self::Connection>;
    /// The connection that [`connect`](Self::connect) and accepted requests return.
    type Connection: NetConnection;

    /// Binds `bind_addr`. Port 0 asks for any free port. The address is bound when this returns. An address
    /// that belongs to no machine is an error, see [`check_listenable`].
    ///
    /// On a platform that cannot listen (a browser), the unspecified address with port 0 returns a
    /// listener that accepts nothing, and any other address is an error.
    fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn_supported: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Listener>> + MaybeSend;

    /// Dials `addr`. Completes once the peer has proved its identity and has accepted ours.
    ///
    /// Dropping the future abandons the dial and leaves nothing open.
    fn connect(
        &self,
        addr: SocketAddr,
        alpn_preferred: &[Alpn],
        credential: &NetCredential,
    ) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend;

    /// Dials `addr` for the socket whose listener is bound to `local_addr`.
    ///
    /// A network in which answers go to the port of the sender, such as UDP, must send from
    /// `local_addr`. By default this is [`connect`](Self::connect).
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

    /// Resolves a name as a person writes it (`host:port`; in a browser also a `ws://` or `wss://`
    /// URL) to addresses that [`connect`](Self::connect) takes. Asks DNS where there is one.
    fn resolve(
        &self,
        name: &str,
    ) -> impl Future<Output = anyhow::Result<Vec<SocketAddr>>> + MaybeSend;

    /// Checks that `name` has a form that [`resolve`](Self::resolve) takes, without asking anyone, so that a
    /// mistake in a name is an error at once. By default it accepts every name.
    ///
    /// # Errors
    ///
    /// Fails if no retry of [`resolve`](Self::resolve) can succeed.
    fn check_name(&self, name: &str) -> anyhow::Result<()> {
        let _ = name;
        Ok(())
    }

    /// Returns the counts of messages that have been received in part. By default they are zero, for a
    /// network whose connections hold none.
    fn partial_stats(&self) -> PartialStats {
        PartialStats::default()
    }

    /// Returns the length of the longest message that a connection carries, in bytes. Default 16 MiB.
    fn max_message_len(&self) -> usize {
        16 << 20
    }
}

/// A bound address that accepts connections.
pub trait NetListener: MaybeSend + MaybeSync + 'static {
    /// The request that [`accept`](Self::accept) returns.
    type IncomingRequest: NetIncomingRequest<Connection = Self::Connection>;
    /// The connection that a request becomes when it is accepted.
    type Connection: NetConnection;

    /// Returns the bound address, with the real port.
    fn local_addr(&self) -> SocketAddr;

    /// Waits for the next incoming connection. Cheap: no handshake runs here. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails only if the listener is broken for good. A failure of one peer is an error of its
    /// request, and while the system is short of resources (no file descriptor left) this waits.
    fn accept(&self) -> impl Future<Output = anyhow::Result<Self::IncomingRequest>> + MaybeSend;
}

/// An incoming connection whose handshake has not run yet.
pub trait NetIncomingRequest: MaybeSend + 'static {
    /// The connection that the request becomes.
    type Connection: NetConnection;

    /// Returns the address that the connection came from.
    fn remote_addr(&self) -> SocketAddr;

    /// Returns whether the peer must prove an identity in [`accept`](Self::accept). If not, accepting
    /// completes at once, without a handshake that would have to be limited. Default: `true`.
    fn needs_handshake(&self) -> bool {
        true
    }

    /// Runs the handshake. Dropping the request, or this future, refuses the peer.
    fn accept(self) -> impl Future<Output = anyhow::Result<Self::Connection>> + MaybeSend;

    /// Returns the reason under which an error of [`accept`](Self::accept) is counted. By default there
    /// is one for all.
    fn failure(error: &anyhow::Error) -> AcceptFailure {
        let _ = error;
        AcceptFailure::Other
    }
}

/// A secure, ordered stream of messages in both directions.
///
/// Clones share the connection, which ends when it is closed or the last clone is dropped.
pub trait NetConnection: Clone + MaybeSend + MaybeSync + 'static {
    /// Returns our address as the peer sees it if the network knows it, otherwise as it is bound here.
    fn local_addr(&self) -> SocketAddr;

    /// Returns the address of the peer: as dialled, or where the accepted connection came from.
    fn remote_addr(&self) -> SocketAddr;

    /// Returns the identity that we have proved.
    fn local_identity(&self) -> Identity;

    /// Returns the identity that the peer has proved, or [`Identity::UNPROVED`] on a network without
    /// authentication.
    fn remote_identity(&self) -> Identity;

    /// Returns what else the peer has proved, on which the trust in this connection rests. Default:
    /// [`Grounds::Unknown`], with which a connection outlives the removal of a cluster secret.
    fn grounds(&self) -> Grounds {
        Grounds::Unknown
    }

    /// Returns the claims of the invite that the peer has presented, if it has. Default: `None`.
    fn claims(&self) -> Option<&Arc<Claims>> {
        None
    }

    /// Returns the address at which the peer says that it can be dialled, or `None` if it states none.
    /// The claim is not verified.
    fn stated_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Returns the application protocol that both sides have agreed on.
    fn alpn_negotiated(&self) -> &Alpn;

    /// Sends one message. See [`send_many`](Self::send_many).
    fn send(&self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + MaybeSend {
        async move {
            let mut batch = VecDeque::from([message]);
            self.send_many(&mut batch).await
        }
    }

    /// Hands every message of `batch` to the network, with one flush at the end, so that many messages
    /// cost few system calls. A message leaves `batch` once the network owns it.
    ///
    /// Completes when the network has taken all bytes, which does not mean that the peer has
    /// received them. If the peer is slow, that may take as long as the connection lives.
    /// Cancel-safe: a message is either still in `batch`, or the next call that is awaited sends it
    /// whole, also if its own batch is empty.
    fn send_many(
        &self,
        batch: &mut VecDeque<Bytes>,
    ) -> impl Future<Output = anyhow::Result<()>> + MaybeSend;

    /// Sends a keepalive: a sign of life that is not a message.
    fn keepalive(&self) -> impl Future<Output = anyhow::Result<()>> + MaybeSend;

    /// Asks the peer for a sign of life, without waiting for it: [`last_heard`](Self::last_heard)
    /// rises when the answer arrives. The peer answers after its caller has received every message
    /// that was sent before. A network whose peers do not answer sends a
    /// [`keepalive`](Self::keepalive), which is the default.
    fn probe(&self) -> impl Future<Output = anyhow::Result<()>> + MaybeSend {
        self.keepalive()
    }

    /// Returns when the peer last answered a [`probe`](Self::probe), or `None` if it never has.
    fn last_answer(&self) -> Option<Instant> {
        None
    }

    /// Returns the next message, or `None` once the peer has closed the connection in order.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the connection broke or was tampered with. Every later call fails in the same way.
    fn recv(&self) -> impl Future<Output = anyhow::Result<Option<Bytes>>> + MaybeSend;

    /// Waits for messages and appends at least one to `messages`. Returns `false` once the peer has
    /// closed the connection in order. Cancel-safe.
    ///
    /// The network chooses the number: as many as it can return without another system call, and at
    /// most about 64 KiB or 1,024 messages besides the first.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`recv`](Self::recv). Messages that came before the error have been
    /// returned by earlier calls.
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

    /// Says goodbye with `code`, releases the connection, and wakes every task that waits on it. Waits
    /// at most a second for the network to take the goodbye. Closing twice does nothing.
    fn close(&self, code: CloseCode) -> impl Future<Output = ()> + MaybeSend;

    /// Says goodbye with `code`, for which [`CloseCode::is_answered`] holds, behind everything that was sent, and
    /// goes on receiving until the peer has said goodbye as well. So no message is lost, in either direction. Sending
    /// waits for the end from now on, and sends nothing. Completes once the network has taken the goodbye.
    ///
    /// By default this is [`close`](Self::close), which loses messages that are on their way here.
    fn leave(&self, code: CloseCode) -> impl Future<Output = ()> + MaybeSend {
        self.close(code)
    }

    /// Completes when the connection has ended, for whatever reason. Cancel-safe.
    fn watch_close(&self) -> impl Future<Output = CloseReason> + MaybeSend;
}

/// The reason for which an incoming connection was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AcceptFailure {
    /// Too many peers had not authenticated yet, and this one's host had the most; or too many connections
    /// of trusted proxies had not stated their client.
    Crowded,
    /// The handshake took too long.
    Timeout,
    /// The stream broke, or the peer has closed it.
    Broken,
    /// The peer speaks an unknown protocol.
    OtherProtocol,
    /// The peer speaks TLS, which is not configured.
    Tls,
    /// An HTTP request that is not a WebSocket upgrade, or a malformed one.
    Http,
    /// A request over HTTP/1.0, which cannot become a WebSocket: the default of nginx.
    Http10,
    /// A proxy that is not trusted states a client, or one that is trusted states none.
    Proxy,
    /// The peer speaks another version of the secure channel.
    Version,
    /// The peer has another cluster secret, or none.
    Secret,
    /// The peer has proved its identity, and is not trusted.
    NotTrusted,
    /// The two sides have no application protocol in common.
    NoCommonProtocol,
    /// The peer broke the rules of the handshake.
    Malformed,
    /// Anything else.
    Other,
}

impl AcceptFailure {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Crowded,
        Self::Timeout,
        Self::Broken,
        Self::OtherProtocol,
        Self::Tls,
        Self::Http,
        Self::Http10,
        Self::Proxy,
        Self::Version,
        Self::Secret,
        Self::NotTrusted,
        Self::NoCommonProtocol,
        Self::Malformed,
        Self::Other,
    ];

    /// Returns a name for metrics: lower-case letters, digits and underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::OtherProtocol => "other_protocol",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Http10 => "http_1_0",
            Self::Proxy => "proxy",
            Self::Version => "version",
            Self::Secret => "secret",
            Self::NotTrusted => "not_trusted",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}

/// Counts of what the connections of a network have received in part, share the memory of, or had to reject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialStats {
    /// Bytes of memory that messages which have been received in part take now.
    pub bytes: u64,
    /// The most bytes that such messages may take.
    pub max_bytes: u64,
    /// Bytes of memory that connections take which wait for the rest of a record, of at most 64 KiB. Beyond
    /// `max_bytes`, one that begins to wait keeps only what it has received of the record.
    pub part_record_bytes: u64,
    /// Bytes of memory of long records that messages share now, since they were handed on without a copy.
    pub shared_record_bytes: u64,
    /// Connections that ended because all of these messages would have taken more.
    pub evicted: u64,
    /// Connections that ended because the rest of a message did not arrive in time.
    pub timed_out: u64,
    /// Connections that ended because a record was changed, replayed, reordered or dropped on its way, or
    /// broke the protocol.
    pub rejected_records: u64,
}

impl std::ops::Add for PartialStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            max_bytes: self.max_bytes + other.max_bytes,
            part_record_bytes: self.part_record_bytes + other.part_record_bytes,
            shared_record_bytes: self.shared_record_bytes + other.shared_record_bytes,
            evicted: self.evicted + other.evicted,
            timed_out: self.timed_out + other.timed_out,
            rejected_records: self.rejected_records + other.rejected_records,
        }
    }
}

/// The name of an application protocol, 1 to 255 bytes. Both sides agree on one in the handshake.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Alpn(Bytes);

impl Alpn {
    /// Creates a name that is known at compile time.
    ///
    /// # Panics
    ///
    /// Panics if `name` is empty or longer than 255 bytes. In a `const` that is a compile error.
    pub const fn from_static(name: &'static [u8]) -> Self {
        assert!(!name.is_empty() && name.len() <= 255);
        Self(Bytes::from_static(name))
    }

    /// Creates a name at run time. Returns `None` if it is empty or longer than 255 bytes.
    pub fn new(name: impl Into<Bytes>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty() && name.len() <= 255).then_some(Self(name))
    }

    /// Returns the bytes of the name.
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

/// The reason for which one side has closed a connection. Codes below 256 belong to this crate, the
/// others are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// Nothing is wrong.
    pub const NORMAL: Self = Self(0);
    /// This side is going away: a shutdown, or a page that is left.
    pub const GOING_AWAY: Self = Self(1);
    /// There was no message for longer than the idle timeout.
    pub const IDLE: Self = Self(2);
    /// There were too many connections, and this was the least recently used one.
    pub const EVICTED: Self = Self(3);
    /// The peer has broken the protocol or a limit.
    pub const PROTOCOL: Self = Self(4);
    /// Another connection of the same identity is alive, and it keeps its place: two programs use one
    /// key.
    pub const DUPLICATE: Self = Self(5);
    /// Both sides have dialled each other, and the other connection stays.
    pub const REDUNDANT: Self = Self(6);
    /// The secret or the key on which the connection rests is not trusted any more.
    pub const UNTRUSTED: Self = Self(7);
    /// The peer has dialled again with another secret or invite, and the new connection takes the place of this one.
    pub const RENEWED: Self = Self(8);
    /// The peer's invite, or all peers with invites together, have as many connections as they may. A retry may help
    /// later.
    pub const QUOTA: Self = Self(9);
    /// The peer's name is not its to use: it lacks the prefix that the peer's invite demands, or a core member has it.
    /// Another name helps.
    pub const NAME: Self = Self(10);
    /// The peer's clock is ahead of this side's, so that its generation lies in the future. Setting it and joining again
    /// helps.
    pub const CLOCK: Self = Self(11);

    /// Returns whether the side that says goodbye with this code may [go on
    /// receiving](NetConnection::leave), so that the other one has to write what it has begun, and say goodbye as
    /// well.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::UNTRUSTED | Self::RENEWED)
    }
}

/// The end of a connection: which side closed it, or the error that broke it.
#[derive(Debug, Clone)]
pub enum CloseReason {
    /// This side has closed it.
    Local(CloseCode),
    /// The peer has closed it.
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

/// An error of a dial before the handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address can never be dialled, for the reason in the text: see [`is_dialable`]. A retry does not
    /// help.
    #[error("{addr} cannot be dialled: {}", address::why_not_dialable(*.addr))]
    NotDialable {
        /// The address.
        addr: SocketAddr,
    },
    /// Nothing listens there now. A retry may help.
    #[error("could not connect to {addr}")]
    Io {
        /// The address.
        addr: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The network did not answer in time. A retry may help.
    #[error("no answer from {addr} within {after:?}")]
    Timeout {
        /// The address.
        addr: SocketAddr,
        /// The time that the dial has waited.
        after: Duration,
    },
    /// The platform refuses the dial (mixed content, local-network access, too many connections in a
    /// browser). A retry does not help until the cause is removed.
    #[error("{addr} may not be dialled from here: {help}")]
    NotPermitted {
        /// The address.
        addr: SocketAddr,
        /// Advice on how to remove the cause.
        help: String,
    },
    /// The dial failed in a browser, which reports no reason. A retry may help.
    #[error("could not connect to {addr}: {help}")]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// Possible causes, and advice on how to remove them.
        help: String,
    },
}
