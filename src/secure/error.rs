//! The errors of a secure connection: while it is being established, and afterwards.
//!
//! Each variant says which side is at fault and whether a retry can help.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ConfigError;
use crate::credential::{ClaimsError, Identity, Refusal};
use crate::net::{AcceptFailure, CloseReason};

/// A handshake that failed. The carrier has been closed.
///
/// The peer has received no reason, except by an acceptor of a dialler that speaks another version
/// ([`UnsupportedVersion`](Self::UnsupportedVersion)) or that has authenticated itself and is refused
/// ([`Refused`](Self::Refused)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Our own configuration is out of bounds. Nothing was sent. A retry does not help.
    #[error("invalid configuration")]
    Config(#[source] Box<ConfigError>),
    /// The handshake took too long: the network is slow, or the peer does not answer. A retry may
    /// help.
    #[error("no complete handshake within {after:?}")]
    Timeout {
        /// The time limit that passed.
        after: Duration,
    },
    /// The network below failed. A retry may help.
    #[error("the connection broke during the handshake")]
    Carrier(#[source] io::Error),
    /// The peer closed the connection without a reason. A dialler that is refused before it has
    /// authenticated itself receives only this: its cluster secret differs, the two have no protocol
    /// in common, or the acceptor speaks only version 1, which never sends a reason. An acceptor
    /// receives this if the dialler does not trust it. A retry helps only if the peer was busy.
    #[error(
        "the peer closed the connection during the handshake (it may have another cluster secret, \
         not trust this key, or speak only version 1 of the protocol)"
    )]
    ClosedByPeer,
    /// The first bytes are not our preface: the peer speaks another protocol, or the address is
    /// wrong. A retry does not help.
    #[error("the peer does not speak this protocol")]
    NotOurProtocol,
    /// The peer speaks a version of the protocol that this side does not. A retry does not help until
    /// one side is updated.
    ///
    /// A dialler reports the version that the acceptor names when it refuses. That answer is not
    /// authenticated: an attacker on the path can forge it, as it could cut the connection.
    #[error(
        "the peer speaks version {theirs} of the protocol, but this side speaks version {ours}"
    )]
    UnsupportedVersion {
        /// The peer's version.
        theirs: u8,
        /// Our version.
        ours: u8,
    },
    /// The dialler chose a cipher that this side does not have, or only one of the two sides uses a
    /// cluster secret. A configuration is at fault; a retry does not help.
    #[error("suite {suite:#04x} is not allowed")]
    SuiteNotAllowed {
        /// The suite's code in the preface.
        suite: u8,
    },
    /// A handshake message could not be decrypted: the peer has another cluster secret, or the
    /// message was changed on its way. A retry does not help unless the cause is removed.
    #[error("a handshake message could not be decrypted (another cluster secret, or tampering)")]
    Decrypt,
    /// The dialler announced claims (an invite), which this side does not accept
    /// ([`Trust::accepting_invites`](crate::Trust::accepting_invites)). It was refused before they were read. A
    /// retry does not help.
    #[error("the peer presents an invite, which this side does not accept")]
    ClaimsNotAccepted,
    /// The dialler sent claims that are malformed, or that this version does not know. The dialler is at fault, or
    /// newer than this side. A retry does not help.
    #[error("the peer presents an invite that this side cannot read")]
    Claims(#[source] ClaimsError),
    /// This side holds an invite, and so accepts no connections: it could not tell who the peer is. A retry does not
    /// help.
    #[error("this side holds an invite, with which it can dial but not accept")]
    HoldsInvite,
    /// The acceptor has not proved that it knows the secret of this side's invite: it may be another holder of the
    /// same invite that poses as a member. Nothing that it said was believed. A retry helps only if another peer
    /// answers.
    #[error("the peer {identity} has not proved that it is a core member of the cluster")]
    NotCore {
        /// The identity that the peer proved.
        identity: Identity,
    },
    /// The peer proved its identity, but is not trusted. If the peer dialled, it has been told so
    /// ([`Refusal::Key`]). A retry does not help until the identity is on the list of trusted keys.
    #[error("the peer {identity} is not trusted")]
    UntrustedPeer {
        /// The identity that the peer proved.
        identity: Identity,
    },
    /// The peer proved its identity, but this side refuses it for another reason
    /// ([`Trust::refusing`](crate::Trust::refusing)). If the peer dialled, it has been told the reason.
    #[error("the peer {identity} is refused ({})", reason.as_str())]
    PeerRefused {
        /// The identity that the peer proved.
        identity: Identity,
        /// The reason.
        reason: Refusal,
    },
    /// The acceptor has authenticated this side, and refuses it. The answer is authentic. Whether a
    /// retry helps depends on the reason.
    #[error("refused by the peer: {reason}")]
    Refused {
        /// The acceptor's reason.
        reason: Refusal,
    },
    /// The two sides have no application protocol in common. A retry does not help.
    #[error("no application protocol in common")]
    NoCommonProtocol,
    /// A handshake message is longer than the limit. Our own is, if too many protocols are offered.
    /// A retry does not help.
    #[error("handshake message of {len} bytes, the limit is {max}")]
    Oversized {
        /// Length of the message, in bytes. For our own offer, the number of protocols if that is
        /// what exceeds its limit.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The peer broke the protocol and is at fault. A retry does not help.
    #[error("malformed handshake: {what}")]
    Malformed {
        /// The part of the handshake that is wrong.
        what: &'static str,
    },
    /// The cipher library failed, or the system has no source of randomness. This side is at fault;
    /// a retry does not help.
    #[error("the handshake could not be computed: {what}")]
    Internal {
        /// The error of the library.
        what: String,
    },
}

/// An error of an established connection.
///
/// After [`MessageTooLong`](Self::MessageTooLong) the connection stays open. After any other error
/// it is closed, and every later call fails with the same error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The message is longer than the limit, and no part of it was sent. The caller is at fault. The
    /// connection stays open, and the message has been removed from the batch.
    #[error("message of {len} bytes, the limit is {max}")]
    MessageTooLong {
        /// Length of the message, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer announced a message longer than our limit, and no part of it was stored. The peer is
    /// at fault, or its limit is higher than ours.
    #[error("the peer announced a message of {len} bytes, the limit is {max}")]
    PeerMessageTooLong {
        /// The announced length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer has sent a part of a message, and then less than 256 KiB of it in the time limit
    /// ([`SecureConfig::partial_timeout`](super::SecureConfig::partial_timeout)). The peer or the network
    /// is at fault.
    #[error(
        "{received} of {len} bytes of a message have arrived, and too few more within {after:?}"
    )]
    PartialTimeout {
        /// The bytes that have arrived.
        received: usize,
        /// Length of the message, in bytes.
        len: usize,
        /// The time limit.
        after: Duration,
    },
    /// The unfinished messages of all peers would have taken more memory than the limit
    /// ([`SecureConfig::max_partial_bytes`](super::SecureConfig::max_partial_bytes)), and this peer's
    /// took the most. A new connection may help.
    #[error(
        "a message that has arrived in part was dropped: unfinished messages would take more than {max} bytes"
    )]
    PartialEvicted {
        /// The limit, in bytes.
        max: u64,
    },
    /// A record could not be decrypted: it was changed, replayed, reordered or dropped on its way.
    /// The network is at fault, not the peer. A new connection may help.
    #[error("a record was tampered with")]
    Tampered,
    /// The stream ended without a goodbye: the peer crashed, or the connection was cut. A new
    /// connection may help.
    #[error("the stream ended without a goodbye")]
    Truncated,
    /// The network below failed. A new connection may help.
    #[error("the connection broke")]
    Carrier(#[source] Arc<io::Error>),
    /// A record is authentic, but its contents break the protocol: the peer has a bug, or is newer
    /// than its version says.
    #[error("malformed record: {what}")]
    Malformed {
        /// The part of the record that is wrong.
        what: &'static str,
    },
    /// All 2^64 - 1 nonces of a key have been used, which is out of reach in practice. A new
    /// connection helps.
    #[error("no nonce is left")]
    Exhausted,
    /// The connection was closed in order before this call, by us or by the peer.
    #[error("the connection is closed: {reason}")]
    Closed {
        /// Which side closed it, and why.
        reason: CloseReason,
    },
}

