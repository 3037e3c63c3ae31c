//! How long a large state takes to reach a newcomer over real sockets, and how long a small change takes
//! meanwhile.
//!
//! The test has a process of its own, since it measures times, which other tests would change.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use gossip_transport::gossip::{GossipConfig, Liveness, Member, Participant};
use gossip_transport::message::ChitchatId;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerTransport, Trust,
};

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(80);
/// The members with large states.
const LARGE: usize = 3;
/// Keys of each of them, each with a value of 50 kB: 9.9 MB in all. Unoptimised code takes several times as long
/// for each byte, so it gets a third. With one message for each round and member, that takes 10 to 13 s.
const KEYS: usize = if cfg!(debug_assertions) { 22 } else { 66 };
const VALUE: usize = 50_000;
/// The time within which a newcomer has everything.
const ALL: Duration = Duration::from_secs(3);
/// The time within which it has a change of the member with a small state.
const CHANGE: Duration = Duration::from_millis(200);

type Node = Participant<TcpTransport>;

async fn join(secret: &ClusterSecret, config: GossipConfig) -> Node {
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let interval = config.gossip_interval;
    let layer = TransportLayerConfig::default().with_interval(interval);
    let network = TransportLayerTransport::with_config(TcpTransport::default(), credential, layer);
    let socket = network.open(ANY_PORT).await.unwrap();
    Participant::join(socket, config).await.unwrap()
}

/// Waits until `done` returns true. Checks it again after each change.
async fn until(node: &Node, what: &str, done: impl Fn(&Node) -> bool) {
    let mut watch = node.watch();
    let waiting = async {
        while !done(node) {
            assert!(watch.changed().await);
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

/// Returns the names and the values of the keys of a member. The text shrinks to a half.
fn large_state(rng: &mut fastrand::Rng) -> Vec<(String, String)> {
    let mut text = || -> String {
        let digits = std::iter::repeat_with(|| char::from(b"0123456789abcdef"[rng.usize(0..16)]));
        digits.take(VALUE).collect()
    };
    (0..KEYS).map(|n| (format!("key-{n:02}"), text())).collect()
}

/// Returns whether `node` has the key that arrives last of each member with a large state.
fn has_all(node: &Node, large: &[ChitchatId]) -> bool {
    let last = format!("key-{:02}", KEYS - 1);
    let has = |id| node.member_value(id, &last).is_some();
    large.iter().all(has)
}

/// Lets a member join, and `small` change a key meanwhile. Returns the time until the newcomer has everything, and
/// that until it has the change.
async fn catch_up(
    secret: &ClusterSecret,
    name: &str,
    large: &[ChitchatId],
    small: &Node,
) -> (Duration, Duration) {
    let begin = Instant::now();
    let mut config = GossipConfig::new("cluster", name);
    config.seeds = vec![large[0].addr().to_string()];
    let newcomer = join(secret, config).await;
    let all = async {
        until(&newcomer, "all states", |node| has_all(node, large)).await;
        begin.elapsed()
    };
    let change = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let at = Instant::now();
        small.set("k", name).unwrap();
        let id = small.id();
        let has_change = |node: &Node| node.member_value(&id, "k").as_deref() == Some(name);
        until(&newcomer, "the change", has_change).await;
        at.elapsed()
    };
    tokio::join!(all, change)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_state_reaches_a_newcomer_within_three_seconds_and_does_not_delay_a_small_change() {
    let secret = ClusterSecret::generate();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..=LARGE {
        let mut config = GossipConfig::new("cluster", format!("m{n}"));
        let seed = nodes.first().map(|node| node.id().addr().to_string());
        config.seeds = seed.into_iter().collect();
        config.initial_key_values = if n < LARGE {
            large_state(&mut rng)
        } else {
            vec![("k".to_owned(), "none".to_owned())]
        };
        nodes.push(join(&secret, config).await);
    }
    let small = nodes.pop().unwrap();
    let large: Vec<_> = nodes.iter().map(Participant::id).collect();
    for node in nodes.iter().chain([&small]) {
        until(node, "the cluster", |node| {
            let is_there = |member: &Member| member.liveness != Liveness::Dead;
            let count = || {
                node.members()
                    .iter()
                    .filter(|member| is_there(member))
                    .count()
            };
            has_all(node, &large) && count() == LARGE + 1
        })
        .await;
    }
    // Other programs may use the machine as well.
    let mut took = Vec::new();
    for attempt in 0..3 {
        let (all, change) = catch_up(&secret, &format!("newcomer-{attempt}"), &large, &small).await;
        println!("everything after {all:?}, a change after {change:?}");
        if all < ALL && change <= CHANGE {
            return;
        }
        took.push((all, change));
    }
    panic!("{took:?}");
}
