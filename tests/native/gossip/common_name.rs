//! A name that thousands of members have: what is said about it takes no longer than what is said about another one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gossip_transport::Identity;
use gossip_transport::credential::{Claims, InviteId, Role};
use gossip_transport::gossip::{Connection, Engine, Event, GossipConfig};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Digest, NodeDigest, ProtocolVersion};

const SECOND: Duration = Duration::from_secs(1);
/// Three quarters of the members that there may be by default, less a few.
const CROWD: u32 = 7_000;
/// The members that a message lists.
const LISTED: u32 = 1_000;

fn addr(n: u32) -> SocketAddr {
    ([127, 0, 0, 1], u16::try_from(n).unwrap()).into()
}

fn identity(n: u32) -> Identity {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Identity::from_bytes(bytes)
}

/// Returns the event of a Syn that lists `ids`.
fn syn(
    from: SocketAddr,
    identity: Identity,
    role: Role,
    ids: impl Iterator<Item = ChitchatId>,
) -> Event {
    let listed = NodeDigest {
        heartbeat: 1,
        ..NodeDigest::default()
    };
    let node_digests: Vec<_> = ids.map(|id| (id, listed)).collect();
    Event::Message {
        from,
        identity,
        role,
        message: ChitchatMessage::Syn {
            version: ProtocolVersion::V1,
            cluster_id: "cluster".to_owned(),
            digest: Digest::from(node_digests),
        },
    }
}

#[test]
fn a_name_that_thousands_have_takes_no_time_for_each_of_them() {
    let id = ChitchatId::new("core-1", 1, addr(1));
    let config = GossipConfig::new("cluster", "unused").with_rng_seed(Some(1));
    let mut us = Engine::new(config, id, Duration::ZERO).unwrap();
    let page = |n: u32| ChitchatId::new("x", 1, identity(n).address());
    for n in 0..CROWD / 500 {
        let some = (n * 500..(n + 1) * 500).map(page);
        let event = syn(addr(2), identity(0), Role::Core, some);
        us.handle(event, SECOND * n);
    }
    assert_eq!(us.members().len(), 1 + CROWD as usize);
    let leaf = identity(u32::MAX);
    let invite = Claims::new(InviteId::generate(SECOND, SECOND).unwrap());
    let connection = Connection {
        addr: leaf.address(),
        reads_v1: true,
        invite: Some(Arc::new(invite)),
    };
    us.handle(Event::Connections(vec![connection]), SECOND * 30);
    let by_leaf = |name: &str| {
        let ids = (0..LISTED).map(|n| ChitchatId::new(name, n.into(), leaf.address()));
        syn(leaf.address(), leaf, Role::Leaf, ids)
    };
    let over_udp = |name: &str| {
        let ids = (0..LISTED).map(|n| ChitchatId::new(name, 5, addr(2_000 + n)));
        syn(addr(9), Identity::UNPROVED, Role::Unauthenticated, ids)
    };
    let mut time = |event, now| {
        let start = Instant::now();
        us.handle(event, now);
        start.elapsed()
    };
    for (rare, common, now) in [
        (by_leaf("y"), by_leaf("x"), SECOND * 31),
        (over_udp("z"), over_udp("x"), SECOND * 400),
    ] {
        let rare = time(rare, now);
        let common = time(common, now);
        assert!(common < rare * 20, "{common:?}, {rare:?} for another name");
    }
}
