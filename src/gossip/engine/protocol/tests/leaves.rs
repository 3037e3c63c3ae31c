//! Leaves that have more than a message holds, beside core members.

use std::sync::Arc;

use super::presence::VERSION;
use super::*;
use crate::credential::{Claims, InviteId};

fn leaf() -> Identity {
    Identity::from_bytes([1; 32])
}

fn leaf_id() -> ChitchatId {
    ChitchatId::new("tab", 1, leaf().address())
}

fn connection(addr: SocketAddr, claims: Option<&Arc<Claims>>) -> Connection {
    Connection {
        addr,
        reads_v1: true,
        invite: claims.cloned(),
    }
}

fn from_leaf(message: ChitchatMessage) -> Event {
    Event::Message {
        from: leaf().address(),
        identity: leaf(),
        role: Role::Leaf,
        message,
    }
}

/// Returns a Syn that lists `id` with ten changes.
fn claiming(id: &ChitchatId) -> ChitchatMessage {
    let node = NodeDigest {
        heartbeat: 1,
        max_version: 10,
        ..NodeDigest::default()
    };
    let digest = Digest {
        node_digests: [(id.clone(), node)].into(),
    };
    syn("cluster", VERSION, digest)
}

/// Returns the first of these changes.
fn first_change(id: &ChitchatId) -> ChitchatMessage {
    let delta = delta_of(id, "k", 1);
    let version = VERSION;
    ChitchatMessage::Ack { version, delta }
}

/// Returns a member to which a leaf and core member 2 are connected.
fn beside_a_leaf() -> Engine {
    let mut us = engine(1);
    let id = InviteId::generate(SECOND, SECOND * 3_600).unwrap();
    let claims = Arc::new(Claims::new(id));
    let connections = [
        connection(leaf().address(), Some(&claims)),
        connection(addr(2), None),
    ];
    us.handle(Event::UnixTime(SECOND), SECOND);
    us.handle(Event::Connections(connections.into()), SECOND);
    us
}

#[test]
fn a_leaf_that_is_gone_is_not_asked_for_more() {
    let mut us = beside_a_leaf();
    us.handle(from_leaf(claiming(&leaf_id())), SECOND);
    us.handle(from_leaf(first_change(&leaf_id())), SECOND);
    assert!(us.catch_up.due().is_some());
    us.handle(Event::Connections(vec![connection(addr(2), None)]), SECOND);
    assert_eq!(us.catch_up.due(), None);
}

#[test]
fn what_a_leaf_claims_to_have_does_not_end_the_exchange_of_a_core_member() {
    let mut us = beside_a_leaf();
    us.handle(received(addr(2), claiming(&id(2))), SECOND);
    us.handle(from_leaf(claiming(&leaf_id())), SECOND);
    us.handle(received(addr(2), first_change(&id(2))), SECOND);
    assert!(us.catch_up.is_going_on(addr(2), SECOND));
}
