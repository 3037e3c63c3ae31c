mod deltas;

use super::*;
use crate::message::DeletionStatus;

const NOW: Duration = Duration::from_secs(1);
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 999);
const LIMITS: ClusterLimits = ClusterLimits {
    max_members: 100,
    max_bytes_per_member: 1 << 20,
    max_bytes: 8 << 20,
};

fn id(name: u16) -> ChitchatId {
    ChitchatId::new(format!("node-{name:04}"), 1, ([127, 0, 0, 1], name).into())
}

fn cluster(own: u16) -> Cluster {
    Cluster::new(id(own), LIMITS)
}

/// The result of noting a heartbeat.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    /// The heartbeat shows nothing, or the member was refused.
    Nothing,
    /// The member was not known before.
    New,
    /// The heartbeat has risen: the member is alive.
    Risen,
}

impl Cluster {
    /// Notes a digest that lists one member.
    fn note_heartbeat(&mut self, id: &ChitchatId, heartbeat: u64) -> Noted {
        let digest = Digest {
            node_digests: [(id.clone(), known(heartbeat, 0))].into(),
        };
        let beats = self.note_heartbeats(&digest, PEER, Reporter::Other, NOW);
        match (beats.has_new, beats.risen.is_empty()) {
            (true, _) => Noted::New,
            (false, true) => Noted::Nothing,
            (false, false) => Noted::Risen,
        }
    }

    fn is_superseded(&self, id: &ChitchatId) -> bool {
        let superseded = self.superseded(|_| 0);
        self.position(id).is_some_and(|n| superseded[n])
    }
}

fn known(heartbeat: u64, max_version: Version) -> NodeDigest {
    NodeDigest {
        heartbeat,
        last_gc_version: 0,
        max_version,
    }
}

fn none(_: &ChitchatId) -> bool {
    false
}

/// Returns what a peer with `digest` is sent of all members.
fn delta(us: &Cluster, digest: &Digest, room: usize) -> Delta {
    us.delta(None, digest, room, none, &mut fastrand::Rng::with_seed(1))
}

/// Runs one exchange in one direction: `to` learns what `from` knows.
fn teach(from: &mut Cluster, to: &mut Cluster) {
    let theirs = from.digest(None, ProtocolVersion::V0, 60_000, none);
    for (id, node) in &theirs.node_digests {
        to.note_heartbeat(id, node.heartbeat);
    }
    let ours = to.digest(None, ProtocolVersion::V0, 60_000, none);
    let delta = delta(from, &ours, 60_000);
    to.apply(delta, NOW);
}

#[test]
fn one_exchange_transfers_all_that_a_peer_knows() {
    let (mut a, mut b, mut c) = (cluster(1), cluster(2), cluster(3));
    a.own().set("k", "v", DeletionStatus::Set, NOW);
    teach(&mut a, &mut b);
    teach(&mut b, &mut c);
    let known = c.nodes().find(|(known, _)| **known == id(1)).unwrap().1;
    assert_eq!(known.get("k"), Some("v"));
}

#[test]
fn a_delta_never_creates_a_member() {
    let (mut a, mut b) = (cluster(1), cluster(2));
    a.own().set("k", "v", DeletionStatus::Set, NOW);
    b.apply(a.own_delta(60_000), NOW);
    assert_eq!(b.nodes().len(), 1);
}

#[test]
fn a_forgotten_member_returns_only_with_a_higher_heartbeat() {
    let mut cluster = cluster(1);
    assert_eq!(cluster.note_heartbeat(&id(2), 5), Noted::New);
    cluster.forget(&[id(2)]);
    assert_eq!(cluster.note_heartbeat(&id(2), 5), Noted::Nothing);
    assert_eq!(cluster.nodes().len(), 1);
    assert_eq!(cluster.note_heartbeat(&id(2), 6), Noted::New);
}

#[test]
fn members_beyond_the_limit_are_refused_and_counted() {
    let mut cluster = Cluster::new(
        id(1),
        ClusterLimits {
            max_members: 10,
            ..LIMITS
        },
    );
    for name in 2..30 {
        cluster.note_heartbeat(&id(name), 1);
    }
    assert_eq!(cluster.nodes().len(), 10);
    assert_eq!(cluster.refused_members, 19);
}

