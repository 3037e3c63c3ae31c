//! Leaves that are gone without a word: what core members say of them, and who believes it.

use std::collections::BTreeSet;

use super::presence::{VERSION, connect, core, hear, leaf_id, left_leaf, make_live, push, rounds};
use super::*;

/// Returns a core member that has lost a leaf with heartbeat 5 at the fifth second, and whose rounds have passed
/// until `until`.
fn after_loss(until: u32) -> Engine {
    let mut us = core(1, 7);
    make_live(&mut us, &[leaf_id(1)]);
    connect(&mut us, &[leaf_id(1).addr(), addr(9)], SECOND * 5);
    connect(&mut us, &[addr(9)], SECOND * 5);
    rounds(&mut us, 5, until);
    us
}

fn stated(us: &Engine) -> Vec<String> {
    let keys = us.reserved().filter(|key| key.owner == us.id());
    let keys = keys.filter(|key| key.name.starts_with("departed/"));
    keys.map(|key| format!("{}={}", key.name, key.payload))
        .collect()
}

#[test]
fn a_leaf_that_is_lost_and_silent_for_three_seconds_is_stated_to_be_gone() {
    let us = after_loss(7);
    assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Live);
    assert_eq!(stated(&us), [""; 0]);
    let mut us = after_loss(8);
    assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Left);
    let ip = leaf_id(1).addr().ip();
    assert_eq!(stated(&us), [format!("departed/0=5 1 {ip}")]);
    assert!(us.next_rumours().is_some());
    // It is withdrawn after a minute.
    rounds(&mut us, 8, 67);
    assert_eq!(stated(&us).len(), 1);
    rounds(&mut us, 67, 68);
    assert_eq!(stated(&us), [""; 0]);
}

#[test]
fn a_thousand_leaves_that_are_lost_at_once_are_seen_to_be_gone_by_others_at_once() {
    let tab = |n: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        ChitchatId::new("tab", n, Identity::from_bytes(key).address())
    };
    let leaves: Vec<_> = (0..1_100).map(tab).collect();
    let (mut us, mut peer) = (core(1, 7), core(2, 7));
    make_live(&mut peer, &[id(1)]);
    let addrs: Vec<_> = leaves.iter().map(ChitchatId::addr).collect();
    connect(&mut us, &[&addrs[..], &[addr(9)]].concat(), SECOND);
    connect(&mut peer, &[addr(1)], SECOND);
    for at in 1..=5 {
        let all: Vec<_> = leaves.iter().map(|id| (id.clone(), at)).collect();
        let now = SECOND * u32::try_from(at).unwrap();
        for engine in [&mut us, &mut peer] {
            let listed = syn("cluster", VERSION, digest(&all));
            engine.handle(received(addr(9), listed), now);
            hear(engine, &id(9), at, now);
            engine.handle(Event::Round, now);
        }
    }
    connect(&mut us, &[addr(9)], SECOND * 5);
    rounds(&mut us, 5, 8);
    push(&us, &mut peer, SECOND * 8);
    for engine in [&us, &peer] {
        let left = leaves
            .iter()
            .filter(|id| liveness(engine, id) == Liveness::Left);
        assert_eq!(left.count(), 1_000);
    }
    assert_eq!(stated(&us).len(), 63);
    // There is nothing to say of the others: they are found dead here and there.
    rounds(&mut us, 8, 50);
    assert_eq!(stated(&us).len(), 63);
    let members = us.members().into_iter();
    let live: Vec<_> = members
        .filter(|m| m.liveness == Liveness::Live)
        .map(|m| m.id)
        .collect();
    assert_eq!(live, [id(9)]);
}

#[test]
fn of_leaves_that_are_silent_at_the_same_time_those_that_were_lost_first_are_stated_first() {
    let tab = |n: u16| {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        ChitchatId::new(
            format!("tab-{n:04}"),
            1,
            Identity::from_bytes(key).address(),
        )
    };
    let leaves: Vec<_> = (0..1_100).map(tab).collect();
    let mut us = core(1, 7);
    let all: Vec<_> = leaves.iter().map(|id| (id.clone(), 1)).collect();
    let listed = syn("cluster", VERSION, digest(&all));
    us.handle(received(addr(9), listed), SECOND);
    let addrs: Vec<_> = leaves.iter().map(ChitchatId::addr).collect();
    for (left, millis) in [(1_100, 2_000), (1_000, 2_001), (0, 2_002)] {
        let connected = [&addrs[..left], &[addr(9)]].concat();
        connect(&mut us, &connected, Duration::from_millis(millis));
    }
    us.handle(Event::Round, SECOND * 6);
    let first = leaves[1_000..].iter();
    let stated = first.filter(|id| liveness(&us, id) == Liveness::Left);
    assert_eq!(stated.count(), 100);
    assert_eq!(us.presence.room(), 0);
}

