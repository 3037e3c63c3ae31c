//! What deltas contain, and what they show to the member that applies them.

use super::*;
use crate::message::{KeyValueMutation, NodeDelta};

#[test]
fn a_delta_that_is_received_twice_is_a_copy_and_one_after_a_gap_is_not() {
    let (mut us, mut peer) = (cluster(1), cluster(2));
    peer.note_heartbeat(&id(1), 1);
    us.own().set("a", "v", DeletionStatus::Set, NOW);
    let learnt = peer.apply(us.own_delta(60_000), NOW);
    assert_eq!(learnt.changes, [(id(1), 0, 1)]);
    let learnt = peer.apply(us.own_delta(60_000), NOW);
    assert_eq!((learnt.copies, learnt.has_gap), (vec![(id(1), 1)], false));
    us.own().set("b", "v", DeletionStatus::Set, NOW);
    us.own().set("c", "v", DeletionStatus::Set, NOW);
    let floors = Members::from_iter([(id(1), 2)]);
    let newest = us.delta_above(&floors, 60_000, none, &mut fastrand::Rng::with_seed(1));
    let learnt = peer.apply(newest, NOW);
    assert_eq!((learnt.copies, learnt.has_gap), (vec![], true));
}

#[test]
fn what_is_missing_most_is_that_of_another_member_of_which_a_peer_knows_more() {
    let mut us = cluster(1);
    let mut missing = |listed: &[(u16, Version)]| {
        let listed = listed
            .iter()
            .map(|(n, version)| (id(*n), known(1, *version)));
        let digest = Digest {
            node_digests: listed.collect(),
        };
        us.note_heartbeats(&digest, PEER, Reporter::Other, NOW);
        let missing = us.missing(&digest);
        missing.map(|(id, version)| (id.clone(), version))
    };
    assert_eq!(missing(&[(1, 9), (2, 0)]), None);
    assert_eq!(missing(&[(1, 9), (2, 3), (3, 5), (4, 4)]), Some((id(3), 5)));
}

#[test]
fn a_rumour_is_about_the_members_that_it_names_and_none_that_is_left_out() {
    let mut us = cluster(0);
    for member in [1, 2, 3] {
        us.note_heartbeat(&id(member), 1);
        let state = us.nodes.get_mut(&id(member)).unwrap();
        state.set("k", "v", DeletionStatus::Set, NOW);
    }
    let floors = Members::from_iter([(id(1), 0), (id(2), 0)]);
    let mut rng = fastrand::Rng::with_seed(1);
    let delta = us.delta_above(&floors, 60_000, |member| *member == id(2), &mut rng);
    let about: Vec<_> = delta.node_deltas.iter().map(|d| &d.chitchat_id).collect();
    assert_eq!(about, [&id(1)]);
}

#[test]
fn a_peer_that_has_seen_a_tombstone_before_it_was_collected_is_sent_only_what_is_newer() {
    for (known_version, from) in [(2, 2), (1, 0)] {
        let mut us = cluster(0);
        us.own().set("a", "v", DeletionStatus::Set, NOW);
        us.own().set("a", "", DeletionStatus::Deleted, NOW);
        us.own().set("b", "v", DeletionStatus::Set, NOW);
        us.collect_garbage(Duration::ZERO, NOW);
        let digest = Digest {
            node_digests: [(id(0), known(1, known_version))].into(),
        };
        let delta = delta(&us, &digest, 60_000);
        assert_eq!(delta.node_deltas[0].from_version_excluded, from);
    }
}

#[test]
fn a_delta_reaches_the_version_of_a_change_that_is_collected_already() {
    let (mut us, mut peer) = (cluster(1), cluster(2));
    us.own().heartbeat = 1;
    us.own().set("a", "v", DeletionStatus::Set, NOW);
    us.own().set("b", "v", DeletionStatus::Set, NOW);
    us.own().set("b", "", DeletionStatus::Deleted, NOW);
    us.collect_garbage(Duration::ZERO, NOW);
    teach(&mut us, &mut peer);
    assert_eq!(peer.get(&id(1)).map(|state| state.max_version), Some(3));
}

#[test]
fn a_rumour_starts_at_its_floor_although_a_tombstone_above_it_was_collected() {
    let mut us = cluster(0);
    us.own().set("a", "v", DeletionStatus::Set, NOW);
    us.own().set("a", "", DeletionStatus::Deleted, NOW);
    us.own().set("b", "v", DeletionStatus::Set, NOW);
    us.collect_garbage(Duration::ZERO, NOW);
    let floors = Members::from_iter([(id(0), 1)]);
    let delta = us.delta_above(&floors, 60_000, none, &mut fastrand::Rng::with_seed(1));
    assert_eq!(delta.node_deltas[0].from_version_excluded, 1);
}

