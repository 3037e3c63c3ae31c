//! What can go wrong on a channel: before it is open, and after.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::credential::Identity;
use crate::net::CloseReason;

/// A handshake that failed. The connection is closed; the stranger is told nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The handshake took too long: a slow network, or a peer that does not speak. A retry may
    /// help.
    #[error("no complete handshake within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The network below failed. A retry may help.
    #[error("the connection broke in the handshake: {0}")]
    Carrier(#[source] io::Error),
    /// The peer closed. This is also all that a refused dialler sees: it is not on the acceptor's
    /// list, has another cluster secret, or no protocol in common. A retry helps only if the
    /// acceptor was busy.
    #[error(
        "the peer closed in the handshake (it may not trust us, or have another cluster secret)"
    )]
    ClosedByPeer,
    /// The peer speaks something else. It is at fault, or the address is. A retry does not help.
    #[error("the peer does not speak our protocol")]
    NotOurProtocol,
    /// The peer speaks a version that we do not. A retry does not help.
    #[error("the peer speaks version {theirs} of the protocol, this is version {ours}")]
    UnsupportedVersion {
        /// The peer's version.
        theirs: u8,
        /// Our version.
        ours: u8,
    },
    /// The dialler chose a suite that this side does not have, or uses a cluster secret where the
    /// other does not. A configuration is at fault; a retry does not help.
    #[error("suite {suite:#04x} is not allowed here")]
    SuiteNotAllowed {
        /// The suite's code in the preface.
        suite: u8,
    },
    /// A handshake message did not open: the peer has another cluster secret, or somebody between
    /// us changed a byte. A retry does not help while that lasts.
    #[error("a handshake message did not decrypt (another cluster secret, or tampering)")]
    Decrypt,
    /// The peer proved who it is, and we do not trust it. A retry does not help until our list has
    /// it.
    #[error("the peer {identity} is not trusted")]
    UntrustedPeer {
        /// Who it is.
        identity: Identity,
    },
    /// No application protocol in common. A retry does not help.
    #[error("no application protocol in common")]
    NoCommonProtocol,
    /// A handshake message over the limit; ours, if too many protocols are offered. A retry does
    /// not help.
    #[error("handshake message of {len} bytes, the limit is {max}")]
    Oversized {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The peer broke the protocol. It is at fault; a retry does not help.
    #[error("malformed handshake: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The cipher library refused, or the system has no randomness. Ours; a retry does not help.
    #[error("the handshake could not be computed: {what}")]
    Internal {
        /// What it said.
        what: String,
    },
}

/// What went wrong on an open channel.
///
/// [`MessageTooLong`](Self::MessageTooLong) leaves the connection as it was; after anything else it
/// is closed, and every later call gives the same error again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A message longer than the limit: refused before anything of it was sent. The caller is at
    /// fault; the connection lives on, and the message is no longer in the batch.
    #[error("message of {len} bytes, the limit is {max}")]
    MessageTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The peer announced a message longer than our limit; nothing of it was stored. The peer is
    /// at fault, or its limit is set higher than ours.
    #[error("the peer announced a message of {len} bytes, the limit is {max}")]
    PeerMessageTooLong {
        /// The announced length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A record did not open: changed, replayed, reordered or dropped on the way. Somebody between
    /// us is at fault; a new connection may help.
    #[error("a record was tampered with")]
    Tampered,
    /// The stream ended without a goodbye: the peer crashed, or somebody cut the line. A new
    /// connection may help.
    #[error("the stream ended without a goodbye")]
    Truncated,
    /// The network below failed. A new connection may help.
    #[error("the connection broke: {0}")]
    Carrier(#[source] Arc<io::Error>),
    /// An authentic record with nonsense inside: the peer has a bug or is newer than its version
    /// says.
    #[error("malformed record: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// All 2^64 - 1 nonces of a key are used; out of reach in practice. A new connection helps.
    #[error("no nonce is left")]
    Exhausted,
    /// It had been closed in order before this call, by us or by the peer.
    #[error("the connection is closed: {reason}")]
    Closed {
        /// By whom, and why.
        reason: CloseReason,
    },
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Carrier(Arc::new(error))
    }
}