#[test]
fn a_leaf_that_returns_or_is_heard_of_in_time_is_not_stated_to_be_gone() {
    let mut us = after_loss(7);
    connect(&mut us, &[addr(9), leaf_id(1).addr()], SECOND * 7);
    rounds(&mut us, 7, 12);
    assert_eq!(stated(&us), [""; 0]);
    let mut us = after_loss(7);
    for at in 8..20 {
        hear(&mut us, &leaf_id(1), at.into(), SECOND * at);
        us.handle(Event::Round, SECOND * at);
    }
    assert_eq!(stated(&us), [""; 0]);
    // Its heartbeat stops soon afterwards.
    rounds(&mut us, 19, 22);
    assert_eq!(stated(&us).len(), 1);
}

#[test]
fn of_a_leaf_that_has_said_goodbye_nothing_is_stated() {
    // Its goodbye may arrive before its connection ends, or by another way afterwards.
    for is_first in [true, false] {
        let mut us = core(1, 7);
        make_live(&mut us, &[leaf_id(1)]);
        connect(&mut us, &[leaf_id(1).addr(), addr(9)], SECOND * 5);
        if is_first {
            push(&left_leaf(), &mut us, SECOND * 5);
        }
        connect(&mut us, &[addr(9)], SECOND * 5);
        assert_eq!(us.presence.watches_any(), !is_first);
        if !is_first {
            push(&left_leaf(), &mut us, SECOND * 5);
        }
        assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Left);
        rounds(&mut us, 5, 9);
        assert_eq!(stated(&us), [""; 0], "{is_first}");
    }
}

#[test]
fn a_member_without_any_connection_states_nothing_until_it_has_been_connected_for_three_seconds() {
    let mut us = after_loss(6);
    connect(&mut us, &[], SECOND * 6);
    for at in 7..=20 {
        us.handle(Event::Round, SECOND * at);
    }
    connect(&mut us, &[addr(9)], SECOND * 20);
    rounds(&mut us, 20, 22);
    assert_eq!(stated(&us), [""; 0]);
    rounds(&mut us, 22, 23);
    assert_eq!(stated(&us).len(), 1);
}

#[test]
fn what_a_core_member_says_of_a_leaf_is_believed_unless_it_is_connected_here() {
    let us = after_loss(8);
    let seen = |mut peer: Engine, connected: &[SocketAddr]| {
        make_live(&mut peer, &[leaf_id(1), id(1)]);
        connect(&mut peer, connected, SECOND * 5);
        push(&us, &mut peer, SECOND * 8);
        liveness(&peer, &leaf_id(1))
    };
    assert_eq!(seen(core(2, 7), &[addr(1)]), Liveness::Left);
    assert_eq!(seen(core(2, 7), &[leaf_id(1).addr()]), Liveness::Live);
    assert_eq!(seen(core(2, 8), &[addr(1)]), Liveness::Live, "no proof");
    // A leaf cannot check it, and has it from core members.
    let leaf = ChitchatId::new("other", 1, Identity::from_bytes([2; 32]).address());
    let leaf = Engine::new(config(), leaf, Duration::ZERO).unwrap();
    assert_eq!(seen(leaf, &[addr(1)]), Liveness::Left);
}

#[test]
fn a_leaf_says_nothing_about_others() {
    let mut liar = Engine::new(
        config(),
        ChitchatId::new("liar", 1, Identity::from_bytes([2; 32]).address()),
        Duration::ZERO,
    )
    .unwrap();
    let ip = leaf_id(1).addr().ip();
    let payload = format!("5 1 {ip}");
    liar.set_reserved("departed/0", &payload, SECOND).unwrap();
    for mut us in [core(1, 7), engine(1)] {
        make_live(&mut us, &[leaf_id(1), liar.id().clone()]);
        connect(&mut us, &[addr(9)], SECOND * 5);
        push(&liar, &mut us, SECOND * 6);
        assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Live);
    }
}

#[test]
fn a_leaf_does_not_state_what_it_sees() {
    let leaf = ChitchatId::new("other", 1, Identity::from_bytes([2; 32]).address());
    let seeds_only = GossipConfig {
        dial: crate::gossip::engine::config::DialPolicy::SeedsOnly,
        ..config()
    };
    let at_key_address = Engine::new(config(), leaf, Duration::ZERO).unwrap();
    for mut us in [
        at_key_address,
        Engine::new(seeds_only, id(1), Duration::ZERO).unwrap(),
    ] {
        make_live(&mut us, &[leaf_id(1)]);
        connect(&mut us, &[leaf_id(1).addr(), addr(9)], SECOND * 5);
        connect(&mut us, &[addr(9)], SECOND * 5);
        rounds(&mut us, 5, 9);
        assert_eq!(us.reserved_changes(), 0);
        assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Live);
    }
}

