use std::task::Poll;

use futures::poll;

use super::*;
use crate::message::{ChitchatId, DeletionStatus, KeyValueMutation, NodeDelta, NodeDigest};

fn id(n: u16) -> ChitchatId {
    ChitchatId::new(format!("node-{n}"), 1, ([10, 0, 0, 1], n).into())
}

fn digest(nodes: u16) -> Digest {
    let entries = (0..nodes).map(|n| {
        let node = NodeDigest {
            heartbeat: u64::from(n) * 7919,
            last_gc_version: 0,
            max_version: 3,
        };
        (id(n), node)
    });
    Digest {
        node_digests: entries.collect(),
    }
}

fn delta(keys: u64, key: &str) -> Delta {
    // No two alike: it has to be long after compression, too.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut mutations = Vec::new();
    for version in 1..=keys {
        mutations.push(KeyValueMutation {
            key: format!("{key}{version}"),
            value: (0..200).map(|_| rng.alphanumeric()).collect(),
            version,
            status: DeletionStatus::Set,
        });
    }
    Delta {
        node_deltas: vec![NodeDelta {
            chitchat_id: id(1),
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values: mutations,
            max_version: keys,
        }],
    }
}

fn syn(version: ProtocolVersion, nodes: u16) -> ChitchatMessage {
    ChitchatMessage::Syn {
        version,
        cluster_id: "cluster".to_owned(),
        digest: digest(nodes),
    }
}

fn syn_ack(version: ProtocolVersion, nodes: u16, keys: u64) -> ChitchatMessage {
    ChitchatMessage::SynAck {
        version,
        digest: digest(nodes),
        delta: delta(keys, "key"),
    }
}

async fn there_and_back(codec: &mut Codec, message: &ChitchatMessage) -> usize {
    let bytes = encoded_by_us(message).unwrap();
    let envelope = codec.decode(&bytes).await.unwrap();
    let encoded = codec.encode(envelope).await.unwrap();
    assert_eq!(&ChitchatMessage::decode(encoded.clone()).unwrap(), message);
    encoded.len()
}

#[tokio::test]
async fn every_message_survives_both_ways() {
    let mut codec = Codec::open().await.unwrap();
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        for message in [
            syn(version, 0),
            syn(version, 100),
            syn_ack(version, 0, 0),
            syn_ack(version, 100, 50),
            ack(version, Delta::default()),
            ack(version, delta(50, "key")),
            ChitchatMessage::BadCluster { version },
        ] {
            there_and_back(&mut codec, &message).await;
        }
    }
}

#[tokio::test]
async fn a_delta_may_be_longer_than_a_datagram() {
    let mut codec = Codec::open().await.unwrap();
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        for message in [
            syn_ack(version, 100, 1000),
            ack(version, delta(1000, "key")),
        ] {
            let len = there_and_back(&mut codec, &message).await;
            assert!(len > 2 * MAX_DATAGRAM_LEN, "{len}");
        }
    }
}

fn is_too_long<T>(result: Result<T, EnvelopeError>) -> bool {
    matches!(result, Err(EnvelopeError::DigestTooLong { max: 65_501 }))
}

#[tokio::test]
async fn a_digest_may_be_longer_than_a_datagram_once_a_first_was_refused() {
    const LONG: u16 = 5000;
    let mut codec = Codec::open().await.unwrap();
    let long = syn(ProtocolVersion::V0, LONG);
    let bytes = encoded_by_us(&long).unwrap();
    assert!(bytes.len() > 2 * MAX_DATAGRAM_LEN);
    let envelope = codec.decode(&bytes).await.unwrap();
    assert!(is_too_long(codec.encode(envelope).await));
    for message in [
        &long,
        &syn_ack(ProtocolVersion::V0, LONG, 1000),
        // One of version 1 between crosses as it is.
        &syn(ProtocolVersion::V1, LONG),
        &long,
    ] {
        there_and_back(&mut codec, message).await;
    }
    there_and_back(&mut codec, &syn(ProtocolVersion::V0, 3)).await;
    assert!(!codec.has_long_digests);
}

