//! Chitchat's own messages, as they are sent in a cluster.

use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion,
};

/// Returns the Syn of a member that knows `nodes` nodes.
pub fn syn(version: ProtocolVersion, nodes: u16) -> ChitchatMessage {
    let node_digests = (0..nodes).map(|n| {
        let digest = NodeDigest {
            heartbeat: 10_000 + u64::from(n),
            last_gc_version: 0,
            max_version: 40 + u64::from(n % 7),
        };
        (id(n), digest)
    });
    ChitchatMessage::Syn {
        version,
        cluster_id: "bench".to_owned(),
        digest: Digest {
            node_digests: node_digests.collect(),
        },
    }
}

/// Returns an Ack that carries `keys` keys of one node.
pub fn ack(keys: u64) -> ChitchatMessage {
    let key_values = (1..=keys).map(|version| KeyValueMutation {
        key: format!("service/endpoint/{version}"),
        value: format!("10.20.{}.{}:7280", version % 13, version % 251),
        version,
        status: DeletionStatus::Set,
    });
    ChitchatMessage::Ack {
        version: ProtocolVersion::V0,
        delta: Delta {
            node_deltas: vec![NodeDelta {
                chitchat_id: id(1),
                last_gc_version: 0,
                from_version_excluded: 0,
                key_values: key_values.collect(),
                max_version: keys,
            }],
        },
    }
}

fn id(n: u16) -> ChitchatId {
    let addr = ([10, 0, (n >> 8) as u8, n as u8], 7280).into();
    ChitchatId::new(format!("node-{n:05}"), 1_700_000_000_000_000, addr)
}
