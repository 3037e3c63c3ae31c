//! Each limit of a leaf, at its bound and beyond it, through the engine.

use super::*;
use crate::gossip::engine::policy::leaves::{Leaves, MOST_LEAVES};

#[test]
fn a_leaf_changes_its_own_member_and_nothing_else() {
    let mut us = beside_leaf(Quotas::default());
    us.handle(from_core(2, syn(&[(core(2), listed(5))])), NOW);
    let all = [
        (core(1), listed(900)),
        (core(2), listed(900)),
        (core(3), listed(900)),
        (leaf(1), listed(900)),
        (leaf(2), listed(900)),
    ];
    us.handle(from_leaf(1, syn(&all)), NOW);
    let changes = |id| node_delta(&id, 0, vec![set("k", "v", 1)]);
    let deltas = [core(1), core(2), core(3), leaf(1), leaf(2)].map(changes);
    us.handle(from_leaf(1, ack(deltas.to_vec())), NOW);
    let members = us.members();
    let ids: Vec<_> = members.iter().map(|member| member.id.clone()).collect();
    assert_eq!(ids, [core(1), core(2), leaf(1)]);
    let heartbeats: Vec<_> = members[1..].iter().map(|member| member.heartbeat).collect();
    assert_eq!(heartbeats, [5, 900]);
    assert_eq!(
        (keys(&us, &core(2)).len(), keys(&us, &leaf(1)).len()),
        (0, 1)
    );
    assert_eq!(denied(&us, Denial::Heartbeat), 1);
    assert_eq!(denied(&us, Denial::NewMember), 2);
    assert_eq!(denied(&us, Denial::Receiver), 2);
    assert_eq!(denied(&us, Denial::Changes), 3);
}

#[test]
fn a_leaf_is_sent_what_its_whole_digest_lacks() {
    let mut us = beside_leaf(Quotas::default());
    us.set("k", "v", NOW).unwrap();
    let known = NodeDigest {
        max_version: 1,
        ..listed(900)
    };
    for (digest, expected) in [(listed(0), 1), (known, 0)] {
        let outputs = us.handle(from_leaf(1, syn(&[(core(1), digest)])), NOW);
        let sent = outputs.iter().find_map(|output| match output {
            Output::Send {
                message: ChitchatMessage::SynAck { delta, .. },
                ..
            } => Some(delta.node_deltas.len()),
            _ => None,
        });
        assert_eq!(sent, Some(expected), "{digest:?}");
    }
}

#[test]
fn the_answer_of_a_leaf_is_restricted_as_its_question_is() {
    let mut us = beside_leaf(Quotas::default());
    let answer = ChitchatMessage::SynAck {
        version: ProtocolVersion::V1,
        digest: Digest::from(vec![(leaf(1), listed(3)), (leaf(2), listed(3))]),
        delta: Delta {
            node_deltas: vec![
                node_delta(&leaf(1), 0, vec![set("k", "v", 1)]),
                node_delta(&core(1), 0, vec![set("k", "v", 1)]),
            ],
        },
    };
    us.handle(from_leaf(1, answer), NOW);
    assert_eq!(us.members().len(), 2);
    assert_eq!(keys(&us, &leaf(1)), ["k"]);
    assert_eq!(us.get("k"), None);
}