#[tokio::test]
async fn a_cluster_that_grows_loses_no_digest() {
    let mut codec = Codec::open().await.unwrap();
    for nodes in [1000, 1200, 1400, 1600] {
        there_and_back(&mut codec, &syn(ProtocolVersion::V0, nodes)).await;
    }
}

#[tokio::test]
async fn a_digest_too_long_for_version_1_is_a_clear_error_and_the_next_is_not_affected() {
    let mut codec = Codec::open().await.unwrap();
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let huge = encoded_by_us(&syn(version, 40_000)).unwrap();
        assert!(is_too_long(codec.decode(&huge).await));
        there_and_back(&mut codec, &syn(version, 3)).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_in_lockstep() {
    let mut codec = Codec::open().await.unwrap();
    for _ in 0..300 {
        let len = there_and_back(&mut codec, &syn_ack(ProtocolVersion::V0, 1000, 40)).await;
        assert!(len > 50_000, "{len}");
    }
}

#[tokio::test]
async fn what_is_no_envelope_is_said_to_be_so_and_not_waited_for() {
    let mut codec = Codec::open().await.unwrap();
    for bytes in [&b"junk"[..], b"", &[0x53, 0xb0, 0, 0, 1], &[7; 65_507]] {
        let decoded = codec.decode(&Bytes::copy_from_slice(bytes)).await;
        assert!(matches!(decoded, Err(EnvelopeError::Malformed(_))));
        // What only upstream refuses.
        let decoded = codec.decoded(bytes).await;
        assert!(matches!(decoded, Err(EnvelopeError::Refused { .. })));
        there_and_back(&mut codec, &syn(ProtocolVersion::V1, 10)).await;
    }
    let harmful = ack(ProtocolVersion::V0, delta(1, "\u{e4}"));
    let decoded = codec.decode(&encoded_by_us(&harmful).unwrap()).await;
    assert!(matches!(decoded, Err(EnvelopeError::HarmfulKey { key, .. }) if key == "\u{e4}1"));
}

#[tokio::test]
async fn what_was_cancelled_does_not_come_out_of_the_next_call() {
    let mut codec = Codec::open().await.unwrap();
    let (old, new) = (syn(ProtocolVersion::V0, 7), syn(ProtocolVersion::V0, 9));
    let old = encoded_by_us(&old).unwrap();
    let mut cancelled = 0;
    for polls in 1..=4 {
        let envelope = codec.decode(&old).await.unwrap();
        {
            let mut encoding = std::pin::pin!(codec.encode(envelope));
            for _ in 0..polls {
                if poll!(&mut encoding).is_ready() {
                    break;
                }
                cancelled += 1;
            }
        }
        there_and_back(&mut codec, &new).await;
        {
            let mut decoding = std::pin::pin!(codec.decode(&old));
            for _ in 0..polls {
                match poll!(&mut decoding) {
                    Poll::Ready(_) => break,
                    Poll::Pending => cancelled += 1,
                }
            }
        }
        there_and_back(&mut codec, &new).await;
    }
    assert!(cancelled > 0, "nothing was cancelled in the middle");
}

#[tokio::test]
async fn strangers_on_loopback_change_nothing() {
    let mut codec = Codec::open().await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let message = syn(ProtocolVersion::V0, 20);
    let theirs = encoded_by_us(&syn(ProtocolVersion::V0, 2)).unwrap();
    for _ in 0..50 {
        let pair = codec.pair.as_ref().unwrap();
        for addr in [pair.upstream_addr, pair.plain_addr] {
            for bytes in [&theirs[..], b"junk"] {
                stranger.send_to(bytes, addr).await.unwrap();
            }
        }
        there_and_back(&mut codec, &message).await;
    }
}
