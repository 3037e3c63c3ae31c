//! What must hold for every message and for every sequence of bytes, whoever made them.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod message_strategies;

use bytes::Bytes;
use gossip_transport::message::{ChitchatMessage, Message};
use message_strategies::{Scale, any_message};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_the_same_message(message in any_message(Scale::Small)) {
        let bytes = message.clone().into_bytes().unwrap();
        prop_assert_eq!(ChitchatMessage::decode(bytes).unwrap(), message);
    }

    #[test]
    fn a_message_cut_short_anywhere_is_an_error(message in any_message(Scale::Small)) {
        let bytes = message.into_bytes().unwrap();
        for len in 0..bytes.len() {
            prop_assert!(ChitchatMessage::decode(bytes.slice(..len)).is_err(), "cut at {}", len);
        }
    }

    #[test]
    fn arbitrary_bytes_decode_or_fail_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        header in prop_oneof![Just(None), (0..2u8, 0..4u8).prop_map(Some)],
    ) {
        let mut all = Vec::new();
        if let Some((version, kind)) = header {
            all.extend(45_139u16.to_le_bytes());
            all.extend([version, kind]);
        }
        all.extend(bytes);
        let _ = ChitchatMessage::decode(Bytes::from(all));
    }
}
