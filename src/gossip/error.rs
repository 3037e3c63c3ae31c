//! The errors of the participant and its engine.
//!
//! A configuration value that is out of bounds is not among them: it is reported as
//! [`ConfigError`](crate::ConfigError). Invariant: an operation that fails has changed nothing.

use std::net::SocketAddr;

/// The error of setting a key. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// The key does not begin with an ASCII character. Members of the published crate would panic
    /// on it.
    #[error("key {key:?} must begin with an ASCII character")]
    KeyNotAscii {
        /// The key.
        key: String,
    },
    /// The key and its value do not fit into a message. They could never be sent, and would hold
    /// back every key that is set after them.
    #[error("key and value take {len} bytes, a message has room for {max}")]
    TooLong {
        /// The length of the key and its value in a message, in bytes.
        len: usize,
        /// The bytes that a message has for them.
        max: usize,
    },
    /// The keys and values together would exceed
    /// [`max_bytes_per_member`](super::GossipConfig::max_bytes_per_member).
    #[error("all keys and values together would take {len} bytes, the limit is {max}")]
    StateTooLarge {
        /// The bytes that they would take.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The participant has left the cluster.
    #[error("the participant has left the cluster")]
    Left,
}

/// The error of deleting a key. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// There is no such key, or it is deleted already.
    #[error("there is no key {key:?}")]
    NoSuchKey {
        /// The key.
        key: String,
    },
    /// The participant has left the cluster.
    #[error("the participant has left the cluster")]
    Left,
}

/// The error of joining a cluster. The caller must change something first: a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The address of this member is not known, and there is no seed to ask for it.
    #[error(
        "the address of this member is not known ({local_addr} cannot be dialled): set \
         advertise_addr, or name a seed that can report it"
    )]
    AddressUnknown {
        /// The address to which the socket is bound.
        local_addr: SocketAddr,
    },
    /// One of the [`initial_key_values`](super::GossipConfig::initial_key_values) was refused.
    #[error("an initial key was refused: {0}")]
    InitialKey(#[from] SetError),
    /// The socket was closed in the meantime.
    #[error("the socket is closed")]
    SocketClosed,
}
