//! Leaves that try to have more than their invite allows, and others that must not suffer from it.

use super::*;

/// Returns the bytes that are visible of leaf 1, as the limits count them.
fn visible(us: &Engine) -> usize {
    let keys = find(us, &leaf(1)).unwrap().key_values.into_iter();
    keys.map(|(key, value)| key.len() + value.value.len() + 64)
        .sum()
}

fn deleted(key: &str, version: Version) -> KeyValueMutation {
    KeyValueMutation {
        status: DeletionStatus::Deleted,
        ..set(key, "", version)
    }
}

fn send(us: &mut Engine, delta: NodeDelta, now: Duration) {
    us.handle(from_leaf(1, ack(vec![delta])), now);
}

#[test]
fn deletions_that_are_collected_already_free_nothing() {
    let mut us = beside_leaf(Quotas::default().with_max_bytes(1_000));
    listing(&mut us, &leaf(1), listed(1), NOW);
    let long = "v".repeat(900);
    let afresh = NodeDelta {
        last_gc_version: 1_000_000,
        ..node_delta(&leaf(1), 0, vec![set("a0", &long, 1)])
    };
    send(&mut us, afresh, NOW);
    for n in 1..20 {
        let before = format!("a{}", n - 1);
        let above = find(&us, &leaf(1)).unwrap().max_version;
        let changes = vec![
            deleted(&before, above + 1),
            set(&format!("a{n}"), &long, above + 2),
        ];
        let delta = NodeDelta {
            last_gc_version: 1_000_000,
            ..node_delta(&leaf(1), above, changes)
        };
        send(&mut us, delta, NOW + SECOND * n);
        assert!(visible(&us) <= 1_000, "{n}: {}", visible(&us));
    }
}

#[test]
fn who_has_more_than_its_quotas_gets_no_other_keys_by_giving_some_up() {
    let quotas = Quotas::default().with_max_keys(4);
    let mut us = beside_leaf(quotas.with_max_changes_per_second(1_000));
    listing(&mut us, &leaf(1), listed(1), NOW);
    let changes = (1..=4).map(|n| set(&format!("k{n}"), "v", n)).collect();
    send(&mut us, node_delta(&leaf(1), 0, changes), NOW);
    // Another core member was told of others in the meantime.
    let changes = (5..=8).map(|n| set(&format!("k{n}"), "v", n)).collect();
    let by_core = ack(vec![node_delta(&leaf(1), 4, changes)]);
    us.handle(from_core(2, by_core), NOW);
    assert_eq!(keys(&us, &leaf(1)).len(), 8);
    let swap = vec![deleted("k1", 9), set("n1", "v", 10)];
    send(&mut us, node_delta(&leaf(1), 8, swap), NOW);
    let expected = ["k2", "k3", "k4", "k5", "k6", "k7", "k8"];
    assert_eq!(keys(&us, &leaf(1)), expected, "it may give up");
    assert_eq!(denied(&us, Denial::Keys), 1);
    let longer = vec![set("k2", "", 10), set("k3", "longer", 11)];
    send(&mut us, node_delta(&leaf(1), 9, longer), NOW);
    assert_eq!(us.member_value(&leaf(1), "k2"), Some(""));
    assert_eq!(us.member_value(&leaf(1), "k3"), Some("v"));
    let four = [("k7", "v"), ("k8", "v"), ("n1", "v"), ("n2", "v")];
    send(&mut us, afresh(20, &four), NOW);
    assert_eq!(keys(&us, &leaf(1)), ["k7", "k8", "n1", "n2"]);
}

#[test]
fn what_a_holder_has_by_a_former_invite_takes_nothing_from_others() {
    let large = claims(Quotas::default().with_max_keys(8));
    let small = claims(Quotas::default().with_max_keys(2).with_max_connections(2));
    let mut us = engine_with(1, config(1));
    connect(&mut us, &[(1, large), (2, Arc::clone(&small))], NOW);
    let eight = (1..=8).map(|n| set(&format!("k{n}"), "v", n)).collect();
    let two = vec![set("a", "v", 1), set("b", "v", 2)];
    listing(&mut us, &leaf(1), listed(1), NOW);
    send(&mut us, node_delta(&leaf(1), 0, eight), NOW);
    let holders = [1, 2, 3].map(|n| (n, Arc::clone(&small)));
    connect(&mut us, &holders, NOW);
    for (n, expected) in [(2, 2), (3, 0)] {
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), NOW);
        let delta = ack(vec![node_delta(&leaf(n), 0, two.clone())]);
        us.handle(from_leaf(n, delta), NOW);
        assert_eq!(keys(&us, &leaf(n)).len(), expected, "{n}");
        send(
            &mut us,
            node_delta(&leaf(1), 8, vec![deleted("k1", 9)]),
            NOW,
        );
    }
    assert_eq!(keys(&us, &leaf(1)).len(), 7);
}

