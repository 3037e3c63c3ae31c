//! The memory that a decoded message takes.
//!
//! Small messages on the wire may be large in memory: keys and members that are alike compress well, and
//! each has strings of its own then. Invariant: the result is at least three quarters of the
//! truth, and at most twice as much, for messages that take more than their bytes.

use super::model::{ChitchatMessage, Delta, Digest};

/// The memory of a member in a digest, besides a long name, in bytes, with the spare room of a
/// vector.
const DIGEST_ENTRY: usize = 100;
/// The memory of a member in a delta, besides a long name, in bytes, with the spare room of a vector.
const NODE_DELTA: usize = 160;
/// The memory of a key in a delta besides its text, in bytes, with the spare room of a vector.
const KEY_VALUE: usize = 90;
/// What an allocator adds to a short text, in bytes, its rounding up included.
const ALLOCATION: usize = 24;
/// Names up to this length take no allocation.
const SHORT_NAME: usize = 23;

/// Returns the approximate memory of a message, in bytes.
pub(super) fn of(message: &ChitchatMessage) -> usize {
    match message {
        ChitchatMessage::Syn { digest, .. } => of_digest(digest),
        ChitchatMessage::SynAck { digest, delta, .. } => of_digest(digest) + of_delta(delta),
        ChitchatMessage::Ack { delta, .. } => of_delta(delta),
        ChitchatMessage::BadCluster { .. } => 0,
    }
}

fn of_digest(digest: &Digest) -> usize {
    let names = digest.node_digests.keys().map(|id| of_name(&id.node_id));
    digest.node_digests.len() * DIGEST_ENTRY + names.sum::<usize>()
}

fn of_delta(delta: &Delta) -> usize {
    let nodes = delta.node_deltas.iter().map(|node| {
        let texts = node.key_values.iter();
        let texts = texts.map(|kv| of_text(&kv.key) + of_text(&kv.value));
        let keys = node.key_values.len() * KEY_VALUE;
        NODE_DELTA + of_name(&node.chitchat_id.node_id) + keys + texts.sum::<usize>()
    });
    nodes.sum()
}

fn of_name(name: &str) -> usize {
    if name.len() <= SHORT_NAME {
        0
    } else {
        of_text(name)
    }
}

fn of_text(text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        text.len() + ALLOCATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        ChitchatId, DeletionStatus, KeyValueMutation, NodeDelta, NodeDigest, ProtocolVersion,
    };

    #[test]
    fn an_answer_takes_the_memory_of_its_digest_and_of_its_delta() {
        let version = ProtocolVersion::V1;
        let id = ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into());
        let digest = Digest {
            node_digests: [(id.clone(), NodeDigest::default())].into(),
        };
        let delta = Delta {
            node_deltas: vec![NodeDelta {
                chitchat_id: id,
                last_gc_version: 0,
                from_version_excluded: 0,
                key_values: Vec::new(),
                max_version: 1,
            }],
        };
        let asks = of(&ChitchatMessage::Syn {
            version,
            cluster_id: "cluster".to_owned(),
            digest: digest.clone(),
        });
        let teaches = of(&ChitchatMessage::Ack {
            version,
            delta: delta.clone(),
        });
        let answer = ChitchatMessage::SynAck {
            version,
            digest,
            delta,
        };
        assert_eq!((asks, teaches), (DIGEST_ENTRY, NODE_DELTA));
        assert_eq!(of(&answer), asks + teaches);
    }

    #[test]
    fn long_names_keys_and_values_add_up_with_what_their_allocations_take() {
        let id = |len| ChitchatId::new("n".repeat(len), 1, ([127, 0, 0, 1], 1).into());
        let (short, long) = (id(SHORT_NAME), id(SHORT_NAME + 1));
        let name = SHORT_NAME + 1 + ALLOCATION;
        let digest = Digest {
            node_digests: [short.clone(), long.clone()]
                .map(|id| (id, NodeDigest::default()))
                .into(),
        };
        assert_eq!(of_digest(&digest), 2 * DIGEST_ENTRY + name);
        let key_value = |key: &str, value: &str| KeyValueMutation {
            key: key.to_owned(),
            value: value.to_owned(),
            version: 1,
            status: DeletionStatus::Set,
        };
        let node_delta = |chitchat_id, key_values| NodeDelta {
            chitchat_id,
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values,
            max_version: 1,
        };
        let delta = Delta {
            node_deltas: vec![
                node_delta(short, Vec::new()),
                node_delta(long, vec![key_value("key", "value"), key_value("k", "")]),
            ],
        };
        let texts = (3 + ALLOCATION) + (5 + ALLOCATION) + (1 + ALLOCATION);
        let expected = 2 * NODE_DELTA + name + 2 * KEY_VALUE + texts;
        assert_eq!(of_delta(&delta), expected);
    }
}
