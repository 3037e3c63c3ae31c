//! A `gossip-node` that bridges unmodified upstream nodes on UDP and a node that speaks TCP only.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking, and runs natively"
)]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, FailureDetectorConfig, spawn_chitchat};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const INTERVAL: Duration = Duration::from_millis(100);
/// Limit of every wait. Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER: &str = "bridged";

/// A running `gossip-node`. Dropping it kills the process.
struct Node {
    process: Child,
    gossip: SocketAddr,
    http: SocketAddr,
    _dir: TempDir,
}

impl Node {
    async fn start(id: &str, seed: SocketAddr, more: &[&str]) -> Self {
        Self::start_every("100ms", id, seed, more).await
    }

    async fn start_every(interval: &str, id: &str, seed: SocketAddr, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready.json");
        let process = Command::new(env!("CARGO_BIN_EXE_gossip-node"))
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--gossip-interval", interval, "--trust-anyone"])
            .args(["--cluster", CLUSTER, "--id", id, "--set", "name=ours"])
            .args(["--seed", &seed.to_string(), "--ready-file"])
            .arg(&ready)
            .args(more)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut node = Self {
            process,
            gossip: seed,
            http: seed,
            _dir: dir,
        };
        until("the node to be ready", async || ready.exists()).await;
        let ready: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        node.gossip = ready["gossip"].as_str().unwrap().parse().unwrap();
        node.http = ready["http"].as_str().unwrap().parse().unwrap();
        node
    }

