use std::collections::BTreeMap;

use super::*;
use crate::gossip::DeleteError;
use crate::message::{
    DeletionStatus, Delta, KeyValueMutation, Message as _, NodeDelta, NodeDigest,
};

const SECOND: Duration = Duration::from_secs(1);

fn addr(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

fn id(n: u16) -> ChitchatId {
    ChitchatId::new(format!("node-{n:04}"), 1, addr(n))
}

fn config() -> GossipConfig {
    GossipConfig {
        rng_seed: Some(7),
        ..GossipConfig::new("cluster", "unused")
    }
}

fn engine(n: u16) -> Engine {
    Engine::new(config(), id(n), Duration::ZERO).unwrap()
}

fn digest(of: &[(ChitchatId, u64)]) -> Digest {
    let node = |heartbeat| NodeDigest {
        heartbeat,
        ..NodeDigest::default()
    };
    Digest {
        node_digests: of.iter().map(|(id, h)| (id.clone(), node(*h))).collect(),
    }
}

fn syn(cluster_id: &str, version: ProtocolVersion, digest: Digest) -> ChitchatMessage {
    ChitchatMessage::Syn {
        version,
        cluster_id: cluster_id.to_owned(),
        digest,
    }
}

fn delta_of(id: &ChitchatId, key: &str, version: u64) -> Delta {
    Delta {
        node_deltas: vec![NodeDelta {
            chitchat_id: id.clone(),
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values: vec![KeyValueMutation {
                key: key.to_owned(),
                value: "v".to_owned(),
                version,
                status: DeletionStatus::Set,
            }],
            max_version: version,
        }],
    }
}

fn receive(engine: &mut Engine, message: ChitchatMessage, now: Duration) -> Vec<Output> {
    let from = addr(999);
    engine.handle(Event::Message { from, message }, now)
}

/// The only message that goes out.
fn reply(outputs: &[Output]) -> (SocketAddr, &ChitchatMessage) {
    let mut sends = outputs.iter().filter_map(|output| match output {
        Output::Send { to, message } => Some((*to, message)),
        Output::MembershipChanged => None,
    });
    let reply = sends.next().expect("nothing is sent");
    assert!(sends.next().is_none(), "more than one message");
    reply
}

fn own_heartbeat(engine: &Engine) -> u64 {
    engine.cluster.own_ref().unwrap().heartbeat
}

fn liveness(engine: &Engine, of: &ChitchatId) -> Liveness {
    let members = engine.members();
    members.iter().find(|m| m.id == *of).unwrap().liveness
}

/// Tells `engine` of `of`'s heartbeats `from..=to`, one a second, with a round after each.
fn beat(engine: &mut Engine, of: &ChitchatId, from: u64, to: u64) {
    for at in from..=to {
        let now = SECOND * u32::try_from(at).unwrap();
        let heard = syn("cluster", ProtocolVersion::V0, digest(&[(of.clone(), at)]));
        receive(engine, heard, now);
        engine.handle(Event::Round, now);
    }
}

#[test]
fn a_syn_of_another_cluster_is_told_so_and_teaches_nothing() {
    let mut us = engine(1);
    let foreign = syn("other", ProtocolVersion::V1, digest(&[(id(2), 5)]));
    let outputs = receive(&mut us, foreign, SECOND);
    let version = ProtocolVersion::V1;
    assert_eq!(
        reply(&outputs),
        (addr(999), &ChitchatMessage::BadCluster { version })
    );
    assert_eq!(us.members().len(), 1);
    assert_eq!(us.counts().foreign_syns, 1);
}

#[test]
fn a_reply_goes_where_the_message_came_from_in_its_version() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let mut us = engine(1);
        let outputs = receive(
            &mut us,
            syn("cluster", version, digest(&[(id(2), 1)])),
            SECOND,
        );
        let (to, message) = reply(&outputs);
        assert_eq!((to, message.version()), (addr(999), version));
        assert!(matches!(message, ChitchatMessage::SynAck { .. }));

        let syn_ack = ChitchatMessage::SynAck {
            version,
            digest: digest(&[(id(2), 2)]),
            delta: Delta::default(),
        };
        let outputs = receive(&mut us, syn_ack, SECOND);
        let (to, message) = reply(&outputs);
        assert_eq!((to, message.version()), (addr(999), version));
        assert!(matches!(message, ChitchatMessage::Ack { .. }));
    }
}

#[test]
fn our_heartbeat_rises_with_every_message_and_every_round() {
    let mut us = engine(1);
    let start = own_heartbeat(&us);
    receive(
        &mut us,
        ChitchatMessage::BadCluster {
            version: ProtocolVersion::V0,
        },
        SECOND,
    );
    us.handle(Event::Round, SECOND);
    assert_eq!(own_heartbeat(&us), start + 2);
}

#[test]
fn a_member_is_live_from_its_third_rising_heartbeat() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 2);
    assert_eq!(liveness(&us, &id(2)), Liveness::Dead);
    beat(&mut us, &id(2), 3, 3);
    assert_eq!(liveness(&us, &id(2)), Liveness::Live);
}

