//! Members that leave.

use std::collections::BTreeSet;

use super::*;
use crate::ClusterSecret;
use crate::credential::Keyring;

pub(super) const VERSION: ProtocolVersion = ProtocolVersion::V1;

pub(super) fn leaf_id(generation: u64) -> ChitchatId {
    ChitchatId::new("tab", generation, Identity::from_bytes([1; 32]).address())
}

pub(super) fn core(n: u16, secret: u8) -> Engine {
    let secret = ClusterSecret::from_bytes(&[secret; 32]).unwrap();
    let mut engine = engine(n);
    engine.set_secrets(Some(&Keyring::from(secret)), Duration::ZERO);
    engine
}

pub(super) fn connect(us: &mut Engine, to: &[SocketAddr], now: Duration) -> Vec<Output> {
    let connections = to.iter().map(|addr| Connection {
        addr: *addr,
        reads_v1: true,
        invite: None,
    });
    us.handle(Event::Connections(connections.collect()), now)
}

/// Passes in a heartbeat of `of`, as a peer that is connected lists it, and a round if `of` has died by it.
pub(super) fn hear(us: &mut Engine, of: &ChitchatId, heartbeat: u64, now: Duration) -> Vec<Output> {
    let listed = syn("cluster", VERSION, digest(&[(of.clone(), heartbeat)]));
    us.handle(received(addr(9), listed), now)
}

/// Makes the members `of` live with five heartbeats, one each second.
pub(super) fn make_live(us: &mut Engine, of: &[ChitchatId]) {
    for at in 1..=5 {
        let now = SECOND * u32::try_from(at).unwrap();
        for id in of {
            hear(us, id, at, now);
        }
        us.handle(Event::Round, now);
    }
}

/// Passes the whole state of `from` to `to`, as if `from` had pushed it.
pub(super) fn push(from: &Engine, to: &mut Engine, now: Duration) -> Vec<Output> {
    let delta = from.cluster.own_delta(60_000);
    let message = ChitchatMessage::Ack {
        version: VERSION,
        delta,
    };
    to.handle(received(from.id().addr(), message), now)
}

/// Runs rounds, one each second, after `from` up to `to`, with a member that is connected and alive.
pub(super) fn rounds(us: &mut Engine, from: u32, to: u32) {
    for at in from + 1..=to {
        hear(us, &id(9), at.into(), SECOND * at);
        us.handle(Event::Round, SECOND * at);
    }
}

/// Returns a leaf without a secret that has left after heartbeat 5.
pub(super) fn left_leaf() -> Engine {
    let mut leaf = Engine::new(config(), leaf_id(1), Duration::ZERO).unwrap();
    leaf.cluster.own().heartbeat = 5;
    leaf.set("k", "v", SECOND).unwrap();
    leaf.leave(SECOND * 5);
    leaf
}

#[test]
fn a_member_that_leaves_tells_all_that_are_connected_and_is_shown_as_left_at_once() {
    let (mut us, mut peer) = (core(1, 7), core(2, 7));
    make_live(&mut peer, &[id(1)]);
    us.set("k", "v", SECOND).unwrap();
    // Live members get the whole state, and all that are connected what is new.
    make_live(&mut us, &[id(3)]);
    let tabs = (1..=20).map(|n| Identity::from_bytes([n; 32]).address());
    let tabs: Vec<_> = tabs.collect();
    connect(&mut us, &[&tabs[..], &[addr(3)]].concat(), SECOND * 5);
    us.handle(Event::Rumours, SECOND * 5);
    us.set("unsent", "v", SECOND * 5).unwrap();
    let outputs = us.leave(SECOND * 5);
    let told = sends(&outputs);
    assert_eq!(told.len(), tabs.len() + 2);
    let (news, whole) = told.split_at(tabs.len() + 1);
    let all: BTreeSet<_> = news.iter().map(|(to, _)| *to).collect();
    assert_eq!(all.len(), tabs.len() + 1);
    assert_eq!(whole[0].0, addr(3));
    for (n, (_, message)) in told.iter().enumerate() {
        let ChitchatMessage::Ack { delta, .. } = message else {
            panic!("{message:?}");
        };
        let keys = delta.node_deltas[0].key_values.iter();
        let keys: Vec<_> = keys.map(|kv| kv.key.as_str()).collect();
        let news_keys = ["unsent", "gossip-transport/left"];
        let whole_keys = [
            "gossip-transport/core",
            "k",
            "unsent",
            "gossip-transport/left",
        ];
        let expected = if n < news.len() {
            &news_keys[..]
        } else {
            &whole_keys
        };
        assert_eq!(keys, expected, "{n}");
    }
    assert_eq!(liveness(&peer, &id(1)), Liveness::Live);
    let outputs = push(&us, &mut peer, SECOND * 6);
    assert!(outputs.contains(&Output::MembershipChanged));
    assert_eq!(liveness(&peer, &id(1)), Liveness::Left);
    assert!(peer.live_addrs().is_empty());
    assert!(peer.next_rumours().is_some(), "it is passed on");
}