#[test]
fn the_name_of_a_leaf_has_the_prefix_of_its_invite_and_is_not_that_of_a_core_member() {
    let mut us = beside_leaf(Quotas::default());
    let own = identity(1).address();
    let named = |name: &str| ChitchatId::new(name, START, own);
    assert!(!listing(&mut us, &named("core-1"), listed(1), NOW));
    assert_eq!(denied(&us, Denial::Name), 1);
    let of_core = ChitchatId::new("tab-2", START - 9, addr(2));
    us.handle(from_core(2, syn(&[(of_core, listed(1))])), NOW);
    assert!(!listing(&mut us, &named("tab-2"), listed(1), NOW));
    assert_eq!(denied(&us, Denial::Name), 2);
    // Another leaf, and a member of which nothing is proved, may have the same.
    us.handle(
        from_udp(3, syn(&[(ChitchatId::new("tab-3", 1, addr(3)), listed(1))])),
        NOW,
    );
    assert!(listing(&mut us, &named("tab-3"), listed(1), NOW));
    // A core member that comes later has it to itself: nothing more of the leaf is applied.
    let of_core = ChitchatId::new("tab-3", START, addr(4));
    us.handle(from_core(4, syn(&[(of_core, listed(1))])), NOW);
    listing(&mut us, &named("tab-3"), listed(9), NOW);
    us.handle(
        from_leaf(
            1,
            ack(vec![node_delta(&named("tab-3"), 0, vec![set("k", "v", 1)])]),
        ),
        NOW,
    );
    let member = find(&us, &named("tab-3")).unwrap();
    assert_eq!((member.heartbeat, member.key_values.len()), (1, 0));
}

/// Returns why leaf 1 is refused if it lists these members, in which case it gets no other answer.
fn refusal(us: &mut Engine, ids: &[ChitchatId], now: Duration) -> Option<Refusal> {
    let ids: Vec<_> = ids.iter().map(|id| (id.clone(), listed(1))).collect();
    let outputs = us.handle(from_leaf(1, syn(&ids)), now);
    let refusal = outputs.iter().find_map(|output| match output {
        Output::Refuse { to, reason } if *to == identity(1).address() => Some(*reason),
        _ => None,
    });
    assert!(refusal.is_none() || outputs.len() == 1, "{outputs:?}");
    refusal
}

#[test]
fn a_leaf_that_has_no_name_of_its_own_is_told_so_and_gets_no_answer() {
    let mut us = beside_leaf(Quotas::default());
    let named = |name: &str| ChitchatId::new(name, START, identity(1).address());
    let refuses = |us: &mut Engine, ids: &[ChitchatId]| {
        let refusal = refusal(us, ids, NOW);
        assert!(matches!(refusal, None | Some(Refusal::Name)), "{refusal:?}");
        refusal.is_some()
    };
    assert!(refuses(&mut us, &[named("other")]));
    // Nor is what it says at the next moment about others a reason to keep it.
    assert!(refuses(&mut us, &[named("core-1"), core(7)]));
    // Its earlier name by another invite, and the names of others, do not matter.
    assert!(!refuses(&mut us, &[named("other"), leaf(1)]));
    assert!(!refuses(&mut us, &[leaf(1), core(1), over_udp(3)]));
    assert!(!refuses(&mut us, &[core(7)]));
    // A core member that comes with its name takes it from it.
    let of_core = ChitchatId::new("tab-1", START, addr(4));
    us.handle(from_core(4, syn(&[(of_core, listed(1))])), NOW);
    assert!(refuses(&mut us, &[leaf(1)]));
}

#[test]
fn a_leaf_does_not_say_that_this_is_another_cluster() {
    let mut us = beside_leaf(Quotas::default());
    let version = ProtocolVersion::V1;
    us.handle(from_leaf(1, ChitchatMessage::BadCluster { version }), NOW);
    assert!(!us.is_rejected_by(0));
    assert_eq!(us.counts().rejections, 0);
}

#[test]
fn a_generation_is_at_most_two_minutes_ahead() {
    let mut us = beside_leaf(Quotas::default());
    let at = |generation_id| ChitchatId {
        generation_id,
        ..leaf(1)
    };
    let now = SECOND * 10;
    let latest = START + 130 * 1_000_000;
    assert!(!listing(&mut us, &at(latest + 1), listed(1), now));
    assert_eq!(denied(&us, Denial::Generation), 1);
    assert!(listing(&mut us, &at(latest), listed(1), now));
    assert_eq!(
        refusal(&mut us, &[at(latest + 1)], now),
        Some(Refusal::Clock)
    );
    assert_eq!(refusal(&mut us, &[at(latest + 1), at(latest)], now), None);
    // The clock was set, or the machine has slept.
    let later = Duration::from_micros(START) + SECOND * 3_000;
    us.handle(Event::UnixTime(later), now);
    assert!(listing(&mut us, &at(latest + 1), listed(1), now));
}

