//! Members that know many others: no member may be too busy with its rounds to receive, and the cost
//! of all that it does must grow in proportion to the number of members.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use gossip_transport::gossip::{Engine, Event, GossipConfig, Liveness, Participant};
use gossip_transport::memory::MemoryNetwork;
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, Digest, NodeDigest, ProtocolVersion,
};
use gossip_transport::{ClusterSecret, Identity, Role, TransportLayerTransport};

use crate::support::{PATIENCE, member, soon};

const CLUSTER: &str = "cluster";

fn id(n: usize) -> ChitchatId {
    let [.., high, low] = n.to_be_bytes();
    ChitchatId::new(format!("node-{n:05}"), 1, ([10, 1, high, low], 7946).into())
}

/// Returns a Syn that lists `members`, all with this heartbeat.
fn syn(members: Range<usize>, heartbeat: u64) -> ChitchatMessage {
    let node = NodeDigest {
        heartbeat,
        ..NodeDigest::default()
    };
    ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: CLUSTER.to_owned(),
        digest: Digest {
            node_digests: members.map(|n| (id(n), node)).collect::<BTreeMap<_, _>>(),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_rounds_take_longer_than_its_interval_still_receives_and_can_be_dropped() {
    let secret = ClusterSecret::generate();
    let network = MemoryNetwork::new(1);
    let open = |n: u8| {
        let credential = member(&secret);
        let host = network.host([10, 0, 0, n].into());
        TransportLayerTransport::new(host, credential)
    };
    let listen = ([10, 0, 0, 1], 7946).into();
    let socket = open(1).open(listen).await.unwrap();
    let config = GossipConfig::new(CLUSTER, "busy").with_interval(Duration::from_millis(1));
    let busy = Participant::join(socket, config).await.unwrap();
    let peer = open(2).open(([10, 0, 0, 2], 7946).into()).await.unwrap();
    // Three messages name 3,300 members. A round takes more than a millisecond then.
    for batch in 0..3 {
        let named = 1 + batch * 1100..1 + (batch + 1) * 1100;
        peer.send(listen, syn(named, 1)).await.unwrap();
    }
    soon(async {
        while busy.members().len() <= 3300 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    for _ in 0..20 {
        peer.send(listen, syn(1..2, 1)).await.unwrap();
        soon(async {
            loop {
                let (_, message) = peer.recv().await.unwrap();
                if matches!(message, ChitchatMessage::SynAck { .. }) {
                    break;
                }
            }
        })
        .await;
    }
    let rounds = busy.engine_counts().rounds;
    soon(async {
        while busy.engine_counts().rounds < rounds + 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let start = Instant::now();
    let left = tokio::spawn(busy.leave(Duration::ZERO));
    assert!(tokio::time::timeout(PATIENCE, left).await.is_ok());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Returns the time of a round, a snapshot and a rumour of a member that knows `live` live members and
/// `dead` dead ones, at best.
fn cost(live: usize, dead: usize) -> Duration {
    let mut config = GossipConfig::new(CLUSTER, "unused").with_rng_seed(Some(1));
    config.max_members = live + dead + 1;
    let mut us = Engine::new(config, id(0), Duration::ZERO).unwrap();
    let received = |message| Event::Message {
        from: id(1).gossip_advertise_addr,
        identity: Identity::UNPROVED,
        role: Role::Core,
        message,
    };
    let mut best = Duration::MAX;
    for second in 1..8 {
        let now = Duration::from_secs(second);
        let named = if second == 1 { live + dead } else { live };
        us.handle(received(syn(1..named + 1, second)), now);
        us.set("k", &second.to_string(), now).unwrap();
        let start = Instant::now();
        us.handle(Event::Round, now);
        us.handle(Event::Rumours, now);
        let members = us.members();
        let took = start.elapsed();
        if second > 4 {
            best = best.min(took);
            let count = members.iter().filter(|m| m.liveness == Liveness::Live);
            assert_eq!(count.count(), live);
        }
    }
    best
}

#[test]
fn the_cost_of_a_round_a_snapshot_and_a_rumour_is_linear_in_the_number_of_members() {
    for share in [0, 1] {
        let of = |n: usize| cost(10 + n * share, n);
        let (few, many) = (of(1_000), of(8_000));
        // Quadratic costs grow by 64.
        assert!(many < few * 20, "{few:?} and {many:?}");
    }
}
