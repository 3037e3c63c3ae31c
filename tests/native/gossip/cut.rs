//! Connections that fall silent, over real TCP: all of a member, that of one pair, and that to a seed. How
//! long it takes until they are replaced.
//!
//! Nothing is closed, and nothing that is sent arrives, as when a firewall forgets its connections or a
//! route is lost.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gossip_transport::gossip::{FailureDetectorConfig, GossipConfig, Liveness, Participant};
use gossip_transport::message::ALPN_V1;
use gossip_transport::net::{Alpn, NetIncomingRequest as _, NetListener as _, NetTransport};
use gossip_transport::rt::Task;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerTransport,
};
use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::support::{ANY_PORT, member, soon};

const INTERVAL: Duration = Duration::from_millis(250);
/// The time in which a connection that is probed must be heard.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// The number of rounds after which a silent member is found dead: the default phi, and the round that
/// looks.
const ROUNDS_TO_SUSPECT: u32 = 9;
/// The number of rounds in which a connection is replaced and used: one to dial, two for the heartbeats
/// after which a member is live, and as many again for a machine that is busy.
const FEW_ROUNDS: u32 = 6;

/// What the wires of the network do with the connections of one machine, or between it and another one.
#[derive(Debug, Clone, Copy, Default)]
struct Wires {
    machine: Option<SocketAddr>,
    other: Option<SocketAddr>,
    /// How often its connections have fallen silent.
    cuts: u32,
    /// New ones do not reach it, nor do its own reach others.
    are_down: bool,
}

/// TCP, of which each connection goes through a forwarder that can fall silent.
#[derive(Debug, Clone)]
struct Wired {
    tcp: TcpTransport,
    wires: watch::Receiver<Wires>,
    forwarders: Arc<Mutex<Vec<Task>>>,
}

/// Forwards one connection between the machines `ends`, of which the second one was dialled.
async fn forward(
    listener: TcpListener,
    ends: [SocketAddr; 2],
    mut wires: watch::Receiver<Wires>,
) -> std::io::Result<()> {
    let concerns = move |wires: &Wires| {
        let is_end = |of| ends.contains(&of);
        wires.machine.is_some_and(is_end) && wires.other.is_none_or(is_end)
    };
    let (mut near, _) = listener.accept().await?;
    // The system of the dialler tries again until it is answered.
    let state = wires.wait_for(|wires| !(wires.are_down && concerns(wires)));
    let cuts = state.await.expect("the test goes on").cuts;
    let mut far = TcpStream::connect(ends[1]).await?;
    tokio::select! {
        ended = copy_bidirectional(&mut near, &mut far) => return ended.map(drop),
        state = wires.wait_for(|wires| wires.cuts > cuts && concerns(wires)) => {
            state.expect("the test goes on");
        }
    }
    let (mut near_from, _near_to) = near.split();
    let (mut far_from, _far_to) = far.split();
    let (mut lost, mut lost_too) = (sink(), sink());
    // Neither side learns of the end of the other.
    let _ = tokio::join!(
        copy(&mut near_from, &mut lost),
        copy(&mut far_from, &mut lost_too)
    );
    std::future::pending().await
}

impl NetTransport for Wired {
    type Listener = <TcpTransport as NetTransport>::Listener;
    type Connection = <TcpTransport as NetTransport>::Connection;

