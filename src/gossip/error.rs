//! The errors of the participant and its engine.
//!
//! A configuration value that is out of bounds is not among them: it is reported as
//! [`ConfigError`](crate::ConfigError). Invariant: an operation that fails has changed nothing.

use crate::credential::{Identity, Refusal};

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
    /// There would be more keys than the invite of this member allows, so others would refuse them and every later change.
    #[error("the invite allows {max} keys: delete one first")]
    TooManyKeys {
        /// The limit.
        max: usize,
    },
    /// The keys and values together would exceed
    /// [`max_bytes_per_member`](super::GossipConfig::max_bytes_per_member), or what the invite of this member allows.
    #[error("all keys and values together would take {len} bytes, the limit is {max}")]
    StateTooLarge {
        /// The bytes that they would take.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The name of the key begins with `gossip-transport/`. Such keys belong to this crate.
    #[error("key {key:?} is reserved: use a name that does not begin with \"gossip-transport/\"")]
    Reserved {
        /// The key.
        key: String,
    },
    /// The participant has left the cluster, or one of its tasks has ended.
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
    /// The name of the key begins with `gossip-transport/`. Such keys belong to this crate.
    #[error("key {key:?} is reserved: use a name that does not begin with \"gossip-transport/\"")]
    Reserved {
        /// The key.
        key: String,
    },
    /// The participant has left the cluster, or one of its tasks has ended.
    #[error("the participant has left the cluster")]
    Left,
}

/// The error of leaving a cluster: there was no member any more that could leave. Everything is closed
/// nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// A task of the participant had ended by itself: it panicked, or its runtime was shut down.
    #[error("the participant had stopped before: a task panicked, or its runtime was shut down")]
    Stopped,
}

/// The error of joining a cluster. The caller must change something first: a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// One of the [`initial_key_values`](super::GossipConfig::initial_key_values) was refused.
    #[error("an initial key was refused: {0}")]
    InitialKey(SetError),
    /// The name of the member does not begin with the prefix that its invite demands. No member of the cluster would
    /// accept it.
    #[error("the name {node_id:?} does not begin with {prefix:?}, as the invite demands")]
    Name {
        /// The name: [`node_id`](super::GossipConfig::node_id).
        node_id: String,
        /// The prefix.
        prefix: String,
    },
    /// One of the [`seeds`](super::GossipConfig::seeds) has a form that the network never accepts.
    #[error("seeds: {reason}")]
    Seed {
        /// The seed.
        seed: String,
        /// The error of the network ([`check_name`](crate::net::NetTransport::check_name)), which names
        /// the seed.
        reason: String,
    },
}

/// The reason for which a participant meets no other member, although it has seeds. A retry does not
/// help until the cause is removed. The participant keeps trying nevertheless.
///
/// A seed is named as it was configured, with its address if the name has several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectedError {
    /// A seed closes the connection during the handshake, and gives no reason to a member that has
    /// not proved to know the cluster secret.
    #[error(
        "seed {seed} refuses this member: check that both have the same cluster secret, and that \
         this member's key is on the seed's list if it has one, and that the seed accepts invites if it has one; a seed that speaks only version 1 of the \
         protocol refuses all members of later versions so"
    )]
    HandshakeRefused {
        /// The seed.
        seed: String,
    },
    /// A seed refuses this member, which has proved to know the cluster secret, and says why.
    #[error("refused by seed {seed}: {reason}")]
    Refused {
        /// The seed.
        seed: String,
        /// Its reason.
        reason: Refusal,
    },
    /// A seed has not proved that it is a core member of the cluster which has issued this member's invite.
    #[error(
        "seed {seed} has not proved that it is a member of the cluster that the invite is for: it may be another holder \
         of the invite that poses as one"
    )]
    NotCore {
        /// The seed.
        seed: String,
    },
    /// A seed has another key than those that this member trusts.
    #[error(
        "seed {seed} has the key {identity}, which is not trusted here: add it to the list of \
         trusted keys if it is right"
    )]
    UntrustedPeer {
        /// The seed.
        seed: String,
        /// The key that it has proved to own.
        identity: Identity,
    },
    /// A seed speaks another version of the protocol.
    #[error(
        "seed {seed} speaks version {theirs} of the protocol, and this member speaks version \
         {ours}: update the older one"
    )]
    UnsupportedVersion {
        /// The seed.
        seed: String,
        /// Its version.
        theirs: u8,
        /// Our version.
        ours: u8,
    },
    /// Only one of the two sides uses a cluster secret, or they have no cipher in common.
    #[error(
        "seed {seed} and this member have no cipher suite in common: give both a cluster secret, \
         or neither"
    )]
    SuiteNotAllowed {
        /// The seed.
        seed: String,
    },
    /// A seed does not carry gossip.
    #[error("seed {seed} offers no protocol of this member: check that it is a gossip member")]
    NoCommonProtocol {
        /// The seed.
        seed: String,
    },
    /// Something else answers at the address of a seed.
    #[error("{seed} does not speak this protocol: check the address of the seed")]
    NotOurProtocol {
        /// The seed.
        seed: String,
    },
    /// All seeds that were reached belong to another cluster.
    #[error("the seeds belong to another cluster: check the name of the cluster")]
    WrongCluster,
    /// All seeds that were reached belong to another cluster than the one that this member's invite names.
    #[error(
        "the invite names another cluster, {cluster_id:?}, than that of the seeds: get a new invite"
    )]
    InviteOfAnotherCluster {
        /// The cluster that the invite names.
        cluster_id: String,
    },
    /// Another participant uses the same key, and is connected.
    #[error(
        "another member with the same key is connected to seed {seed}: give each member a key of \
         its own"
    )]
    DuplicateKey {
        /// The seed.
        seed: String,
    },
    /// The platform does not let this member dial a seed, or the TLS certificate of the seed is not accepted.
    #[error("seed {seed} may not be dialled from here: {help}")]
    NotPermitted {
        /// The seed.
        seed: String,
        /// Advice on how to remove the cause.
        help: String,
    },
    /// The address of a seed can never be dialled.
    #[error("seed {seed} cannot be dialled: check its address")]
    NotDialable {
        /// The seed.
        seed: String,
    },
    /// The participant has left the cluster, or one of its tasks has ended.
    #[error("the participant has left the cluster")]
    Left,
}

impl ConnectedError {
    /// Returns a name for programs, in lower-case letters with hyphens, which never changes. For
    /// [`Refused`](Self::Refused) it is that of the reason ([`Refusal::as_str`]).
    pub fn code(&self) -> &'static str {
        match self {
            Self::HandshakeRefused { .. } => "handshake-refused",
            Self::NotCore { .. } => "not-core",
            Self::Refused { reason, .. } => reason.as_str(),
            Self::UntrustedPeer { .. } => "untrusted-peer",
            Self::UnsupportedVersion { .. } => "unsupported-version",
            Self::SuiteNotAllowed { .. } => "suite-not-allowed",
            Self::NoCommonProtocol { .. } => "no-common-protocol",
            Self::NotOurProtocol { .. } => "not-our-protocol",
            Self::WrongCluster | Self::InviteOfAnotherCluster { .. } => "wrong-cluster",
            Self::DuplicateKey { .. } => "duplicate-key",
            Self::NotPermitted { .. } => "not-permitted",
            Self::NotDialable { .. } => "not-dialable",
            Self::Left => "left",
        }
    }
}
