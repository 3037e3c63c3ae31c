//! The quotas of an invite, at their bounds and beyond: keys, bytes and changes, of a leaf and of all holders together.

use super::*;

#[test]
fn a_leaf_has_as_many_keys_and_bytes_as_its_invite_allows() {
    let quotas = Quotas::default().with_max_keys(2).with_max_bytes(300);
    let send = |us: &mut Engine, from, changes| {
        us.handle(
            from_leaf(1, ack(vec![node_delta(&leaf(1), from, changes)])),
            NOW,
        );
    };
    let mut us = beside_leaf(quotas);
    listing(&mut us, &leaf(1), listed(1), NOW);
    send(
        &mut us,
        0,
        vec![set("a", "", 1), set("b", "", 2), set("c", "", 3)],
    );
    assert_eq!(keys(&us, &leaf(1)), ["a", "b"]);
    assert_eq!(find(&us, &leaf(1)).unwrap().max_version, 2);
    assert_eq!(denied(&us, Denial::Keys), 1);
    // 64 bytes more are counted for each key.
    let fits = "x".repeat(300 - 2 * 65);
    send(&mut us, 2, vec![set("b", &(fits.clone() + "x"), 3)]);
    assert_eq!(denied(&us, Denial::Bytes), 1);
    send(&mut us, 2, vec![set("b", &fits, 3)]);
    let value = |us: &Engine| us.member_value(&leaf(1), "b").map(str::len);
    assert_eq!(value(&us), Some(fits.len()));
    // A reset makes room.
    let reset = NodeDelta {
        last_gc_version: 9,
        ..node_delta(&leaf(1), 0, vec![set("c", "", 10), set("d", "", 11)])
    };
    let mut us = beside_leaf(quotas.with_max_changes_per_second(20));
    listing(&mut us, &leaf(1), listed(1), NOW);
    send(&mut us, 0, vec![set("a", "", 1), set("b", "", 2)]);
    us.handle(from_leaf(1, ack(vec![reset])), NOW);
    assert_eq!(keys(&us, &leaf(1)), ["c", "d"]);
}

#[test]
fn a_leaf_sends_its_whole_state_at_once_and_then_so_many_changes_in_a_second() {
    let quotas = Quotas::default()
        .with_max_keys(4)
        .with_max_changes_per_second(5);
    let mut us = beside_leaf(quotas);
    listing(&mut us, &leaf(1), listed(1), NOW);
    let mut sent = |from: u64, to: u64, now| {
        let changes = (from + 1..=to).map(|version| set("k", &version.to_string(), version));
        let delta = node_delta(&leaf(1), from, changes.collect());
        us.handle(from_leaf(1, ack(vec![delta])), now);
        (
            find(&us, &leaf(1)).unwrap().max_version,
            denied(&us, Denial::Rate),
        )
    };
    assert_eq!(sent(0, 10, NOW), (8, 2));
    assert_eq!(
        sent(8, 20, NOW + SECOND - Duration::from_millis(1)),
        (12, 10)
    );
    assert_eq!(sent(12, 20, NOW + SECOND), (13, 17));
    // What is known already, costs nothing.
    assert_eq!(sent(0, 13, NOW + SECOND), (13, 17));
    // No more is saved up than for a whole state.
    assert_eq!(sent(13, 30, NOW + SECOND * 99), (21, 26));
}

#[test]
fn a_change_that_is_known_costs_nothing_beside_new_ones() {
    let quotas = Quotas::default()
        .with_max_keys(8)
        .with_max_changes_per_second(5);
    let mut us = beside_leaf(quotas);
    listing(&mut us, &leaf(1), listed(1), NOW);
    for (from, to, now) in [(0, 8, NOW), (7, 13, NOW + SECOND)] {
        let changes = (from + 1..=to).map(|version| set("k", &version.to_string(), version));
        let delta = node_delta(&leaf(1), from, changes.collect());
        us.handle(from_leaf(1, ack(vec![delta])), now);
        assert_eq!(find(&us, &leaf(1)).unwrap().max_version, to);
    }
    assert_eq!(denied(&us, Denial::Rate), 0);
}

