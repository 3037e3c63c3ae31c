//! Messages that the decoder and the encoder refuse, each with its own error, and unusual but legal
//! bytes that they accept.

use std::io::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DecodeError, DeletionStatus, Delta, Digest, EncodeError,
    KeyValueMutation, MAX_BLOCK_LEN, MAX_STREAM_LEN, Message, NodeDelta, NodeDigest,
    ProtocolVersion,
};

use crate::support::messages::reference::{delta_contents, put_block, put_id, put_str, stream};

const SYN: u8 = 0;
const ACK: u8 = 2;

fn decode(bytes: Vec<u8>) -> Result<ChitchatMessage, DecodeError> {
    ChitchatMessage::decode(Bytes::from(bytes))
}

fn refusal(bytes: Vec<u8>) -> DecodeError {
    decode(bytes).expect_err("the message must be refused")
}

fn message(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0x53, 0xb0, version, kind], body].concat()
}

fn id(name: &str) -> ChitchatId {
    ChitchatId::new(name, 3, SocketAddr::from(([10, 0, 0, 1], 7280)))
}

fn ack(delta: Delta) -> ChitchatMessage {
    ChitchatMessage::Ack {
        version: ProtocolVersion::V0,
        delta,
    }
}

fn change(key: &str, version: u64) -> KeyValueMutation {
    KeyValueMutation {
        key: key.to_owned(),
        value: "value".to_owned(),
        version,
        status: DeletionStatus::Set,
    }
}

fn node_delta(name: &str, versions: &[u64], max_version: u64) -> NodeDelta {
    NodeDelta {
        chitchat_id: id(name),
        last_gc_version: 0,
        from_version_excluded: 0,
        key_values: versions.iter().map(|&v| change("key", v)).collect(),
        max_version,
    }
}

/// Returns an Ack whose delta consists of these operations, in one plain block.
fn operations(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    put_block(&mut body, 2, &parts.concat());
    body.push(0);
    message(0, ACK, &body)
}

fn node(name: &str) -> Vec<u8> {
    let mut out = vec![0];
    put_id(&mut out, &id(name));
    out.extend([0; 16]);
    out
}

fn key_value(version: u64) -> Vec<u8> {
    let mut out = vec![1];
    put_str(&mut out, "k");
    put_str(&mut out, "v");
    out.extend(version.to_le_bytes());
    out.push(0);
    out
}

fn set_max_version(version: u64) -> Vec<u8> {
    [&[2][..], &version.to_le_bytes()].concat()
}

/// Returns an Ack whose delta consists of these zstd blocks.
fn zstd_blocks(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for block in blocks {
        put_block(&mut body, 1, block);
    }
    body.push(0);
    message(0, ACK, &body)
}

fn zstd(contents: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(contents, 3).unwrap()
}

#[test]
fn a_wrong_envelope_is_refused_with_the_field_that_is_wrong() {
    assert_eq!(
        refusal(vec![0x53, 0xb1, 0, 3]),
        DecodeError::WrongMagic { got: 0xb153 }
    );
    assert_eq!(
        refusal(message(2, 3, &[])),
        DecodeError::UnknownVersion { got: 2 }
    );
    assert_eq!(
        refusal(message(1, 4, &[])),
        DecodeError::UnknownType { got: 4 }
    );
    assert_eq!(
        refusal(message(1, 3, &[0, 0])),
        DecodeError::TrailingBytes { len: 2 }
    );
    assert_eq!(
        refusal(message(0, ACK, &[0, 9])),
        DecodeError::TrailingBytes { len: 1 }
    );
    assert!(matches!(
        refusal(vec![]),
        DecodeError::Truncated { missing: 2, .. }
    ));
}

#[test]
fn a_count_or_length_beyond_the_bytes_is_refused_before_anything_is_read() {
    // A count of 65,535 nodes, which take at least 41 bytes each.
    assert!(matches!(
        refusal(message(0, SYN, &[0xff, 0xff, 1, 2, 3])),
        DecodeError::Truncated {
            missing: 2_686_932,
            field: "a digest"
        }
    ));
    // A block of 65,535 bytes, of which one has arrived.
    assert!(matches!(
        refusal(message(0, ACK, &[2, 0xff, 0xff, 7])),
        DecodeError::Truncated {
            missing: 65_534,
            field: "a block"
        }
    ));
    // A cluster id of 300 bytes, of which none has arrived.
    assert!(matches!(
        refusal(message(0, SYN, &[0, 0, 44, 1])),
        DecodeError::Truncated {
            missing: 300,
            field: "a cluster id"
        }
    ));
}

