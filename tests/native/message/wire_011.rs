//! Compares the codec with that of the published chitchat 0.11, which is public, over generated
//! messages: each decodes the other's bytes to the same meaning. 0.11 knows only V0.
//!
//! The fields of upstream's messages are private. A generated message is therefore passed to upstream
//! as bytes (of the tests' reference encoder), and meanings are compared by upstream's `Debug` output,
//! which shows every field, without the encoded length.

use bytes::Bytes;
use chitchat_011::{Deserializable, Serializable};
use gossip_transport::message::{ChitchatMessage, Message, ProtocolVersion};
use proptest::prelude::*;

use crate::support::messages::reference::{bytes_of, digest_bytes, read_stream};
use crate::support::messages::{Scale, any_message, without_encoded_len};

type Upstream = chitchat_011::ChitchatMessage;

fn decode_upstream(mut bytes: &[u8]) -> Upstream {
    let message = Upstream::deserialize(&mut bytes).expect("upstream must decode it");
    assert!(bytes.is_empty(), "upstream leaves {} bytes", bytes.len());
    message
}

fn meaning(message: &Upstream) -> String {
    without_encoded_len(&format!("{message:?}"))
}

/// Changes `message` to one of V0 that 0.11 could have created: the max version of a node delta that
/// has keys is the version of the last one.
fn as_upstream_makes_it(mut message: ChitchatMessage) -> ChitchatMessage {
    match &mut message {
        ChitchatMessage::Syn { version, .. } | ChitchatMessage::BadCluster { version } => {
            *version = ProtocolVersion::V0;
        }
        ChitchatMessage::SynAck { version, delta, .. }
        | ChitchatMessage::Ack { version, delta } => {
            *version = ProtocolVersion::V0;
            for node_delta in &mut delta.node_deltas {
                if let Some(last) = node_delta.key_values.last() {
                    node_delta.max_version = last.version;
                }
            }
        }
    }
    message
}

fn agrees_with_upstream(message: &ChitchatMessage) {
    let reference = bytes_of(message);
    let upstream = decode_upstream(&reference);

    // Upstream's bytes decode here to the same meaning.
    let from_upstream = upstream.serialize_to_vec();
    assert_eq!(
        ChitchatMessage::decode(Bytes::from(from_upstream.clone())).unwrap(),
        *message
    );

    // Our bytes decode in upstream to the same meaning.
    let ours = message.clone().into_bytes().unwrap();
    assert_eq!(meaning(&decode_upstream(&ours)), meaning(&upstream));

    // Uncompressed parts have the same bytes. Compressed parts expand to the same bytes, split in the
    // same places.
    match message {
        ChitchatMessage::Syn { .. } | ChitchatMessage::BadCluster { .. } => {
            assert_eq!(ours, from_upstream);
        }
        ChitchatMessage::SynAck { digest, .. } => {
            let before = 4 + digest_bytes(digest, 0).len();
            assert_eq!(ours[..before], from_upstream[..before]);
            assert_eq!(
                read_stream(&ours[before..]),
                read_stream(&from_upstream[before..])
            );
        }
        ChitchatMessage::Ack { .. } => {
            assert_eq!(ours[..4], from_upstream[..4]);
            assert_eq!(read_stream(&ours[4..]), read_stream(&from_upstream[4..]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn upstream_and_this_crate_agree_on_small_messages(message in any_message(Scale::Small)) {
        agrees_with_upstream(&as_upstream_makes_it(message));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn upstream_and_this_crate_agree_on_messages_of_several_blocks(message in any_message(Scale::Large)) {
        agrees_with_upstream(&as_upstream_makes_it(message));
    }

    #[test]
    fn upstream_accepts_a_max_version_above_the_last_key(message in any_message(Scale::Small)) {
        // Upstream decodes such a delta, but never creates one, so its encoding cannot be compared.
        if message.version() == ProtocolVersion::V0 {
            let ours = message.clone().into_bytes().unwrap();
            let reference = decode_upstream(&bytes_of(&message));
            prop_assert_eq!(meaning(&decode_upstream(&ours)), meaning(&reference));
        }
    }
}

#[test]
fn upstream_decodes_each_kind_of_empty_message_to_the_same_bytes() {
    for kind in 0..4 {
        // An empty digest, cluster id or delta is all zeros.
        let body: &[u8] = match kind {
            0 => &[0, 0, 0, 0],
            1 => &[0, 0, 0],
            2 => &[0],
            _ => &[],
        };
        let bytes = [&[0x53, 0xb0, 0, kind], body].concat();
        let message = ChitchatMessage::decode(Bytes::from(bytes.clone())).unwrap();
        assert_eq!(message.into_bytes().unwrap(), bytes);
        assert_eq!(decode_upstream(&bytes).serialize_to_vec(), bytes);
    }
}