#[test]
fn a_key_that_a_delta_changes_several_times_frees_its_bytes_once() {
    let quotas = Quotas::default().with_max_bytes(2_500);
    let mut us = beside_leaf(quotas);
    listing(&mut us, &leaf(1), listed(1), NOW);
    let (long, short) = ("v".repeat(900), "");
    let mut send = |above: Version, changes: &[(&str, &str)], now| {
        let changes = (above + 1..).zip(changes);
        let changes = changes.map(|(version, (key, value))| set(key, value, version));
        let delta = node_delta(&leaf(1), above, changes.collect());
        us.handle(from_leaf(1, ack(vec![delta])), now);
        (keys(&us, &leaf(1)).join(""), denied(&us, Denial::Bytes))
    };
    assert_eq!(send(0, &[("a", &long), ("b", &long)], NOW).1, 0);
    let changes = [
        ("a", short),
        ("a", short),
        ("a", short),
        ("c", &long),
        ("d", &long),
    ];
    assert_eq!(send(2, &changes, NOW * 60), ("abc".to_owned(), 1));
    // What it has set in the same delta counts as well, once.
    let medium = "v".repeat(300);
    let changes = [("e", short), ("e", &medium), ("e", short), ("e", &medium)];
    assert_eq!(send(6, &changes, NOW * 120), ("abce".to_owned(), 1));
}

#[test]
fn a_version_without_a_key_is_a_change() {
    let quotas = Quotas::default().with_max_keys(2);
    let mut us = beside_leaf(quotas.with_max_changes_per_second(4));
    listing(&mut us, &leaf(1), listed(1), NOW);
    let mut send = |above, last_gc_version, max_version| {
        let delta = NodeDelta {
            last_gc_version,
            max_version,
            ..node_delta(&leaf(1), above, Vec::new())
        };
        us.handle(from_leaf(1, ack(vec![delta])), NOW);
        let state = us.state_of(&leaf(1)).unwrap();
        (state.max_version, denied(&us, Denial::Rate))
    };
    for version in 1..=2 {
        assert_eq!(send(version - 1, 0, version), (version, 0));
    }
    assert_eq!(send(0, 0, 2), (2, 0), "it is known");
    // A state that is dropped is a change, too.
    for version in 3..=4 {
        assert_eq!(send(0, version, version), (version, 0));
    }
    assert_eq!(send(4, 0, 5), (4, 1));
    assert_eq!(send(0, 5, 5), (4, 2));
}

#[test]
fn an_invite_that_allows_no_changes_allows_none() {
    let mut us = beside_leaf(Quotas::default().with_max_changes_per_second(0));
    listing(&mut us, &leaf(1), listed(1), NOW);
    us.handle(
        from_leaf(1, ack(vec![node_delta(&leaf(1), 0, vec![set("k", "", 1)])])),
        NOW,
    );
    assert!(keys(&us, &leaf(1)).is_empty());
    assert_eq!(denied(&us, Denial::Rate), 1);
}

#[test]
fn the_holders_of_an_invite_together_have_what_may_be_connected_at_a_time() {
    let quotas = Quotas::default().with_max_keys(2).with_max_connections(2);
    let (shared, other) = (claims(quotas), claims(quotas));
    let mut us = engine_with(1, config(1));
    let all = [(1, &shared), (2, &shared), (3, &shared), (4, &other)];
    let all = all.map(|(n, claims)| (n, Arc::clone(claims)));
    connect(&mut us, &all, Duration::ZERO);
    for n in 1..=4 {
        let changes = vec![set("a", "", 1), set("b", "", 2)];
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), NOW);
        // The changes are limited as well, and a second is enough for all.
        let now = NOW + SECOND * n.into();
        us.handle(
            from_leaf(n, ack(vec![node_delta(&leaf(n), 0, changes)])),
            now,
        );
    }
    let held: Vec<_> = (1..=4).map(|n| keys(&us, &leaf(n)).len()).collect();
    assert_eq!(held, [2, 2, 0, 2]);
    assert_eq!(denied(&us, Denial::Keys), 2);
    // A minute after one has gone, its part is free.
    connect(&mut us, &all[1..], SECOND * 10);
    let changes = || vec![set("a", "", 1), set("b", "", 2)];
    for (at, expected) in [(69, 0), (70, 2)] {
        us.handle(Event::Round, SECOND * at);
        us.handle(
            from_leaf(3, ack(vec![node_delta(&leaf(3), 0, changes())])),
            SECOND * at,
        );
        assert_eq!(keys(&us, &leaf(3)).len(), expected, "{at}");
    }
}

