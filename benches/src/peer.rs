//! What a peer has to do to be measured: bind, connect, send, receive, answer.
//!
//! Everything that is compared, ourselves included, is driven through this trait by the same
//! scenarios, in one process and on the same runtime.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;

/// A node of one kind: it listens, and everything received comes out of one inbox.
pub trait Node: Sized + Send + 'static {
    /// The name in tables.
    const NAME: &'static str;
    /// Whether a receipt can be awaited: without it, sending is a shot in the dark (datagrams).
    const RELIABLE: bool = true;
    /// Whether there are connections that cost time and memory.
    const CONNECTS: bool = true;
    /// Where to send to.
    type Link: Link;
    /// Whom to answer.
    type From: Send;

    /// A node on a free port of the loopback.
    fn bind() -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Where it listens.
    fn addr(&self) -> SocketAddr;

    /// A connection with the node at `to`, as far as the kind can tell without a message.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = anyhow::Result<Self::Link>> + Send;

    /// The next message from anyone.
    fn recv(&mut self) -> impl Future<Output = anyhow::Result<(Self::From, Bytes)>> + Send;

    /// The way back.
    fn link_to(&self, from: Self::From) -> Self::Link;
}

/// A way to one peer.
pub trait Link: Send + Sync + 'static {
    /// Hands over one message; waits while the peer's queue is full.
    fn send(&self, message: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
}
