//! A cluster under load whose members replace their secret, each at another time: no message is lost without being
//! counted, and no member is found dead by another one in any round.
//!
//! Over TCP, so with real handshakes; and in virtual time, in which a hundred members take little more than the time
//! of their messages, and no time that the machine lacks counts as silence of a member.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::credential::{Grounds, Keyring};
use gossip_transport::gossip::{FailureDetectorConfig, GossipConfig, Liveness, Participant};
use gossip_transport::memory::{Faults, MemoryNetwork, MemoryTransport};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::PeerState;
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::time::{Instant, sleep};

use crate::support::{ANY_PORT, PATIENCE};

/// A member of the cluster, and what it trusts.
struct Node<T: NetTransport> {
    trust: Trust,
    participant: Participant<T>,
}

/// A cluster to start, and how fast its secret is replaced.
struct Plan {
    interval: Duration,
    phi_threshold: f64,
    /// The number of members that get a new keyring at a time, twice in an interval.
    at_once: usize,
    /// The number of members that change a key at a time, twice in an interval.
    writers: usize,
    /// The number of rounds before, in which members learn how often they hear of each other.
    rounds_before: u64,
}

/// A cluster whose members all know each other.
struct Cluster<T: NetTransport> {
    nodes: Vec<Node<T>>,
    addrs: Vec<SocketAddr>,
    plan: Plan,
    /// The halves of intervals, and the intervals, that have passed.
    halves: u64,
    rounds: u64,
    changes: u64,
    /// The pairs without a connection before the rotation.
    never_connected: BTreeSet<(usize, usize)>,
    /// The pairs without a connection at the last look, once a dead member is an error.
    unconnected_before: Option<BTreeSet<(usize, usize)>>,
}

