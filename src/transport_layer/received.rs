//! What is known of a peer: with each message that it sent, and while it is connected.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::credential::{Claims, Identity, Role};
use crate::net::Alpn;
use crate::rt::Instant;

/// A received message, where it came from, and when.
///
/// [`recv_detailed`](super::TransportLayerSocket::recv_detailed) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received<M> {
    /// The address to answer to.
    pub from: SocketAddr,
    /// The identity that the sender has proved; [`Identity::UNPROVED`] on a network without
    /// authentication.
    pub identity: Identity,
    /// The role of the sender, which says what it may do in the cluster.
    pub role: Role,
    /// When the message was read from its connection. It may have waited for `recv` since then.
    pub at: Instant,
    /// The message.
    pub message: M,
}

/// A peer with a live connection.
///
/// [`connected_peers`](super::TransportLayerSocket::connected_peers) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectedPeer {
    /// The address under which it is registered.
    pub addr: SocketAddr,
    /// The identity that it has proved.
    pub identity: Identity,
    /// Its role in the cluster.
    pub role: Role,
    /// The claims of its invite, if it is a [`Role::Leaf`].
    pub invite: Option<Arc<Claims>>,
    /// The application protocol of its connection.
    pub alpn: Alpn,
}
