//! TCP and plaintext UDP on one socket: each peer is reached over the network that it speaks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gossip_transport::either::{EitherTransport, TakenOver};
use gossip_transport::gossip::{GossipConfig, Liveness, Participant};
use gossip_transport::memory::{Faults, MemoryConfig, MemoryNetwork, MemoryTransport};
use gossip_transport::message::{ChitchatMessage, Message as _, ProtocolVersion};
use gossip_transport::net::{
    Alpn, NetConnection as _, NetIncomingRequest as _, NetListener as _, NetTransport,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{
    ClusterSecret, ConfigError, Identity, NetCredential, TransportLayerSocket,
    TransportLayerTransport,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;

use crate::support::upstream::{Node, Release, Settings, our_config};
use crate::support::{self, ANY_PORT, anyone, member, own_cluster, soon, until};

const INTERVAL: Duration = Duration::from_millis(100);
/// Longer than the head start of the first network, and much shorter than a dial that is not
/// answered.
const NO_STALL: Duration = Duration::from_secs(5);

type Both = EitherTransport<TcpTransport, PlaintextUdpTransport>;
type Socket<T> = TransportLayerSocket<T, ChitchatMessage>;

fn both() -> Both {
    EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default())
}

async fn open<T: NetTransport>(network: T, secret: &ClusterSecret) -> Socket<T> {
    support::open(network, member(secret)).await
}

fn message() -> ChitchatMessage {
    ChitchatMessage::BadCluster {
        version: ProtocolVersion::V0,
    }
}

/// Returns whether the only connection with `peer` is authenticated.
fn is_secure<T: NetTransport>(socket: &Socket<T>, peer: SocketAddr) -> bool {
    let stats = socket.stats();
    let mut with_peer = stats
        .connections
        .iter()
        .filter(|info| info.remote_addr == peer || info.network_addr == peer);
    let info = with_peer.next().expect("there must be a connection");
    assert!(
        with_peer.next().is_none(),
        "there must be only one connection"
    );
    info.remote_identity != Identity::UNPROVED
}

#[tokio::test]
async fn one_port_serves_both_networks_and_replies_use_the_network_of_the_request() {
    let secret = ClusterSecret::generate();
    let node = open(both(), &secret).await;
    let tcp = open(TcpTransport::default(), &secret).await;
    let udp = open(PlaintextUdpTransport::default(), &secret).await;
    tcp.send(node.local_addr(), message()).await.unwrap();
    let (from_tcp, _) = soon(node.recv()).await.unwrap();
    udp.send(node.local_addr(), message()).await.unwrap();
    let (from_udp, _) = soon(node.recv()).await.unwrap();
    assert_eq!(from_udp, udp.local_addr());
    assert!(is_secure(&node, from_tcp) && !is_secure(&node, from_udp));
    node.send(from_tcp, message()).await.unwrap();
    node.send(from_udp, message()).await.unwrap();
    assert_eq!(soon(tcp.recv()).await.unwrap().0, node.local_addr());
    assert_eq!(soon(udp.recv()).await.unwrap().0, node.local_addr());
}

#[tokio::test]
async fn both_ports_are_free_as_soon_as_the_socket_is_dropped() {
    let secret = ClusterSecret::generate();
    let credential = member(&secret);
    let transport = TransportLayerTransport::<_, ChitchatMessage>::new(both(), credential);
    let mut socket = transport.open(ANY_PORT).await.unwrap();
    let addr = socket.local_addr();
    // It never answers, so the dial of the first network is still running when the socket is
    // dropped.
    let silent = TcpListener::bind(ANY_PORT).await.unwrap();
    for _ in 0..20 {
        assert!(transport.open(addr).await.is_err());
        socket
            .send(silent.local_addr().unwrap(), message())
            .await
            .unwrap();
        until("a connection", async || {
            !socket.stats().connections.is_empty()
        })
        .await;
        drop(socket);
        TcpListener::bind(addr).await.unwrap();
        UdpSocket::bind(addr).await.unwrap();
        socket = transport.open(addr).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_peer_is_reached_over_the_network_that_it_speaks() {
    let secret = ClusterSecret::generate();
    let node = open(both(), &secret).await;
    let tcp = open(TcpTransport::default(), &secret).await;
    let udp = open(PlaintextUdpTransport::default(), &secret).await;
    let twin = open(both(), &secret).await;
    let begin = Instant::now();
    for addr in [tcp.local_addr(), udp.local_addr(), twin.local_addr()] {
        node.send(addr, message()).await.unwrap();
    }
    soon(tcp.recv()).await.unwrap();
    soon(udp.recv()).await.unwrap();
    soon(twin.recv()).await.unwrap();
    assert!(begin.elapsed() < NO_STALL, "{:?}", begin.elapsed());
    assert!(is_secure(&node, tcp.local_addr()));
    assert!(!is_secure(&node, udp.local_addr()));
    assert!(
        is_secure(&node, twin.local_addr()),
        "the first network must be preferred"
    );
}

#[tokio::test]
async fn an_unknown_peer_whose_tcp_port_never_answers_is_reached_over_udp_soon() {
    let node = open(both(), &ClusterSecret::generate()).await;
    // The system accepts connections to this port, and nothing reads them.
    let silent = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = silent.local_addr().unwrap();
    let datagrams = UdpSocket::bind(addr).await.unwrap();
    let begin = Instant::now();
    node.send(addr, message()).await.unwrap();
    let mut buffer = [0; 100];
    let (len, from) = soon(datagrams.recv_from(&mut buffer)).await.unwrap();
    assert!(begin.elapsed() < NO_STALL, "{:?}", begin.elapsed());
    assert_eq!(buffer[..len], message().into_bytes().unwrap()[..]);
    assert_eq!(from, node.local_addr());
    // The peer can answer over UDP.
    datagrams.send_to(&buffer[..len], from).await.unwrap();
    assert_eq!(soon(node.recv()).await.unwrap().0, addr);
}

/// Starts a proxy that forwards to `to` after a second, and returns its address.
async fn slow_proxy(to: SocketAddr) -> SocketAddr {
    let proxy = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = proxy.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = proxy.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let mut far = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_tcp_connection_that_is_established_late_replaces_udp() {
    let secret = ClusterSecret::generate();
    let node = open(both(), &secret).await;
    let slow = open(TcpTransport::default(), &secret).await;
    let addr = slow_proxy(slow.local_addr()).await;
    let (mut sent, received) = (0, async { soon(slow.recv()).await.unwrap() });
    let sending = async {
        // The first messages go over UDP, to a port without a listener.
        loop {
            node.send(addr, message()).await.unwrap();
            sent += 1;
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        (_, got) = received => assert_eq!(got, message()),
        () = sending => {}
    }
    assert!(sent > 3, "{sent} sent");
    assert!(is_secure(&node, addr));
    let total = node.stats().total;
    assert_eq!(
        total.submitted,
        total.sent + total.queued + total.dropped.total()
    );
}

/// Two upstream nodes on UDP, two members on TCP, and a bridge between them that speaks both.
struct Bridged {
    upstream: Vec<Node>,
    bridge: Participant<Both>,
    tcp: Vec<Participant<TcpTransport>>,
}

fn config(name: &str, seeds: &[SocketAddr], version: ProtocolVersion) -> GossipConfig {
    let mut config = our_config(&own_cluster(), name, INTERVAL, seeds);
    config.protocol_version = version;
    config.initial_key_values = vec![("name".to_owned(), name.to_owned())];
    config
}

async fn upstream(name: &str, seeds: &[SocketAddr], version: ProtocolVersion) -> Node {
    let settings = Settings::new(&own_cluster(), name, INTERVAL, seeds).named();
    settings.on_udp(Release::V013(version)).await
}

impl Bridged {
    async fn start(version: ProtocolVersion) -> Self {
        let secret = ClusterSecret::generate();
        let mut nodes = vec![upstream("up-0", &[], version).await];
        let seed = [nodes[0].addr()];
        nodes.push(upstream("up-1", &seed, version).await);
        let bridge = open(both(), &secret).await;
        let bridge = Participant::join(bridge, config("bridge", &seed, version))
            .await
            .unwrap();
        let seed = [bridge.id().gossip_advertise_addr];
        let mut tcp = Vec::new();
        for name in ["tcp-0", "tcp-1"] {
            let socket = open(TcpTransport::default(), &secret).await;
            tcp.push(
                Participant::join(socket, config(name, &seed, version))
                    .await
                    .unwrap(),
            );
        }
        Self {
            upstream: nodes,
            bridge,
            tcp,
        }
    }

    /// Returns how many live members each node knows, counting those with a key.
    async fn views(&self) -> Vec<usize> {
        let mut views = Vec::new();
        for node in &self.upstream {
            views.push(node.live_and_named().await);
        }
        let of_ours = |members: Vec<gossip_transport::gossip::Member>| {
            let live = members.iter().filter(|member| {
                member.liveness != Liveness::Dead && member.key_values.contains_key("name")
            });
            live.count()
        };
        views.push(of_ours(self.bridge.members()));
        views.extend(self.tcp.iter().map(|member| of_ours(member.members())));
        views
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_joins_upstream_nodes_and_secure_members_into_one_cluster() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let mut bridged = Bridged::start(version).await;
        until("all to be one cluster", async || {
            bridged.views().await == [5; 5]
        })
        .await;
        // A member that dies on one side is dead on the other side as well.
        bridged.upstream.pop().unwrap().abort();
        until("the dead node to be noticed", async || {
            bridged.views().await == [4; 4]
        })
        .await;
        drop(bridged.tcp.pop());
        until("both dead nodes to be noticed", async || {
            bridged.views().await == [3; 3]
        })
        .await;
        bridged.tcp[0].set("late", "yes").unwrap();
        until("the change to cross the bridge", async || {
            let read = bridged.upstream[0].read("tcp-0", "late").await;
            read.as_deref() == Some("yes")
        })
        .await;
    }
}

/// Two networks in memory, with a node and a peer on both of them.
struct InMemory {
    networks: [MemoryNetwork; 2],
    credential: NetCredential,
}

static ALPN: [Alpn; 1] = [Alpn::from_static(b"either/1")];
const NODE: ([u8; 4], u16) = ([10, 0, 0, 1], 7000);
const PEER: ([u8; 4], u16) = ([10, 0, 0, 2], 7000);

impl InMemory {
    fn new() -> Self {
        Self {
            networks: [MemoryNetwork::new(1), MemoryNetwork::new(2)],
            credential: anyone(),
        }
    }

    fn node(&self) -> EitherTransport<MemoryTransport, MemoryTransport> {
        let [first, second] = self.hosts(NODE);
        EitherTransport::new(first, second)
    }

    fn hosts(&self, addr: ([u8; 4], u16)) -> [MemoryTransport; 2] {
        [0, 1].map(|n: usize| self.networks[n].host(addr.0.into()))
    }
}

#[tokio::test]
async fn incoming_connections_of_both_networks_are_accepted_in_turn() {
    let memory = InMemory::new();
    let node = memory.node();
    let listener = node.create_listener(NODE.into(), &ALPN, &memory.credential);
    let listener = listener.await.unwrap();
    let mut dials = Vec::new();
    for host in memory.hosts(PEER) {
        for _ in 0..10 {
            let (host, credential) = (host.clone(), memory.credential.clone());
            dials.push(tokio::spawn(async move {
                host.connect(NODE.into(), &ALPN, &credential).await
            }));
        }
    }
    // Lets all dials reach the listener.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut kinds = Vec::new();
    for _ in 0..20 {
        let request = soon(listener.accept()).await.unwrap();
        kinds.push(request.accept().await.unwrap().as_first().is_some());
    }
    for pair in kinds.chunks(2) {
        assert_ne!(pair[0], pair[1], "{kinds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answered_over_the_second_network_is_dialled_over_it_immediately() {
    let memory = InMemory::new();
    let node = memory.node();
    // Dials over the first network get no answer, not even a refusal.
    memory.networks[0].set_faults_between(NODE.0.into(), PEER.0.into(), Faults::cut());
    let [_, second] = memory.hosts(PEER);
    let listener = second.create_listener(PEER.into(), &ALPN, &memory.credential);
    let listener = listener.await.unwrap();
    let meet = async || {
        let begin = Instant::now();
        let dial = node.connect(PEER.into(), &ALPN, &memory.credential);
        let accept = async { listener.accept().await.unwrap().accept().await };
        let (dialled, accepted) = tokio::join!(dial, accept);
        (begin.elapsed(), dialled.unwrap(), accepted.unwrap())
    };
    let (took, dialled, accepted) = meet().await;
    assert!(took >= Duration::from_millis(250) && dialled.as_second().is_some());
    // While the dial of the first network is running, the second one is dialled immediately.
    let (took, _, _) = meet().await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    // That dial has ended, and the peer has not answered over any network.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (took, late, accepted_late) = meet().await;
    assert!(took >= Duration::from_millis(250), "{took:?}");
    // An answer to a dial of twenty minutes ago says nothing.
    accepted.send("an answer".into()).await.unwrap();
    let mut messages = Vec::new();
    assert!(dialled.recv_many(&mut messages).await.unwrap());
    tokio::time::sleep(Duration::from_secs(40)).await;
    let (took, _, _) = meet().await;
    assert!(took >= Duration::from_millis(250), "{took:?}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    drop((late, accepted_late));

    let (_, dialled, accepted) = meet().await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    accepted.send("an answer".into()).await.unwrap();
    assert!(dialled.recv_many(&mut messages).await.unwrap());
    let (took, again, _) = meet().await;
    assert!(took < Duration::from_millis(100) && again.as_second().is_some());
    // It does so for a minute after the dial, whatever comes.
    tokio::time::sleep(Duration::from_secs(15)).await;
    accepted.send("an answer".into()).await.unwrap();
    assert!(dialled.recv_many(&mut messages).await.unwrap());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (took, _, _) = meet().await;
    assert!(took >= Duration::from_millis(250), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_of_either_network_is_reported() {
    let credential = anyone();
    let invalid = MemoryConfig::default().with_pipe_messages(0);
    for configs in [
        [invalid.clone(), MemoryConfig::default()],
        [MemoryConfig::default(), invalid],
    ] {
        let host = |config| MemoryNetwork::with_config(1, config).host(NODE.0.into());
        let [first, second] = configs.map(host);
        let node = EitherTransport::new(first, second);
        let listened = node.create_listener(NODE.into(), &ALPN, &credential).await;
        let dialled = node.connect(PEER.into(), &ALPN, &credential).await;
        for error in [listened.unwrap_err(), dialled.unwrap_err()] {
            let error: ConfigError = error.downcast().unwrap();
            assert_eq!(error.field, "pipe_messages");
        }
    }
}

/// Returns a network that parts two hosts, these, and a transport of each that prefers that network to one which
/// does not part them.
fn parted() -> (
    MemoryNetwork,
    [IpAddr; 2],
    [EitherTransport<MemoryTransport, MemoryTransport>; 2],
) {
    let [first, second] = [1, 2].map(MemoryNetwork::new);
    let hosts = [1, 2].map(|n| [10, 0, 0, n].into());
    first.partition(&hosts[..1], &hosts[1..]);
    let transports = hosts.map(|ip| EitherTransport::new(first.host(ip), second.host(ip)));
    (first, hosts, transports)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_taken_over_can_no_longer_be_probed() {
    let (first, hosts, [a, b]) = parted();
    let (credential, alpn) = (anyone(), [ChitchatMessage::ALPN]);
    let listener = a.create_listener((hosts[0], 0).into(), &alpn, &credential);
    let listener = listener.await.unwrap();
    let addr = listener.local_addr();
    let accepting = async {
        let mut accepted = Vec::new();
        loop {
            let conn = listener.accept().await.unwrap().accept().await.unwrap();
            let receiver = conn.clone();
            tokio::spawn(async move { receiver.recv().await });
            accepted.push(conn);
        }
    };
    let dialling = async {
        let conn = b.connect(addr, &alpn, &credential).await.unwrap();
        assert!(conn.as_second().is_some());
        assert_eq!(conn.last_answer(), None);
        conn.probe().await.unwrap();
        let waiting = tokio::time::timeout(NO_STALL, conn.recv()).await;
        assert!(waiting.is_err() && conn.last_answer().is_some());

        first.heal();
        let error = soon(conn.recv()).await.unwrap_err();
        assert!(error.is::<TakenOver>(), "{error}");
        let error = conn.probe().await.unwrap_err();
        assert!(error.is::<TakenOver>(), "{error}");
        let conn = b.connect(addr, &alpn, &credential).await.unwrap();
        assert!(conn.as_first().is_some());
        conn.probe().await.unwrap();
    };
    tokio::select! {
        never = accepting => never,
        () = soon(dialling) => {}
    }
}

#[tokio::test]
async fn a_connection_that_is_established_late_is_used_by_the_socket_that_has_dialled_it_only() {
    let secret = ClusterSecret::generate();
    let slow = open(TcpTransport::default(), &secret).await;
    let addr = slow_proxy(slow.local_addr()).await;
    let network = both();
    let (alpn, one, other) = ([ChitchatMessage::ALPN], member(&secret), member(&secret));
    let conn = network.connect(addr, &alpn, &one).await.unwrap();
    assert!(conn.as_first().is_none());
    soon(conn.watch_close()).await;
    let conn = network.connect(addr, &alpn, &other).await;
    if let Ok(conn) = conn {
        assert_ne!(conn.local_identity(), one.identity());
    }
    let conn = network.connect(addr, &alpn, &one).await.unwrap();
    assert_eq!(conn.local_identity(), one.identity());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_established_late_is_used_only_if_its_protocol_is_offered() {
    let (first, hosts, [a, b]) = parted();
    let (credential, alpns) = (anyone(), [ChitchatMessage::ALPN, ALPN[0].clone()]);
    let listener = a.create_listener((hosts[0], 0).into(), &alpns, &credential);
    let listener = listener.await.unwrap();
    let addr = listener.local_addr();
    let accepting = async {
        let mut accepted = Vec::new();
        loop {
            let conn = listener.accept().await.unwrap().accept().await.unwrap();
            accepted.push(conn);
        }
    };
    let dialling = async {
        let conn = b.connect(addr, &alpns[..1], &credential).await.unwrap();
        assert!(conn.as_second().is_some());
        first.heal();
        soon(conn.watch_close()).await;
        let conn = b.connect(addr, &alpns[1..], &credential).await.unwrap();
        assert_eq!(conn.alpn_negotiated(), &alpns[1]);
        assert!(conn.as_first().is_some());
    };
    tokio::select! {
        never = accepting => never,
        () = soon(dialling) => {}
    }
}