#[test]
fn a_heartbeat_that_does_not_rise_shows_no_life() {
    let mut us = engine(1);
    for at in 1..20 {
        let heard = syn("cluster", ProtocolVersion::V0, digest(&[(id(2), 9)]));
        receive(&mut us, heard, SECOND * at);
        us.handle(Event::Round, SECOND * at);
    }
    assert_eq!(liveness(&us, &id(2)), Liveness::Dead);
}

#[test]
fn silence_kills_within_the_detectors_own_bound_and_is_told() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 20);
    assert_eq!(liveness(&us, &id(2)), Liveness::Live);
    let bound = us.failure_detection_timeout(&id(2)).unwrap();
    let mut now = SECOND * 20;
    while now < SECOND * 20 + bound {
        let outputs = us.handle(Event::Round, now);
        assert!(!outputs.contains(&Output::MembershipChanged), "too early");
        now += SECOND;
    }
    assert!(
        us.handle(Event::Round, now)
            .contains(&Output::MembershipChanged)
    );
    assert_eq!(liveness(&us, &id(2)), Liveness::Dead);
}

#[test]
fn a_long_sleep_of_ours_kills_nobody() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 20);
    us.handle(Event::Round, SECOND * 4000);
    assert_eq!(liveness(&us, &id(2)), Liveness::Live);
}

#[test]
fn an_ack_that_nobody_asked_for_is_applied() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 1);
    let ack = ChitchatMessage::Ack {
        version: ProtocolVersion::V0,
        delta: delta_of(&id(2), "k", 3),
    };
    let outputs = receive(&mut us, ack, SECOND);
    assert_eq!(outputs, [Output::MembershipChanged]);
    assert!(us.members()[1].key_values.contains_key("k"));
}

#[test]
fn keys_that_would_hurt_or_never_arrive_are_refused() {
    let mut us = engine(1);
    assert!(matches!(
        us.set("ä", "v", SECOND),
        Err(SetError::KeyNotAscii { .. })
    ));
    assert!(us.set("aä", "ä", SECOND).unwrap());
    let error = us.set("k", &"v".repeat(65_507), SECOND).unwrap_err();
    assert!(
        matches!(error, SetError::TooLong { len, max } if len > max),
        "{error}"
    );
    assert!(us.set("k", &"v".repeat(65_300), SECOND).unwrap());
    us.config.max_bytes_per_member = 65_400;
    let error = us.set("l", &"v".repeat(200), SECOND).unwrap_err();
    assert!(matches!(error, SetError::StateTooLarge { .. }), "{error}");
    assert!(us.set("k", "shorter", SECOND).unwrap());
    assert!(us.set("l", &"v".repeat(200), SECOND).unwrap());
}

#[test]
fn only_a_visible_key_of_our_own_can_be_deleted() {
    let mut us = engine(1);
    us.set("k", "v", SECOND).unwrap();
    us.delete("k", SECOND).unwrap();
    assert_eq!(us.get("k"), None);
    for key in ["k", "never"] {
        let error = us.delete(key, SECOND).unwrap_err();
        assert!(matches!(error, DeleteError::NoSuchKey { .. }));
    }
}

#[test]
fn a_key_that_is_deleted_and_set_again_is_visible() {
    let mut us = engine(1);
    us.set("k", "v", SECOND).unwrap();
    us.delete("k", SECOND).unwrap();
    assert!(us.set("k", "v", SECOND).unwrap());
    assert_eq!(us.get("k"), Some("v"));
}

#[test]
fn the_long_dead_are_no_longer_spoken_of_and_then_forgotten() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 20);
    let half = us.config.failure_detector.dead_node_grace_period / 2;
    // Small steps, so that the time is theirs and not a sleep of ours.
    let mut now = SECOND * 20;
    us.config.gossip_interval = half / 20;
    let mut step = |us: &mut Engine, until: Duration| {
        while now < until {
            now += half / 20;
            us.handle(Event::Round, now);
        }
        now
    };
    let now = step(&mut us, half / 2);
    assert!(
        us.digest(ProtocolVersion::V0, 60_000, now)
            .node_digests
            .contains_key(&id(2))
    );
    let now = step(&mut us, half * 5 / 4);
    assert!(
        !us.digest(ProtocolVersion::V0, 60_000, now)
            .node_digests
            .contains_key(&id(2))
    );
    assert_eq!(us.members().len(), 2);
    step(&mut us, half * 9 / 4);
    assert_eq!(us.members().len(), 1);
}

