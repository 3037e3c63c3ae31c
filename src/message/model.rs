//! Chitchat's messages as plain values.
//!
//! Nothing here is checked: values may break rules of the format, which encoding reports.

use super::id::ChitchatId;
use super::node_digests::{NodeDigests, Version};

/// The layout of a message's digest. A reply has the version of the message that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ProtocolVersion {
    /// A list with its count, which every published version of chitchat understands.
    #[default]
    V0,
    /// A compressed block stream, which chitchat understands since 0.12.
    V1,
}

/// A message of a gossip exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChitchatMessage {
    /// Opens an exchange with a digest of the states that the sender knows.
    Syn {
        /// The layout of the digest.
        version: ProtocolVersion,
        /// The sender's cluster. A member of another cluster answers with `BadCluster`.
        cluster_id: String,
        /// A summary of the states that the sender knows.
        digest: Digest,
    },
    /// Answers a Syn with the changes that its sender lacks, and with a digest of its own.
    SynAck {
        /// The layout of the digest.
        version: ProtocolVersion,
        /// A summary of the states that the sender knows.
        digest: Digest,
        /// The changes that the receiver lacks.
        delta: Delta,
    },
    /// Ends an exchange with the changes that the receiver lacks.
    Ack {
        /// The version of the message that is answered. Nothing in an Ack depends on it.
        version: ProtocolVersion,
        /// The changes that the receiver lacks.
        delta: Delta,
    },
    /// Answers a Syn of another cluster.
    BadCluster {
        /// The version of the message that is answered. Nothing in this message depends on it.
        version: ProtocolVersion,
    },
}

impl ChitchatMessage {
    /// Returns the layout of the message's digest.
    pub fn version(&self) -> ProtocolVersion {
        match self {
            Self::Syn { version, .. }
            | Self::SynAck { version, .. }
            | Self::Ack { version, .. }
            | Self::BadCluster { version } => *version,
        }
    }

    /// Returns the name of the kind of message, for logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Syn { .. } => "Syn",
            Self::SynAck { .. } => "SynAck",
            Self::Ack { .. } => "Ack",
            Self::BadCluster { .. } => "BadCluster",
        }
    }
}

/// A summary of what a member knows about every member, itself included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// The summaries of each member's state.
    pub node_digests: NodeDigests,
}

/// The changes that a peer lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// The changes of each member's state, in the order in which they are sent.
    pub node_deltas: Vec<NodeDelta>,
}

/// The changes of one member's state that a peer lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDelta {
    /// The member whose state has changed.
    pub chitchat_id: ChitchatId,
    /// The version up to which the sender has garbage-collected tombstones.
    pub last_gc_version: Version,
    /// The version after which the changes start. The delta applies to states that have everything
    /// up to this version; zero starts from an empty state.
    pub from_version_excluded: Version,
    /// The changes, in rising order of version.
    pub key_values: Vec<KeyValueMutation>,
    /// The version of the receiver's state after it has applied the delta.
    pub max_version: Version,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueMutation {
    /// The key.
    pub key: String,
    /// The value; empty for a deleted key.
    pub value: String,
    /// The version of the change.
    pub version: Version,
    /// Whether the key stays.
    pub status: DeletionStatus,
}

/// Whether a key stays, and if not, whether it is still visible.
///
/// Each receiver counts the grace period from the time at which it received the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeletionStatus {
    /// The key stays.
    Set,
    /// The key is deleted: it is no longer visible, and is removed after the grace period.
    Deleted,
    /// The key is visible until it is removed after the grace period.
    DeleteAfterTtl,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_other_fields_of_a_log_line_is_quoted() {
        for (name, shown) in [
            ("node-1", "node-1"),
            ("übung", "übung"),
            ("a\nb", r#""a\nb""#),
            ("a\u{7}b", r"a\u{7}b"),
            ("a role=admin", r#""a role=admin""#),
            ("a=b", r#""a=b""#),
            (r#"a"b"#, r#""a\"b""#),
        ] {
            let id = ChitchatId::new(name, 7, ([10, 0, 0, 1], 9).into());
            assert_eq!(format!("{id:?}"), format!("{shown}:7:10.0.0.1:9"));
        }
    }

    #[test]
    fn each_kind_of_message_has_its_name_and_its_version() {
        for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
            let (digest, delta) = (Digest::default(), Delta::default());
            let syn = ChitchatMessage::Syn {
                version,
                cluster_id: "cluster".to_owned(),
                digest: digest.clone(),
            };
            let syn_ack = ChitchatMessage::SynAck {
                version,
                digest,
                delta: delta.clone(),
            };
            let ack = ChitchatMessage::Ack { version, delta };
            let bad_cluster = ChitchatMessage::BadCluster { version };
            for (message, kind) in [
                (syn, "Syn"),
                (syn_ack, "SynAck"),
                (ack, "Ack"),
                (bad_cluster, "BadCluster"),
            ] {
                assert_eq!((message.kind(), message.version()), (kind, version));
            }
        }
    }
}