    async fn create_listener(
        &self,
        bind_addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Listener> {
        self.tcp.create_listener(bind_addr, alpn, credential).await
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Connection> {
        self.connect_from(ANY_PORT, addr, alpn, credential).await
    }

    async fn connect_from(
        &self,
        local_addr: SocketAddr,
        addr: SocketAddr,
        alpn: &[Alpn],
        credential: &NetCredential,
    ) -> anyhow::Result<Self::Connection> {
        let listener = TcpListener::bind(ANY_PORT).await?;
        let via = listener.local_addr()?;
        let forwarding = forward(listener, [local_addr, addr], self.wires.clone());
        // A dial that is given up ends here, and its forwarder with it.
        let forwarding = Task::spawn(async move { drop(forwarding.await) });
        let connection = self.tcp.connect(via, alpn, credential).await?;
        self.forwarders.lock().unwrap().push(forwarding);
        Ok(connection)
    }

    async fn resolve(&self, name: &str) -> anyhow::Result<Vec<SocketAddr>> {
        self.tcp.resolve(name).await
    }
}

type Node = Participant<Wired>;

/// Returns the wires, a member, and three others. All know each other.
async fn cluster() -> (watch::Sender<Wires>, Node, Vec<Node>) {
    let (wires, network) = watch::channel(Wires::default());
    let secret = ClusterSecret::generate();
    let network = Wired {
        tcp: TcpTransport::default(),
        wires: network,
        forwarders: Arc::default(),
    };
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..4 {
        let transport = TransportLayerTransport::with_config(
            network.clone(),
            member(&secret),
            TransportLayerConfig::default().with_interval(INTERVAL),
        );
        let mut config = GossipConfig::new("cluster", format!("m{n}")).with_interval(INTERVAL);
        // As in a cluster that is older than a few rounds: what is assumed at the start counts for little.
        config.failure_detector = FailureDetectorConfig::default()
            .with_initial_interval(INTERVAL)
            .with_max_interval(INTERVAL * 10);
        let seed = nodes.first().map(|node| node.id().addr().to_string());
        config.seeds = seed.into_iter().collect();
        let socket = transport.open(ANY_PORT).await.unwrap();
        nodes.push(Participant::join(socket, config).await.unwrap());
    }
    for node in &nodes {
        until(node, |node| has_live(node, 3)).await;
    }
    // Each pair is connected after some rounds.
    for node in &nodes {
        let connected = async {
            while node.stats().connections.len() < 3 {
                sleep(INTERVAL / 4).await;
            }
        };
        soon(connected).await;
    }
    let cut = nodes.pop().unwrap();
    (wires, cut, nodes)
}

/// Waits until `done` returns true. Checks it again after each change.
async fn until<T: NetTransport>(node: &Participant<T>, done: impl Fn(&Participant<T>) -> bool) {
    let mut watch = node.watch();
    soon(async {
        while !done(node) {
            assert!(watch.changed().await, "the member has left");
        }
    })
    .await;
}

fn has_live<T: NetTransport>(node: &Participant<T>, others: usize) -> bool {
    let members = node.members().into_iter();
    let live = members.filter(|member| member.liveness == Liveness::Live);
    live.count() == others
}

/// Waits until the others have the key of `cut`, and returns how long that took; then until all are
/// live again, and returns how long that took.
async fn recovered(since: Instant, cut: &Node, others: &[Node]) -> (Duration, Duration) {
    let id = cut.id();
    for other in others {
        until(other, |other| other.member_value(&id, "k").is_some()).await;
    }
    let key = since.elapsed();
    for node in others.iter().chain([cut]) {
        until(node, |node| has_live(node, 3)).await;
    }
    (key, since.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_have_all_fallen_silent_are_replaced_within_a_few_rounds() {
    let (wires, cut, others) = cluster().await;
    wires.send_modify(|wires| {
        wires.machine = Some(cut.id().addr());
        wires.cuts += 1;
    });
    let start = Instant::now();
    cut.set("k", "v").unwrap();
    until(&cut, |cut| has_live(cut, 0)).await;
    let suspected = start.elapsed();
    let (key, all) = recovered(start, &cut, &others).await;
    println!("others dead after {suspected:?}, key after {key:?}, all live after {all:?}");
    assert!(suspected <= INTERVAL * (ROUNDS_TO_SUSPECT + FEW_ROUNDS));
    let replaced = suspected + ANSWER_TIME + INTERVAL * FEW_ROUNDS;
    assert!(
        key <= replaced && all <= replaced,
        "{suspected:?}, {key:?}, {all:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_is_a_member_again_a_few_rounds_after_its_network_is_back() {
    let (wires, cut, others) = cluster().await;
    wires.send_modify(|wires| {
        wires.machine = Some(cut.id().addr());
        wires.cuts += 1;
        wires.are_down = true;
    });
    cut.set("k", "v").unwrap();
    // Its connections are given up meanwhile, and dials get no answer.
    until(&cut, |cut| has_live(cut, 0)).await;
    sleep(ANSWER_TIME + INTERVAL * FEW_ROUNDS).await;
    assert!(cut.stats().connections.is_empty());
    wires.send_modify(|wires| wires.are_down = false);
    let back = Instant::now();
    let (key, all) = recovered(back, &cut, &others).await;
    println!("key after {key:?}, all live after {all:?}");
    assert!(all <= INTERVAL * (10 + FEW_ROUNDS), "{key:?}, {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_alone_has_fallen_silent_is_replaced_within_a_few_rounds() {
    let (wires, cut, others) = cluster().await;
    let to = others[0].id().addr();
    let start = Instant::now();
    wires.send_modify(|wires| {
        wires.machine = Some(cut.id().addr());
        wires.other = Some(to);
        wires.cuts += 1;
    });
    // Each is live for the other all the time, since the other two report its heartbeats.
    let replaced = async {
        loop {
            assert!(has_live(&cut, 3) && has_live(&others[0], 3));
            let connections = cut.stats().connections;
            let mut to_other = connections.iter().filter(|open| open.remote_addr == to);
            if to_other.any(|open| open.age < start.elapsed()) {
                return;
            }
            sleep(INTERVAL / 4).await;
        }
    };
    soon(replaced).await;
    let took = start.elapsed();
    println!("replaced after {took:?}");
    assert!(
        took <= ANSWER_TIME + INTERVAL * (4 + 2 * FEW_ROUNDS),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_seed_that_falls_silent_before_the_first_exchange_is_replaced() {
    let secret = ClusterSecret::generate();
    let tcp = TcpTransport::default();
    let credential = member(&secret);
    let listener = tcp
        .create_listener(ANY_PORT, &[ALPN_V1], &credential)
        .await
        .unwrap();
    let seed = listener.local_addr();
    let open = |credential, at| {
        let config = TransportLayerConfig::default().with_interval(INTERVAL);
        let transport = TransportLayerTransport::with_config(tcp.clone(), credential, config);
        async move { transport.open(at).await.unwrap() }
    };
    let config = |id: &str| GossipConfig::new("cluster", id).with_interval(INTERVAL);
    let newcomer = open(member(&secret), ANY_PORT).await;
    let mut joining = config("newcomer");
    joining.seeds = vec![seed.to_string()];
    let newcomer = Participant::join(newcomer, joining).await.unwrap();
    let request = soon(listener.accept()).await.unwrap();
    let _not_read = soon(request.accept()).await.unwrap();
    drop(listener);
    let start = Instant::now();
    let _seed = Participant::join(open(credential, seed).await, config("seed"))
        .await
        .unwrap();
    until(&newcomer, |newcomer| has_live(newcomer, 1)).await;
    let took = start.elapsed();
    println!("a member after {took:?}");
    assert!(
        took <= ANSWER_TIME + INTERVAL * (4 + 2 * FEW_ROUNDS),
        "{took:?}"
    );
}
