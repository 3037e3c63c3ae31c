//! The traits that a peer implements to be measured: bind, connect, send, receive, answer.
//!
//! Everything that is compared, this crate included, is driven through these traits by the same
//! scenarios, in one process and on the same runtime. They are generic functions that the compiler
//! inlines: no boxed future, no dynamic call and no lookup stands between a scenario and a peer.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::message::ChitchatMessage;

/// A message type that a node can carry.
pub trait Payload: Clone + Send + Sync + 'static {
    /// Returns a size that reads one field of the message, such as the length of its bytes.
    ///
    /// The receiving loop adds it up, so that the sum shows afterwards whether whole messages
    /// arrived.
    fn size(&self) -> usize;
}

/// A message that consists of bytes only.
pub trait Filled: Payload {
    /// Returns a message of `len` bytes.
    ///
    /// It is made once for each sample. Cloning it should cost as little as the peer's message type
    /// allows.
    fn filled(len: usize) -> Self;
}

impl Payload for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Filled for Bytes {
    fn filled(len: usize) -> Self {
        // Leaked, so that cloning it counts no references.
        Self::from_static(vec![b'x'; len].leak())
    }
}

/// Upstream's messages hold text and own it.
impl Payload for String {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Filled for String {
    fn filled(len: usize) -> Self {
        "x".repeat(len)
    }
}

impl Payload for ChitchatMessage {
    fn size(&self) -> usize {
        match self {
            Self::Syn { digest, .. } => digest.node_digests.len(),
            Self::Ack { delta, .. } => delta.node_deltas.len(),
            _ => 0,
        }
    }
}

/// A node of one kind: it listens, and returns the messages of all its connections from `recv`.
pub trait Node: Sized + Send + 'static {
    /// Name of the peer in tables.
    const NAME: &'static str;
    /// Whether the peer has connections, which take time to open and memory to keep.
    const CONNECTS: bool = true;
    /// Size of the longest message, in bytes. Scenarios send at most this.
    const LONGEST: usize = usize::MAX;
    /// The type of the messages.
    type Message: Payload;
    /// A connection to another node, for sending.
    type SendHalf: SendHalf<Self::Message>;
    /// Names the sender of a message.
    type From: Copy + Send;

    /// Opens a node on a free port of the loopback interface.
    fn bind() -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Opens a node that only dials, if the peer distinguishes these. The default is [`bind`](Self::bind).
    fn bind_dialler() -> impl Future<Output = anyhow::Result<Self>> + Send {
        Self::bind()
    }

    /// Returns the address at which the node listens.
    fn addr(&self) -> SocketAddr;

    /// Connects to the node at `to`. Returns once the peer considers itself connected.
    fn connect(
        &self,
        to: SocketAddr,
    ) -> impl Future<Output = anyhow::Result<Self::SendHalf>> + Send;

    /// Returns the next message of any connection. This is the measured call.
    fn recv(&mut self) -> impl Future<Output = anyhow::Result<(Self::From, Self::Message)>> + Send;

    /// Returns the half that sends to `from`. Scenarios call it once for each peer, not for each
    /// message.
    fn send_half_to(&self, from: Self::From) -> anyhow::Result<Self::SendHalf>;
}

/// A connection to one node, for sending.
pub trait SendHalf<M>: Send + Sync + 'static {
    /// Queues one message; waits while the queue is full. This is the measured call.
    fn send(&self, message: M) -> impl Future<Output = anyhow::Result<()>> + Send;
}
