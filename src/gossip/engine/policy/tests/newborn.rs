//! Bridges that know little yet: what peers over UDP make of that, and honest members that the rules must not lose.

use super::*;
use crate::gossip::Liveness;

/// Returns the ids that messages to `to` list.
fn listed_to(outputs: Vec<Output>, to: SocketAddr) -> Vec<ChitchatId> {
    let mut ids = Vec::new();
    for (receivers, message) in outputs.into_iter().filter_map(sending) {
        if !receivers.contains(&to) {
            continue;
        }
        match message {
            ChitchatMessage::Syn { digest, .. } | ChitchatMessage::SynAck { digest, .. } => {
                ids.extend(digest.node_digests.into_keys());
            }
            _ => {}
        }
    }
    ids
}

#[test]
fn a_leaf_of_a_bridge_without_other_core_members_hears_of_members_over_udp() {
    for has_secret in [true, false] {
        let mut us = engine_with(1, config(1));
        if has_secret {
            us.set_secrets(Some(&secret()), Duration::ZERO);
        }
        connect(&mut us, &[(1, claims(Quotas::default()))], Duration::ZERO);
        let mut heard = Vec::new();
        for at in 1..60 {
            let now = SECOND * at;
            us.handle(Event::Round, now);
            us.handle(from_udp(4, syn(&[list(&over_udp(4), at.into(), 0)])), now);
            let answer = us.handle(from_leaf(1, syn(&[list(&leaf(1), at.into(), 0)])), now);
            heard = listed_to(answer, identity(1).address());
        }
        assert!(heard.contains(&over_udp(4)), "{has_secret} {heard:?}");
    }
}

#[test]
fn nobody_over_udp_raises_the_generation_of_a_bridge_that_has_just_started() {
    for n in [1, 66] {
        let (mut us, mut second) = (member(1), member(2));
        let lie = ChitchatId::new("core-1", 1 << 60, addr(n));
        us.handle(from_udp(66, syn(&[list(&lie, 1, 0)])), SECOND);
        for at in 2..40 {
            let now = SECOND * at;
            exchange(&mut second, &mut us, now);
        }
        assert_eq!(us.id(), &core(1), "{n}");
    }
}

/// Opens an exchange of core members.
fn exchange(from: &mut Engine, to: &mut Engine, now: Duration) {
    let (a, b) = (from.id().addr(), to.id().addr());
    from.handle(Event::Seeds(vec![b]), now);
    let mut sent = from.handle(Event::Round, now);
    to.handle(Event::Round, now);
    let (mut from, mut to, mut at) = (from, to, (a, b));
    for _ in 0..3 {
        let messages = sent.into_iter().filter_map(sending);
        let mut messages = messages.filter(|(receivers, _)| receivers.contains(&at.1));
        let Some((_, message)) = messages.next() else {
            return;
        };
        sent = to.handle(from_core(at.0.port(), message), now);
        std::mem::swap(&mut from, &mut to);
        at = (at.1, at.0);
    }
}

#[test]
fn nobody_over_udp_raises_the_generation_of_a_member_through_a_bridge_that_has_just_started() {
    let (mut us, mut second, mut third) = (member(1), member(2), member(3));
    for at in 1..30 {
        exchange(&mut second, &mut third, SECOND * at);
    }
    // It speaks from its own address.
    let lie = ChitchatId::new("core-3", 1 << 60, addr(66));
    us.handle(from_udp(66, syn(&[list(&lie, 1, 0)])), LATE);
    for at in 1..30 {
        let now = LATE + SECOND * at;
        exchange(&mut second, &mut us, now);
        exchange(&mut third, &mut us, now);
        exchange(&mut second, &mut third, now);
    }
    assert_eq!(third.id(), &core(3));
}

