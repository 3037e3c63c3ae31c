//! Properties of the codec that hold for every message and for every sequence of bytes.

use bytes::Bytes;
use gossip_transport::message::{
    ChitchatMessage, DeltaBuilder, HEADER_LEN, MAX_DATAGRAM_LEN, Message, syn_overhead,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::messages::{Scale, any_delta, any_digest, any_message, any_version};

/// A change of a message on its way.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Overwrite(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = |index: &Index| index.index(bytes.len());
        match self {
            Self::Flip(index, bit) => {
                let at = at(index);
                bytes[at] ^= 1 << bit;
            }
            Self::Overwrite(index, byte) => {
                let at = at(index);
                bytes[at] = *byte;
            }
            Self::Insert(index, byte) => {
                let at = at(index);
                bytes.insert(at, *byte);
            }
            Self::Remove(index) => {
                let at = at(index);
                bytes.remove(at);
            }
            Self::Cut(index) => bytes.truncate(at(index)),
        }
    }
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<Index>(), prop_oneof![Just(0), Just(255), any::<u8>()])
            .prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

/// Checks that bytes which decode can be passed on: the message encodes, and decodes to the same.
fn decodes_to_something_sound_or_not_at_all(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    if let Ok(message) = ChitchatMessage::decode(Bytes::from(bytes)) {
        let again = message.clone().into_bytes().unwrap();
        prop_assert_eq!(ChitchatMessage::decode(again).unwrap(), message);
    }
    Ok(())
}

/// Removes nodes without changes, which a peer may send, but which a builder leaves out.
fn without_empty_nodes(mut message: ChitchatMessage) -> ChitchatMessage {
    if let ChitchatMessage::SynAck { delta, .. } | ChitchatMessage::Ack { delta, .. } = &mut message
    {
        delta.node_deltas.retain(|node| node.max_version > 0);
    }
    message
}

