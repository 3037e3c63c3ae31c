//! The room that leaves have, and whom they displace.

use super::*;

fn crowded(max_members: usize) -> Engine {
    let config = GossipConfig {
        max_members,
        ..config(1)
    };
    engine_with(1, config)
}

/// Passes in a digest of core member 2 that lists `ids`, with `heartbeat` each.
fn report(us: &mut Engine, ids: &[ChitchatId], heartbeat: u64, now: Duration) {
    let all: Vec<_> = ids
        .iter()
        .map(|id| (id.clone(), listed(heartbeat)))
        .collect();
    us.handle(from_core(2, syn(&all)), now);
}

fn names(us: &Engine) -> Vec<String> {
    let members = us.members().into_iter();
    members
        .map(|member| member.id.node_id.to_string())
        .collect()
}

#[test]
fn leaves_are_no_more_than_three_quarters_of_the_members() {
    let mut us = crowded(8);
    let tabs: Vec<_> = (1..=9).map(leaf).collect();
    report(&mut us, &tabs, 1, SECOND);
    assert_eq!(us.members().len(), 1 + 6);
    assert_eq!(us.counts().refused_members, 3);
    assert_eq!(denied(&us, Denial::Room), 3);
    // The last place is that of another.
    report(&mut us, &[core(2)], 1, SECOND);
    assert_eq!(us.members().len(), 8);
}