impl<T: NetTransport> Cluster<T> {
    async fn start(places: Vec<(T, SocketAddr)>, plan: Plan, secret: &ClusterSecret) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            addrs: Vec::new(),
            plan,
            halves: 0,
            rounds: 0,
            changes: 0,
            never_connected: BTreeSet::new(),
            unconnected_before: None,
        };
        let mut seeds = Vec::new();
        for (n, (network, addr)) in places.into_iter().enumerate() {
            let trust = Trust::secret(secret.clone());
            let credential = NetCredential::generate(trust.clone());
            let transport = TransportLayerTransport::new(network, credential);
            let socket = transport.open(addr).await.unwrap();
            cluster.addrs.push(socket.local_addr());
            if n == 0 {
                seeds = vec![socket.local_addr().to_string()];
            }
            let mut config = GossipConfig::new("cluster", format!("m{n}"));
            config.seeds = seeds.clone();
            config.failure_detector.phi_threshold = cluster.plan.phi_threshold;
            let config = config.with_interval(cluster.plan.interval);
            let joined = Participant::join(socket, config).await;
            let participant = joined.unwrap();
            cluster.nodes.push(Node { trust, participant });
        }
        let start = Instant::now();
        while cluster.rounds < cluster.plan.rounds_before || !cluster.dead().is_empty() {
            cluster.live_on().await;
            assert!(
                start.elapsed() < PATIENCE,
                "{} are not live",
                cluster.dead().len()
            );
        }
        cluster.never_connected = cluster.unconnected();
        cluster.unconnected_before = Some(BTreeSet::new());
        cluster
    }

    /// Returns the members that are not live, each with the one that finds it so.
    fn dead(&self) -> Vec<(String, String)> {
        let mut dead = Vec::new();
        for node in &self.nodes {
            let by = node.participant.id().node_id.to_string();
            // Copying the keys of all members would take more time than the cluster itself.
            let members = node.participant.liveness_of_members().into_iter();
            let live = members.filter(|(_, liveness)| *liveness == Liveness::Live);
            let live: BTreeSet<_> = live.map(|(id, _)| id.node_id.to_string()).collect();
            for n in 0..self.nodes.len() {
                let name = format!("m{n}");
                if name != by && !live.contains(&name) {
                    dead.push((name, by.clone()));
                }
            }
        }
        dead
    }

    /// Waits until each member has received what each other one has sent to it, as far as both count.
    async fn accounted_for(&self) {
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        let mut missing: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
        let deadline = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            // Something is always on its way between some of them.
            let stats: Vec<_> = self.nodes.iter().map(|n| n.participant.stats()).collect();
            let of = |at: usize, with: usize| stats[at].peers.get(&self.addrs[with]);
            missing.retain(|(from, to)| {
                let sent = of(*from, *to).map_or(0, |peer| peer.sent);
                let received = of(*to, *from).map_or(0, |peer| peer.received);
                sent != received
            });
            assert!(Instant::now() < deadline, "{missing:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the members that have no connection with others, with those.
    fn unconnected(&self) -> BTreeSet<(usize, usize)> {
        let mut unconnected = BTreeSet::new();
        for (from, node) in self.nodes.iter().enumerate() {
            let peers = node.participant.stats().peers;
            for (to, addr) in self.addrs.iter().enumerate() {
                let state = peers.get(addr).map(|peer| peer.state);
                if from != to && state != Some(PeerState::Connected) {
                    unconnected.insert((from, to));
                }
            }
        }
        unconnected
    }

    /// Lets half an interval pass, in which members change a key, and looks at all members.
    async fn live_on(&mut self) {
        self.halves += 1;
        for _ in 0..self.plan.writers {
            let writer = (self.changes as usize * 7) % self.nodes.len();
            let value = self.changes.to_string();
            self.nodes[writer].participant.set("load", &value).unwrap();
            self.changes += 1;
        }
        sleep(self.plan.interval / 2).await;
        let unconnected = self.unconnected();
        if let Some(before) = &self.unconnected_before {
            // Those that were not connected before the rotation need not be, and one that is just being replaced
            // may be missing once.
            let missing: Vec<_> = unconnected.difference(&self.never_connected).collect();
            let missing = missing.iter().filter(|pair| before.contains(pair)).count();
            assert_eq!(
                missing, 0,
                "{missing} pairs without a connection in round {}",
                self.rounds
            );
            self.unconnected_before = Some(unconnected);
        }
        if self.halves.is_multiple_of(2) {
            self.rounds += 1;
            let (dead, round) = (self.dead(), self.rounds);
            let is_watched = self.unconnected_before.is_some();
            let (count, one) = (dead.len(), dead.first());
            assert!(
                count == 0 || !is_watched,
                "{count}, such as {one:?}, in round {round}"
            );
        }
    }

    /// Sets a keyring on all members, each at another time.
    async fn step(&mut self, keyring: &Keyring) {
        let mut order: Vec<_> = (0..self.nodes.len()).collect();
        fastrand::shuffle(&mut order);
        for together in order.chunks(self.plan.at_once) {
            for n in together {
                self.nodes[*n].trust.set_keyring(keyring.clone());
            }
            self.live_on().await;
        }
    }

    fn all_use(&self, secret: &ClusterSecret) -> bool {
        self.nodes.iter().all(|node| {
            let connections = node.participant.stats().connections;
            connections
                .iter()
                .all(|c| c.grounds == Grounds::Secret(secret.id()))
        })
    }
}

/// Replaces the secret of a cluster.
async fn rotate<T: NetTransport>(places: Vec<(T, SocketAddr)>, plan: Plan) {
    let members = places.len();
    let [old, new] = [(); 2].map(|()| ClusterSecret::generate());
    let mut cluster = Cluster::start(places, plan, &old).await;
    let dials = |cluster: &Cluster<T>| -> u64 {
        let stats = cluster.nodes.iter().map(|node| node.participant.stats());
        stats.map(|stats| stats.dials).sum()
    };
    let (before, first, start) = (dials(&cluster), cluster.rounds, Instant::now());
    let added = Keyring::from(old.clone()).adding(new.clone()).unwrap();
    let used = added.using(new.id()).unwrap();
    let removed = used.removing(old.id()).unwrap();
    for keyring in [added, used] {
        cluster.step(&keyring).await;
    }
    // Before an operator removes a secret, no connection should use it any more.
    let used = Instant::now();
    while !cluster.all_use(&new) {
        cluster.live_on().await;
        assert!(used.elapsed() < PATIENCE);
    }
    let last = used.elapsed();
    cluster.step(&removed).await;
    let steps = start.elapsed();
    for _ in 0..20 {
        cluster.live_on().await;
    }
    assert!(cluster.all_use(&new));
    cluster.accounted_for().await;
    let stats = cluster.nodes.iter().map(|node| node.participant.stats());
    let stats: Vec<_> = stats.collect();
    let dropped: u64 = stats.iter().map(|s| s.total.dropped.total()).sum();
    let sent: u64 = stats.iter().map(|s| s.total.sent).sum();
    println!(
        "{members} members, {} connections: the three steps took {steps:?}, and the last connection was replaced \
         {last:?} after the second; {sent} messages sent, all received, {dropped} counted as dropped; {} dials; {} rounds",
        (members * (members - 1) - cluster.unconnected().len()) / 2,
        dials(&cluster) - before,
        cluster.rounds - first,
    );
}

fn over_tcp(members: usize) -> Vec<(TcpTransport, SocketAddr)> {
    let places = (0..members).map(|_| (TcpTransport::default(), ANY_PORT));
    places.collect()
}

/// Returns hosts between which messages take 1 to 5 ms.
fn in_memory(members: usize) -> Vec<(MemoryTransport, SocketAddr)> {
    let network = MemoryNetwork::new(1);
    let hosts = (1u8..).take(members).map(|n| [10, 0, 0, n].into());
    let hosts: Vec<std::net::IpAddr> = hosts.collect();
    let mut rng = fastrand::Rng::with_seed(1);
    for (n, one) in hosts.iter().enumerate() {
        for other in &hosts[..n] {
            let delay = Duration::from_micros(rng.u64(1_000..5_000));
            network.set_faults_between(*one, *other, Faults::delayed(delay));
        }
    }
    let places = hosts
        .iter()
        .map(|host| (network.host(*host), (*host, 7000).into()));
    places.collect()
}

#[tokio::test]
async fn a_cluster_under_load_replaces_its_secret_without_a_lost_message_or_a_dead_member() {
    let plan = Plan {
        // Heartbeats come several times in an interval, so by the default of 8 a member is found dead after two or
        // three, and by 16 after five or six. A machine that runs six tests and builds at the same time has stood still
        // for seconds, so there are several more.
        interval: Duration::from_secs(1),
        phi_threshold: 16.0,
        at_once: 4,
        writers: 1,
        rounds_before: 10,
    };
    rotate(over_tcp(20), plan).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_members_replace_their_secret_without_a_lost_message_or_a_dead_member() {
    let plan = Plan {
        interval: Duration::from_secs(1),
        phi_threshold: FailureDetectorConfig::default().phi_threshold,
        at_once: 10,
        writers: 1,
        rounds_before: 10,
    };
    rotate(in_memory(100), plan).await;
}

/// Takes a minute, and both cores of a machine that does nothing else:
/// `cargo test --release --test native -- --ignored --nocapture a_hundred_members_over_tcp`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and a machine that does nothing else"]
async fn a_hundred_members_over_tcp_replace_their_secret() {
    let plan = Plan {
        interval: Duration::from_secs(1),
        phi_threshold: FailureDetectorConfig::default().phi_threshold,
        at_once: 5,
        // Ten changes in a second, each of which reaches all members.
        writers: 5,
        rounds_before: 10,
    };
    rotate(over_tcp(100), plan).await;
}