#[test]
fn no_message_is_longer_than_the_limit() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        for max_message_len in [2_000, 65_507] {
            let mut us = Engine::new(
                GossipConfig {
                    max_message_len,
                    protocol_version: version,
                    ..config()
                },
                id(0),
                Duration::ZERO,
            )
            .unwrap();
            let mut state = BTreeMap::new();
            for n in 1..1500 {
                state.insert(id(n), 3);
            }
            let everyone: Vec<_> = state.into_iter().collect();
            receive(&mut us, syn("cluster", version, digest(&everyone)), SECOND);
            for n in 1..50 {
                for key in 1..40 {
                    let delta = delta_of(&id(n), &format!("{n}-{key}-{}", "x".repeat(200)), key);
                    receive(&mut us, ChitchatMessage::Ack { version, delta }, SECOND);
                }
            }
            let mut outputs = us.handle(Event::Round, SECOND);
            outputs.extend(receive(
                &mut us,
                syn("cluster", version, Digest::default()),
                SECOND,
            ));
            outputs.extend(receive(
                &mut us,
                ChitchatMessage::SynAck {
                    version,
                    digest: Digest::default(),
                    delta: Delta::default(),
                },
                SECOND,
            ));
            let mut longest = 0;
            for output in outputs {
                if let Output::Send { message, .. } = output {
                    longest = longest.max(message.into_bytes().unwrap().len());
                }
            }
            assert!(longest <= max_message_len, "{longest} of {max_message_len}");
            // V1's digest is measured before it is compressed, and so leaves room.
            let used = longest > max_message_len / 2;
            assert!(used || version == ProtocolVersion::V1, "{longest}");
        }
    }
}

#[test]
fn a_farewell_tells_live_peers_all_that_we_have() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 5);
    us.set("last", "words", SECOND * 5).unwrap();
    let outputs = us.farewell(Duration::ZERO);
    let (to, message) = reply(&outputs);
    assert_eq!(to, addr(2));
    let ChitchatMessage::Ack { delta, .. } = message else {
        panic!("{message:?}");
    };
    assert_eq!(delta.node_deltas[0].key_values[0].key, "last");
}

#[test]
fn who_does_not_answer_is_told_no_news() {
    const OTHERS: std::ops::Range<u16> = 2..32;
    let mut us = engine(1);
    // Member 2 answers, and says that all the others live.
    for at in 1..60 {
        let now = SECOND * at;
        for output in us.handle(Event::Round, now) {
            let Output::Send { to, .. } = output else {
                continue;
            };
            if to == addr(2) {
                let heard: Vec<_> = OTHERS.map(|n| (id(n), at.into())).collect();
                let message = ChitchatMessage::SynAck {
                    version: ProtocolVersion::V0,
                    digest: digest(&heard),
                    delta: Delta::default(),
                };
                us.handle(Event::Message { from: to, message }, now);
            }
        }
        if at == 1 {
            us.handle(Event::Seeds(vec![addr(2)]), now);
        }
    }
    assert_eq!(us.detector.live().count(), OTHERS.len());
    us.set("k", "v", SECOND * 60).unwrap();
    let told = us.handle(Event::Rumours, SECOND * 60);
    assert_eq!(reply(&told).0, addr(2));
    assert_eq!(reply(&us.farewell(SECOND * 60)).0, addr(2));
}

#[test]
fn the_same_seed_and_the_same_calls_give_the_same_outputs() {
    let run = || {
        let mut us = engine(1);
        us.handle(Event::Seeds((2..9).map(addr).collect()), Duration::ZERO);
        let mut trace = Vec::new();
        for at in 1..60 {
            let heard = digest(&[(id(2), at), (id(3), at), (id(4), 9), (id(5), at / 3)]);
            let now = SECOND * u32::try_from(at).unwrap();
            trace.extend(receive(
                &mut us,
                syn("cluster", ProtocolVersion::V0, heard),
                now,
            ));
            trace.extend(us.handle(Event::Round, now));
        }
        trace
    };
    assert_eq!(run(), run());
}

#[test]
fn incredible_numbers_are_survived() {
    let mut us = engine(1);
    us.set("k", "v", SECOND).unwrap();
    let worst = NodeDigest {
        heartbeat: u64::MAX,
        last_gc_version: u64::MAX,
        max_version: u64::MAX,
    };
    let digest = Digest {
        node_digests: [(id(1), worst), (id(2), worst)].into(),
    };
    receive(
        &mut us,
        syn("cluster", ProtocolVersion::V0, digest.clone()),
        SECOND,
    );
    for of in [id(1), id(2)] {
        let mut delta = delta_of(&of, "x", u64::MAX);
        delta.node_deltas[0].last_gc_version = u64::MAX;
        let syn_ack = ChitchatMessage::SynAck {
            version: ProtocolVersion::V1,
            digest: digest.clone(),
            delta,
        };
        receive(&mut us, syn_ack, Duration::MAX / 2);
    }
    us.handle(Event::Round, Duration::MAX / 2);
    us.set("l", "w", SECOND).unwrap();
    assert_eq!(us.get("k"), Some("v"));
    assert_eq!(us.get("l"), Some("w"));
}

#[test]
fn a_digest_of_thousands_takes_bounded_room() {
    let mut us = Engine::new(
        GossipConfig {
            max_members: 50,
            ..config()
        },
        id(1),
        Duration::ZERO,
    )
    .unwrap();
    let everyone: Vec<_> = (2..1500).map(|n| (id(n), 1)).collect();
    receive(
        &mut us,
        syn("cluster", ProtocolVersion::V0, digest(&everyone)),
        SECOND,
    );
    assert_eq!(us.members().len(), 50);
    assert_eq!(us.counts().refused_members, 1498 - 49);
}
