//! The error of a dial.

use std::net::SocketAddr;
use std::time::Duration;

use super::address::why_not_dialable;

/// An error of a dial before the handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address can never be dialled, for the reason in the text: see [`is_dialable`](super::is_dialable). A retry does not
    /// help.
    #[error("{addr} cannot be dialled: {}", why_not_dialable(*.addr))]
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
    /// browser), or this side does not accept the TLS certificate of the peer. A retry does not help until the cause is
    /// removed.
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
