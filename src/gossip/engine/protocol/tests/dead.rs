//! What members are told of one that is dead.

use super::*;

#[test]
fn a_member_that_is_dead_for_long_is_left_out_of_digests_and_then_forgotten() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 20);
    let half = us.config.failure_detector.dead_node_grace_period / 2;
    // Small steps, so that the time does not look like a pause of this process.
    let mut now = SECOND * 20;
    us.config.gossip_interval = half / 20;
    let mut advance = |us: &mut Engine, until: Duration| {
        while now < until {
            now += half / 20;
            us.handle(Event::Round, now);
        }
        now
    };
    let now = advance(&mut us, half / 2);
    assert!(
        us.digest(Software::Unknown, ProtocolVersion::V0, 60_000, now)
            .node_digests
            .contains_key(&id(2))
    );
    let now = advance(&mut us, half * 5 / 4);
    assert!(
        !us.digest(Software::Unknown, ProtocolVersion::V0, 60_000, now)
            .node_digests
            .contains_key(&id(2))
    );
    assert_eq!(us.members().len(), 2);
    advance(&mut us, half * 9 / 4);
    assert_eq!(us.members().len(), 1);
}

#[test]
fn members_of_this_crate_hear_of_a_dead_member_for_some_time_and_get_its_keys_for_most_of_it() {
    let mut us = engine(1);
    beat(&mut us, &id(2), 1, 20);
    let ack = ChitchatMessage::Ack {
        version: ProtocolVersion::V1,
        delta: delta_of(&id(2), "k", 1),
    };
    receive(&mut us, ack, SECOND * 20);
    let ours = Connection {
        addr: addr(3),
        reads_v1: true,
        invite: None,
    };
    us.handle(Event::Connections(vec![ours]), SECOND * 20);
    let mut now = SECOND * 20;
    while liveness(&us, &id(2)) == Liveness::Live {
        now += SECOND;
        us.handle(Event::Round, now);
    }
    // What a newcomer that connects is told of it: by a member of this crate, and by upstream's.
    let mut told = |from, after: u32| {
        let hello = syn("cluster", ProtocolVersion::V1, Digest::default());
        let answer = us.handle(received(addr(from), hello), now + SECOND * after);
        let ChitchatMessage::SynAck { digest, delta, .. } = reply(&answer).1 else {
            panic!("a Syn is answered by a SynAck");
        };
        let mut taught = delta.node_deltas.iter();
        (
            digest.node_digests.contains_key(&id(2)),
            taught.any(|delta| delta.chitchat_id == id(2)),
        )
    };
    for (after, expected) in [
        (0, (true, true)),
        (45, (true, true)),
        (46, (true, false)),
        (60, (true, false)),
        (61, (false, false)),
    ] {
        assert_eq!(
            told(3, after),
            expected,
            "{after} s after it was found dead"
        );
        assert_eq!(told(4, after), (true, true), "{after} s, to upstream");
    }
}

#[test]
fn a_newcomer_that_takes_the_place_of_a_dead_member_changes_the_membership_and_no_other_does() {
    let config = GossipConfig {
        max_members: 2,
        ..config()
    };
    let mut us = Engine::new(config, id(1), Duration::ZERO).unwrap();
    beat(&mut us, &id(2), 1, 4);
    // The peer itself is alive.
    let hear = |us: &mut Engine, from, at| {
        let heard = syn("cluster", ProtocolVersion::V0, digest(&[(id(from), 1)]));
        let outputs = us.handle(received(addr(from), heard), at);
        let ids: Vec<_> = us.members().into_iter().map(|member| member.id).collect();
        (outputs.contains(&Output::MembershipChanged), ids)
    };
    let known = hear(&mut us, 3, SECOND * 4);
    assert_eq!(known, (false, vec![id(1), id(2)]), "nobody is dead");
    let mut now = SECOND * 4;
    while liveness(&us, &id(2)) == Liveness::Live {
        now += SECOND;
        us.handle(Event::Round, now);
    }
    assert_eq!(hear(&mut us, 3, now), (true, vec![id(1), id(3)]));
}
