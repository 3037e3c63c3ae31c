//! The error of converting an envelope to bytes or back.

use std::io;

use crate::message::DecodeError;

/// An error of encoding or decoding one of upstream's envelopes. The message is dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes are not a chitchat message, or one that would crash an upstream node. The sender is
    /// at fault.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A key does not start with an ASCII character, at which upstream's listeners panic. The sender
    /// is at fault.
    #[error("the key {key:?} of {node:?} would crash an upstream node")]
    HarmfulKey {
        /// The id of the node that the key belongs to.
        node: String,
        /// The key.
        key: String,
    },
    /// Upstream's decoder refuses bytes that ours accepts.
    #[error("upstream's decoder refuses {what}")]
    Refused {
        /// The part of the message that is refused.
        what: &'static str,
    },
    /// A digest is longer than a datagram even in version 1, to which upstream's codec is limited.
    ///
    /// The first digest of version 0 that is too long for a datagram is refused as well. Those after
    /// it are converted by way of version 1.
    #[error("a digest of more than {max} bytes")]
    DigestTooLong {
        /// The longest digest, in bytes.
        max: usize,
    },
    /// The codec's sockets on loopback failed. They are opened again for the next message.
    #[error("the codec's sockets on loopback failed: {0:#}")]
    Loopback(anyhow::Error),
}

impl From<io::Error> for EnvelopeError {
    fn from(error: io::Error) -> Self {
        Self::Loopback(error.into())
    }
}