#[test]
fn a_core_member_that_was_not_met_yet_is_not_told_what_peers_over_udp_say() {
    let mut us = member(1);
    us.handle(Event::Seeds(vec![addr(2)]), LATE);
    us.handle(from_udp(66, syn(&[list(&core(3), 1 << 40, 1 << 40)])), LATE);
    let lie = node_delta(&core(3), 0, vec![set("k", "lie", 1 << 40)]);
    us.handle(from_udp(66, ack(vec![lie])), LATE);
    let mut told = Vec::new();
    for at in 0..9 {
        let outputs = us.handle(Event::Round, LATE + SECOND * at);
        told.extend(listed_to(outputs, addr(2)));
    }
    assert!(
        told.contains(&core(1)) && !told.contains(&core(3)),
        "{told:?}"
    );
}

#[test]
fn a_newborn_core_member_does_not_confirm_what_was_forged_of_another() {
    let (mut us, mut second, mut third) = (member(1), member(2), member(3));
    third.set("k", "true", Duration::ZERO).unwrap();
    for at in 1..30 {
        exchange(&mut second, &mut third, SECOND * at);
    }
    us.handle(from_udp(3, syn(&[list(&core(3), 1 << 40, 1 << 40)])), LATE);
    let lie = node_delta(&core(3), 0, vec![set("k", "lie", 1 << 40)]);
    us.handle(from_udp(3, ack(vec![lie])), LATE);
    us.handle(from_core(4, syn(&[list(&core(4), 1, 0)])), LATE);
    exchange(&mut second, &mut us, LATE);
    assert_eq!(second.member_value(&core(3), "k"), Some("true"));
    assert_eq!(us.member_value(&core(3), "k"), Some("true"));
}

#[test]
fn what_was_dropped_of_a_core_member_takes_no_room_and_its_heartbeats_do_not_count() {
    for is_met in [false, true] {
        let config = GossipConfig {
            max_bytes: 1_000,
            ..config(1)
        };
        let mut us = member_with(1, config);
        let made_up = ChitchatId {
            generation_id: START + 1,
            ..core(3)
        };
        for at in 1..4 {
            let listed = syn(&[list(&made_up, at, 0)]);
            us.handle(from_udp(66, listed), LATE + SECOND * at as u32);
        }
        let lie = node_delta(&made_up, 0, vec![set("k", &"v".repeat(900), 1)]);
        us.handle(from_udp(66, ack(vec![lie])), LATE);
        assert_eq!(keys(&us, &made_up), ["k"]);
        assert!(us.failure_detection_timeout(&made_up).is_some());
        let now = LATE + SECOND * 4;
        let by = if is_met { 3 } else { 2 };
        us.handle(from_core(by, syn(&[list(&core(3), 1, 0)])), now);
        assert!(find(&us, &made_up).is_none());
        assert!(us.failure_detection_timeout(&made_up).is_none());
        let truth = node_delta(&core(3), 0, vec![set("k", &"v".repeat(500), 1)]);
        us.handle(from_core(by, ack(vec![truth])), now);
        assert_eq!(keys(&us, &core(3)), ["k"]);
    }
}

#[test]
fn what_was_dropped_of_a_core_member_leaves_its_share_to_others_over_udp_at_once() {
    for is_met in [false, true] {
        let config = GossipConfig {
            max_bytes: 1_000,
            ..config(1)
        };
        let mut us = member_with(1, config);
        us.handle(from_core(2, syn(&[list(&core(2), 1, 0)])), LATE);
        let say = |us: &mut Engine, id: &ChitchatId| {
            us.handle(from_udp(66, syn(&[list(id, 1, 0)])), LATE);
            let state = node_delta(id, 0, vec![set("k", &"v".repeat(500), 1)]);
            us.handle(from_udp(66, ack(vec![state])), LATE);
            keys(us, id).len()
        };
        assert_eq!(say(&mut us, &core(3)), 1);
        assert_eq!(say(&mut us, &over_udp(4)), 0, "there is no room");
        let by = if is_met { 3 } else { 2 };
        us.handle(from_core(by, syn(&[list(&core(3), 1, 0)])), LATE);
        assert_eq!(say(&mut us, &over_udp(5)), 1, "{is_met}");
    }
}