/// Returns the sum of the bounds that the parts of `message` report for their encoded length.
fn len_bound(message: &ChitchatMessage) -> usize {
    let delta_bound = |delta: &gossip_transport::message::Delta| {
        let mut builder = DeltaBuilder::new(usize::MAX);
        for node in &delta.node_deltas {
            assert!(builder.try_add_node(
                &node.chitchat_id,
                node.last_gc_version,
                node.from_version_excluded
            ));
            let mut reached = 0;
            for change in &node.key_values {
                assert!(builder.try_add_key_value(
                    &change.key,
                    &change.value,
                    change.version,
                    change.status
                ));
                reached = change.version;
            }
            if node.max_version > reached {
                assert!(builder.try_set_max_version(node.max_version));
            }
        }
        builder.encoded_len_bound()
    };
    match message {
        ChitchatMessage::Syn {
            version,
            cluster_id,
            digest,
        } => syn_overhead(cluster_id) + digest.encoded_len_bound(*version),
        ChitchatMessage::SynAck {
            version,
            digest,
            delta,
        } => HEADER_LEN + digest.encoded_len_bound(*version) + delta_bound(delta),
        ChitchatMessage::Ack { delta, .. } => HEADER_LEN + delta_bound(delta),
        ChitchatMessage::BadCluster { .. } => HEADER_LEN,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn an_encoded_message_decodes_to_the_same_message(message in any_message(Scale::Small)) {
        let bytes = message.clone().into_bytes().unwrap();
        prop_assert_eq!(ChitchatMessage::decode(bytes).unwrap(), message);
    }

    #[test]
    fn a_message_that_is_cut_short_anywhere_does_not_decode(message in any_message(Scale::Small)) {
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
        decodes_to_something_sound_or_not_at_all(all)?;
    }

    #[test]
    fn a_damaged_message_decodes_or_fails_without_a_panic(
        message in any_message(Scale::Small),
        damages in proptest::collection::vec(any_damage(), 1..4),
    ) {
        let mut bytes = message.into_bytes().unwrap().to_vec();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        decodes_to_something_sound_or_not_at_all(bytes)?;
    }

    #[test]
    fn no_message_is_longer_than_the_bounds_of_its_parts(message in any_message(Scale::Small)) {
        let message = without_empty_nodes(message);
        let bound = len_bound(&message);
        let len = message.clone().into_bytes().unwrap().len();
        prop_assert!(len <= bound, "{} > {}", len, bound);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn messages_of_several_blocks_decode_to_the_same_and_keep_their_bounds(
        message in any_message(Scale::Large),
    ) {
        let message = without_empty_nodes(message);
        let bound = len_bound(&message);
        let bytes = message.clone().into_bytes().unwrap();
        prop_assert!(bytes.len() <= bound, "{} > {}", bytes.len(), bound);
        prop_assert_eq!(ChitchatMessage::decode(bytes).unwrap(), message);
    }

    #[test]
    fn a_damaged_message_of_several_blocks_decodes_or_fails_without_a_panic(
        message in any_message(Scale::Large),
        damages in proptest::collection::vec(proptest::collection::vec(any_damage(), 1..3), 20),
    ) {
        let bytes = message.into_bytes().unwrap();
        for damages in &damages {
            let mut bytes = bytes.to_vec();
            for damage in damages {
                damage.apply(&mut bytes);
            }
            decodes_to_something_sound_or_not_at_all(bytes)?;
        }
    }

    #[test]
    fn a_built_delta_fits_its_limit_and_has_no_gap(
        offered in any_delta(Scale::Large),
        digest in any_digest(Scale::Large),
        version in any_version(),
        limit in 0..30_000usize,
    ) {
        let digest_len = digest.encoded_len(version).unwrap();
        prop_assert!(digest_len <= digest.encoded_len_bound(version));
        let mut builder = DeltaBuilder::new(limit);
        'full: for node in &offered.node_deltas {
            if !builder.try_add_node(&node.chitchat_id, node.last_gc_version, node.from_version_excluded) {
                break;
            }
            for change in &node.key_values {
                if !builder.try_add_key_value(&change.key, &change.value, change.version, change.status) {
                    break 'full;
                }
            }
        }
        prop_assert!(builder.encoded_len_bound() <= limit || builder.encoded_len_bound() == 1);
        let delta = builder.finish();
        // The changes that were added are the first of those that were offered.
        let taken: Vec<_> = delta.node_deltas.iter().flat_map(|n| &n.key_values).collect();
        let all: Vec<_> = offered.node_deltas.iter().flat_map(|n| &n.key_values).collect();
        prop_assert_eq!(&all[..taken.len()], &taken[..]);
        prop_assert!(delta.node_deltas.iter().all(|node| node.max_version > 0));
        let message = ChitchatMessage::SynAck { version, digest, delta };
        let len = message.into_bytes().unwrap().len();
        prop_assert!(len <= HEADER_LEN + digest_len + limit.max(1));
    }
}

#[test]
fn a_builder_that_has_refused_a_change_refuses_all_later_ones() {
    let id = gossip_transport::message::ChitchatId::new("a", 1, ([10, 0, 0, 1], 1).into());
    let set = gossip_transport::message::DeletionStatus::Set;
    let mut builder = DeltaBuilder::new(DeltaBuilder::len_bound_alone(&id, "first", "") + 40);
    assert!(!builder.try_add_key_value("no node yet", "", 1, set));
    assert!(builder.try_add_node(&id, 0, 0));
    assert!(!builder.try_set_max_version(0), "zero is no progress");
    assert!(builder.try_add_key_value("first", "", 1, set));
    assert!(!builder.try_add_key_value("same version", "", 1, set));
    assert!(!builder.try_add_key_value("long", &"v".repeat(100), 2, set));
    assert!(
        !builder.try_add_key_value("short", "", 3, set),
        "it would arrive before the refused change"
    );
    let delta = builder.finish();
    assert_eq!(delta.node_deltas[0].key_values.len(), 1);
    assert_eq!(delta.node_deltas[0].max_version, 1);
}

#[test]
fn a_built_delta_holds_more_changes_if_they_can_be_compressed() {
    let id = gossip_transport::message::ChitchatId::new("a", 1, ([10, 0, 0, 1], 1).into());
    let set = gossip_transport::message::DeletionStatus::Set;
    let mut builder = DeltaBuilder::new(MAX_DATAGRAM_LEN - HEADER_LEN);
    assert!(builder.try_add_node(&id, 0, 0));
    let mut plain = 0;
    for version in 1.. {
        let key = format!("indexer.metrics.shard-{version}");
        let value = format!("{{\"cpu\":{},\"state\":\"ready\"}}", version % 100);
        if !builder.try_add_key_value(&key, &value, version, set) {
            break;
        }
        plain += key.len() + value.len();
    }
    let delta = builder.finish();
    assert!(plain > 3 * MAX_DATAGRAM_LEN, "{plain} bytes of text");
    let message = ChitchatMessage::Ack {
        version: Default::default(),
        delta,
    };
    let bytes = message.clone().into_bytes().unwrap();
    assert!(bytes.len() <= MAX_DATAGRAM_LEN);
    assert_eq!(ChitchatMessage::decode(bytes).unwrap(), message);
}

#[test]
fn the_bound_of_a_single_key_is_exact() {
    let id = gossip_transport::message::ChitchatId::new("a", 1, ([10, 0, 0, 1], 1).into());
    let set = gossip_transport::message::DeletionStatus::Set;
    let value = "v".repeat(65_000);
    let bound = DeltaBuilder::len_bound_alone(&id, "key", &value);
    for (limit, fits) in [(bound, true), (bound - 1, false)] {
        let mut builder = DeltaBuilder::new(limit);
        assert!(builder.try_add_node(&id, 0, 0));
        assert_eq!(builder.try_add_key_value("key", &value, 1, set), fits);
    }
    assert!(HEADER_LEN + bound <= MAX_DATAGRAM_LEN);
}