#[test]
fn the_holders_of_an_invite_together_have_the_bytes_of_those_that_may_be_connected_at_a_time() {
    let quotas = Quotas::default().with_max_bytes(200);
    let shared = claims(quotas.with_max_connections(2));
    let mut us = engine_with(1, config(1));
    let all = [1, 2, 3].map(|n| (n, Arc::clone(&shared)));
    connect(&mut us, &all, Duration::ZERO);
    let mut send = |n, from, value: &str| {
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), NOW);
        let changes = vec![set("a", value, from + 1)];
        us.handle(
            from_leaf(n, ack(vec![node_delta(&leaf(n), from, changes)])),
            NOW,
        );
        (keys(&us, &leaf(n)).len(), denied(&us, Denial::Bytes))
    };
    // 64 bytes more are counted for each key.
    let whole = "x".repeat(200 - 65);
    assert_eq!(send(1, 0, &whole), (1, 0));
    assert_eq!(send(2, 0, &whole), (1, 0));
    assert_eq!(send(3, 0, ""), (0, 1));
    // What one of them gives up is free for the others.
    assert_eq!(send(2, 1, &whole[65..]), (1, 1));
    assert_eq!(send(3, 0, "x"), (0, 2));
    assert_eq!(send(3, 0, ""), (1, 2));
}

#[test]
fn the_holders_of_an_invite_together_change_as_much_as_those_that_may_be_connected_at_a_time() {
    let quotas = Quotas::default()
        .with_max_keys(2)
        .with_max_changes_per_second(5);
    let shared = claims(quotas.with_max_connections(2));
    let mut us = engine_with(1, config(1));
    let all = [1, 2, 3].map(|n| (n, Arc::clone(&shared)));
    connect(&mut us, &all, Duration::ZERO);
    let mut send = |n, now| {
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), now);
        let changes = (1..=5).map(|version| set("k", &version.to_string(), version));
        let delta = node_delta(&leaf(n), 0, changes.collect());
        us.handle(from_leaf(n, ack(vec![delta])), now);
        let changed = find(&us, &leaf(n)).unwrap().max_version;
        (changed, denied(&us, Denial::Rate))
    };
    assert_eq!(send(1, NOW), (5, 0));
    assert_eq!(send(2, NOW), (5, 0));
    assert_eq!(send(3, NOW), (0, 5));
    // Together they earn ten in a second.
    assert_eq!(send(3, NOW + SECOND * 3 / 10), (3, 7));
}

#[test]
fn a_value_may_grow_before_another_makes_room_for_it_in_one_delta_or_if_a_state_exceeds_a_message()
{
    let long = |bytes: usize| "v".repeat(bytes - 65);
    // The bytes of an invite, and whether each change is accepted alone.
    for (max, alone) in [(1_000, false), (40_000, true)] {
        let quotas = Quotas::default().with_max_bytes(max);
        let max = usize::try_from(max).unwrap();
        let (half, most) = (long(max / 2), long(max * 9 / 10));
        let mut us = beside_leaf(quotas);
        listing(&mut us, &leaf(1), listed(1), NOW);
        let mut send = |above, changes: Vec<KeyValueMutation>| {
            let delta = node_delta(&leaf(1), above, changes);
            us.handle(from_leaf(1, ack(vec![delta])), NOW);
            find(&us, &leaf(1)).unwrap().max_version
        };
        send(0, vec![set("a", &half, 1), set("b", &half, 2)]);
        let (grown, shrunk) = (set("a", &most, 4), set("b", "", 5));
        assert_eq!(send(2, vec![grown.clone()]), if alone { 4 } else { 2 });
        // What is left out is what follows the last change with which all is within the quotas.
        let beyond = set("c", &long(max * 2), 6);
        assert_eq!(send(2, vec![grown, shrunk, beyond]), 5, "{max}");
        assert_eq!(denied(&us, Denial::Bytes), if alone { 1 } else { 2 });
    }
}
