mod counts;
mod cut_off;
mod dead;
mod departures;
mod leaves;
mod presence;
mod snapshot;

use std::collections::BTreeMap;

use super::software::Software;
use super::*;
use crate::credential::{Identity, Role};
use crate::gossip::engine::event::Connection;
use crate::message::{
    ChitchatMessage, Delta, Digest, KeyValueMutation, Message as _, NodeDelta, NodeDigest,
    ProtocolVersion,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn addr(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

pub(super) fn id(n: u16) -> ChitchatId {
    ChitchatId::new(format!("node-{n:04}"), 1, addr(n))
}

fn config() -> GossipConfig {
    GossipConfig {
        rng_seed: Some(7),
        ..GossipConfig::new("cluster", "unused")
    }
}

pub(super) fn engine(n: u16) -> Engine {
    Engine::new(config(), id(n), Duration::ZERO).unwrap()
}

pub(super) fn digest(of: &[(ChitchatId, u64)]) -> Digest {
    let node = |heartbeat| NodeDigest {
        heartbeat,
        ..NodeDigest::default()
    };
    Digest {
        node_digests: of.iter().map(|(id, h)| (id.clone(), node(*h))).collect(),
    }
}

pub(super) fn syn(cluster_id: &str, version: ProtocolVersion, digest: Digest) -> ChitchatMessage {
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
    engine.handle(received(addr(999), message), now)
}

pub(super) fn received(from: SocketAddr, message: ChitchatMessage) -> Event {
    Event::Message {
        from,
        identity: Identity::UNPROVED,
        role: Role::Core,
        message,
    }
}

/// Returns the messages in `outputs`, each with its receiver.
pub(super) fn sends(outputs: &[Output]) -> Vec<(SocketAddr, &ChitchatMessage)> {
    let of = |output| match output {
        &Output::Send { to, ref message } => vec![(to, message)],
        Output::SendToAll { to, message } => to.iter().map(|to| (*to, message)).collect(),
        Output::Refuse { .. } | Output::MembershipChanged => Vec::new(),
    };
    outputs.iter().flat_map(of).collect()
}

/// Returns the only message in `outputs`.
pub(super) fn reply(outputs: &[Output]) -> (SocketAddr, &ChitchatMessage) {
    let mut sends = sends(outputs).into_iter();
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

/// Passes in the heartbeats `from..=to` of the member `of`, one each second, and a round after each.
pub(super) fn beat(engine: &mut Engine, of: &ChitchatId, from: u64, to: u64) {
    for at in from..=to {
        let now = SECOND * u32::try_from(at).unwrap();
        let heard = syn("cluster", ProtocolVersion::V0, digest(&[(of.clone(), at)]));
        receive(engine, heard, now);
        engine.handle(Event::Round, now);
    }
}

#[test]
fn a_syn_of_another_cluster_is_answered_with_bad_cluster_and_changes_nothing() {
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
fn a_reply_goes_to_the_sender_in_the_version_of_its_message() {
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
fn the_own_heartbeat_rises_with_every_message_and_every_round() {
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
fn seeds_that_arrive_after_the_first_round_are_asked_at_once() {
    let mut us = engine(1);
    let alone = us.handle(Event::Round, SECOND);
    assert!(alone.is_empty());
    // Our own address is not one to gossip with.
    us.handle(Event::Seeds(vec![addr(1)]), SECOND);
    assert_eq!(us.next_round(), SECOND * 2);
    us.handle(Event::Seeds(vec![addr(1), addr(2)]), SECOND);
    assert!(us.next_round() <= SECOND);
    let outputs = us.handle(Event::Round, SECOND);
    let (to, message) = reply(&outputs);
    assert_eq!(to, addr(2));
    assert!(matches!(message, ChitchatMessage::Syn { .. }));
    us.handle(Event::Seeds(vec![addr(2), addr(3)]), SECOND);
    assert_eq!(us.next_round(), SECOND * 2);
}

#[test]
fn a_member_is_live_as_soon_as_its_third_heartbeat_is_heard() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 2);
    assert_eq!(liveness(&us, &id(2)), Liveness::Dead);
    let third = syn("cluster", ProtocolVersion::V0, digest(&[(id(2), 3)]));
    let outputs = receive(&mut us, third, SECOND * 3);
    assert!(outputs.contains(&Output::MembershipChanged));
    assert_eq!(liveness(&us, &id(2)), Liveness::Live);
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
fn a_member_whose_heartbeat_does_not_rise_stays_dead() {
    let mut us = engine(1);
    for at in 1..20 {
        let heard = syn("cluster", ProtocolVersion::V0, digest(&[(id(2), 9)]));
        receive(&mut us, heard, SECOND * at);
        us.handle(Event::Round, SECOND * at);
    }
    assert_eq!(liveness(&us, &id(2)), Liveness::Dead);
}

#[test]
fn a_silent_member_is_found_dead_at_the_reported_timeout() {
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
fn a_long_pause_of_this_process_finds_no_member_dead() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 20);
    us.handle(Event::Round, SECOND * 4000);
    assert_eq!(liveness(&us, &id(2)), Liveness::Live);
}

#[test]
fn an_ack_without_a_preceding_syn_ack_is_applied() {
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
fn keys_that_crash_peers_or_exceed_a_limit_are_refused() {
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
fn only_a_visible_key_can_be_deleted() {
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
fn only_a_change_of_a_key_is_pushed() {
    let mut us = engine(1);
    assert!(us.set("k", "v", SECOND).unwrap());
    assert_eq!(us.next_rumours(), Some(SECOND));
    us.handle(Event::Rumours, SECOND);
    // There is no other member to push it to.
    assert_eq!(us.next_rumours(), None);
    assert!(!us.set("k", "v", SECOND).unwrap());
    assert_eq!(us.next_rumours(), None);
    us.delete("k", SECOND).unwrap();
    assert!(us.next_rumours().is_some());
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
                for (_, message) in sends(&[output]) {
                    longest = longest.max(message.clone().into_bytes().unwrap().len());
                }
            }
            assert!(longest <= max_message_len, "{longest} of {max_message_len}");
            // In V1 a digest is measured before it is compressed, so that it leaves room unused.
            let used = longest > max_message_len / 2;
            assert!(used || version == ProtocolVersion::V1, "{longest}");
        }
    }
}

#[test]
fn a_farewell_sends_the_whole_own_state_to_live_members() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 5);
    us.set("last", "words", SECOND * 5).unwrap();
    let outputs = us.leave(Duration::ZERO);
    let (to, message) = reply(&outputs);
    assert_eq!(to, addr(2));
    let ChitchatMessage::Ack { delta, .. } = message else {
        panic!("{message:?}");
    };
    assert_eq!(delta.node_deltas[0].key_values[0].key, "last");
}

#[test]
fn rumours_and_farewells_go_to_a_member_that_answers() {
    const OTHERS: std::ops::Range<u16> = 2..32;
    let mut us = engine(1);
    // Member 2 answers, and lists rising heartbeats of all others.
    for at in 1..60 {
        let now = SECOND * at;
        let outputs = us.handle(Event::Round, now);
        for (to, _) in sends(&outputs) {
            if to == addr(2) {
                let heard: Vec<_> = OTHERS.map(|n| (id(n), at.into())).collect();
                let message = ChitchatMessage::SynAck {
                    version: ProtocolVersion::V0,
                    digest: digest(&heard),
                    delta: Delta::default(),
                };
                us.handle(received(to, message), now);
            }
        }
        if at == 1 {
            us.handle(Event::Seeds(vec![addr(2)]), now);
        }
    }
    assert_eq!(us.detector.judged_live().count(), OTHERS.len());
    us.set("k", "v", SECOND * 60).unwrap();
    let pushed = us.handle(Event::Rumours, SECOND * 60);
    assert_eq!(reply(&pushed).0, addr(2));
    assert_eq!(reply(&us.leave(SECOND * 60)).0, addr(2));
}

#[test]
fn the_same_seed_and_the_same_calls_produce_the_same_outputs() {
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
fn the_highest_possible_numbers_do_no_harm() {
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
fn a_digest_of_thousands_adds_members_up_to_the_limit_only() {
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

#[test]
fn the_value_of_a_key_of_another_member_is_known_once_it_was_received() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 2);
    assert_eq!(us.member_value(&id(2), "k"), None);
    let delta = delta_of(&id(2), "k", 1);
    let version = ProtocolVersion::V0;
    receive(&mut us, ChitchatMessage::Ack { version, delta }, SECOND * 2);
    assert_eq!(us.member_value(&id(2), "k"), Some("v"));
    assert_eq!(us.member_value(&id(3), "k"), None);
}

#[test]
fn setting_a_key_returns_whether_that_changes_anything() {
    let mut us = engine(1);
    assert_eq!(us.set("k", "v", SECOND), Ok(true));
    assert_eq!(us.set("k", "v", SECOND), Ok(false));
    assert_eq!(us.set_with_ttl("k", "v", SECOND), Ok(true));
    assert_eq!(us.set_with_ttl("k", "v", SECOND), Ok(false));
}