/// Returns a delta of a leaf that has started afresh with these keys above `version`.
fn afresh(version: Version, keys: &[(&str, &str)]) -> NodeDelta {
    let changes = (version + 1..).zip(keys);
    let changes = changes.map(|(version, (key, value))| set(key, value, version));
    NodeDelta {
        last_gc_version: version,
        ..node_delta(&leaf(1), 0, changes.collect())
    }
}

#[test]
fn a_start_afresh_repeats_as_many_keys_as_were_changed_and_is_refused_whole_until_it_may_be_sent() {
    let quotas = Quotas::default().with_max_keys(3);
    let mut us = beside_leaf(quotas.with_max_changes_per_second(1));
    listing(&mut us, &leaf(1), listed(1), NOW);
    let shown = |us: &Engine| {
        let member = find(us, &leaf(1)).unwrap();
        (member.max_version, keys(us, &leaf(1)).join(""))
    };
    // Six changes may be made at once. They are used up.
    let all = [("a", "1"), ("b", "1"), ("c", "1")];
    let changes = (1..).zip(all.iter().chain(&all));
    let changes = changes.map(|(version, (key, _))| set(key, "1", version));
    send(&mut us, node_delta(&leaf(1), 0, changes.collect()), NOW);
    assert_eq!(shown(&us), (6, "abc".to_owned()));
    // It has made six changes, so it may send six entries again.
    for version in [10, 20] {
        send(&mut us, afresh(version, &all), NOW);
        assert_eq!(shown(&us), (version + 3, "abc".to_owned()));
    }
    // With neither, what is known stays until a change may be made for each.
    for (at, expected) in [(0, 23), (1, 23), (2, 23), (3, 33)] {
        send(&mut us, afresh(30, &all), NOW + SECOND * at);
        assert_eq!(shown(&us), (expected, "abc".to_owned()), "{at}");
    }
    // A key that is new needs one at any rate.
    let other = [("a", "1"), ("b", "1"), ("d", "1")];
    send(&mut us, afresh(40, &other), NOW + SECOND * 3);
    assert_eq!(shown(&us).0, 33);
    send(&mut us, afresh(40, &other), NOW + SECOND * 4);
    assert_eq!(shown(&us), (43, "abd".to_owned()));
}

#[test]
fn a_change_of_a_member_that_is_not_known_changes_nothing_of_what_its_holder_uses() {
    let shared = claims(Quotas::default().with_max_keys(2).with_max_connections(1));
    let mut us = engine_with(1, config(1));
    connect(&mut us, &[(1, Arc::clone(&shared)), (2, shared)], NOW);
    for n in 1..=2 {
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), NOW);
    }
    let two = vec![set("a", "v", 1), set("b", "v", 2)];
    send(&mut us, node_delta(&leaf(1), 0, two.clone()), NOW);
    let unknown = ChitchatId {
        generation_id: START + 1,
        ..leaf(1)
    };
    send(&mut us, node_delta(&unknown, 0, Vec::new()), NOW);
    send(
        &mut us,
        node_delta(&unknown, 0, vec![set("a", "v", 1)]),
        NOW,
    );
    let delta = ack(vec![node_delta(&leaf(2), 0, two)]);
    us.handle(from_leaf(2, delta), NOW);
    assert!(keys(&us, &leaf(2)).is_empty());
}

#[test]
fn a_state_that_comes_with_the_digest_that_makes_its_member_known_is_limited_as_well() {
    let shared = claims(Quotas::default().with_max_keys(2).with_max_connections(1));
    let mut us = engine_with(1, config(1));
    connect(&mut us, &[(1, Arc::clone(&shared)), (2, shared)], NOW);
    for (n, expected) in [(1, 2), (2, 0)] {
        let changes = (1..=9).map(|n| set(&format!("k{n}"), "v", n)).collect();
        let answer = ChitchatMessage::SynAck {
            version: ProtocolVersion::V1,
            digest: Digest::from(vec![(leaf(n), listed(3))]),
            delta: Delta {
                node_deltas: vec![node_delta(&leaf(n), 0, changes)],
            },
        };
        us.handle(from_leaf(n, answer), NOW);
        assert_eq!(keys(&us, &leaf(n)).len(), expected, "{n}");
    }
}

#[test]
fn known_changes_in_a_delta_make_no_room() {
    let mut us = beside_leaf(Quotas::default().with_max_keys(4));
    listing(&mut us, &leaf(1), listed(1), NOW);
    let four = |from| (from..from + 4).map(|n| set(&format!("k{n}"), "v", n));
    send(&mut us, node_delta(&leaf(1), 0, four(1).collect()), NOW);
    let bare = NodeDelta {
        max_version: 1_000,
        ..node_delta(&leaf(1), 4, Vec::new())
    };
    send(&mut us, bare, NOW);
    let known = (1..=300).map(|n| set("known", "", n));
    let changes = known.chain(four(1_001)).collect();
    send(&mut us, node_delta(&leaf(1), 0, changes), NOW + SECOND * 60);
    assert_eq!(keys(&us, &leaf(1)), ["k1", "k2", "k3", "k4"]);
}

