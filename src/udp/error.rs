//! Errors of the plaintext UDP network.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::net::Alpn;

/// An error of the plaintext UDP network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdpError {
    /// A protocol other than chitchat's was requested. A retry does not help.
    #[error("plaintext UDP carries chitchat's messages only, not those of {alpn:?}")]
    NotChitchat {
        /// The requested protocols.
        alpn: Vec<Alpn>,
    },
    /// The system did not send a datagram. A retry may help.
    #[error("cannot send a datagram to {to}")]
    Send {
        /// The destination.
        to: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// Receiving on the port has failed for good. All its connections have ended.
    #[error("the port has failed: {0}")]
    Failed(Arc<io::Error>),
}