#[test]
fn a_newcomer_without_room_waits_for_it_once_it_has_proved_to_be_alive() {
    let limits = ClusterLimits {
        max_members: 3,
        ..LIMITS
    };
    let mut us = Cluster::new(id(1), limits);
    let mut note = |names: &[(u16, u64)], from| {
        let listed = names.iter().map(|(n, beat)| (id(*n), known(*beat, 0)));
        let digest = Digest {
            node_digests: listed.collect(),
        };
        let beats = us.note_heartbeats(&digest, from, Reporter::Other, NOW);
        let waiting = beats.without_room.iter().map(|(id, _)| (*id).clone());
        (waiting.collect::<Vec<_>>(), us.nodes().len())
    };
    assert_eq!(note(&[(2, 1), (3, 1), (4, 7)], PEER), (vec![], 3));
    // It is listed again, and its heartbeat has not risen; then it has.
    assert_eq!(note(&[(4, 7), (5, 7)], PEER), (vec![], 3));
    assert_eq!(note(&[(4, 8), (5, 7)], PEER), (vec![id(4)], 3));
    // A member that lists itself is alive.
    let own_addr = id(6).gossip_advertise_addr;
    assert_eq!(note(&[(5, 7), (6, 1)], own_addr), (vec![id(6)], 3));
}

#[test]
fn a_restart_under_the_same_generation_replaces_the_keys_from_before() {
    let (mut old, mut peer) = (cluster(1), cluster(2));
    for key in ["a", "b", "c"] {
        old.own().set(key, "old", DeletionStatus::Set, NOW);
    }
    old.own().heartbeat = 50;
    teach(&mut old, &mut peer);

    let mut new = cluster(1);
    new.own().set("a", "new", DeletionStatus::Set, NOW);
    let theirs = peer.digest(None, ProtocolVersion::V0, 60_000, none);
    let of_us = *theirs.node_digests.get(&id(1)).unwrap();
    new.catch_up_with_own_past(of_us);
    assert_eq!(new.own().heartbeat, 50);
    teach(&mut new, &mut peer);

    let known = peer.nodes().find(|(known, _)| **known == id(1)).unwrap().1;
    assert_eq!(known.get("a"), Some("new"));
    assert_eq!(known.get("b"), None);
}

#[test]
fn a_member_that_a_peer_knows_as_it_is_does_not_start_afresh() {
    let mut us = cluster(1);
    us.own().heartbeat = 5;
    us.own().set("k", "v", DeletionStatus::Set, NOW);
    us.catch_up_with_own_past(known(5, 1));
    assert_eq!(us.own().digest(), known(5, 1));
}

#[test]
fn a_digest_adds_new_members_raises_heartbeats_and_catches_up_with_our_own_past() {
    let mut us = cluster(2);
    us.note_heartbeat(&id(1), 5);
    us.note_heartbeat(&id(3), 5);
    us.own().set("k", "v", DeletionStatus::Set, NOW);
    let listed = |heartbeat, max_version| NodeDigest {
        heartbeat,
        max_version,
        ..NodeDigest::default()
    };
    let digest = Digest {
        node_digests: [
            (id(1), listed(6, 0)),
            (id(2), listed(50, 9)),
            (id(3), listed(5, 0)),
            (id(4), listed(1, 0)),
        ]
        .into(),
    };
    let beats = us.note_heartbeats(&digest, PEER, Reporter::Other, NOW);
    assert_eq!(beats.risen, [&id(1)]);
    assert!(beats.has_new && us.get(&id(4)).is_some());
    assert_eq!(us.own().heartbeat, 50);
    assert!(
        us.own().max_version > 9,
        "our keys must be newer than all that the peer knows of us"
    );
    assert!(
        !us.note_heartbeats(&digest, PEER, Reporter::Other, NOW)
            .has_new
    );
}

#[test]
fn a_delta_about_this_member_changes_none_of_its_keys() {
    let (mut liar, mut us) = (cluster(2), cluster(2));
    liar.own().set("k", "lie", DeletionStatus::Set, NOW);
    liar.own().set("l", "lie", DeletionStatus::Set, NOW);
    us.own().set("k", "truth", DeletionStatus::Set, NOW);
    us.apply(liar.own_delta(60_000), NOW);
    assert_eq!(us.own().get("k"), Some("truth"));
    assert_eq!(us.own().get("l"), None);
    assert!(
        us.own().max_version > 2,
        "our keys must be newer than those of the false delta"
    );
}