#[test]
fn a_key_that_fills_a_whole_message_is_sent() {
    let mut us = cluster(1);
    let value = "v".repeat(1_000);
    us.own().set("k", &value, DeletionStatus::Set, NOW);
    let len = DeltaBuilder::len_bound_alone(&id(1), "k", &value);
    assert_eq!(us.own_delta(len).node_deltas.len(), 1);
    assert_eq!(us.own_delta(len - 1).node_deltas.len(), 0);
}

#[test]
fn a_delta_of_which_only_a_part_fits_changes_something_the_first_time() {
    let limits = ClusterLimits {
        max_bytes: 1_500,
        ..LIMITS
    };
    let (mut us, mut peer) = (cluster(1), Cluster::new(id(2), limits));
    peer.note_heartbeat(&id(1), 1);
    for key in ["a", "b"] {
        us.own()
            .set(key, &"v".repeat(900), DeletionStatus::Set, NOW);
    }
    for (times, changed) in [(1, true), (2, false)] {
        let learnt = peer.apply(us.own_delta(60_000), NOW);
        assert_eq!((learnt.changed, peer.refused_keys), (changed, times));
    }
    let known = peer.get(&id(1)).unwrap();
    assert!(known.get("a").is_some() && known.get("b").is_none());
}

/// Returns a member that knows 1, which has 200 keys, and 3 and 4, which have two each, and a digest that
/// lists `known` of their versions.
fn one_with_many_and_two_with_few(known: Version) -> (Cluster, Digest) {
    let mut us = cluster(0);
    let mut digest = Digest::default();
    for (name, keys, known) in [(1, 200, known), (3, 2, 1), (4, 2, 1)] {
        us.note_heartbeat(&id(name), 1);
        let state = us.nodes.get_mut(&id(name)).unwrap();
        for key in 0..keys {
            let value = "v".repeat(100);
            state.set(&format!("k{key}"), &value, DeletionStatus::Set, NOW);
        }
        digest.node_digests.insert(id(name), super::known(0, known));
    }
    (us, digest)
}

#[test]
fn few_changes_of_members_that_a_peer_knows_do_not_wait_until_it_has_all_of_others() {
    // It knows the one with many changes as well, or does not.
    for known in [3, 0] {
        let (us, digest) = one_with_many_and_two_with_few(known);
        let delta = delta(&us, &digest, 8_000);
        let sent = delta.node_deltas.iter();
        let sent: Vec<_> = sent
            .map(|delta| (&delta.chitchat_id, delta.key_values.len()))
            .collect();
        assert!(sent[0].0 == &id(1) && sent[0].1 > 40, "{sent:?}");
        assert_eq!(sent.len(), 3, "{sent:?}");
    }
}

#[test]
fn a_change_that_needs_nearly_a_whole_message_gets_it_although_others_have_few() {
    let (mut us, digest) = one_with_many_and_two_with_few(3);
    let state = us.nodes.get_mut(&id(1)).unwrap();
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(7_850)
        .collect();
    for key in 0..200 {
        state.set(&format!("k{key}"), &noise, DeletionStatus::Set, NOW);
    }
    let delta = delta(&us, &digest, 8_000);
    assert_eq!(delta.node_deltas[0].chitchat_id, id(1));
    assert_eq!(delta.node_deltas[0].key_values.len(), 1);
}

#[test]
fn an_update_of_which_something_is_left_out_whatever_is_known_is_counted() {
    let change = |key: &str, version| KeyValueMutation {
        key: key.to_owned(),
        value: "v".to_owned(),
        version,
        status: DeletionStatus::Set,
    };
    for (key_values, refused) in [
        (vec![change("a", 1), change("b", 2)], 0),
        (vec![change("a", 2), change("b", 1)], 1),
        (vec![change("a", 2), change("b", 2)], 1),
        (vec![change("\u{e4}", 1), change("b", 2)], 1),
    ] {
        let mut us = cluster(0);
        us.note_heartbeat(&id(1), 1);
        let node_delta = NodeDelta {
            chitchat_id: id(1),
            from_version_excluded: 0,
            last_gc_version: 0,
            key_values,
            max_version: 2,
        };
        let node_deltas = vec![node_delta];
        // A copy is not applied at all, and not counted.
        for _ in 0..2 {
            us.apply(
                Delta {
                    node_deltas: node_deltas.clone(),
                },
                NOW,
            );
            assert_eq!(us.refused_keys, refused, "{node_deltas:?}");
        }
    }
}
