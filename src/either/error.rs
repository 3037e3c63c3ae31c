//! The errors of connections that the second network must not carry.

use std::net::SocketAddr;

/// The error of using a connection of the second network after one of the first, preferred network
/// has replaced it. A new dial returns the connection of the first network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer can be reached over the preferred network")]
pub struct TakenOver;

/// The error of an incoming connection of the second network from an address that was reached over the
/// first, preferred network, which has not failed as far as is known. The address is dialled over the
/// first network then, and if that fails, the next connection is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{addr} was reached over the preferred network, which has not failed for long enough")]
pub struct NotPreferred {
    /// The address of the peer.
    pub addr: SocketAddr,
}
