//! Core members of which peers over UDP tell before core members do, and members that are reached over UDP.

use super::*;
use crate::gossip::Liveness;

/// Tells `us` over UDP that core member 3 and a later generation of it live, with keys that it has not.
fn lie(us: &mut Engine, from: u16, now: Duration) {
    let restarted = ChitchatId {
        generation_id: START + 1,
        ..core(3)
    };
    let lies = [core(3), restarted];
    let listed: Vec<_> = lies.iter().map(|id| list(id, 1 << 40, 1 << 40)).collect();
    us.handle(from_udp(from, syn(&listed)), now);
    let change = |id| node_delta(id, 0, vec![set("k", "lie", 1 << 40)]);
    us.handle(from_udp(from, ack(lies.iter().map(change).collect())), now);
}

/// Returns the whole state of a member that has its proof and the key `k`.
fn state_of(member: &Engine) -> NodeDelta {
    let state = member.state_of(member.id()).unwrap();
    let keys = ["gossip-transport/core", "k"];
    let changes = keys.iter().zip(1..);
    let changes = changes.map(|(key, version)| set(key, state.get(key).unwrap(), version));
    node_delta(member.id(), 0, changes.collect())
}

/// Returns the heartbeat and the value of core member 3 as `us` sees it, and the number of its generations.
fn sight(us: &Engine) -> (u64, Option<String>, usize) {
    let member = find(us, &core(3));
    let value = us.member_value(&core(3), "k").map(str::to_owned);
    let members = us.members().into_iter();
    let generations = members.filter(|member| member.id.addr() == addr(3));
    (
        member.map_or(0, |member| member.heartbeat),
        value,
        generations.count(),
    )
}