#[test]
fn a_leaf_stays_a_member_though_the_clock_is_set_back_by_a_day_or_ahead() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut us = beside_leaf(Quotas::default());
    let start = Duration::from_micros(START);
    for (unix, heartbeat) in [(start, 1), (start - DAY, 2), (start + DAY, 3), (start, 4)] {
        us.handle(Event::UnixTime(unix), NOW);
        assert!(listing(&mut us, &leaf(1), listed(heartbeat), NOW));
        assert_eq!(find(&us, &leaf(1)).unwrap().heartbeat, heartbeat);
        let change = node_delta(&leaf(1), heartbeat - 1, vec![set("k", "v", heartbeat)]);
        us.handle(from_leaf(1, ack(vec![change])), NOW);
        assert_eq!(find(&us, &leaf(1)).unwrap().max_version, heartbeat);
    }
    assert_eq!(us.counts().denied.total(), 0);
}

#[test]
fn without_a_clock_generations_are_limited_as_versions_are() {
    let mut us = Engine::new(config(1), core(1), Duration::ZERO).unwrap();
    connect(&mut us, &[(1, claims(Quotas::default()))], Duration::ZERO);
    for (generation_id, expected) in [(END_OF_VERSIONS, false), (END_OF_VERSIONS - 1, true)] {
        let id = ChitchatId {
            generation_id,
            ..leaf(1)
        };
        assert_eq!(listing(&mut us, &id, listed(1), NOW), expected);
    }
}

#[test]
fn heartbeats_and_versions_of_a_leaf_end_below_2_to_the_53rd() {
    let mut us = beside_leaf(Quotas::default());
    assert!(!listing(&mut us, &leaf(1), listed(END_OF_VERSIONS), NOW));
    assert!(listing(&mut us, &leaf(1), listed(END_OF_VERSIONS - 1), NOW));
    let change = |version| ack(vec![node_delta(&leaf(1), 0, vec![set("k", "v", version)])]);
    us.handle(from_leaf(1, change(END_OF_VERSIONS)), NOW);
    assert!(keys(&us, &leaf(1)).is_empty());
    assert_eq!(denied(&us, Denial::Version), 2);
    us.handle(from_leaf(1, change(END_OF_VERSIONS - 1)), NOW);
    assert_eq!(keys(&us, &leaf(1)), ["k"]);
}

#[test]
fn a_generation_replaces_the_one_before_at_once_and_there_are_six_in_a_minute() {
    let mut us = beside_leaf(Quotas::default());
    // A leaf may have another name each time, too.
    let at = |n: u64| ChitchatId::new(format!("tab-{n}"), START + n, identity(1).address());
    for n in 0..6 {
        assert!(
            listing(&mut us, &at(n), listed(7), NOW + SECOND * n as u32),
            "{n}"
        );
        assert_eq!(us.members().len(), 2);
    }
    let sixty = NOW + SECOND * 60;
    assert!(!listing(
        &mut us,
        &at(6),
        listed(7),
        sixty - Duration::from_millis(1)
    ));
    assert_eq!(denied(&us, Denial::Generation), 1);
    assert!(find(&us, &at(5)).is_some());
    assert!(listing(&mut us, &at(6), listed(7), sixty));
    // Neither the leaf nor a core member that has not heard of it brings an earlier one back.
    assert!(!listing(&mut us, &at(5), listed(99), sixty + SECOND * 60));
    us.handle(
        from_core(2, syn(&[(at(4), listed(99)), (at(5), listed(99))])),
        sixty,
    );
    let ids: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
    assert_eq!(ids, [core(1), at(6)]);
    // What core members report replaces it as well.
    us.handle(
        from_core(2, syn(&[(at(7), listed(1)), (at(8), listed(1))])),
        sixty,
    );
    assert!(find(&us, &at(6)).is_none() && find(&us, &at(7)).is_none());
    assert!(find(&us, &at(8)).is_some());
}