#[test]
fn unknown_codes_are_refused_with_their_value() {
    assert_eq!(
        refusal(message(0, ACK, &[3, 0, 0, 0])),
        DecodeError::UnknownBlockTag { got: 3 }
    );
    assert_eq!(
        refusal(operations(&[vec![3]])),
        DecodeError::UnknownOperation { got: 3 }
    );
    let mut status = key_value(1);
    *status.last_mut().unwrap() = 3;
    assert_eq!(
        refusal(operations(&[node("a"), status])),
        DecodeError::UnknownStatus { got: 3 }
    );
    let mut family = node("a");
    family[1 + 2 + 1 + 8] = 5;
    assert_eq!(
        refusal(operations(&[family])),
        DecodeError::UnknownAddressFamily { got: 5 }
    );
    assert_eq!(
        refusal(message(0, SYN, &[0, 0, 3, 0, b'o', b'k', 0xff])),
        DecodeError::NotUtf8 {
            field: "a cluster id",
            valid_up_to: 2
        }
    );
}

#[test]
fn operations_in_a_wrong_order_are_refused() {
    for (operation, bytes) in [(1, key_value(1)), (2, set_max_version(1))] {
        assert_eq!(
            refusal(operations(&[bytes])),
            DecodeError::OperationBeforeNode { operation }
        );
    }
    assert_eq!(
        refusal(operations(&[node("a"), node("b"), node("a")])),
        DecodeError::DuplicateNode { index: 2 }
    );
    assert_eq!(
        refusal(operations(&[node("a"), key_value(5), key_value(5)])),
        DecodeError::VersionDoesNotRise {
            version: 5,
            after: 5
        }
    );
    assert_eq!(
        refusal(operations(&[node("a"), key_value(0)])),
        DecodeError::VersionDoesNotRise {
            version: 0,
            after: 0
        }
    );
    assert_eq!(
        refusal(operations(&[node("a"), set_max_version(9), key_value(9)])),
        DecodeError::VersionDoesNotRise {
            version: 9,
            after: 9
        }
    );
    assert_eq!(
        refusal(operations(&[node("a"), key_value(5), set_max_version(4)])),
        DecodeError::MaxVersionTooLow {
            max_version: 4,
            after: 5
        }
    );
}

#[test]
fn a_block_may_expand_to_65_535_bytes_and_no_further() {
    // Valid contents of a given length: one key with a long value.
    let long = |len: usize| {
        let mut contents = node("a");
        contents.push(1);
        put_str(&mut contents, "k");
        let value = "v".repeat(len - contents.len() - 2 - 9);
        put_str(&mut contents, &value);
        contents.extend(1u64.to_le_bytes());
        contents.push(0);
        contents
    };
    assert!(decode(zstd_blocks(&[zstd(&long(MAX_BLOCK_LEN))])).is_ok());
    let block = zstd(&long(MAX_BLOCK_LEN + 1));
    assert_eq!(
        refusal(zstd_blocks(std::slice::from_ref(&block))),
        DecodeError::BlockExpandsTooFar {
            block: 0,
            len: block.len(),
            max: MAX_BLOCK_LEN
        }
    );
    // The same in two frames of one block, each of which is within the limit.
    let frames = [zstd(&[0; 40_000]), zstd(&[0; 40_000])].concat();
    assert!(matches!(
        refusal(zstd_blocks(&[frames])),
        DecodeError::BlockExpandsTooFar { block: 0, .. }
    ));
}

