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
    // The values differ, so that the delta is long after compression as well.
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

async fn decode_and_encode(codec: &mut Codec, message: &ChitchatMessage) -> usize {
    let bytes = encoded_by_us(message).unwrap();
    let envelope = codec.decode(&bytes).await.unwrap();
    let encoded = codec.encode(envelope).await.unwrap();
    assert_eq!(&ChitchatMessage::decode(encoded.clone()).unwrap(), message);
    encoded.len()
}

#[tokio::test]
async fn every_message_survives_decoding_and_encoding() {
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
            decode_and_encode(&mut codec, &message).await;
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
            let len = decode_and_encode(&mut codec, &message).await;
            assert!(len > 2 * MAX_DATAGRAM_LEN, "{len}");
        }
    }
}

fn is_too_long<T>(result: Result<T, EnvelopeError>) -> bool {
    matches!(result, Err(EnvelopeError::DigestTooLong { max: 65_501 }))
}

#[tokio::test]
async fn a_digest_may_be_longer_than_a_datagram_after_the_first_one_was_refused() {
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
        // A digest of version 1 in between is not affected.
        &syn(ProtocolVersion::V1, LONG),
        &long,
    ] {
        decode_and_encode(&mut codec, message).await;
    }
    decode_and_encode(&mut codec, &syn(ProtocolVersion::V0, 3)).await;
    assert!(!codec.has_long_digests);
}

#[tokio::test]
async fn a_cluster_that_grows_loses_no_digest() {
    let mut codec = Codec::open().await.unwrap();
    for nodes in [1000, 1200, 1400, 1600] {
        decode_and_encode(&mut codec, &syn(ProtocolVersion::V0, nodes)).await;
    }
}

#[tokio::test]
async fn a_digest_too_long_for_version_1_fails_and_the_next_message_is_not_affected() {
    let mut codec = Codec::open().await.unwrap();
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let huge = encoded_by_us(&syn(version, 40_000)).unwrap();
        assert!(is_too_long(codec.decode(&huge).await));
        decode_and_encode(&mut codec, &syn(version, 3)).await;
    }
}

#[tokio::test]
async fn no_datagram_is_lost_between_the_two_sockets() {
    let mut codec = Codec::open().await.unwrap();
    for _ in 0..300 {
        let len = decode_and_encode(&mut codec, &syn_ack(ProtocolVersion::V0, 1000, 40)).await;
        assert!(len > 50_000, "{len}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_an_envelope_fail_without_waiting_for_a_timeout() {
    let mut codec = Codec::open().await.unwrap();
    for bytes in [&b"junk"[..], b"", &[0x53, 0xb0, 0, 0, 1], &[7; 65_507]] {
        let decoded = codec.decode(&Bytes::copy_from_slice(bytes)).await;
        assert!(matches!(decoded, Err(EnvelopeError::Malformed(_))));
        // The same bytes, as if our own decoder had accepted them.
        let decoded = codec.decoded(bytes).await;
        assert!(matches!(decoded, Err(EnvelopeError::Refused { .. })));
        decode_and_encode(&mut codec, &syn(ProtocolVersion::V1, 10)).await;
    }
    let harmful = ack(ProtocolVersion::V0, delta(1, "\u{e4}"));
    let decoded = codec.decode(&encoded_by_us(&harmful).unwrap()).await;
    assert!(matches!(decoded, Err(EnvelopeError::HarmfulKey { key, .. }) if key == "\u{e4}1"));
}

#[tokio::test]
async fn a_cancelled_call_does_not_affect_the_result_of_the_next() {
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
        decode_and_encode(&mut codec, &new).await;
        {
            let mut decoding = std::pin::pin!(codec.decode(&old));
            for _ in 0..polls {
                match poll!(&mut decoding) {
                    Poll::Ready(_) => break,
                    Poll::Pending => cancelled += 1,
                }
            }
        }
        decode_and_encode(&mut codec, &new).await;
    }
    assert!(cancelled > 0, "no call was cancelled half-way");
}

#[tokio::test]
async fn datagrams_from_other_sockets_on_loopback_are_ignored() {
    let mut codec = Codec::open().await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let message = syn(ProtocolVersion::V0, 20);
    let theirs = encoded_by_us(&syn(ProtocolVersion::V0, 2)).unwrap();
    for _ in 0..50 {
        let pair = codec.pair.as_ref().unwrap();
        for addr in [pair.upstream_addr, pair.plain_addr] {
            for bytes in [&theirs[..], b"junk"] {
                other.send_to(bytes, addr).await.unwrap();
            }
        }
        decode_and_encode(&mut codec, &message).await;
    }
}