#[test]
fn another_generation_that_a_leaf_still_lists_takes_none_of_its_six() {
    let mut us = beside_leaf(Quotas::default());
    let at = |name: &str, n| ChitchatId::new(name, START + n, identity(1).address());
    // A digest is sorted by name, so the one that counts comes first.
    let listed_at = [at("tab-a", 2), at("tab-b", 1), at("tab-c", 2)].map(|id| (id, listed(7)));
    for n in 0..9 {
        us.handle(from_leaf(1, syn(&listed_at)), NOW + SECOND * n);
    }
    let ids: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
    assert_eq!(ids, [core(1), at("tab-a", 2)]);
    assert_eq!(denied(&us, Denial::Generation), 0);
    let now = NOW + SECOND * 10;
    for n in 3..8 {
        assert!(listing(&mut us, &at("tab-d", n), listed(7), now), "{n}");
    }
    assert!(!listing(&mut us, &at("tab-d", 8), listed(7), now));
}

#[test]
fn the_holders_of_an_invite_begin_six_generations_in_a_minute_for_each_connection() {
    let claims = claims(Quotas::default().with_max_connections(2));
    let mut us = engine_with(1, config(1));
    let joins = |us: &mut Engine, n: u8, now| {
        // The one before has gone.
        connect(us, &[(n, Arc::clone(&claims))], now);
        us.handle(from_leaf(n, syn(&[(leaf(n), listed(7))])), now);
        find(us, &leaf(n)).is_some()
    };
    for n in 1..=12 {
        assert!(joins(&mut us, n, NOW + SECOND * u32::from(n)), "{n}");
    }
    let last = NOW + SECOND * 59;
    assert!(!joins(&mut us, 13, last));
    assert_eq!(denied(&us, Denial::Generation), 1);
    // Those who are there are not held up.
    connect(&mut us, &[(12, Arc::clone(&claims))], last);
    us.handle(from_leaf(12, syn(&[(leaf(12), listed(8))])), last);
    assert_eq!(find(&us, &leaf(12)).unwrap().heartbeat, 8);
    assert!(joins(&mut us, 13, NOW + SECOND * 62));
}

#[test]
fn of_the_reserved_keys_a_leaf_may_say_that_it_has_left() {
    let mut us = beside_leaf(Quotas::default());
    listing(&mut us, &leaf(1), listed(1), NOW);
    let changes = vec![
        set("gossip-transport/core", "v", 1),
        set("gossip-transport/left", "1", 2),
        set("gossip-transport/left2", "v", 3),
        set("gossip-transport", "v", 4),
        set("gossip-transport/", "v", 5),
    ];
    us.handle(
        from_leaf(1, ack(vec![node_delta(&leaf(1), 0, changes)])),
        NOW,
    );
    assert_eq!(keys(&us, &leaf(1)), ["gossip-transport"]);
    let member = find(&us, &leaf(1)).unwrap();
    assert_eq!(member.liveness, crate::gossip::Liveness::Left);
    assert_eq!(denied(&us, Denial::ReservedKey), 3);
}

#[test]
fn the_claims_of_a_leaf_are_known_for_a_minute_after_its_connection_has_gone() {
    let mut us = engine_with(1, config(1));
    assert!(!listing(&mut us, &leaf(1), listed(1), NOW));
    assert_eq!(denied(&us, Denial::Claims), 1);
    connect(&mut us, &[(1, claims(Quotas::default()))], NOW);
    connect(&mut us, &[], NOW);
    let minute = NOW + SECOND * 60;
    us.handle(Event::Round, minute - Duration::from_millis(1));
    assert!(listing(
        &mut us,
        &leaf(1),
        listed(1),
        minute - Duration::from_millis(1)
    ));
    us.handle(Event::Round, minute);
    listing(&mut us, &leaf(1), listed(9), minute);
    assert_eq!(find(&us, &leaf(1)).unwrap().heartbeat, 1);
    assert_eq!(denied(&us, Denial::Claims), 2);
}