#[test]
fn a_higher_heartbeat_revives_a_member_that_has_left_and_no_other_does() {
    for (heartbeat, expected) in [
        (6, Liveness::Left),
        (8, Liveness::Left),
        (9, Liveness::Live),
    ] {
        let (mut us, mut peer) = (core(1, 7), core(2, 7));
        make_live(&mut peer, &[id(1)]);
        us.cluster.own().heartbeat = 8;
        us.leave(SECOND * 6);
        push(&us, &mut peer, SECOND * 6);
        hear(&mut peer, &id(1), heartbeat, SECOND * 7);
        peer.handle(Event::Round, SECOND * 7);
        assert_eq!(liveness(&peer, &id(1)), expected, "{heartbeat}");
        // Nor is it shown as left by an old word of it.
        push(&us, &mut peer, SECOND * 8);
        assert_eq!(liveness(&peer, &id(1)), expected, "{heartbeat}");
    }
}

#[test]
fn a_later_generation_is_another_member() {
    let leaf = left_leaf();
    let mut us = core(1, 7);
    make_live(&mut us, &[leaf_id(1)]);
    push(&leaf, &mut us, SECOND * 6);
    let shown = |us: &Engine| {
        let members = us.members();
        let mut shown = members
            .iter()
            .filter(|m| &*m.id.node_id == "tab" && !m.superseded);
        let member = shown.next().unwrap();
        assert!(shown.next().is_none());
        (member.id.generation_id, member.liveness)
    };
    assert_eq!(shown(&us), (1, Liveness::Left));
    // The new one takes the place of the old one at once, and is live as that one was.
    hear(&mut us, &leaf_id(2), 1, SECOND * 7);
    assert_eq!(shown(&us), (2, Liveness::Live));
    us.handle(Event::Round, SECOND * 7);
    assert_eq!(shown(&us), (2, Liveness::Live));
}

#[test]
fn the_word_of_a_leaf_counts_about_itself_and_that_of_others_needs_the_secret() {
    let leaf = left_leaf();
    let mut us = core(1, 7);
    make_live(&mut us, &[leaf_id(1), id(2)]);
    push(&leaf, &mut us, SECOND * 6);
    assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Left);
    // A member at an address of its own that does not know the secret.
    let mut stranger = engine(2);
    stranger.cluster.own().heartbeat = 9;
    stranger.leave(SECOND * 6);
    push(&stranger, &mut us, SECOND * 6);
    assert_eq!(liveness(&us, &id(2)), Liveness::Live);
    assert_eq!(us.counts().refused_reserved_keys, 1);
    // In a cluster without a secret it is believed.
    let mut open = engine(3);
    make_live(&mut open, &[id(2)]);
    push(&stranger, &mut open, SECOND * 6);
    assert_eq!(liveness(&open, &id(2)), Liveness::Left);
}

#[test]
fn a_message_of_a_leaf_is_no_datagram() {
    let mut us = core(1, 7);
    let own = Identity::from_bytes([1; 32]);
    for (from, identity, role) in [
        (own.address(), own, Role::Leaf),
        (addr(9), Identity::UNPROVED, Role::Unauthenticated),
    ] {
        let event = Event::Message {
            from,
            identity,
            role,
            message: syn("cluster", VERSION, digest(&[])),
        };
        us.handle(event, SECOND);
        assert_eq!(us.cluster.cores.has_udp(), role == Role::Unauthenticated);
    }
}

