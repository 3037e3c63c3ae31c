//! Chitchat's messages as values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A version of a node's state; it rises by one with every change. Zero is "nothing yet".
pub type Version = u64;

/// Who a member is: unique over the cluster and over restarts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChitchatId {
    /// A name unique over the cluster.
    pub node_id: Arc<str>,
    /// Higher after each restart; usually the start time.
    pub generation_id: u64,
    /// Where peers send gossip for this member.
    pub gossip_advertise_addr: SocketAddr,
}

impl ChitchatId {
    /// See the fields.
    pub fn new(
        node_id: impl Into<Arc<str>>,
        generation_id: u64,
        gossip_advertise_addr: SocketAddr,
    ) -> Self {
        Self {
            node_id: node_id.into(),
            generation_id,
            gossip_advertise_addr,
        }
    }
}

impl fmt::Debug for ChitchatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.node_id, self.generation_id, self.gossip_advertise_addr
        )
    }
}

/// How a message's digest is laid out. A reply echoes the version of what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ProtocolVersion {
    /// A counted list; what every published version understands.
    #[default]
    V0,
    /// A block stream, compressed; understood since chitchat 0.12.
    V1,
}

/// One step of a gossip exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChitchatMessage {
    /// "This is what I know": opens an exchange.
    Syn {
        /// The format of the digest.
        version: ProtocolVersion,
        /// Only members of the same cluster answer.
        cluster_id: String,
        /// What the sender knows.
        digest: Digest,
    },
    /// "This is what you lack, and what I know."
    SynAck {
        /// The format of the digest.
        version: ProtocolVersion,
        /// What the sender knows.
        digest: Digest,
        /// What the receiver lacks.
        delta: Delta,
    },
    /// "This is what you lack": ends an exchange.
    Ack {
        /// Echoed, though nothing in an Ack depends on it.
        version: ProtocolVersion,
        /// What the receiver lacks.
        delta: Delta,
    },
    /// "You are of another cluster."
    BadCluster {
        /// Echoed, though nothing in it depends on it.
        version: ProtocolVersion,
    },
}

impl ChitchatMessage {
    /// The format that the message came in or goes out with.
    pub fn version(&self) -> ProtocolVersion {
        match self {
            Self::Syn { version, .. }
            | Self::SynAck { version, .. }
            | Self::Ack { version, .. }
            | Self::BadCluster { version } => *version,
        }
    }

    /// The message's name, for logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Syn { .. } => "Syn",
            Self::SynAck { .. } => "SynAck",
            Self::Ack { .. } => "Ack",
            Self::BadCluster { .. } => "BadCluster",
        }
    }
}

/// What a member knows of every member, itself included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// By member.
    pub node_digests: BTreeMap<ChitchatId, NodeDigest>,
}

/// What a member knows of one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeDigest {
    /// The highest heartbeat heard of.
    pub heartbeat: u64,
    /// Tombstones up to this version have been collected.
    pub last_gc_version: Version,
    /// The highest version known.
    pub max_version: Version,
}

/// What a peer lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// By member, in the order of sending.
    pub node_deltas: Vec<NodeDelta>,
}

/// What a peer lacks of one member's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDelta {
    /// Whose state.
    pub chitchat_id: ChitchatId,
    /// Tombstones up to this version have been collected by the sender.
    pub last_gc_version: Version,
    /// The delta applies to states that have everything up to here; zero starts afresh.
    pub from_version_excluded: Version,
    /// Changes in rising order of version.
    pub key_values: Vec<KeyValueMutation>,
    /// The version that a receiver has reached once it has applied this.
    pub max_version: Version,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueMutation {
    /// The key.
    pub key: String,
    /// Its value; empty for a deleted key.
    pub value: String,
    /// The version of the change.
    pub version: Version,
    /// Set, or on its way out.
    pub status: DeletionStatus,
}

/// Whether a key stays. When it goes is counted at each receiver, from receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeletionStatus {
    /// It stays.
    Set,
    /// Deleted: no longer visible, collected after the grace period.
    Deleted,
    /// Visible until it is collected after the grace period.
    DeleteAfterTtl,
}