impl HandshakeError {
    /// Returns the reason under which an acceptor counts this.
    pub fn failure(&self) -> AcceptFailure {
        match self {
            Self::Timeout { .. } => AcceptFailure::Timeout,
            Self::Carrier(_) | Self::ClosedByPeer => AcceptFailure::Broken,
            Self::NotOurProtocol => AcceptFailure::OtherProtocol,
            Self::UnsupportedVersion { .. } => AcceptFailure::Version,
            Self::SuiteNotAllowed { .. } | Self::Decrypt => AcceptFailure::Secret,
            Self::ClaimsNotAccepted
            | Self::HoldsInvite
            | Self::NotCore { .. }
            | Self::UntrustedPeer { .. }
            | Self::PeerRefused { .. }
            | Self::Refused { .. } => AcceptFailure::NotTrusted,
            Self::NoCommonProtocol => AcceptFailure::NoCommonProtocol,
            Self::Claims(_) | Self::Oversized { .. } | Self::Malformed { .. } => {
                AcceptFailure::Malformed
            }
            Self::Config(_) | Self::Internal { .. } => AcceptFailure::Other,
        }
    }

    /// Returns the error of the side that refuses an authenticated peer.
    pub(crate) fn not_trusted(identity: Identity, reason: Refusal) -> Self {
        match reason {
            Refusal::Key => Self::UntrustedPeer { identity },
            reason => Self::PeerRefused { identity, reason },
        }
    }
}

impl From<ConfigError> for HandshakeError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Carrier(Arc::new(error))
    }
}
