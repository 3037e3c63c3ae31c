//! Peers over UDP: what they may change, and which leaves they are told of.

use super::*;

/// Returns core member 1, long after its start, which knows the live core member 2 and the leaf 1.
fn bridge() -> (Engine, Duration) {
    let mut us = engine_with(1, config(1));
    let mut now = SECOND * 100;
    for heartbeat in 1..=4 {
        now += SECOND;
        let both = [(core(2), listed(heartbeat)), (leaf(1), listed(heartbeat))];
        us.handle(from_core(2, syn(&both)), now);
    }
    (us, now)
}

#[test]
fn peers_over_udp_change_members_that_are_reached_over_udp_only() {
    let (mut us, now) = bridge();
    let before: Vec<_> = us.members().into_iter().skip(1).collect();
    let version = us.members()[0].max_version;
    let same_name = ChitchatId::new("core-2", 9, addr(6));
    let own_name = ChitchatId::new("core-1", u64::MAX, addr(6));
    let same_addr = ChitchatId::new("udp-7", 9, addr(2));
    let own_addr = ChitchatId::new("udp-7", 9, addr(1));
    let known = [core(1), core(2), leaf(1)];
    let unknown = [same_name, own_name, same_addr, own_addr, leaf(2)];
    let forged: Vec<_> = known.into_iter().chain(unknown).collect();
    let high = NodeDigest {
        heartbeat: 1 << 40,
        last_gc_version: 1 << 40,
        max_version: 1 << 40,
    };
    let all: Vec<_> = forged.iter().map(|id| (id.clone(), high)).collect();
    us.handle(from_udp(5, syn(&all)), now);
    let changes = |id: &ChitchatId| node_delta(id, 0, vec![set("k", "forged", 1 << 40)]);
    us.handle(from_udp(5, ack(forged.iter().map(changes).collect())), now);
    let after: Vec<_> = us.members().into_iter().skip(1).collect();
    assert_eq!(after, before);
    assert_eq!(us.members()[0].max_version, version);
    assert_eq!(us.id(), &core(1));
    let counts = [
        Denial::Heartbeat,
        Denial::NewMember,
        Denial::Name,
        Denial::Receiver,
    ];
    assert_eq!(counts.map(|denial| denied(&us, denial)), [2, 3, 2, 2]);
    assert_eq!(denied(&us, Denial::Changes), 7);
    // Its own member, and one that it reports.
    us.handle(
        from_udp(5, syn(&[5, 6].map(|n| (over_udp(n), listed(1))))),
        now,
    );
    us.handle(
        from_udp(5, ack([5, 6].map(|n| changes(&over_udp(n))).to_vec())),
        now,
    );
    assert_eq!([5, 6].map(|n| keys(&us, &over_udp(n)).len()), [1, 1]);
}

#[test]
fn nobody_over_udp_takes_the_name_of_a_core_member_that_was_heard_only_once() {
    let mut us = engine_with(1, config(1));
    let second = ChitchatId::new("second", START, addr(2));
    let thief = ChitchatId::new("second", START + 1, addr(6));
    us.handle(from_core(2, syn(&[(second, listed(1))])), SECOND * 100);
    us.handle(
        from_udp(6, syn(&[(thief.clone(), listed(1))])),
        SECOND * 101,
    );
    assert_eq!(find(&us, &thief), None);
    assert_eq!(denied(&us, Denial::Name), 1);
}

#[test]
fn nobody_over_udp_has_the_address_of_a_member_with_a_secret_that_has_met_no_other() {
    let mut us = member(1);
    let thief = ChitchatId::new("udp-7", 9, addr(1));
    us.handle(from_udp(7, syn(&[(thief.clone(), listed(1))])), LATE);
    assert_eq!(find(&us, &thief), None);
    assert_eq!(denied(&us, Denial::Name), 1);
}

