//! Strategies that generate messages, and a second implementation of their encoding.

pub(crate) mod reference;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// The size of a generated message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scale {
    /// A few hundred bytes.
    Small,
    /// Several blocks.
    Large,
}

impl Scale {
    fn nodes(self) -> usize {
        match self {
            Self::Small => 6,
            Self::Large => 60,
        }
    }
    fn keys(self) -> usize {
        match self {
            Self::Small => 5,
            Self::Large => 30,
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{0,12}(\\.[a-z]{1,8})?",
        2 => ".{0,20}",
        1 => ("[a-c]{1,3}", 0..200usize).prop_map(|(part, times)| part.repeat(times)),
    ]
}

/// Small numbers, as in real messages, and numbers that use all eight bytes.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000u64, any::<u64>()]
}

/// An address without scope and flow label, which the format cannot express.
fn addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

pub(crate) fn any_id() -> impl Strategy<Value = ChitchatId> {
    (text(), number(), addr())
        .prop_map(|(name, generation, addr)| ChitchatId::new(name, generation, addr))
}

pub(crate) fn any_digest(scale: Scale) -> impl Strategy<Value = Digest> {
    let node_digest = (number(), number(), number()).prop_map(|(heartbeat, gc, max)| NodeDigest {
        heartbeat,
        last_gc_version: gc,
        max_version: max,
    });
    btree_map(any_id(), node_digest, 0..scale.nodes()).prop_map(|entries| Digest {
        node_digests: entries.into_iter().collect(),
    })
}

fn any_status() -> impl Strategy<Value = DeletionStatus> {
    prop_oneof![
        Just(DeletionStatus::Set),
        Just(DeletionStatus::Deleted),
        Just(DeletionStatus::DeleteAfterTtl),
    ]
}

fn any_node_delta(scale: Scale) -> impl Strategy<Value = NodeDelta> {
    let changes = vec((text(), text(), 1..4u64, any_status()), 0..scale.keys());
    (any_id(), number(), 0..1u64 << 40, changes, 0..3u64).prop_map(
        |(chitchat_id, last_gc_version, from_version_excluded, changes, beyond)| {
            let mut version = if changes.is_empty() {
                0
            } else {
                from_version_excluded
            };
            let key_values: Vec<_> = changes
                .into_iter()
                .map(|(key, value, step, status)| {
                    version += step;
                    KeyValueMutation {
                        key,
                        value,
                        version,
                        status,
                    }
                })
                .collect();
            NodeDelta {
                chitchat_id,
                last_gc_version,
                from_version_excluded,
                key_values,
                max_version: version + beyond,
            }
        },
    )
}

pub(crate) fn any_delta(scale: Scale) -> impl Strategy<Value = Delta> {
    vec(any_node_delta(scale), 0..scale.nodes()).prop_map(|mut node_deltas| {
        let mut seen = BTreeSet::new();
        node_deltas.retain(|node_delta| seen.insert(node_delta.chitchat_id.clone()));
        Delta { node_deltas }
    })
}

pub(crate) fn any_version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V0), Just(ProtocolVersion::V1)]
}

pub(crate) fn any_message(scale: Scale) -> impl Strategy<Value = ChitchatMessage> {
    prop_oneof![
        (any_version(), text(), any_digest(scale)).prop_map(|(version, cluster_id, digest)| {
            ChitchatMessage::Syn {
                version,
                cluster_id,
                digest,
            }
        }),
        (any_version(), any_digest(scale), any_delta(scale)).prop_map(
            |(version, digest, delta)| ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            }
        ),
        (any_version(), any_delta(scale))
            .prop_map(|(version, delta)| ChitchatMessage::Ack { version, delta }),
        any_version().prop_map(|version| ChitchatMessage::BadCluster { version }),
    ]
}

/// Removes the encoded length from upstream's `Debug` output of a message. It depends on the
/// compressor and is not part of the meaning.
pub(crate) fn without_encoded_len(debug: &str) -> String {
    const FIELD: &str = ", serialized_len: ";
    let mut out = String::new();
    let mut rest = debug;
    while let Some((before, after)) = rest.split_once(FIELD) {
        out.push_str(before);
        rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    out + rest
}