#[test]
fn an_old_word_of_a_core_member_does_not_count_against_a_later_heartbeat() {
    let us = after_loss(8);
    for (heartbeat, expected) in [(5, Liveness::Left), (6, Liveness::Live)] {
        let mut peer = core(2, 7);
        make_live(&mut peer, &[leaf_id(1), id(1)]);
        connect(&mut peer, &[addr(1)], SECOND * 5);
        hear(&mut peer, &leaf_id(1), heartbeat, SECOND * 8);
        push(&us, &mut peer, SECOND * 8);
        assert_eq!(liveness(&peer, &leaf_id(1)), expected, "{heartbeat}");
    }
}

#[test]
fn a_leaf_that_becomes_known_after_it_was_stated_to_be_gone_has_left() {
    let us = after_loss(8);
    let mut peer = core(2, 7);
    make_live(&mut peer, &[id(1)]);
    connect(&mut peer, &[addr(1)], SECOND * 5);
    push(&us, &mut peer, SECOND * 8);
    hear(&mut peer, &leaf_id(1), 4, SECOND * 9);
    peer.handle(Event::Round, SECOND * 9);
    assert_eq!(liveness(&peer, &leaf_id(1)), Liveness::Left);
}

#[test]
fn what_is_said_of_this_member_changes_nothing_here() {
    let mut us = core(1, 7);
    make_live(&mut us, &[id(9)]);
    let mut peer = core(2, 7);
    hear(&mut us, &id(2), 1, SECOND);
    let leaf = Engine::new(config(), leaf_id(1), Duration::ZERO).unwrap();
    let ip = leaf.id().addr().ip();
    let payload = format!("{} 1 {ip}", u64::MAX);
    peer.set_reserved("departed/0", &payload, SECOND).unwrap();
    let mut tab = leaf;
    hear(&mut tab, &id(2), 1, SECOND);
    push(&peer, &mut tab, SECOND * 6);
    assert_eq!(liveness(&tab, &leaf_id(1)), Liveness::Myself);
    assert_eq!(tab.cluster.own_ref().unwrap().left_at, 0);
}

#[test]
fn a_leaf_that_is_back_is_selected_again_before_the_next_round() {
    let mut us = after_loss(8);
    connect(&mut us, &[addr(9), leaf_id(1).addr()], SECOND * 9);
    hear(&mut us, &leaf_id(1), 6, SECOND * 9);
    assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Live);
    us.set("k", "v", SECOND * 9).unwrap();
    let pushed = us.handle(Event::Rumours, SECOND * 9);
    let receivers: BTreeSet<_> = sends(&pushed).into_iter().map(|(to, _)| to).collect();
    assert!(receivers.contains(&leaf_id(1).addr()), "{receivers:?}");
}

#[test]
fn a_leaf_that_was_not_live_yet_is_stated_to_be_gone_too_and_a_stranger_is_not() {
    let mut us = core(1, 7);
    let stranger = Identity::from_bytes([3; 32]).address();
    hear(&mut us, &leaf_id(1), 1, SECOND * 5);
    connect(&mut us, &[addr(9), leaf_id(1).addr(), stranger], SECOND * 5);
    connect(&mut us, &[addr(9)], SECOND * 5);
    assert!(us.presence.lost(leaf_id(1).addr()).is_some());
    assert_eq!(us.presence.lost(stranger), None);
    rounds(&mut us, 5, 8);
    assert_eq!(stated(&us).len(), 1);
    assert_eq!(liveness(&us, &leaf_id(1)), Liveness::Left);
    assert!(!us.presence.watches_any());
}

#[test]
fn a_later_generation_at_the_address_of_one_that_is_gone_is_watched_as_well() {
    let mut us = after_loss(8);
    let later = ChitchatId {
        generation_id: leaf_id(1).generation_id + 1,
        ..leaf_id(1)
    };
    connect(&mut us, &[addr(9), later.addr()], SECOND * 9);
    hear(&mut us, &later, 1, SECOND * 9);
    hear(&mut us, &later, 2, SECOND * 10);
    assert_eq!(liveness(&us, &later), Liveness::Live);
    connect(&mut us, &[addr(9)], SECOND * 10);
    rounds(&mut us, 10, 12);
    assert_eq!(liveness(&us, &later), Liveness::Live);
    rounds(&mut us, 12, 13);
    assert_eq!(liveness(&us, &later), Liveness::Left);
}