#[test]
fn peers_over_udp_set_no_reserved_keys_and_what_follows_them_is_not_claimed_to_be_known() {
    let (mut us, now) = bridge();
    us.handle(from_udp(5, syn(&[(over_udp(5), listed(1))])), now);
    let changes = vec![
        set("a", "v", 1),
        set("gossip-transport/left", "v", 2),
        set("b", "v", 3),
    ];
    us.handle(
        from_udp(5, ack(vec![node_delta(&over_udp(5), 0, changes.clone())])),
        now,
    );
    let member = find(&us, &over_udp(5)).unwrap();
    assert_eq!(
        (keys(&us, &over_udp(5)), member.max_version),
        (vec!["a".to_owned()], 1)
    );
    assert_eq!(denied(&us, Denial::ReservedKey), 2);
    us.handle(
        from_core(2, ack(vec![node_delta(&over_udp(5), 0, changes)])),
        now,
    );
    let member = find(&us, &over_udp(5)).unwrap();
    let visible = keys(&us, &over_udp(5));
    assert_eq!((&*visible.join(" "), member.max_version), ("a b", 3));
}

#[test]
fn a_member_that_restarts_learns_from_peers_over_udp_what_it_was() {
    let past = NodeDigest {
        heartbeat: 500,
        last_gc_version: 0,
        max_version: 500,
    };
    let told = |knows_core: bool, past: NodeDigest, now: Duration| {
        let mut us = engine_with(1, config(1));
        if knows_core {
            us.handle(from_core(2, syn(&[(core(2), listed(1))])), SECOND);
        }
        us.handle(from_udp(5, syn(&[(core(1), past)])), now);
        us.members()[0].max_version > 500
    };
    let minute = SECOND * 60;
    assert!(told(true, past, minute - Duration::from_millis(1)));
    assert!(!told(true, past, minute));
    // In a cluster over UDP only, as in upstream's.
    assert!(told(false, past, minute * 99));
    let faulty = NodeDigest {
        max_version: END_OF_VERSIONS,
        ..past
    };
    assert!(!told(true, faulty, SECOND * 2));
    assert!(told(false, faulty, SECOND * 2));
}

#[test]
fn a_core_member_that_is_dead_and_speaks_plaintext_now_is_one_over_udp() {
    let (mut us, now) = bridge();
    let restarted = ChitchatId {
        generation_id: START + 1,
        ..core(2)
    };
    us.handle(from_udp(2, syn(&[(restarted.clone(), listed(1))])), now);
    assert!(find(&us, &restarted).is_none(), "it is live");
    us.handle(Event::Round, now + SECOND * 900);
    // Another peer may not say so.
    us.handle(
        from_udp(5, syn(&[(restarted.clone(), listed(1))])),
        now + SECOND * 900,
    );
    assert!(find(&us, &restarted).is_none());
    us.handle(
        from_udp(2, syn(&[(restarted.clone(), listed(1))])),
        now + SECOND * 900,
    );
    assert!(find(&us, &restarted).is_some());
}

/// Returns the leaves that a message lists, or has changes of.
fn mentioned(outputs: &[Output], to: SocketAddr) -> usize {
    let mut leaves = 0;
    let is_leaf = |id: &&ChitchatId| id.node_id.starts_with("tab-");
    for output in outputs {
        let (receivers, message) = match output {
            Output::Send { to, message } => (std::slice::from_ref(to), message),
            Output::SendToAll { to, message } => (to.as_slice(), message),
            Output::Refuse { .. } | Output::MembershipChanged => continue,
        };
        if !receivers.contains(&to) {
            continue;
        }
        let (digest, delta) = match message {
            ChitchatMessage::Syn { digest, .. } => (Some(digest), None),
            ChitchatMessage::SynAck { digest, delta, .. } => (Some(digest), Some(delta)),
            ChitchatMessage::Ack { delta, .. } => (None, Some(delta)),
            ChitchatMessage::BadCluster { .. } => (None, None),
        };
        let listed = digest
            .into_iter()
            .flat_map(|digest| digest.node_digests.keys());
        let deltas = delta.into_iter().flat_map(|delta| &delta.node_deltas);
        let changed = deltas.map(|node| &node.chitchat_id);
        leaves = leaves.max(listed.filter(is_leaf).count());
        leaves = leaves.max(changed.filter(is_leaf).count());
    }
    leaves
}