#[test]
fn an_impossible_version_of_this_member_is_ignored() {
    let mut us = cluster(1);
    us.own().set("k", "v", DeletionStatus::Set, NOW);
    us.catch_up_with_own_past(known(u64::MAX, u64::MAX));
    assert_eq!(us.own().max_version, 1);
    assert_eq!(us.own().heartbeat, 0);
}

#[test]
fn digests_without_room_for_all_list_this_member_and_the_others_in_turn() {
    let mut us = cluster(0);
    for name in 1..80 {
        us.note_heartbeat(&id(name), 1);
    }
    let room = 1000;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let digest = us.digest(None, ProtocolVersion::V0, room, none);
        assert!(digest.encoded_len(ProtocolVersion::V0).unwrap() <= room);
        assert!(digest.node_digests.contains_key(&id(0)));
        assert!(digest.node_digests.len() > 10);
        seen.extend(digest.node_digests.into_keys());
    }
    assert_eq!(seen.len(), 80);
}

#[test]
fn a_delta_fits_its_room_and_the_next_one_continues() {
    let (mut a, mut b) = (cluster(1), cluster(2));
    for n in 0..100 {
        let key = format!("key-{n:03}");
        a.own().set(&key, &"v".repeat(50), DeletionStatus::Set, NOW);
    }
    b.note_heartbeat(&id(1), 1);
    for exchange in 1.. {
        let digest = b.digest(None, ProtocolVersion::V0, 60_000, none);
        let delta = delta(&a, &digest, 1000);
        b.apply(delta, NOW);
        let known = b.nodes().find(|(known, _)| **known == id(1)).unwrap().1;
        if known.entries().count() == 100 {
            assert!((8..12).contains(&exchange), "{exchange}");
            break;
        }
        assert!(exchange < 12);
    }
}

#[test]
fn unknown_members_come_first_and_then_those_that_lack_most_changes() {
    let mut us = cluster(0);
    let mut digest = Digest::default();
    for (name, keys, known) in [(1, 9, 0), (2, 3, 0), (3, 9, 7), (4, 9, 2)] {
        us.note_heartbeat(&id(name), 1);
        let state = us.nodes.get_mut(&id(name)).unwrap();
        for key in 0..keys {
            state.set(&format!("k{key}"), "v", DeletionStatus::Set, NOW);
        }
        digest.node_digests.insert(id(name), self::known(0, known));
    }
    let delta = delta(&us, &digest, 60_000);
    let order: Vec<_> = delta.node_deltas.iter().map(|d| &d.chitchat_id).collect();
    assert_eq!(order, [&id(2), &id(1), &id(4), &id(3)]);
}

#[test]
fn a_later_generation_supersedes_an_earlier_one_only() {
    let mut us = cluster(0);
    let generation = |g, port| ChitchatId::new("a", g, ([127, 0, 0, 1], port).into());
    for id in [generation(1, 9), generation(2, 1), generation(2, 2)] {
        us.note_heartbeat(&id, 1);
    }
    assert!(us.is_superseded(&generation(1, 9)));
    assert!(!us.is_superseded(&generation(2, 1)));
    assert!(!us.is_superseded(&generation(2, 2)));
    assert!(!us.is_superseded(&id(0)));
}