#[test]
fn leaves_have_no_more_than_three_quarters_of_the_bytes() {
    let config = GossipConfig {
        max_bytes: 1_000,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    report(&mut us, &[core(2), leaf(1), leaf(2)], 1, SECOND);
    let value = |len: usize| "x".repeat(len - 65);
    let mut change = |id: &ChitchatId, len| {
        let delta = node_delta(id, 0, vec![set("k", &value(len), 1)]);
        us.handle(from_core(2, ack(vec![delta])), SECOND);
        keys(&us, id).len()
    };
    assert_eq!(change(&leaf(1), 700), 1);
    assert_eq!((change(&leaf(2), 151), change(&leaf(2), 150)), (0, 0));
    assert_eq!(change(&core(2), 301), 0);
    assert_eq!(change(&core(2), 300), 1);
}

#[test]
fn the_bytes_of_leaves_are_counted_again_in_each_round_and_when_one_is_replaced() {
    let config = GossipConfig {
        max_bytes: 1_000,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    report(&mut us, &[leaf(1), leaf(2)], 1, SECOND);
    let value = "x".repeat(300);
    let change = |id: &ChitchatId| ack(vec![node_delta(id, 0, vec![set("k", &value, 1)])]);
    us.handle(from_core(2, change(&leaf(1))), SECOND);
    us.handle(from_core(2, change(&leaf(2))), SECOND);
    us.handle(Event::Round, SECOND);
    report(&mut us, &[leaf(3)], 1, SECOND);
    us.handle(from_core(2, change(&leaf(3))), SECOND);
    assert!(keys(&us, &leaf(3)).is_empty());
    let later = ChitchatId {
        generation_id: START + 1,
        ..leaf(1)
    };
    report(&mut us, &[later], 1, SECOND);
    us.handle(from_core(2, change(&leaf(3))), SECOND);
    assert_eq!(keys(&us, &leaf(3)), ["k"]);
}

#[test]
fn a_core_member_that_comes_itself_takes_the_place_of_a_leaf_and_a_leaf_that_of_no_core_member() {
    let mut us = crowded(4);
    let tabs: Vec<_> = (1..=3).map(leaf).collect();
    for at in 1..=4 {
        report(&mut us, &tabs[..2], at, SECOND * at as u32);
        report(&mut us, &tabs[2..], at, SECOND * at as u32 + SECOND / 2);
    }
    us.handle(Event::Round, SECOND * 5);
    assert!(
        us.members()[1..]
            .iter()
            .all(|m| m.liveness == crate::gossip::Liveness::Live)
    );
    // Heard of by others only.
    for heartbeat in 1..4 {
        report(&mut us, &[core(3)], heartbeat, SECOND * 5);
    }
    assert_eq!(names(&us), ["core-1", "tab-1", "tab-2", "tab-3"]);
    us.handle(from_core(2, syn(&[(core(2), listed(1))])), SECOND * 5);
    assert_eq!(names(&us).len(), 4);
    assert!(find(&us, &core(2)).is_some() && find(&us, &leaf(3)).is_some());
    // Another one, until there are no leaves.
    for n in 3..=5 {
        us.handle(from_core(n, syn(&[(core(n), listed(9))])), SECOND * 5);
    }
    assert_eq!(names(&us), ["core-1", "core-2", "core-3", "core-4"]);
    // All core members are dead, and a leaf is alive.
    us.handle(Event::Round, SECOND * 900);
    connect(&mut us, &[(9, claims(Quotas::default()))], SECOND * 900);
    for heartbeat in 1..9 {
        us.handle(
            from_leaf(9, syn(&[(leaf(9), listed(heartbeat))])),
            SECOND * 900,
        );
        // Nor does anyone over UDP.
        let id = ChitchatId::new("udp", 1, addr(900));
        us.handle(from_udp(900, syn(&[(id, listed(heartbeat))])), SECOND * 900);
    }
    assert_eq!(names(&us), ["core-1", "core-2", "core-3", "core-4"]);
}

#[test]
fn a_leaf_takes_the_place_of_a_dead_one_or_its_own() {
    let mut us = crowded(4);
    let tabs: Vec<_> = (1..=3).map(leaf).collect();
    for at in 1..=4 {
        report(&mut us, &tabs, at, SECOND * at as u32);
    }
    us.handle(Event::Round, SECOND * 5);
    connect(
        &mut us,
        &[
            (1, claims(Quotas::default())),
            (9, claims(Quotas::default())),
        ],
        SECOND * 5,
    );
    let ours = |n, heartbeat, generation_id| {
        let id = ChitchatId {
            generation_id,
            ..leaf(n)
        };
        from_leaf(n, syn(&[(id, listed(heartbeat))]))
    };
    us.handle(ours(1, 1, START + 1), SECOND * 5);
    us.handle(ours(9, 1, START), SECOND * 5);
    let ids: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
    assert_eq!(ids[1].generation_id, START + 1);
    assert_eq!(names(&us), ["core-1", "tab-1", "tab-2", "tab-3"]);
    for at in 6..=60 {
        us.handle(Event::Round, SECOND * at);
    }
    us.handle(ours(9, 2, START), SECOND * 60);
    assert_eq!(names(&us).len(), 4);
    assert!(find(&us, &leaf(9)).is_some());
}

#[test]
fn members_supersede_others_of_the_same_kind_only() {
    let mut us = crowded(99);
    let named = |n: u64, at: SocketAddr| ChitchatId::new("core-2", n, at);
    let of_leaf = named(9, identity(1).address());
    let of_older_leaf = named(0, identity(2).address());
    let (older, newer) = (named(1, addr(2)), named(2, addr(3)));
    let over_udp = named(3, addr(4));
    us.handle(
        from_core(
            2,
            syn(&[
                (older.clone(), listed(1)),
                (of_leaf, listed(1)),
                (of_older_leaf, listed(1)),
            ]),
        ),
        SECOND,
    );
    us.handle(from_core(2, syn(&[(over_udp.clone(), listed(1))])), SECOND);
    let superseded = |us: &Engine| {
        let all = us.members().into_iter().filter(|member| member.superseded);
        all.map(|member| member.id).collect::<Vec<_>>()
    };
    assert_eq!(superseded(&us), []);
    us.handle(from_core(3, syn(&[(newer, listed(1))])), SECOND);
    assert_eq!(superseded(&us), std::slice::from_ref(&older));
    us.handle(from_core(3, syn(&[(named(4, addr(5)), listed(1))])), SECOND);
    assert_eq!(superseded(&us), [older, over_udp]);
}