#[test]
fn a_reported_member_is_core_or_over_udp_by_its_proof_once_that_would_have_arrived() {
    let (mut us, third) = (core(1, 7), core(3, 7));
    let from_core = |message| Event::Message {
        from: addr(2),
        identity: Identity::from_bytes([2; 32]),
        role: Role::Core,
        message,
    };
    let report = digest(&[(id(2), 1), (id(3), 1), (id(4), 1)]);
    us.handle(from_core(syn("cluster", VERSION, report)), SECOND);
    let state = ChitchatMessage::Ack {
        version: VERSION,
        delta: third.cluster.own_delta(60_000),
    };
    us.handle(from_core(state), SECOND);
    let datagram = Event::Message {
        from: addr(9),
        identity: Identity::UNPROVED,
        role: Role::Unauthenticated,
        message: syn("cluster", VERSION, digest(&[])),
    };
    us.handle(datagram, SECOND);
    for (at, expected) in [
        (10, [(false, true), (false, true)]),
        (11, [(true, false), (false, false)]),
    ] {
        us.handle(Event::Round, SECOND * at);
        let cores = &us.cluster.cores;
        let known = [3, 4].map(|n| (cores.contains(addr(n)), cores.is_reported(addr(n))));
        assert_eq!(known, expected, "{at}");
    }
}

#[test]
fn a_member_that_has_left_is_soon_neither_mentioned_nor_remembered_and_does_not_come_back() {
    let leaf = left_leaf();
    let mut us = core(1, 7);
    connect(&mut us, &[addr(9)], Duration::ZERO);
    make_live(&mut us, &[leaf_id(1)]);
    push(&leaf, &mut us, SECOND * 5);
    let mentions = |us: &mut Engine, at: u32| {
        let digest = us.digest(Software::Ours, VERSION, 60_000, SECOND * at);
        let taught = us.delta(Software::Ours, &Digest::default(), 60_000, SECOND * at);
        let mut taught = taught.node_deltas.iter();
        (
            digest.node_digests.contains_key(&leaf_id(1)),
            taught.any(|node| node.chitchat_id == leaf_id(1)),
        )
    };
    for (at, expected) in [
        (20, (true, true)),
        (21, (true, false)),
        (25, (true, false)),
        (26, (false, false)),
    ] {
        assert_eq!(mentions(&mut us, at), expected, "{at}");
    }
    rounds(&mut us, 5, 34);
    assert_eq!(us.members().len(), 3);
    rounds(&mut us, 34, 35);
    assert_eq!(us.members().len(), 2);
    // Someone who has not heard of it still lists it.
    hear(&mut us, &leaf_id(1), 5, SECOND * 36);
    assert_eq!(us.members().len(), 2);
    hear(&mut us, &leaf_id(1), 6, SECOND * 36);
    assert_eq!(us.members().len(), 3);
}

#[test]
fn a_member_that_has_left_does_not_come_back_with_a_heartbeat_from_before_that_was_unknown_here() {
    let mut leaf = left_leaf();
    leaf.cluster.own().heartbeat = 8;
    leaf.leave(SECOND * 5);
    let mut us = core(1, 7);
    connect(&mut us, &[addr(9)], Duration::ZERO);
    make_live(&mut us, &[leaf_id(1)]);
    push(&leaf, &mut us, SECOND * 5);
    rounds(&mut us, 5, 35);
    for (heartbeat, members) in [(8, 2), (9, 3)] {
        hear(&mut us, &leaf_id(1), heartbeat, SECOND * 36);
        assert_eq!(us.members().len(), members, "{heartbeat}");
    }
}

#[test]
fn beside_members_of_upstream_one_that_has_left_is_remembered_as_a_dead_one_is() {
    let leaf = left_leaf();
    let mut us = core(1, 7);
    make_live(&mut us, &[leaf_id(1)]);
    push(&leaf, &mut us, SECOND * 5);
    // Nothing says that member 9 is of this crate.
    rounds(&mut us, 5, 60);
    assert_eq!(us.members().len(), 3);
    connect(&mut us, &[addr(9)], SECOND * 60);
    rounds(&mut us, 60, 359);
    assert_eq!(us.members().len(), 3);
    rounds(&mut us, 359, 362);
    assert_eq!(us.members().len(), 2);
}

#[test]
fn a_newcomer_takes_the_place_of_a_member_that_has_left() {
    let config = GossipConfig {
        max_members: 3,
        ..config()
    };
    let mut us = Engine::new(config, id(1), Duration::ZERO).unwrap();
    make_live(&mut us, &[leaf_id(1), id(2)]);
    push(&left_leaf(), &mut us, SECOND * 6);
    let hello = syn("cluster", VERSION, digest(&[(id(3), 1)]));
    us.handle(received(addr(3), hello), SECOND * 6);
    let ids: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
    assert_eq!(ids, [id(1), id(2), id(3)]);
}
