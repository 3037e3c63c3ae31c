//! Pages that are loaded and closed again and again: each of them becomes a member, and those that
//! are closed cost next to nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use gossip_transport::gossip::{
    Connection, DialPolicy, Engine, Event, GossipConfig, Liveness, Output, Participant,
};
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, Message as _,
    NodeDelta, NodeDigest, ProtocolVersion,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, Identity, TransportLayerTransport};

use super::sends;
use crate::support::tab::{Tab, nowhere};
use crate::support::{ANY_PORT, member, soon};

const CLUSTER: &str = "cluster";
const SECOND: Duration = Duration::from_secs(1);
/// The number of pages that are loaded in each second of the virtual time.
const PER_SECOND: u64 = 4;

/// Returns the id of a page, with a key address.
fn page(n: u64) -> ChitchatId {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    let addr = Identity::from_bytes(key).address();
    ChitchatId::new(format!("tab-{n:06}"), 1, addr)
}

fn node(n: u16) -> ChitchatId {
    ChitchatId::new(format!("node-{n}"), 1, ([10, 0, 0, 1], n).into())
}

fn digest(listed: impl Iterator<Item = (ChitchatId, u64)>) -> Digest {
    let digest = |heartbeat| NodeDigest {
        heartbeat,
        max_version: 1,
        ..NodeDigest::default()
    };
    Digest {
        node_digests: listed.map(|(id, beat)| (id, digest(beat))).collect(),
    }
}

fn syn(listed: impl Iterator<Item = (ChitchatId, u64)>) -> ChitchatMessage {
    ChitchatMessage::Syn {
        version: ProtocolVersion::V1,
        cluster_id: CLUSTER.to_owned(),
        digest: digest(listed),
    }
}

/// Returns the answer of a member that lacks nothing and has nothing new. It costs less to handle than
/// a Syn.
fn syn_ack(listed: impl Iterator<Item = (ChitchatId, u64)>) -> ChitchatMessage {
    ChitchatMessage::SynAck {
        version: ProtocolVersion::V1,
        digest: digest(listed),
        delta: Delta::default(),
    }
}

fn received(from: &ChitchatId, message: ChitchatMessage) -> Event {
    super::received(from.gossip_advertise_addr, message)
}

/// A node that knows another node, in virtual time.
struct World {
    us: Engine,
    second: u64,
}

impl World {
    fn new(max_members: usize) -> Self {
        let config = GossipConfig::new(CLUSTER, "unused").with_rng_seed(Some(1));
        let config = config.with_max_members(max_members);
        let mut us = Engine::new(config, node(1), Duration::ZERO).unwrap();
        let connections = [node(2), page(u64::MAX)].map(|id| Connection {
            addr: id.gossip_advertise_addr,
            reads_v1: true,
            invite: None,
        });
        us.handle(Event::Connections(connections.to_vec()), Duration::ZERO);
        Self { us, second: 0 }
    }

    fn now(&self) -> Duration {
        SECOND * u32::try_from(self.second).unwrap()
    }

    /// Passes a second in which the pages `loaded` are loaded, of which one in four dials us, and all
    /// others the other node. It lists the heartbeats of those of the last five seconds. Returns what
    /// we have sent to it, and in our round.
    fn pass(&mut self, loaded: Range<u64>) -> Vec<Output> {
        self.second += 1;
        let now = self.now();
        let mut outputs = Vec::new();
        for n in loaded.clone().filter(|n| n % PER_SECOND == 0) {
            let own = syn([(page(n), 1)].into_iter());
            self.us.handle(received(&page(n), own), now);
        }
        let alive = loaded.start.saturating_sub(4 * PER_SECOND)..loaded.end;
        let end = loaded.start + PER_SECOND;
        let heard = alive.map(|n| (page(n), 1 + (end - 1 - n) / PER_SECOND));
        let heard = syn_ack(heard.chain([(node(2), self.second)]));
        outputs.extend(self.us.handle(received(&node(2), heard), now));
        // Fewer rounds make the test faster, and change nothing: they find members dead only.
        if self.second.is_multiple_of(3) || loaded.is_empty() {
            outputs.extend(self.us.handle(Event::Round, now));
        }
        outputs
    }

    fn live(&self) -> BTreeSet<ChitchatId> {
        let members = self.us.members().into_iter();
        let live = members.filter(|member| member.liveness == Liveness::Live);
        live.map(|member| member.id).collect()
    }
}

/// Returns the bytes of the messages in `outputs`.
fn bytes(outputs: Vec<Output>) -> usize {
    let len = |message: ChitchatMessage| message.into_bytes().unwrap().len();
    sends(outputs).into_iter().map(|(_, m)| len(m)).sum()
}

