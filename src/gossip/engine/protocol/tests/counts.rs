//! What the engine counts.

use super::*;

#[test]
fn messages_of_the_cluster_are_counted_and_refusals_of_another_one_noted() {
    let mut us = engine(1);
    for sender in [1, 2, 2] {
        let heard = syn("cluster", ProtocolVersion::V0, digest(&[]));
        us.handle(received(addr(sender), heard), SECOND);
    }
    assert_eq!(us.counts().heard, 2, "one was our own");
    let version = ProtocolVersion::V0;
    let refusal = ChitchatMessage::BadCluster { version };
    us.handle(received(addr(3), refusal), SECOND);
    assert_eq!((us.counts().heard, us.counts().rejections), (2, 1));
    let connections = [3].map(|n| Connection {
        addr: addr(n),
        reads_v1: false,
        invite: None,
    });
    us.handle(Event::Connections(connections.into()), SECOND);
    assert!(us.is_rejected_by(1));
    us.handle(
        received(addr(3), syn("cluster", version, digest(&[]))),
        SECOND,
    );
    assert!(!us.is_rejected_by(1));
}

#[test]
fn what_is_refused_for_want_of_room_is_counted() {
    let config = GossipConfig {
        max_members: 2,
        max_bytes_per_member: 1_000,
        ..config()
    };
    let mut us = Engine::new(config, id(1), Duration::ZERO).unwrap();
    let listed = digest(&[(id(2), 1), (id(3), 1)]);
    receive(&mut us, syn("cluster", ProtocolVersion::V0, listed), SECOND);
    let delta = delta_of(&id(2), &"k".repeat(2_100), 1);
    let version = ProtocolVersion::V0;
    receive(&mut us, ChitchatMessage::Ack { version, delta }, SECOND);
    assert_eq!(
        (us.counts().refused_members, us.counts().refused_keys),
        (1, 1)
    );
}

#[test]
fn rounds_are_counted() {
    let mut us = engine(1);
    for at in 1..=3 {
        us.handle(Event::Round, SECOND * at);
    }
    assert_eq!(us.counts().rounds, 3);
}

#[test]
fn a_rumour_is_counted_once_for_each_member_that_it_is_sent_to() {
    let mut us = engine(1);
    let listed = |at: u64| digest(&[(id(2), at), (id(3), at)]);
    for at in 1..=3 {
        let heard = syn("cluster", ProtocolVersion::V0, listed(at.into()));
        receive(&mut us, heard, SECOND * at);
        us.handle(Event::Round, SECOND * at);
    }
    for n in 1..=2 {
        us.set("k", &format!("v{n}"), SECOND * 3).unwrap();
        let due = us.next_rumours().unwrap();
        us.handle(Event::Rumours, due);
        assert_eq!(us.counts().rumours_sent, 2 * n);
    }
}
