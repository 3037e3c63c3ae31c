//! What one side brings into a handshake.
//!
//! Plain values. Invariant: both sides need the same, apart from the suite, which the dialler chooses.

use std::net::SocketAddr;

use super::config::SecureConfig;
use super::receive_memory::ReceiveMemory;
use crate::credential::NetCredential;
use crate::net::Alpn;

/// The parameters of one side of a handshake.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeParams<'a> {
    /// The addresses of the connection's two ends.
    pub endpoints: Endpoints,
    /// The application protocols that this side speaks. A dialler offers them in this order. An
    /// acceptor takes the first protocol of the dialler's offer that is among them.
    pub alpn: &'a [Alpn],
    /// The key of this side, the peers that it trusts, and the address that it states
    /// ([`NetCredential::stated_addr`]).
    pub credential: &'a NetCredential,
    /// The limits of the handshake and the connection.
    pub config: &'a SecureConfig,
    /// The bounds of memory that the connections of this network share.
    pub memory: &'a ReceiveMemory,
}

/// The addresses of a connection's two ends.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// Our address as bound. The dialler's is replaced by the address that the acceptor sees.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}