#[test]
fn a_hundred_thousand_page_loads_all_become_members_of_a_table_of_two_hundred() {
    let mut world = World::new(200);
    for second in 0..100_000 / PER_SECOND {
        let loaded = second * PER_SECOND..(second + 1) * PER_SECOND;
        world.pass(loaded.clone());
        // The pages of three and four seconds ago: each page is checked once.
        if second % 2 == 0 {
            let live = world.live();
            let before = |seconds| loaded.start.saturating_sub(seconds * PER_SECOND);
            for n in before(4)..before(2) {
                assert!(live.contains(&page(n)), "{n} after {second} s");
            }
        }
    }
}

#[test]
fn pages_that_are_closed_cost_next_to_nothing() {
    const LOADS: u64 = 1_500;
    let mut world = World::new(10_000);
    for _ in 0..10 {
        world.pass(0..0);
    }
    let at_rest = bytes(world.pass(0..0));
    for second in 0..LOADS / PER_SECOND {
        world.pass(second * PER_SECOND..(second + 1) * PER_SECOND);
    }
    assert_eq!(world.us.members().len() as u64, LOADS + 2);
    // They are found dead half a minute later, and are mentioned for another minute.
    let mut quiet = 0;
    for _ in 0..120 {
        quiet = bytes(world.pass(0..0));
    }
    assert!(
        quiet <= at_rest + at_rest / 10,
        "{quiet} bytes instead of {at_rest}"
    );
    // Nor is a new page told of them, whatever keys they had.
    let dead = page(5);
    let delta = Delta {
        node_deltas: vec![NodeDelta {
            chitchat_id: dead.clone(),
            last_gc_version: 0,
            from_version_excluded: 0,
            key_values: vec![KeyValueMutation {
                key: "k".to_owned(),
                value: "v".repeat(2_000),
                version: 1,
                status: DeletionStatus::Set,
            }],
            max_version: 1,
        }],
    };
    let version = ProtocolVersion::V1;
    let now = world.now();
    let (us, newcomer) = (&mut world.us, page(u64::MAX));
    us.handle(
        received(&node(2), ChitchatMessage::Ack { version, delta }),
        now,
    );
    assert_eq!(us.member_value(&dead, "k").map(str::len), Some(2_000));
    let hello = syn([(newcomer.clone(), 1)].into_iter());
    let outputs = us.handle(received(&newcomer, hello), now);
    let [(_, answer)] = &sends(outputs)[..] else {
        panic!("there is one answer");
    };
    let len = answer.clone().into_bytes().unwrap().len();
    assert!(len < 300, "{len} bytes");
}

/// Pages of a machine: each joins through a node, becomes a member, and is closed for the next one.
async fn load_pages(node: &Participant<TcpTransport>, secret: &ClusterSecret, names: Range<u32>) {
    let seed: SocketAddr = node.id().gossip_advertise_addr;
    for n in names {
        let network = Tab(TcpTransport::default());
        let transport = TransportLayerTransport::new(network, member(secret));
        let socket = transport.open(nowhere()).await.unwrap();
        let mut config = config(&format!("tab-{n}")).with_dial(DialPolicy::SeedsOnly);
        config.seeds = vec![seed.to_string()];
        let tab = Participant::join(socket, config).await.unwrap();
        let id = tab.id().clone();
        let mut watch = node.watch();
        soon(async {
            let is_live = || {
                // Copying all members for each page would take more time than everything else.
                let mut members = node.liveness_of_members().into_iter();
                members.any(|(member, liveness)| member == id && liveness == Liveness::Live)
            };
            while !is_live() {
                assert!(watch.changed().await);
            }
        })
        .await;
    }
}

fn config(name: &str) -> GossipConfig {
    GossipConfig::new(CLUSTER, name).with_interval(Duration::from_millis(50))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_page_loads_over_tcp_all_become_members_of_a_table_of_two_hundred() {
    const ALIVE: u32 = 20;
    const LOADS: u32 = 2_000;
    let secret = ClusterSecret::generate();
    let transport = TransportLayerTransport::new(TcpTransport::default(), member(&secret));
    let socket = transport.open(ANY_PORT).await.unwrap();
    let config = config("node").with_max_members(200);
    let node = Participant::join(socket, config).await.unwrap();
    let each = LOADS / ALIVE;
    let pages = (0..ALIVE).map(|n| load_pages(&node, &secret, n * each..(n + 1) * each));
    futures::future::join_all(pages).await;
    // Pages that have left are soon forgotten, so the table need not be full.
    assert!(node.members().len() <= 200);
    assert_eq!(node.stats().dials, 0, "a closed page is not dialled");
}