#[test]
fn a_leaf_that_has_come_back_keeps_its_claims() {
    let (mut us, claims) = (engine_with(1, config(1)), claims(Quotas::default()));
    connect(&mut us, &[(1, Arc::clone(&claims))], Duration::ZERO);
    listing(&mut us, &leaf(1), listed(1), NOW);
    connect(&mut us, &[], SECOND * 10);
    connect(&mut us, &[(1, claims)], SECOND * 20);
    us.handle(Event::Round, SECOND * 80);
    let changes = vec![set("k", "", 1)];
    us.handle(
        from_leaf(1, ack(vec![node_delta(&leaf(1), 0, changes)])),
        SECOND * 80,
    );
    assert_eq!(keys(&us, &leaf(1)), ["k"]);
}

#[test]
fn a_leaf_that_renews_its_invite_has_what_the_new_one_allows() {
    let mut us = beside_leaf(Quotas::default().with_max_keys(1));
    listing(&mut us, &leaf(1), listed(1), NOW);
    let send = |us: &mut Engine| {
        let changes = vec![set("a", "", 1), set("b", "", 2)];
        us.handle(
            from_leaf(1, ack(vec![node_delta(&leaf(1), 0, changes)])),
            NOW,
        );
        keys(us, &leaf(1)).len()
    };
    assert_eq!(send(&mut us), 1);
    let renewed = claims(Quotas::default().with_max_keys(2));
    connect(&mut us, &[(1, renewed)], NOW);
    assert_eq!(send(&mut us), 2);
}

#[test]
fn as_many_leaves_as_the_limit_are_remembered_and_the_one_that_has_gone_first_makes_room() {
    let claims = claims(Quotas::default());
    let connection = |n: usize| {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        Connection {
            addr: Identity::from_bytes(bytes).address(),
            reads_v1: true,
            invite: Some(Arc::clone(&claims)),
        }
    };
    let all = |first| (first..MOST_LEAVES).map(connection).collect::<Vec<_>>();
    let and_one_more = |first| [all(first), vec![connection(MOST_LEAVES)]].concat();
    let mut leaves = Leaves::default();
    leaves.connect(&and_one_more(0), NOW);
    let mut known = |connections: &[Connection], now| {
        leaves.connect(connections, now);
        let numbers = [0, 1, 2, MOST_LEAVES];
        numbers.map(|n| leaves.get_mut(connection(n).addr, now).is_some())
    };
    assert_eq!(known(&and_one_more(0), NOW), [true, true, true, false]);
    assert_eq!(known(&all(1), NOW * 2), [true, true, true, false]);
    assert_eq!(known(&all(2), NOW * 3), [true, true, true, false]);
    let after = known(&and_one_more(2), NOW * 4);
    assert_eq!(after, [false, true, true, true]);
}

#[test]
fn a_leaf_without_a_proved_identity_changes_nothing() {
    let mut us = engine_with(1, config(1));
    let placeholder = Identity::UNPROVED.address();
    let connection = Connection {
        addr: placeholder,
        reads_v1: false,
        invite: Some(claims(Quotas::default())),
    };
    us.handle(Event::Connections(vec![connection]), NOW);
    let id = ChitchatId::new("tab-0", START, placeholder);
    let event = Event::Message {
        from: placeholder,
        identity: Identity::UNPROVED,
        role: Role::Leaf,
        message: syn(&[(id, listed(1))]),
    };
    us.handle(event, NOW);
    assert_eq!(us.members().len(), 1);
}