#[test]
fn members_over_udp_leave_room_for_the_keys_of_core_members() {
    let config = GossipConfig {
        max_bytes: 4_000,
        max_bytes_per_member: 1_000,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    us.set_secrets(Some(&secret()), Duration::ZERO);
    us.handle(from_core(2, syn(&[list(&core(2), 1, 0)])), LATE);
    for n in 10..30 {
        us.handle(from_udp(n, syn(&[list(&over_udp(n), 1, 1)])), LATE);
        for len in [900, 300, 30, 1] {
            let value = "v".repeat(len);
            let delta = node_delta(&over_udp(n), 0, vec![set("k", &value, 1)]);
            us.handle(from_udp(n, ack(vec![delta])), LATE);
        }
    }
    let delta = node_delta(&core(2), 0, vec![set("k", &"v".repeat(100), 1)]);
    us.handle(from_core(2, ack(vec![delta])), LATE);
    assert_eq!(keys(&us, &core(2)), ["k"]);
}

#[test]
fn a_member_over_udp_whose_datagrams_come_from_another_address_outlives_the_core_member_that_reported_it()
 {
    let mut us = member(1);
    us.handle(
        from_core(2, syn(&[list(&core(2), 1, 0), list(&over_udp(4), 1, 0)])),
        LATE,
    );
    let mut live = false;
    for at in 1..300 {
        let now = LATE + SECOND * at;
        us.handle(Event::Round, now);
        let beat = syn(&[list(&over_udp(4), 1 + u64::from(at), 0)]);
        us.handle(from_udp(40, beat), now);
        live = find(&us, &over_udp(4)).is_some_and(|of| of.liveness == Liveness::Live);
    }
    assert!(live);
}

/// Delivers messages between engines until none is left. `kind` returns how a message from one port to another arrives.
fn settle_all(
    engines: &mut std::collections::BTreeMap<SocketAddr, Engine>,
    mut sent: Vec<(SocketAddr, Output)>,
    kind: impl Fn(SocketAddr, SocketAddr, ChitchatMessage) -> Option<Event>,
    now: Duration,
) {
    for _ in 0..6 {
        let mut next = Vec::new();
        for (from, output) in sent {
            let Some((receivers, message)) = sending(output) else {
                continue;
            };
            for to in receivers {
                let Some(event) = kind(from, to, message.clone()) else {
                    continue;
                };
                if let Some(engine) = engines.get_mut(&to) {
                    next.extend(
                        engine
                            .handle(event, now)
                            .into_iter()
                            .map(|output| (to, output)),
                    );
                }
            }
        }
        sent = next;
    }
}

#[test]
fn honest_members_over_udp_are_neither_lost_nor_hidden_nor_flap_beside_bridges_that_restart() {
    let is_udp = |addr: SocketAddr| addr.port() >= 4 && addr.port() < 10;
    let leaf_addr = identity(1).address();
    for seed in 0..8_u64 {
        // Bridges 1 and 2, core member 3 without UDP, members 4 to 6 over UDP, and a leaf at bridge 1.
        let make = |n: u16, generation: u64| {
            let id = match n {
                4..10 => ChitchatId::new(format!("udp-{n}"), 1, addr(n)),
                _ => ChitchatId::new(format!("core-{n}"), generation, addr(n)),
            };
            let config = GossipConfig {
                rng_seed: Some(seed * 100 + u64::from(n)),
                ..config(n)
            };
            let mut us = Engine::new(config, id, Duration::ZERO).unwrap();
            us.handle(
                Event::UnixTime(Duration::from_micros(START)),
                Duration::ZERO,
            );
            if n < 4 {
                us.set_secrets(Some(&secret()), Duration::ZERO);
            }
            let seeds = if n < 4 { vec![1, 2, 4] } else { vec![4, 1, 2] };
            us.handle(
                Event::Seeds(seeds.into_iter().map(addr).collect()),
                Duration::ZERO,
            );
            us
        };
        let mut engines: std::collections::BTreeMap<_, _> =
            (1..7).map(|n| (addr(n), make(n, START))).collect();
        let tab_config = GossipConfig {
            dial: crate::gossip::DialPolicy::SeedsOnly,
            ..config(9)
        };
        let mut tab = Engine::new(tab_config, leaf(1), Duration::ZERO).unwrap();
        tab.handle(
            Event::UnixTime(Duration::from_micros(START)),
            Duration::ZERO,
        );
        tab.handle(Event::Seeds(vec![addr(1)]), Duration::ZERO);
        engines.insert(leaf_addr, tab);
        let kind = |from: SocketAddr, to: SocketAddr, message: ChitchatMessage| {
            let is_tab = |addr: SocketAddr| addr == leaf_addr;
            let (a, b) = (from, to);
            if is_tab(a) {
                return (b == addr(1)).then(|| from_leaf(1, message));
            }
            if is_tab(b) {
                return (a == addr(1)).then(|| from_core(1, message));
            }
            match (is_udp(a), is_udp(b)) {
                (false, false) => Some(from_core(a.port(), message)),
                // Core member 3 has no UDP.
                _ if a.port() == 3 || b.port() == 3 => None,
                _ => Some(from_udp(a.port(), message)),
            }
        };
        let mut trouble = Vec::new();
        let invite = claims(Quotas::default());
        for at in 1..400_u32 {
            let now = SECOND * at;
            // The bridges restart, one after the other and then together.
            for (n, when) in [(1, 100), (2, 160), (1, 220), (2, 220)] {
                if at == when {
                    engines.insert(addr(n), make(n, START + u64::from(at)));
                }
            }
            let connection = |addr: SocketAddr, invite: Option<Arc<Claims>>| Connection {
                addr,
                reads_v1: true,
                invite,
            };
            let all: Vec<_> = engines.keys().copied().collect();
            for (i, to) in all.iter().enumerate() {
                let now = now + Duration::from_millis(100 * i as u64);
                let mut sent = Vec::new();
                let engine = engines.get_mut(to).unwrap();
                if !is_udp(*to) {
                    let cores = (1..4).map(addr).filter(|other| other != to);
                    let mut connections: Vec<_> = cores.map(|a| connection(a, None)).collect();
                    if *to == addr(1) {
                        connections.push(connection(leaf_addr, Some(Arc::clone(&invite))));
                    }
                    if *to == leaf_addr {
                        connections = vec![connection(addr(1), None)];
                    }
                    sent.extend(engine.handle(Event::Connections(connections), now));
                }
                sent.extend(engine.handle(Event::Round, now));
                let sent = sent.into_iter().map(|output| (*to, output)).collect();
                settle_all(&mut engines, sent, kind, now);
                for who in &all {
                    if let Some(outputs) = engines
                        .get_mut(who)
                        .filter(|engine| engine.next_rumours().is_some_and(|due| due <= now))
                        .map(|engine| engine.handle(Event::Rumours, now))
                    {
                        let sent = outputs.into_iter().map(|output| (*who, output)).collect();
                        settle_all(&mut engines, sent, kind, now);
                    }
                }
            }
            let settled = [40..100, 130..160, 190..220, 260..400];
            for (who, engine) in &engines {
                // Those that have not restarted see all others live at any time.
                let is_steady = at >= 40 && (is_udp(*who) || who.port() == 3 || *who == leaf_addr);
                if !is_steady && !settled.iter().any(|time| time.contains(&at)) {
                    continue;
                }
                for n in 4..7 {
                    let id = over_udp(n);
                    let liveness = find(engine, &id).map(|of| of.liveness);
                    if *who != addr(n) && liveness != Some(Liveness::Live) {
                        trouble.push((at, who.port(), n, liveness));
                    }
                }
            }
        }
        assert!(
            trouble.is_empty(),
            "{seed}: {} {:?}",
            trouble.len(),
            &trouble[..trouble.len().min(40)]
        );
    }
}
