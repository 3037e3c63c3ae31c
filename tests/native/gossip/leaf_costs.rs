//! What the engine does for messages about very many leaves, in CPU time of one thread.

use std::net::SocketAddr;
use std::time::Duration;

use cpu_time::ThreadTime;
use gossip_transport::gossip::{Engine, Event, GossipConfig, Output};
use gossip_transport::message::{ChitchatId, ChitchatMessage, Digest, NodeDigest, ProtocolVersion};
use gossip_transport::{ClusterSecret, Identity, Role};

const CLUSTER: &str = "cluster";
const SECOND: Duration = Duration::from_secs(1);
/// Long after the start of the member.
const LATE: Duration = Duration::from_secs(1000);

fn addr(host: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, host], port).into()
}

/// Returns a bridge with a secret.
fn bridge() -> Engine {
    let config = GossipConfig::new(CLUSTER, "bridge").with_rng_seed(Some(1));
    let id = ChitchatId::new("bridge", 1, addr(1, 7946));
    let mut us = Engine::new(config, id, Duration::ZERO).unwrap();
    us.set_secrets(Some(&ClusterSecret::generate().into()), Duration::ZERO);
    us
}

fn syn(digest: Digest) -> ChitchatMessage {
    ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: CLUSTER.to_owned(),
        digest,
    }
}

/// Returns the message of a core member that lists this many leaves, in this generation and with this heartbeat.
fn listed(leaves: u32, generation: u64, heartbeat: u64) -> Event {
    let node = NodeDigest {
        heartbeat,
        ..NodeDigest::default()
    };
    let id = |n: u32| {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let addr = Identity::from_bytes(bytes).address();
        ChitchatId::new(format!("tab-{n:05}"), generation, addr)
    };
    let leaves: Vec<_> = (0..leaves).map(|n| (id(n), node)).collect();
    Event::Message {
        from: addr(2, 7946),
        identity: Identity::from_bytes([2; 32]),
        role: Role::Core,
        message: syn(leaves.into()),
    }
}

#[test]
fn a_question_over_udp_costs_as_much_as_its_answer_however_many_leaves_are_hidden() {
    let cost = |leaves: u32| {
        let mut us = bridge();
        for beat in 1..6_u32 {
            let now = LATE + SECOND * beat;
            us.handle(listed(leaves, 1, beat.into()), now);
            us.handle(Event::Round, now);
        }
        let mut ask = |port: u16, now: Duration| {
            let question = Event::Message {
                from: addr(5, port),
                identity: Identity::UNPROVED,
                role: Role::Unauthenticated,
                message: syn(Digest::default()),
            };
            let outputs = us.handle(question, now);
            let mut answers = outputs.iter();
            let shown = answers.find_map(|output| match output {
                Output::Send {
                    message: ChitchatMessage::SynAck { digest, .. },
                    ..
                } => Some(digest.node_digests.len()),
                _ => None,
            });
            shown.unwrap()
        };
        // It tells of leaves once it could hear whom others over UDP know.
        ask(1, LATE + SECOND * 6);
        let now = LATE + SECOND * 10;
        assert!(ask(1, now) > 400);
        let begin = ThreadTime::now();
        for port in 2..20 {
            ask(port, now);
        }
        begin.elapsed()
    };
    // About 500 are shown in both cases.
    let (few, many) = (cost(700), cost(7_000));
    assert!(many < few * 3, "{few:?} and {many:?}");
}

#[test]
fn later_generations_of_many_leaves_cost_time_in_proportion_to_their_number() {
    let cost = |leaves: u32| {
        let mut us = bridge();
        us.handle(listed(leaves, 1, 1), LATE);
        us.handle(listed(leaves, 1, 2), LATE + SECOND * 5);
        let begin = ThreadTime::now();
        us.handle(listed(leaves, 2, 3), LATE + SECOND * 10);
        let cost = begin.elapsed();
        let generations = us
            .members()
            .into_iter()
            .map(|member| member.id.generation_id);
        assert_eq!(generations.filter(|n| *n == 2).count(), leaves as usize);
        cost
    };
    let (few, many) = (cost(450), cost(3_600));
    assert!(many < few * 24, "8 times as many take {few:?} and {many:?}");
}