/// Returns the names of the members that messages to `to` list or change.
fn told(outputs: Vec<Output>, to: u16) -> Vec<String> {
    let mut names = Vec::new();
    for (receivers, message) in outputs.into_iter().filter_map(sending) {
        if !receivers.contains(&addr(to)) {
            continue;
        }
        let (digest, delta) = match message {
            ChitchatMessage::Syn { digest, .. } => (digest, Delta::default()),
            ChitchatMessage::SynAck { digest, delta, .. } => (digest, delta),
            ChitchatMessage::Ack { delta, .. } => (Digest::default(), delta),
            ChitchatMessage::BadCluster { .. } => continue,
        };
        let changed = delta.node_deltas.into_iter().map(|node| node.chitchat_id);
        let ids = digest.node_digests.into_keys().chain(changed);
        names.extend(ids.map(|id| id.node_id.to_string()));
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn what_a_core_member_reports_takes_the_place_of_what_was_said_over_udp_before() {
    let mut third = member(3);
    third.set("k", "true", LATE).unwrap();
    let truth = state_of(&third);
    // Said by another, and from the forged address of the member.
    for liar in [66, 3] {
        let mut us = member(1);
        lie(&mut us, liar, LATE);
        assert_eq!(sight(&us), (1 << 40, Some("lie".to_owned()), 2));
        let report = syn(&[list(&core(2), 5, 0), list(&core(3), 6, 2)]);
        let answer = us.handle(from_core(2, report), LATE);
        assert_eq!(told(answer, 2), ["core-1", "core-2", "core-3"]);
        assert_eq!(sight(&us), (6, None, 1), "{liar}");
        lie(&mut us, liar, LATE);
        us.handle(from_core(2, ack(vec![truth.clone()])), LATE);
        lie(&mut us, liar, LATE);
        assert_eq!(sight(&us), (6, Some("true".to_owned()), 1), "{liar}");
    }
}

#[test]
fn a_member_that_was_met_is_not_what_was_said_over_udp_before() {
    for confirmed in [false, true] {
        let mut us = member(1);
        lie(&mut us, 3, LATE);
        if confirmed {
            us.handle(from_core(2, syn(&[list(&core(2), 5, 0)])), LATE);
        }
        // Without its digest, nothing says which of the members is its own.
        us.handle(from_core(3, ack(Vec::new())), LATE);
        assert_eq!(sight(&us).2, 2);
        us.handle(from_core(3, syn(&[list(&core(3), 6, 1)])), LATE);
        assert_eq!(sight(&us), (6, None, 1));
        lie(&mut us, 3, LATE);
        assert_eq!(sight(&us), (6, None, 1));
    }
}

#[test]
fn what_was_dropped_of_a_core_member_leaves_no_reserved_keys() {
    // It lists the generation that was known, or a later one.
    for generation_id in [START, START + 1] {
        let (mut us, mut third) = (member(1), member(3));
        third.set_reserved("url", "v", LATE).unwrap();
        us.handle(from_udp(66, syn(&[list(&core(3), 1, 0)])), LATE);
        let later = LATE + SECOND * 10;
        let listing_us = syn(&[list(&core(1), 1, 0), list(&core(2), 1, 0)]);
        us.handle(from_core(2, listing_us), later);
        let key = "gossip-transport/url";
        let url = third.state_of(&core(3)).unwrap().get(key).unwrap();
        let state = node_delta(&core(3), 0, vec![set(key, url, 2)]);
        us.handle(from_core(2, ack(vec![state])), later);
        let reserved = |us: &Engine| us.reserved().filter(|key| *key.owner == core(3)).count();
        assert_eq!(reserved(&us), 1);
        let own = ChitchatId {
            generation_id,
            ..core(3)
        };
        let before = us.reserved_changes();
        us.handle(from_core(3, syn(&[list(&own, 2, 0)])), later);
        assert_eq!(reserved(&us), 0, "{generation_id}");
        assert_ne!(us.reserved_changes(), before, "{generation_id}");
    }
}

#[test]
fn a_core_member_takes_no_names_that_were_made_up_for_its_address() {
    let mut us = member(1);
    let made_up = ChitchatId::new("tab-1", 1, addr(3));
    connect(&mut us, &[(1, claims(Quotas::default()))], LATE);
    let third = ChitchatId::new("tab-3", START, addr(3));
    let mut engine = Engine::new(config(3), third.clone(), Duration::ZERO).unwrap();
    engine.set_secrets(Some(&secret()), Duration::ZERO);
    // Another bridge was told of the member that is made up, and the core member has heard of it there.
    let report = syn(&[list(&third, 6, 1), list(&made_up, 1, 0)]);
    us.handle(from_core(3, report), LATE);
    let key = "gossip-transport/core";
    let proof = engine.state_of(&third).unwrap().get(key).unwrap();
    let state = node_delta(&third, 0, vec![set(key, proof, 1)]);
    us.handle(from_core(3, ack(vec![state])), LATE);
    us.handle(from_leaf(1, syn(&[list(&leaf(1), 1, 0)])), LATE);
    assert!(find(&us, &leaf(1)).is_some());
    // Its own name stays its own.
    let thief = ChitchatId::new("tab-3", START + 1, leaf(1).addr());
    us.handle(from_leaf(1, syn(&[list(&thief, 1, 0)])), LATE);
    assert!(find(&us, &thief).is_none());
    assert_eq!(denied(&us, Denial::Name), 1);
}

#[test]
fn a_proof_that_a_core_member_passes_on_outlasts_forged_datagrams() {
    let (mut us, mut third) = (member(1), member(3));
    third.set("k", "true", LATE).unwrap();
    let version = 2;
    let report = syn(&[list(&core(2), 5, 0), list(&core(3), 6, version)]);
    us.handle(from_core(2, report), LATE);
    us.handle(from_core(2, ack(vec![state_of(&third)])), LATE);
    let truth = Some("true".to_owned());
    // For longer than a member that proves nothing is taken for a core member that may prove it yet.
    for after in 0..30 {
        let (now, heartbeat) = (LATE + SECOND * after, 7 + u64::from(after));
        let report = syn(&[
            list(&core(2), heartbeat, 0),
            list(&core(3), heartbeat, version),
        ]);
        us.handle(from_core(2, report), now);
        lie(&mut us, 3, now);
        lie(&mut us, 66, now);
        assert_eq!(sight(&us), (heartbeat, truth.clone(), 1), "{after}");
    }
    // Once it is dead, another may have its address, and does not speak for the generation that was core.
    let dead = LATE + SECOND * 900;
    us.handle(Event::Round, dead);
    lie(&mut us, 66, dead);
    assert_eq!(sight(&us), (36, truth.clone(), 1));
    (0..2).for_each(|_| lie(&mut us, 3, dead));
    assert_eq!(sight(&us), (36, truth.clone(), 2));
    // Until it has come back.
    us.handle(from_core(3, syn(&[list(&core(3), 50, version)])), dead);
    assert_eq!(sight(&us).2, 1);
}

#[test]
fn a_member_over_udp_that_a_core_member_reports_speaks_for_itself_once_it_would_have_proved_to_be_core()
 {
    let fourth = ChitchatId::new("udp-4", 1, addr(4));
    let heartbeat = |us: &Engine| find(us, &fourth).unwrap().heartbeat;
    // With the version that is reported, how long it waits.
    let with_secret = [(0, 1), (2, 10)].map(|(version, waits)| (member(1), version, waits));
    // Without secrets, there are no proofs.
    let without = (engine_with(1, config(1)), 2, 0);
    for (mut us, version, waits) in with_secret.into_iter().chain([without]) {
        let report = syn(&[list(&core(2), 5, 0), list(&fourth, 6, version)]);
        us.handle(from_core(2, report), LATE);
        if version > 0 {
            // The first part of its state.
            let first = node_delta(&fourth, 0, vec![set("k", "v", 1)]);
            us.handle(from_core(2, ack(vec![first])), LATE);
        }
        for after in 0..=waits {
            let now = LATE + SECOND * after;
            // Only its own datagrams count.
            us.handle(from_udp(5, syn(&[list(&fourth, 8, 0)])), now);
            assert_eq!(heartbeat(&us), 6);
            us.handle(from_udp(4, syn(&[list(&fourth, 7, 0)])), now);
            assert_eq!(
                heartbeat(&us),
                if after < waits { 6 } else { 7 },
                "{version}"
            );
        }
    }
    // The rest of its state has no proof.
    let mut us = member(1);
    let report = syn(&[list(&core(2), 5, 0), list(&fourth, 6, 2)]);
    us.handle(from_core(2, report), LATE);
    let whole = node_delta(&fourth, 0, vec![set("k", "v", 1), set("l", "v", 2)]);
    us.handle(from_core(2, ack(vec![whole])), LATE);
    us.handle(from_udp(4, syn(&[list(&fourth, 7, 0)])), LATE);
    assert_eq!(heartbeat(&us), 7);
}

#[test]
fn core_members_hear_of_members_over_udp_once_they_could_have_contradicted() {
    let [fourth, fifth] = [4, 5].map(|n| ChitchatId::new(format!("udp-{n}"), 1, addr(n)));
    let mut us = member(1);
    let seeds = (2..=6).map(addr).collect();
    us.handle(Event::Seeds(seeds), Duration::ZERO);
    us.handle(from_core(2, syn(&[list(&core(2), 1, 0)])), LATE);
    // The fourth speaks for itself, and tells of the fifth, which does not.
    let both = [list(&fourth, 1, 0), list(&fifth, 1, 0)];
    us.handle(from_udp(4, syn(&both)), LATE);
    let change = |id| node_delta(id, 0, vec![set("k", "v", 1)]);
    us.handle(
        from_udp(4, ack([&fourth, &fifth].map(change).to_vec())),
        LATE,
    );
    let unasked = |us: &mut Engine, to: u16, now: Duration| {
        let mut outputs = us.handle(Event::Rumours, now);
        outputs.extend(us.handle(Event::Round, now));
        told(outputs, to)
    };
    // Others over UDP hear at once, and core members do not.
    let over_udp = us.handle(from_udp(6, syn(&[])), LATE);
    assert!(told(over_udp, 6).contains(&"udp-5".to_owned()));
    for _ in 0..9 {
        let names = unasked(&mut us, 2, LATE + SECOND * 2);
        assert!(
            names.iter().all(|name| name.starts_with("core")),
            "{names:?}"
        );
    }
    let ask = |us: &mut Engine, now: Duration| {
        let listed = syn(&[list(&core(1), 1, 0), list(&core(2), 2, 0)]);
        let answer = us.handle(from_core(2, listed), now);
        told(answer, 2)
    };
    assert_eq!(
        ask(&mut us, LATE + SECOND * 2),
        ["core-1", "core-2", "udp-4"]
    );
    let patience = SECOND * 10;
    let soon = LATE + patience - SECOND;
    assert_eq!(ask(&mut us, soon), ["core-1", "core-2", "udp-4"]);
    let later = LATE + patience;
    assert_eq!(ask(&mut us, later), ["core-1", "core-2", "udp-4", "udp-5"]);
}

#[test]
fn a_bridge_without_other_core_members_tells_tabs_of_members_over_udp_after_three_rounds() {
    let fourth = ChitchatId::new("udp-4", 1, addr(4));
    let mut us = member(1);
    let started = Duration::ZERO;
    connect(&mut us, &[(1, claims(Quotas::default()))], started);
    (0..2).for_each(|n| {
        us.handle(from_udp(4, syn(&[list(&fourth, 1 + n, 0)])), started);
    });
    let mut told_at = |second: u32| {
        let now = started + SECOND * second;
        us.handle(Event::Round, now);
        let outputs = us.handle(from_leaf(1, syn(&[list(&leaf(1), 1, 0)])), now);
        let answer = outputs.into_iter().filter_map(sending).next().unwrap().1;
        let ChitchatMessage::SynAck { digest, .. } = answer else {
            panic!("{answer:?}");
        };
        digest.node_digests.contains_key(&fourth)
    };
    assert_eq!([1, 2, 3].map(&mut told_at), [false, false, true]);
}

#[test]
fn a_bridge_that_hears_from_core_members_tells_tabs_nothing_that_those_may_contradict() {
    let fifth = ChitchatId::new("udp-5", 1, addr(5));
    let mut us = member(1);
    connect(&mut us, &[(1, claims(Quotas::default()))], LATE);
    us.handle(from_udp(4, syn(&[list(&fifth, 1, 0)])), LATE);
    for second in 1..=5 {
        let now = LATE + SECOND * second;
        // It has not heard of this member yet.
        let report = syn(&[list(&core(2), second.into(), 0)]);
        us.handle(from_core(2, report), now);
        us.handle(Event::Round, now);
        let outputs = us.handle(from_leaf(1, syn(&[list(&leaf(1), 1, 0)])), now);
        let answer = outputs.into_iter().filter_map(sending).next().unwrap().1;
        let ChitchatMessage::SynAck { digest, .. } = answer else {
            panic!("{answer:?}");
        };
        assert!(digest.node_digests.contains_key(&core(2)), "{second}");
        assert!(!digest.node_digests.contains_key(&fifth), "{second}");
    }
}

#[test]
fn numbers_that_no_member_counts_to_are_not_believed_over_udp() {
    let fourth = ChitchatId::new("udp-4", 1, addr(4));
    let mut us = member(1);
    us.handle(from_core(2, syn(&[list(&core(2), 1, 0)])), LATE);
    us.handle(from_udp(4, syn(&[list(&fourth, END_OF_VERSIONS, 0)])), LATE);
    assert!(find(&us, &fourth).is_none());
    us.handle(
        from_udp(4, syn(&[list(&fourth, END_OF_VERSIONS - 1, 0)])),
        LATE,
    );
    let change = |version| ack(vec![node_delta(&fourth, 0, vec![set("k", "v", version)])]);
    us.handle(from_udp(4, change(END_OF_VERSIONS)), LATE);
    assert_eq!(keys(&us, &fourth), [""; 0]);
    assert_eq!(denied(&us, Denial::Version), 2);
    us.handle(from_udp(4, change(END_OF_VERSIONS - 1)), LATE);
    assert_eq!(keys(&us, &fourth), ["k"]);
}

#[test]
fn a_core_member_that_comes_itself_finds_room_in_a_table_full_of_members_over_udp() {
    let config = GossipConfig {
        max_members: 8,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    us.set_secrets(Some(&secret()), Duration::ZERO);
    us.handle(from_core(2, syn(&[list(&core(2), 1, 0)])), LATE);
    for heartbeat in 1..=4 {
        let all = (10..30).map(|n| ChitchatId::new(format!("udp-{n}"), 1, addr(n)));
        let all: Vec<_> = all.map(|id| list(&id, heartbeat, 0)).collect();
        us.handle(from_udp(10, syn(&all)), LATE + SECOND * heartbeat as u32);
    }
    let now = LATE + SECOND * 5;
    assert_eq!(us.members().len(), 8);
    us.handle(from_core(3, syn(&[list(&core(3), 1, 0)])), now);
    assert!(find(&us, &core(3)).is_some() && find(&us, &core(2)).is_some());
    assert_eq!(us.members().len(), 8);
    let live = us.members().into_iter();
    let live = live.filter(|member| member.liveness == Liveness::Live);
    assert_eq!(live.count(), 5, "those over UDP were not dead");
}
