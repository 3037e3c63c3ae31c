//! Against the codec of the published chitchat 0.11, which is public: over generated messages, what
//! it encodes decodes here to the same meaning, and the other way round. It knows V0 only.
//!
//! Its messages' fields are private. So a generated message reaches upstream as bytes (written by
//! the tests' own reference writer), and meanings are compared there: by upstream's `Debug`, which
//! shows every field, without the one that says how long the encoding was.

use bytes::Bytes;
use chitchat_011::{Deserializable, Serializable};
use gossip_transport::message::{ChitchatMessage, Message, ProtocolVersion};
use proptest::prelude::*;

use crate::support::messages::reference::{bytes_of, digest_bytes, read_stream};
use crate::support::messages::{Scale, any_message, without_encoded_len};

type Upstream = chitchat_011::ChitchatMessage;

fn decode_upstream(mut bytes: &[u8]) -> Upstream {
    let message = Upstream::deserialize(&mut bytes).expect("upstream decodes it");
    assert!(bytes.is_empty(), "upstream leaves {} bytes", bytes.len());
    message
}

fn meaning(message: &Upstream) -> String {
    without_encoded_len(&format!("{message:?}"))
}

/// As a V0 message that 0.11 could have made itself: with a key in it, a node delta's max version
/// is the last key's.
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

    // What upstream encodes decodes here to the same meaning.
    let from_upstream = upstream.serialize_to_vec();
    assert_eq!(
        ChitchatMessage::decode(Bytes::from(from_upstream.clone())).unwrap(),
        *message
    );

    // What is encoded here decodes there to the same meaning.
    let ours = message.clone().into_bytes().unwrap();
    assert_eq!(meaning(&decode_upstream(&ours)), meaning(&upstream));

    // The uncompressed parts are the same bytes, and the compressed ones hold the same bytes,
    // cut in the same places.
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
    fn upstream_takes_a_max_version_that_no_key_has(message in any_message(Scale::Small)) {
        // Upstream decodes such a delta and never makes one, so there is no way back to compare.
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