#[test]
fn a_live_generation_supersedes_those_that_are_dead_and_a_later_one_those_that_are_live_as_well() {
    let mut us = cluster(0);
    let generation = |g| ChitchatId::new("a", g, ([127, 0, 0, 1], 9).into());
    for g in 1..=4 {
        us.note_heartbeat(&generation(g), 1);
    }
    us.note_heartbeat(&ChitchatId::new("b", 1, ([127, 0, 0, 1], 9).into()), 1);
    let current = |live: &[u64]| {
        let superseded = us.superseded(|id| live.contains(&id.generation_id).into());
        let nodes = us.nodes().zip(superseded);
        let current =
            nodes.filter(|((id, _), is_superseded)| !is_superseded && *id.node_id == *"a");
        current
            .map(|((id, _), _)| id.generation_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(current(&[]), [4]);
    assert_eq!(current(&[1]), [1]);
    assert_eq!(current(&[1, 3]), [3]);
}

#[test]
fn this_member_takes_precedence_over_dead_ones_with_its_name() {
    let mut us = cluster(1);
    let later = ChitchatId::new(us.self_id().node_id.clone(), 9, PEER);
    us.note_heartbeat(&later, 1);
    assert!(us.is_superseded(&later) && !us.is_superseded(&id(1)));
}

#[test]
fn this_member_keeps_its_keys_in_another_generation_and_is_not_a_second_member() {
    let mut us = cluster(1);
    us.own().set("k", "v", DeletionStatus::Set, NOW);
    us.begin_generation(7);
    let earlier = id(1);
    assert_eq!(us.self_id().generation_id, 7);
    assert_eq!(us.own().get("k"), Some("v"));
    assert_eq!(us.note_heartbeat(&earlier, 99), Noted::Nothing);
    assert_eq!(us.nodes().len(), 1);
}

#[test]
fn a_restart_that_has_set_more_keys_than_before_replaces_the_earlier_keys_too() {
    let (mut old, mut peer) = (cluster(1), cluster(2));
    old.own().set("old", "v", DeletionStatus::Set, NOW);
    old.own().heartbeat = 50;
    teach(&mut old, &mut peer);

    let mut new = cluster(1);
    new.own().heartbeat = 1;
    for key in ["a", "b", "c"] {
        new.own().set(key, "new", DeletionStatus::Set, NOW);
    }
    let of_us = *peer
        .digest(None, ProtocolVersion::V0, 60_000, none)
        .node_digests
        .get(&id(1))
        .unwrap();
    assert!(of_us.max_version < new.own().max_version);
    new.catch_up_with_own_past(of_us);
    teach(&mut new, &mut peer);

    let state = peer.nodes().find(|(known, _)| **known == id(1)).unwrap().1;
    let keys: Vec<_> = state.entries().map(|entry| entry.key).collect();
    assert_eq!(keys, ["a", "b", "c"]);
}

#[test]
fn a_key_that_fits_no_message_delays_its_own_member_only() {
    let mut us = cluster(0);
    for name in 1..4 {
        us.note_heartbeat(&id(name), 1);
        let state = us.nodes.get_mut(&id(name)).unwrap();
        let value = if name == 1 { 2000 } else { 20 };
        state.set("k", &"v".repeat(value), DeletionStatus::Set, NOW);
        // The member that lacks the most changes is sent first.
        state.max_version += u64::from(name);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    let delta = us.delta(None, &Digest::default(), 1000, none, &mut rng);
    let sent: Vec<_> = delta.node_deltas.iter().map(|d| &d.chitchat_id).collect();
    assert_eq!(sent, [&id(2), &id(3)]);
}

#[test]
fn a_member_with_a_too_long_name_is_refused() {
    let mut us = cluster(0);
    let name = |len| ChitchatId::new("x".repeat(len), 1, ([127, 0, 0, 1], 9).into());
    assert_eq!(us.note_heartbeat(&name(1025), 1), Noted::Nothing);
    assert_eq!(us.refused_members, 1);
    assert_eq!(us.note_heartbeat(&name(1024), 1), Noted::New);
}

#[test]
fn a_member_that_fits_no_digest_does_not_keep_others_out_of_it() {
    let mut us = cluster(0);
    us.note_heartbeat(
        &ChitchatId::new("a".repeat(1000), 1, ([127, 0, 0, 1], 9).into()),
        1,
    );
    for name in 1..40 {
        us.note_heartbeat(&id(name), 1);
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let digest = us.digest(None, ProtocolVersion::V0, 500, none);
        assert!(digest.encoded_len(ProtocolVersion::V0).unwrap() <= 500);
        seen.extend(digest.node_digests.into_keys());
    }
    assert_eq!(seen.len(), 40);
}

#[test]
fn the_keys_of_all_other_members_are_bounded_together() {
    let limits = ClusterLimits {
        max_bytes: 3000,
        ..LIMITS
    };
    let mut us = Cluster::new(id(0), limits);
    let teach_of = |us: &mut Cluster, name| {
        let mut other = cluster(name);
        other.own().heartbeat = 1;
        other
            .own()
            .set("k", &"v".repeat(900), DeletionStatus::Set, NOW);
        teach(&mut other, us);
    };
    for name in 1..6 {
        teach_of(&mut us, name);
    }
    let with_keys = |us: &Cluster| us.nodes().filter(|(_, s)| s.bytes() > 0).count();
    assert_eq!(with_keys(&us), 3);
    assert_eq!(us.refused_keys, 2);
    // All members are known nevertheless, and room that is freed is used again.
    assert_eq!(us.nodes().len(), 6);
    us.forget(&[id(1)]);
    teach_of(&mut us, 5);
    assert_eq!(with_keys(&us), 3);
    // Our own keys do not count.
    us.own()
        .set("k", &"v".repeat(900), DeletionStatus::Set, NOW);
    us.collect_garbage(Duration::ZERO, NOW);
    us.forget(&[id(2)]);
    teach_of(&mut us, 4);
    assert_eq!((with_keys(&us), us.refused_keys), (4, 2));
}

#[test]
fn a_state_larger_than_a_message_is_pushed_by_its_newest_part() {
    let (mut us, mut peer) = (cluster(1), cluster(2));
    us.own().heartbeat = 1;
    for n in 0..100 {
        us.own()
            .set(&format!("k{n}"), &"v".repeat(50), DeletionStatus::Set, NOW);
    }
    teach(&mut us, &mut peer);
    us.own().set("last", "words", DeletionStatus::Set, NOW);
    let delta = us.own_delta(1000);
    assert!(delta.node_deltas[0].key_values.len() > 5);
    peer.apply(delta, NOW);
    let state = peer.nodes().find(|(known, _)| **known == id(1)).unwrap().1;
    assert_eq!(state.get("last"), Some("words"));
    assert_eq!(state.get("k0").map(str::len), Some(50));
}

#[test]
fn a_rumour_with_few_changes_is_not_held_up_by_one_with_many() {
    let mut us = cluster(0);
    let mut floors = Members::new();
    for (member, keys) in [(1, 1_000), (2, 2), (3, 900)] {
        us.note_heartbeat(&id(member), 1);
        let state = us.nodes.get_mut(&id(member)).unwrap();
        for n in 0..keys {
            state.set(&format!("key-{n}"), "value", DeletionStatus::Set, NOW);
        }
        floors.insert(id(member), 1);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    let delta = us.delta_above(&floors, 1_000, none, &mut rng);
    let members = delta.node_deltas.iter().map(|node| &node.chitchat_id);
    let members: Vec<_> = members.cloned().collect();
    assert_eq!(members, [id(2), id(3)]);
}

#[test]
fn collecting_reports_whether_a_key_of_any_member_was_visible_until_then() {
    for (status, was_visible) in [
        (DeletionStatus::DeleteAfterTtl, true),
        (DeletionStatus::Deleted, false),
    ] {
        let mut us = cluster(0);
        for member in [1, 2] {
            us.note_heartbeat(&id(member), 1);
        }
        let state = us.nodes.get_mut(&id(1)).unwrap();
        state.set("k", "v", status, NOW);
        assert!(!us.collect_garbage(NOW, NOW));
        assert_eq!(us.collect_garbage(NOW, NOW * 2), was_visible);
        assert!(!us.collect_garbage(NOW, NOW * 3));
    }
}

#[test]
fn a_digest_has_as_many_members_as_fit_however_many_blocks_it_has() {
    let max_members = 3_000;
    let mut us = Cluster::new(
        id(0),
        ClusterLimits {
            max_members,
            ..LIMITS
        },
    );
    for name in 1..3_000 {
        us.note_heartbeat(&id(name), 1);
    }
    // One more entry, and the header of a block.
    let one_more = id(2_999).digest_entry_len() + 3;
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        for room in [500, 20_000, 40_000, 60_000] {
            let len = us
                .digest(None, version, room, none)
                .encoded_len_bound(version);
            assert!(len <= room && len + one_more > room, "{len} of {room}");
        }
    }
}