    async fn status(&self) -> Value {
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let request = format!(
            "GET /status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.http
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Returns the number of live and of dead members that have the key `name`.
    async fn view(&self) -> (usize, usize) {
        let status = self.status().await;
        let members = status["members"].as_array().unwrap().iter();
        let named = members.filter(|member| member["keys"]["name"].is_string());
        let (live, dead): (Vec<_>, Vec<_>) = named.partition(|member| member["live"] == true);
        (live.len(), dead.len())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn upstream(n: usize, seeds: &[SocketAddr]) -> ChitchatHandle {
    // Another socket may take a free port first.
    for _ in 0..10 {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        if let Ok(node) = upstream_at(addr, n, seeds).await {
            return node;
        }
    }
    panic!("no port is free");
}

async fn upstream_at(
    addr: SocketAddr,
    n: usize,
    seeds: &[SocketAddr],
) -> anyhow::Result<ChitchatHandle> {
    let config = ChitchatConfig {
        chitchat_id: chitchat::ChitchatId::new(format!("theirs-{n}"), 1, addr),
        cluster_id: CLUSTER.to_owned(),
        gossip_interval: INTERVAL,
        listen_addr: addr,
        seed_nodes: seeds.iter().map(SocketAddr::to_string).collect(),
        failure_detector_config: FailureDetectorConfig {
            initial_interval: INTERVAL * 5,
            max_interval: INTERVAL * 10,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: Duration::from_secs(60),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: chitchat::ProtocolVersion::V0,
    };
    let keys = vec![("name".to_owned(), "theirs".to_owned())];
    spawn_chitchat(config, keys, &UdpTransport).await
}

async fn live_in(node: &ChitchatHandle) -> usize {
    node.with_chitchat(|chitchat| {
        let live: Vec<_> = chitchat.live_nodes().cloned().collect();
        let states = live.iter().filter_map(|id| chitchat.node_state(id));
        states.filter(|state| state.get("name").is_some()).count()
    })
    .await
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(INTERVAL / 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_shows_each_side_the_live_and_dead_members_of_the_other() {
    let mut theirs = vec![upstream(0, &[]).await];
    let seed = theirs[0].chitchat_id().gossip_advertise_addr;
    for n in 1..5 {
        theirs.push(upstream(n, &[seed]).await);
    }
    let bridge = Node::start("bridge", seed, &["--udp"]).await;
    // Speaks TCP only, as a tab does, and has the bridge as its only seed.
    let inside = Node::start("inside", bridge.gossip, &[]).await;
    let nodes = [&bridge, &inside];
    let all_see = async |theirs: &[ChitchatHandle], live: usize, dead: usize| {
        for node in theirs {
            if live_in(node).await != live {
                return false;
            }
        }
        for node in nodes {
            if node.view().await != (live, dead) {
                return false;
            }
        }
        true
    };
    until("all to see one cluster", async || {
        all_see(&theirs, 7, 0).await
    })
    .await;

    theirs.pop().unwrap().abort();
    until("all to see the aborted node dead", async || {
        all_see(&theirs, 6, 1).await
    })
    .await;

    // The status distinguishes peers that have proved an identity from those that cannot.
    let status = bridge.status().await;
    let identities: Vec<_> = status["stats"]["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|connection| connection["identity"].as_str().unwrap() == "none: plaintext UDP")
        .collect();
    assert!(identities.contains(&true) && identities.contains(&false));
}

/// A node that opens exchanges in V0 panics when it receives one and knows more members than a datagram
/// can list: 900 tabs with names of 20 bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_hears_of_very_many_tabs_does_not_crash_upstream_nodes() {
    const TABS: u64 = 1500;
    let theirs = [upstream(0, &[]).await];
    let seed = theirs[0].chitchat_id().gossip_advertise_addr;
    let bridge = Node::start("bridge", seed, &["--udp"]).await;
    let other = upstream(1, &[seed]).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let known = async |node: &ChitchatHandle| {
        let ended = tokio::time::timeout(Duration::ZERO, node.termination_watcher()).await;
        assert!(ended.is_err(), "an upstream node has ended: {ended:?}");
        node.with_chitchat(|chitchat| chitchat.node_states().len())
            .await
    };
    until("the upstream nodes to know many tabs", async || {
        for tabs in 0..TABS / 100 {
            let tabs = tabs * 100..(tabs + 1) * 100;
            socket.send_to(&syn(tabs), bridge.gossip).await.unwrap();
        }
        known(&theirs[0]).await >= 200 && known(&other).await >= 200
    })
    .await;
    // What the bridge announces now would be too much if there were no limit.
    let (begin, mut most) = (Instant::now(), 0);
    while begin.elapsed() < INTERVAL * 50 {
        most = known(&theirs[0]).await.max(most);
        known(&other).await;
        tokio::time::sleep(INTERVAL).await;
    }
    // The bridge tells nodes of at most 500 in a day, perhaps without the two nodes, which know each other.
    assert!(most <= 502, "{most} members");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_is_told_of_thousands_of_members_still_answers_and_ends_with_a_signal() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let seed = socket.local_addr().unwrap();
    let more = ["--udp", "--max-members", "10000"];
    let mut bridge = Node::start_every("10ms", "bridge", seed, &more).await;
    until("the bridge to know thousands of members", async || {
        for tabs in 0..5 {
            let tabs = tabs * 700..(tabs + 1) * 700;
            socket.send_to(&syn(tabs), bridge.gossip).await.unwrap();
        }
        bridge.status().await["members"].as_array().unwrap().len() > 3_300
    })
    .await;
    let mut answer = vec![0; 1 << 16];
    let begin = Instant::now();
    for _ in 0..20 {
        // It asks again as an upstream node does, since it gets a bounded rate: it does not list the
        // members that it is told of.
        let mut is_answered = false;
        while !is_answered {
            assert!(begin.elapsed() < PATIENCE, "the bridge does not answer");
            socket.send_to(&syn(0..1), bridge.gossip).await.unwrap();
            let answered = async {
                // Its Syns arrive here as well. The fourth byte of a message is its type.
                while answer[3] != 1 {
                    socket.recv_from(&mut answer).await.unwrap();
                }
            };
            is_answered = tokio::time::timeout(INTERVAL, answered).await.is_ok();
            answer[3] = 0;
        }
    }
    let begin = Instant::now();
    let kill = format!("kill -TERM {}", bridge.process.id());
    let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(sent.success());
    while bridge.process.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(2), "still running");
        tokio::time::sleep(INTERVAL / 10).await;
    }
}

/// Returns the Syn of a member that knows these tabs.
fn syn(tabs: std::ops::Range<u64>) -> Vec<u8> {
    use gossip_transport::message::{
        ChitchatId, ChitchatMessage, Digest, Message as _, NodeDigest, ProtocolVersion,
    };
    let mut digest = Digest::default();
    for n in tabs {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let addr = gossip_transport::Identity::from_bytes(key).address();
        let state = NodeDigest {
            heartbeat: 1,
            ..NodeDigest::default()
        };
        let id = ChitchatId::new(format!("tab-{n:016}"), 1, addr);
        digest.node_digests.insert(id, state);
    }
    let syn = ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: CLUSTER.to_owned(),
        digest,
    };
    syn.into_bytes().unwrap().to_vec()
}