#[test]
fn a_frame_of_thousands_of_run_length_blocks_is_refused() {
    // The magic number, no content size, a window of 2 GiB; then blocks of 128 KiB, each in four
    // bytes.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3];
    while frame.len() + 4 < 65_000 {
        let header = (131_072u32 << 3) | (1 << 1);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    assert!(matches!(
        refusal(zstd_blocks(&[frame])),
        DecodeError::BlockExpandsTooFar { block: 0, .. }
    ));
}

#[test]
fn a_datagram_of_many_full_blocks_is_refused() {
    let blocks = vec![zstd(&[0; MAX_BLOCK_LEN]); 1000];
    let bytes = zstd_blocks(&blocks);
    assert!(bytes.len() < 65_507, "the message must fit into a datagram");
    assert_eq!(
        refusal(bytes),
        DecodeError::StreamExpandsTooFar {
            block: MAX_STREAM_LEN / MAX_BLOCK_LEN,
            max: MAX_STREAM_LEN
        }
    );
}

#[test]
fn plain_blocks_count_towards_the_limit_of_a_stream_as_well() {
    let mut body = Vec::new();
    for _ in 0..=MAX_STREAM_LEN / MAX_BLOCK_LEN {
        put_block(&mut body, 2, &[0; MAX_BLOCK_LEN]);
    }
    body.push(0);
    assert!(matches!(
        refusal(message(0, ACK, &body)),
        DecodeError::StreamExpandsTooFar { .. }
    ));
}

#[test]
fn a_block_that_is_not_zstd_is_refused_with_its_index() {
    let good = zstd(&node("a"));
    for bad in [
        vec![0x28, 0xb5],
        b"no such thing".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0; 3]].concat(),
        // A skippable frame that declares more bytes than there are.
        vec![0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1],
    ] {
        let len = bad.len();
        match refusal(zstd_blocks(&[zstd(&[]), bad])) {
            DecodeError::CorruptBlock {
                block: 1, len: l, ..
            } => assert_eq!(l, len),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn unusual_but_legal_compression_is_accepted() {
    let delta = Delta {
        node_deltas: vec![node_delta("a", &[1, 2, 3], 3), node_delta("b", &[], 8)],
    };
    let contents = delta_contents(&delta);
    let (first, second) = contents.split_at(contents.len() / 2);
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let streamed = |checksum: bool, window_log: Option<u32>| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(checksum).unwrap();
        if let Some(log) = window_log {
            encoder.window_log(log).unwrap();
        }
        encoder.write_all(&contents).unwrap();
        encoder.finish().unwrap()
    };
    let blocks: Vec<Vec<Vec<u8>>> = vec![
        vec![[zstd(first), zstd(second)].concat()],
        vec![
            [
                skippable.clone(),
                zstd(first),
                skippable.clone(),
                zstd(second),
            ]
            .concat(),
        ],
        vec![zstd(first), Vec::new(), skippable, zstd(second)],
        vec![streamed(false, None)],
        vec![streamed(true, None)],
        vec![streamed(false, Some(27))],
        contents.chunks(1).map(zstd).collect(),
    ];
    for blocks in blocks {
        assert_eq!(decode(zstd_blocks(&blocks)).unwrap(), ack(delta.clone()));
    }
    // A mixture of plain and compressed blocks, some of which are empty.
    let mut body = Vec::new();
    put_block(&mut body, 2, &[]);
    put_block(&mut body, 2, first);
    put_block(&mut body, 1, &zstd(second));
    put_block(&mut body, 2, &[]);
    body.push(0);
    assert_eq!(decode(message(0, ACK, &body)).unwrap(), ack(delta));
}

#[test]
fn the_last_of_several_digest_entries_for_a_node_counts_as_in_upstream() {
    let mut entries = Vec::new();
    for heartbeat in [1u64, 2] {
        put_id(&mut entries, &id("a"));
        entries.extend(heartbeat.to_le_bytes());
        entries.extend([0; 16]);
    }
    let expected = Digest {
        node_digests: [(
            id("a"),
            NodeDigest {
                heartbeat: 2,
                ..NodeDigest::default()
            },
        )]
        .into(),
    };
    for (version, digest) in [(0, [&[2, 0][..], &entries].concat()), (1, stream(&entries))] {
        let bytes = message(version, SYN, &[&digest[..], &[0, 0]].concat());
        match decode(bytes).unwrap() {
            ChitchatMessage::Syn { digest, .. } => assert_eq!(digest, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_message_that_receivers_would_refuse_is_not_encoded() {
    let encode = |node_deltas| ack(Delta { node_deltas }).into_bytes();
    assert_eq!(
        encode(vec![node_delta("a", &[1], 1), node_delta("a", &[1], 1)]),
        Err(EncodeError::DuplicateNode { index: 1 })
    );
    assert_eq!(
        encode(vec![node_delta("a", &[4, 4], 4)]),
        Err(EncodeError::VersionDoesNotRise {
            version: 4,
            after: 4
        })
    );
    assert_eq!(
        encode(vec![node_delta("a", &[4], 3)]),
        Err(EncodeError::MaxVersionTooLow {
            max_version: 3,
            after: 4
        })
    );
    let mut long = node_delta("a", &[1], 1);
    long.key_values[0].value = "v".repeat(65_536);
    assert_eq!(
        encode(vec![long]),
        Err(EncodeError::TooLong {
            field: "a value",
            len: 65_536,
            max: 65_535
        })
    );
    let huge = NodeDelta {
        key_values: (1..80)
            .map(|version| KeyValueMutation {
                value: "v".repeat(65_000),
                ..change("key", version)
            })
            .collect(),
        ..node_delta("a", &[], 79)
    };
    assert!(matches!(
        encode(vec![huge]),
        Err(EncodeError::TooLong {
            field: "a delta",
            max: MAX_STREAM_LEN,
            ..
        })
    ));
    let crowd = Digest {
        node_digests: (0..65_536)
            .map(|n| (id(&n.to_string()), NodeDigest::default()))
            .collect(),
    };
    let syn = ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: String::new(),
        digest: crowd,
    };
    assert_eq!(
        syn.into_bytes(),
        Err(EncodeError::TooMany {
            field: "a digest",
            count: 65_536,
            max: 65_535
        })
    );
}