#[test]
fn a_leaf_that_is_back_after_a_while_may_start_afresh_with_all_that_is_known() {
    // More than may be changed at once.
    let quotas = Quotas::default().with_max_keys(100);
    let mut us = beside_leaf(quotas.with_max_changes_per_second(1));
    let changes = |above: Version| (1..=80).map(move |n| set(&format!("k{n}"), "v", above + n));
    us.handle(from_core(2, syn(&[list(&leaf(1), 1, 80)])), NOW);
    let by_core = ack(vec![node_delta(&leaf(1), 0, changes(0).collect())]);
    us.handle(from_core(2, by_core), NOW);
    assert_eq!(keys(&us, &leaf(1)).len(), 80);
    let delta = NodeDelta {
        last_gc_version: 1_000,
        ..node_delta(&leaf(1), 0, changes(1_000).collect())
    };
    send(&mut us, delta, NOW);
    let member = find(&us, &leaf(1)).unwrap();
    assert_eq!((member.max_version, member.key_values.len()), (1_080, 80));
}

#[test]
fn two_invites_allow_no_more_holders_than_each_does() {
    let quotas = Quotas::default().with_max_keys(2).with_max_connections(1);
    let (a, b) = (claims(quotas), claims(quotas));
    let mut us = engine_with(1, config(1));
    let two = || vec![set("a", "v", 1), set("b", "v", 2)];
    let mut held = Vec::new();
    for n in 1..=5 {
        for invite in [&a, &b] {
            connect(&mut us, &[(n, Arc::clone(invite))], NOW + SECOND * n.into());
            us.handle(from_leaf(n, syn(&[(leaf(n), listed(1))])), NOW);
            let delta = ack(vec![node_delta(&leaf(n), 0, two())]);
            us.handle(from_leaf(n, delta), NOW + SECOND * n.into());
        }
        held.push(keys(&us, &leaf(n)).len());
    }
    assert_eq!(held, [2, 0, 0, 0, 0]);
}

#[test]
fn what_a_leaf_has_counts_although_it_begins_other_generations() {
    let shared = claims(Quotas::default().with_max_keys(2).with_max_connections(1));
    let mut us = engine_with(1, config(1));
    connect(&mut us, &[(1, Arc::clone(&shared)), (2, shared)], NOW);
    let other = |name: &str, later| ChitchatId {
        generation_id: START + later,
        node_id: name.into(),
        ..leaf(1)
    };
    let two = || vec![set("a", "v", 1), set("b", "v", 2)];
    let send = |us: &mut Engine, ids: [&ChitchatId; 2], deltas| {
        let answer = ChitchatMessage::SynAck {
            version: ProtocolVersion::V1,
            digest: Digest::from(ids.map(|id| (id.clone(), listed(3))).to_vec()),
            delta: Delta {
                node_deltas: deltas,
            },
        };
        us.handle(from_leaf(1, answer), NOW);
    };
    // One that is known, another one before it, and one whose name is too long for a member.
    let known = other("tab-0", 0);
    send(
        &mut us,
        [&known, &known],
        vec![node_delta(&known, 0, vec![set("a", "v", 1)])],
    );
    let afresh = NodeDelta {
        last_gc_version: 9,
        max_version: 9,
        ..node_delta(&known, 0, Vec::new())
    };
    let (full, before) = (other("tab-b", 2), other("tab-a", 1));
    let bare = NodeDelta {
        max_version: 1,
        ..node_delta(&before, 0, Vec::new())
    };
    let deltas = vec![node_delta(&full, 0, two()), bare, afresh];
    send(&mut us, [&full, &before], deltas);
    assert_eq!(keys(&us, &full).len(), 2);
    let long = other(&format!("tab-{}", "c".repeat(1_100)), 3);
    let bare = NodeDelta {
        max_version: 1,
        ..node_delta(&long, 0, Vec::new())
    };
    send(&mut us, [&full, &long], vec![bare]);
    us.handle(from_leaf(2, syn(&[(leaf(2), listed(1))])), NOW);
    us.handle(from_leaf(2, ack(vec![node_delta(&leaf(2), 0, two())])), NOW);
    assert!(keys(&us, &leaf(2)).is_empty());
}

#[test]
fn of_a_core_member_that_has_become_a_leaf_one_generation_is_left() {
    let mut us = member(1);
    let generations = [0, 1, 2].map(|n| ChitchatId {
        generation_id: START + n,
        ..leaf(1)
    });
    for id in &generations {
        let event = from_page(1, Role::Core, syn(&[(id.clone(), listed(1))]));
        us.handle(event, NOW);
    }
    assert_eq!(us.members().len(), 4);
    connect(&mut us, &[(1, claims(Quotas::default()))], NOW);
    us.handle(
        from_leaf(1, syn(&[(generations[2].clone(), listed(2))])),
        NOW,
    );
    let ids: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
    assert!(ids.len() == 2 && ids.contains(&generations[2]), "{ids:?}");
}