/// Returns a bridge with this limit which has heard at the beginning whom members over UDP know. Three seconds later, it
/// tells them of leaves.
fn informed_bridge(max_udp_members: usize) -> Engine {
    let config = GossipConfig {
        max_udp_members,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    let digest = syn(&[(over_udp(5), listed(1))]);
    us.handle(from_udp(5, digest), Duration::ZERO);
    us
}

/// Core member 2 lists itself and `leaves` at the second `at`, with that as their heartbeat.
fn hear_of(us: &mut Engine, leaves: impl Iterator<Item = u8>, at: u32) {
    let all = leaves.map(leaf).chain([core(2)]);
    let all: Vec<_> = all.map(|id| (id, listed(at.into()))).collect();
    us.handle(from_core(2, syn(&all)), SECOND * at);
}

#[test]
fn a_bridge_tells_members_over_udp_of_a_bounded_number_of_leaves_in_a_day() {
    let mut us = informed_bridge(10);
    let heard = |us: &mut Engine, from: u8, at: u32| {
        hear_of(us, from..from + 8, at);
        let state = |n| node_delta(&leaf(n), 0, vec![set("k", "v", 1)]);
        us.handle(
            from_core(2, ack((from..from + 8).map(state).collect())),
            SECOND * at,
        );
        us.handle(Event::Round, SECOND * at);
    };
    let tell = |us: &mut Engine, now: Duration| {
        let udp = us.handle(from_udp(5, syn(&[(over_udp(5), listed(1))])), now);
        let core = us.handle(from_core(2, syn(&[])), now);
        (mentioned(&udp, addr(5)), mentioned(&core, addr(2)))
    };
    // Three others count first, and only live leaves get the second half of what is left.
    heard(&mut us, 10, 3);
    assert_eq!(tell(&mut us, SECOND * 3), (3, 8));
    for at in 4..8 {
        heard(&mut us, 10, at);
    }
    assert_eq!(tell(&mut us, SECOND * 7), (7, 8));
    assert_eq!(denied(&us, Denial::Hidden), 1);
    // Each further one is counted once.
    for at in 8..14 {
        heard(&mut us, 20, at);
    }
    for _ in 0..3 {
        assert_eq!(tell(&mut us, SECOND * 13), (7, 16));
    }
    assert_eq!(denied(&us, Denial::Hidden), 9);
    // An address of which nothing is known may be one of UDP.
    us.handle(Event::Seeds(vec![addr(77), addr(2)]), SECOND * 13);
    let mut to = [0, 0];
    for at in 14..40 {
        let outputs = us.handle(Event::Round, SECOND * at);
        for (most, n) in to.iter_mut().zip([77, 2]) {
            *most = mentioned(&outputs, addr(n)).max(*most);
        }
    }
    assert_eq!(to, [7, 16]);
    // Nor do rumours tell of those.
    for heartbeat in 2..5 {
        let now = SECOND * (38 + heartbeat as u32);
        us.handle(from_udp(5, syn(&[(over_udp(5), listed(heartbeat))])), now);
    }
    us.handle(Event::Round, SECOND * 43);
    let changed = [10].into_iter().chain(20..28);
    let changes = changed.map(|n| node_delta(&leaf(n), 1, vec![set("k", "w", 2)]));
    us.handle(from_core(3, ack(changes.collect())), SECOND * 43);
    let outputs = us.handle(Event::Rumours, SECOND * 43);
    // With what is still to be told of the others that may be mentioned.
    assert_eq!(mentioned(&outputs, addr(5)), 7);
    // A day later, there is room again: the others are forgotten.
    let day = SECOND * (24 * 3600 + 50);
    for at in 0..6 {
        let leaves = (20..28).map(|n| (leaf(n), listed(99 + u64::from(at))));
        us.handle(
            from_core(2, syn(&leaves.collect::<Vec<_>>())),
            day + SECOND * at,
        );
    }
    us.handle(Event::Round, day + SECOND * 6);
    assert_eq!(tell(&mut us, day + SECOND * 7).0, 8);
}

#[test]
fn however_long_their_names_are_the_members_that_a_bridge_tells_of_fit_into_a_digest() {
    for digits in [10, 100, 250, 1_000] {
        let mut us = informed_bridge(500);
        let leaves = (1..=250).map(|n| ChitchatId {
            node_id: format!("tab-{n:0>digits$}").into(),
            ..leaf(n)
        });
        let others = [core(2), over_udp(5)];
        let len = leaves.clone().next().unwrap().digest_entry_len();
        let of_others = others.iter().map(ChitchatId::digest_entry_len);
        let room = (48 << 10) - of_others.sum::<usize>() - us.id().digest_entry_len();
        for at in 1..5 {
            let leaves = leaves.clone().map(|id| (id, listed(at)));
            let all: Vec<_> = leaves.chain([(core(2), listed(at))]).collect();
            let now = SECOND * u32::try_from(at).unwrap();
            us.handle(from_core(2, syn(&all)), now);
            us.handle(Event::Round, now);
        }
        let listed_to_udp = from_udp(5, syn(&[(over_udp(5), listed(1))]));
        let outputs = us.handle(listed_to_udp, SECOND * 5);
        let told = mentioned(&outputs, addr(5));
        assert_eq!(told, (room / len).min(250), "{digits}");
        let hidden = u64::try_from(250 - told).unwrap();
        assert_eq!(denied(&us, Denial::Hidden), hidden, "{digits}");
    }
}

#[test]
fn what_members_over_udp_know_from_a_bridge_before_its_restart_or_another_one_counts() {
    let config = GossipConfig {
        max_udp_members: 10,
        ..config(1)
    };
    let mut us = engine_with(1, config);
    us.handle(Event::Seeds(vec![addr(77)]), SECOND);
    for at in 1..5 {
        hear_of(&mut us, 10..18, at);
        let outputs = us.handle(Event::Round, SECOND * at);
        // Which may be over UDP, and may know others already.
        assert_eq!(mentioned(&outputs, addr(77)), 0);
    }
    let known = (40..45).map(leaf).chain([over_udp(5), leaf(17)]);
    let known: Vec<_> = known.map(|id| (id, listed(1))).collect();
    // Others may know others yet: they are asked first.
    for (at, told) in [(5_000, 1), (7_700, 1), (8_000, 2)] {
        let now = Duration::from_millis(at);
        let outputs = us.handle(from_udp(5, syn(&known)), now);
        // Three others and six leaves are known to it, one of which there is.
        assert_eq!(mentioned(&outputs, addr(5)), told, "{at}");
    }
    assert_eq!(us.members().len(), 11);
    // Whoever lists more than there is room for is told of no more by it.
    let lies: Vec<_> = (10..200).map(|n| (leaf(n), listed(1))).collect();
    us.handle(from_udp(5, syn(&lies)), SECOND * 9);
    let outputs = us.handle(from_udp(5, syn(&known)), SECOND * 10);
    assert_eq!(mentioned(&outputs, addr(5)), 2);
    // Those of which it knows are forgotten a day after it has listed them last.
    let day = SECOND * (24 * 3600 + 10);
    for at in 1..=4 {
        let leaves = (10..18).map(|n| (leaf(n), listed(100 + u64::from(at))));
        us.handle(
            from_core(2, syn(&leaves.collect::<Vec<_>>())),
            day + SECOND * at,
        );
        us.handle(Event::Round, day + SECOND * at);
    }
    let own = [(over_udp(5), listed(9))];
    let outputs = us.handle(from_udp(5, syn(&own)), day + SECOND * 5);
    assert_eq!(mentioned(&outputs, addr(5)), 7);
}

#[test]
fn a_core_member_at_a_key_address_that_members_over_udp_list_counts_once() {
    let mut us = informed_bridge(6);
    let page = leaf(60);
    let known = syn(&[(over_udp(5), listed(2)), (page.clone(), listed(1))]);
    us.handle(from_udp(5, known.clone()), Duration::ZERO);
    for at in 1..=8 {
        let message = syn(&[(page.clone(), listed(at))]);
        let event = Event::Message {
            from: page.addr(),
            identity: identity(60),
            role: Role::Core,
            message,
        };
        let at = u32::try_from(at).unwrap();
        us.handle(event, SECOND * at);
        hear_of(&mut us, 10..18, at);
        us.handle(Event::Round, SECOND * at);
    }
    for at in [8, 9] {
        let outputs = us.handle(from_udp(5, known.clone()), SECOND * at);
        // Beside it, this member, core member 2 and that over UDP, there is room for two.
        assert_eq!(mentioned(&outputs, addr(5)), 1 + 2, "{at}");
    }
}

#[test]
fn a_leaf_that_members_over_udp_were_told_of_keeps_its_place_while_it_is_a_member() {
    // Three others count first.
    let mut us = informed_bridge(4);
    let told = |us: &mut Engine, of: &[u8], from: u32| {
        for at in from..from + 5 {
            hear_of(us, of.iter().copied(), at);
        }
        let now = SECOND * (from + 4);
        let outputs = us.handle(from_udp(5, syn(&[(over_udp(5), listed(1))])), now);
        let digests = outputs.iter().filter_map(|output| match output {
            Output::Send {
                to,
                message: ChitchatMessage::SynAck { digest, .. },
            } if *to == addr(5) => Some(digest),
            _ => None,
        });
        [10, 20].map(|n| {
            digests
                .clone()
                .any(|digest| digest.node_digests.contains_key(&leaf(n)))
        })
    };
    assert_eq!(told(&mut us, &[20], 1), [false, true]);
    // A node of the published crate remembers both for a day, if it is told of both.
    for hour in 1..=25 {
        let listed = told(&mut us, &[10, 20], hour * 3600);
        assert_eq!(listed, [false, true], "hour {hour}");
    }
}

#[test]
fn the_name_of_a_leaf_that_a_core_member_reports_is_free_for_members_over_udp() {
    let (mut us, now) = bridge();
    let same_name = ChitchatId::new("tab-1", 9, addr(6));
    us.handle(from_udp(6, syn(&[(same_name.clone(), listed(1))])), now);
    assert!(find(&us, &same_name).is_some());
}

#[test]
fn a_member_that_has_met_peers_over_udp_only_hears_of_tabs_from_them() {
    let mut us = engine_with(1, config(1));
    let hear = |us: &mut Engine, n: u8| {
        us.handle(from_udp(5, syn(&[(leaf(n), listed(1))])), SECOND);
        find(us, &leaf(n)).is_some()
    };
    assert!(hear(&mut us, 1));
    connect(&mut us, &[(9, claims(Quotas::default()))], SECOND);
    assert!(!hear(&mut us, 2));
    let mut us = engine_with(1, config(1));
    us.handle(from_core(2, syn(&[(core(2), listed(1))])), SECOND);
    assert!(!hear(&mut us, 1));
}

#[test]
fn nobody_over_udp_keeps_a_leaf_out_that_comes_to_a_member_with_a_secret() {
    let secret = crate::ClusterSecret::from_bytes(&[7; 32]).unwrap();
    let mut us = engine_with(1, config(1));
    us.set_secrets(Some(&secret.into()), Duration::ZERO);
    let last = ChitchatId {
        generation_id: u64::MAX,
        ..leaf(1)
    };
    us.handle(from_udp(5, syn(&[(last.clone(), listed(1))])), SECOND);
    assert!(find(&us, &last).is_none());
    assert_eq!(denied(&us, Denial::NewMember), 1);
    connect(&mut us, &[(1, claims(Quotas::default()))], SECOND);
    us.handle(from_leaf(1, syn(&[(leaf(1), listed(1))])), SECOND);
    assert!(find(&us, &leaf(1)).is_some());
    // Others that are reached over UDP are heard of.
    us.handle(from_udp(5, syn(&[(over_udp(6), listed(1))])), SECOND);
    assert!(find(&us, &over_udp(6)).is_some());
}

#[test]
fn the_first_message_to_a_peer_over_udp_has_our_own_state_also_if_it_has_no_digest() {
    let mut us = engine_with(1, config(1));
    us.set("k", "v", SECOND).unwrap();
    let answer = ChitchatMessage::SynAck {
        version: ProtocolVersion::V0,
        digest: Digest::default(),
        delta: Delta::default(),
    };
    let outputs = us.handle(from_udp(5, answer), SECOND);
    let told = outputs.iter().find_map(|output| match output {
        Output::Send {
            message: ChitchatMessage::Ack { delta, .. },
            ..
        } => delta.node_deltas.first(),
        _ => None,
    });
    assert_eq!(told.map(|node| &node.chitchat_id), Some(us.id()));
}
