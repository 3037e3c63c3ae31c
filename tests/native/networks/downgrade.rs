//! Peers on plaintext UDP that want the traffic of authenticated peers, on real sockets: a bridge keeps
//! sending it in encrypted form, or counts and logs that it does not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gossip_transport::either::{EitherTransport, TakenOver};
use gossip_transport::gossip::{DialPolicy, GossipConfig, Participant};
use gossip_transport::memory::{DialFault, Faults, MemoryListener, MemoryNetwork, MemoryTransport};
use gossip_transport::message::{ChitchatMessage, Message as _, ProtocolVersion};
use gossip_transport::net::{
    Alpn, NetConnection as _, NetIncomingRequest as _, NetListener as _, NetTransport,
};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{DropReason, SocketStats, TransportLayerConfig};
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{
    ClusterSecret, Identity, NetCredential, TransportLayerSocket, TransportLayerTransport, Trust,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::layer::until;
use crate::support::log::Log;
use crate::support::tab::{Tab, nowhere};
use crate::support::{self, ANY_PORT, anyone, holders, member, soon};

type Both = EitherTransport<TcpTransport, PlaintextUdpTransport>;
type Memories = EitherTransport<MemoryTransport, MemoryTransport>;
type Socket<T> = TransportLayerSocket<T, ChitchatMessage>;

fn both() -> Both {
    EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default())
}

/// The shortest message: 4 bytes.
fn message() -> ChitchatMessage {
    ChitchatMessage::BadCluster {
        version: ProtocolVersion::V0,
    }
}

async fn bridge(secret: &ClusterSecret, config: TransportLayerConfig) -> (Both, Socket<Both>) {
    let network = both();
    let transport = TransportLayerTransport::with_config(network.clone(), member(secret), config);
    (network, transport.open(ANY_PORT).await.unwrap())
}

async fn tcp(credential: NetCredential, addr: SocketAddr) -> Socket<TcpTransport> {
    let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
    transport.open(addr).await.unwrap()
}

/// A datagram socket with the address of another peer.
struct Attacker(UdpSocket);

impl Attacker {
    async fn at(addr: SocketAddr) -> Self {
        Self(UdpSocket::bind(addr).await.unwrap())
    }

    async fn knock(&self, at: SocketAddr) {
        let bytes = message().into_bytes().unwrap();
        self.0.send_to(&bytes, at).await.unwrap();
    }

    /// Asserts that nothing has arrived.
    async fn has_received_nothing(&self) {
        // On loopback, what was sent has arrived; the receiver must look once.
        tokio::task::yield_now().await;
        let mut buffer = [0; 100];
        let received = self.0.try_recv_from(&mut buffer);
        let error = received.expect_err("it has received a datagram");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// Returns the identities of the connections that are registered at `addr`.
fn identities(stats: &SocketStats, addr: SocketAddr) -> Vec<Identity> {
    let connections = stats.connections.iter();
    let at = connections.filter(|connection| connection.remote_addr == addr);
    at.map(|connection| connection.remote_identity).collect()
}

#[tokio::test]
async fn datagrams_from_the_address_of_an_authenticated_peer_divert_none_of_its_messages() {
    let secret = ClusterSecret::generate();
    let (_, bridge) = bridge(&secret, TransportLayerConfig::default()).await;
    let transport = TransportLayerTransport::new(Tab(TcpTransport::default()), member(&secret));
    let tab: Socket<Tab<TcpTransport>> = transport.open(nowhere()).await.unwrap();
    let node = tcp(member(&secret), ANY_PORT).await;
    let behind = tcp(member(&secret), ANY_PORT).await;
    let proxy = TcpListener::bind(ANY_PORT).await.unwrap();
    let (proxy_addr, behind_addr) = (proxy.local_addr().unwrap(), behind.local_addr());
    tokio::spawn(async move {
        let (mut near, _) = proxy.accept().await?;
        let mut far = TcpStream::connect(behind_addr).await?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    });
    tab.send(bridge.local_addr(), message()).await.unwrap();
    let (tab_addr, _) = soon(bridge.recv()).await.unwrap();
    let stats = bridge.stats();
    let of_tab = stats.connections.iter().find(|c| c.remote_addr == tab_addr);
    let tab_source = of_tab.unwrap().network_addr;
    node.send(bridge.local_addr(), message()).await.unwrap();
    assert_eq!(soon(bridge.recv()).await.unwrap().0, node.local_addr());
    bridge.send(proxy_addr, message()).await.unwrap();
    soon(behind.recv()).await.unwrap();

    let mut attackers = Vec::new();
    for source in [tab_source, node.local_addr(), proxy_addr] {
        let attacker = Attacker::at(source).await;
        attacker.knock(bridge.local_addr()).await;
        attackers.push(attacker);
    }
    // The tab has the address for itself only on TCP, so a datagram from there is one of another peer.
    assert_eq!(soon(bridge.recv()).await.unwrap().0, tab_source);
    let refused =
        |stats: &SocketStats| stats.naming.unauthenticated_refused + stats.accept_failed == 2;
    let stats = until(&bridge, refused).await;
    assert_eq!(identities(&stats, tab_source), [Identity::UNPROVED]);
    for (to, identity) in [
        (tab_addr, tab.local_identity()),
        (node.local_addr(), node.local_identity()),
        (behind_addr, behind.local_identity()),
    ] {
        assert_eq!(identities(&stats, to), [identity]);
    }
    for _ in 0..10 {
        bridge.send(tab_addr, message()).await.unwrap();
        bridge.send(node.local_addr(), message()).await.unwrap();
        bridge.send(proxy_addr, message()).await.unwrap();
        soon(tab.recv()).await.unwrap();
        soon(node.recv()).await.unwrap();
        soon(behind.recv()).await.unwrap();
    }
    // What is for the tab is not sent to its source when it has gone, either.
    drop(tab);
    until(&bridge, |stats| identities(stats, tab_addr).is_empty()).await;
    bridge.send(tab_addr, message()).await.unwrap();
    let dropped = |stats: &SocketStats| stats.total.dropped.count(DropReason::Unroutable) == 1;
    until(&bridge, dropped).await;
    for attacker in attackers {
        attacker.has_received_nothing().await;
    }
}

#[tokio::test]
async fn a_member_that_restarts_is_reached_over_tcp_although_datagrams_come_from_its_address() {
    let secret = ClusterSecret::generate();
    // The bridge forgets its peers soon, so that only the network still knows of the member.
    let config = TransportLayerConfig::default()
        .with_idle_timeout(Duration::from_millis(20))
        .with_peer_linger(Duration::from_millis(10));
    let (network, bridge) = bridge(&secret, config).await;
    let credential = member(&secret);
    let node = tcp(credential.clone(), ANY_PORT).await;
    let addr = node.local_addr();
    let is_forgotten = |stats: &SocketStats| !stats.peers.contains_key(&addr);
    bridge.send(addr, message()).await.unwrap();
    soon(node.recv()).await.unwrap();
    until(&bridge, is_forgotten).await;
    let attacker = Attacker::at(addr).await;
    attacker.knock(bridge.local_addr()).await;
    until(&bridge, |_| network.counts().refused == 1).await;
    drop(node);

    let node = tcp(credential, addr).await;
    for _ in 0..10 {
        attacker.knock(bridge.local_addr()).await;
        bridge.send(addr, message()).await.unwrap();
        soon(node.recv()).await.unwrap();
    }
    until(&bridge, is_forgotten).await;
    bridge.send(addr, message()).await.unwrap();
    soon(node.recv()).await.unwrap();
    assert_eq!(network.counts().fallbacks, 0);
    attacker.has_received_nothing().await;
}

/// Nothing is known of the member but its address.
#[tokio::test]
async fn a_member_that_was_not_met_is_reached_over_tcp_although_datagrams_come_from_its_address() {
    let secret = ClusterSecret::generate();
    let (network, bridge) = bridge(&secret, TransportLayerConfig::default()).await;
    let node = tcp(member(&secret), ANY_PORT).await;
    let addr = node.local_addr();
    let attacker = Attacker::at(addr).await;
    attacker.knock(bridge.local_addr()).await;
    soon(bridge.recv()).await.unwrap();
    until(&bridge, |stats| identities(stats, addr).len() == 1).await;

    let member = bridge.get_or_create_outgoing_connection(addr).unwrap();
    let flood = async {
        loop {
            attacker.knock(bridge.local_addr()).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let is_met = |stats: &SocketStats| identities(stats, addr) == [node.local_identity()];
    tokio::select! {
        () = flood => {}
        _ = until(&bridge, is_met) => {}
    }
    member.send(message()).await.unwrap();
    soon(node.recv()).await.unwrap();
    assert_eq!(network.counts().fallbacks, 0);
    attacker.has_received_nothing().await;
}

/// The connection over TCP is established after the bridge has dialled over UDP as well.
#[tokio::test]
async fn a_member_that_answers_late_takes_the_place_of_datagrams_that_came_before() {
    let secret = ClusterSecret::generate();
    let (_, bridge) = bridge(&secret, TransportLayerConfig::default()).await;
    let relay = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = relay.local_addr().unwrap();
    let config = TransportLayerConfig::default().with_advertise_addr(Some(addr));
    let node =
        TransportLayerTransport::with_config(TcpTransport::default(), member(&secret), config);
    let node: Socket<TcpTransport> = node.open(ANY_PORT).await.unwrap();
    let behind = node.local_addr();
    tokio::spawn(async move {
        let (mut outside, _) = relay.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let mut inside = TcpStream::connect(behind).await.unwrap();
        tokio::io::copy_bidirectional(&mut outside, &mut inside).await
    });
    let attacker = Attacker::at(addr).await;
    attacker.knock(bridge.local_addr()).await;
    soon(bridge.recv()).await.unwrap();
    bridge.get_or_create_outgoing_connection(addr).unwrap();
    let late = async {
        loop {
            attacker.knock(bridge.local_addr()).await;
            bridge.send(addr, message()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = late => {}
        received = soon(node.recv()) => assert_eq!(received.unwrap().0, bridge.local_addr()),
    }
    assert_eq!(identities(&bridge.stats(), addr), [node.local_identity()]);
}

/// Another member tells the bridge of it, and it dials nobody.
#[tokio::test]
async fn a_member_that_others_report_is_met_over_tcp_although_datagrams_come_from_its_address() {
    let secret = ClusterSecret::generate();
    let config = |name: &str, seeds: &[SocketAddr]| {
        GossipConfig::new("cluster", name)
            .with_interval(Duration::from_millis(50))
            .with_seeds(seeds.iter().map(ToString::to_string).collect())
    };
    let (_, socket) = bridge(&secret, TransportLayerConfig::default()).await;
    let at = socket.local_addr();
    let bridge = Participant::join(socket, config("bridge", &[])).await;
    let socket = tcp(member(&secret), ANY_PORT).await;
    let (addr, identity) = (socket.local_addr(), socket.local_identity());
    let attacker = Attacker::at(addr).await;
    attacker.knock(at).await;
    let bridge = bridge.unwrap();
    support::until("the datagram to arrive", async || {
        identities(&bridge.stats(), addr).len() == 1
    })
    .await;
    let silent = config("silent", &[]).with_dial(DialPolicy::SeedsOnly);
    let _silent = Participant::join(socket, silent).await.unwrap();
    let other = tcp(member(&secret), ANY_PORT).await;
    let _other = Participant::join(other, config("other", &[at, addr]))
        .await
        .unwrap();
    support::until("the bridge to meet the member", async || {
        attacker.knock(at).await;
        identities(&bridge.stats(), addr) == [identity]
    })
    .await;
}

#[tokio::test]
async fn a_member_that_changes_from_tcp_to_udp_is_reached_again_and_that_is_counted() {
    let secret = ClusterSecret::generate();
    let config = TransportLayerConfig::default().with_peer_linger(Duration::from_millis(500));
    let (network, bridge) = bridge(&secret, config).await;
    let node = tcp(member(&secret), ANY_PORT).await;
    let addr = node.local_addr();
    bridge.send(addr, message()).await.unwrap();
    soon(node.recv()).await.unwrap();
    drop(node);
    let udp = TransportLayerTransport::new(PlaintextUdpTransport::default(), anyone());
    let udp: Socket<PlaintextUdpTransport> = udp.open(addr).await.unwrap();
    let met = async {
        loop {
            // Both sides keep trying, as gossip does.
            udp.send(bridge.local_addr(), message()).await.unwrap();
            bridge.send(addr, message()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = met => {}
        received = soon(udp.recv()) => assert_eq!(received.unwrap().0, bridge.local_addr()),
    }
    let identities = identities(&bridge.stats(), addr);
    assert!(
        identities
            .iter()
            .all(|identity| *identity == Identity::UNPROVED)
    );
    assert!(network.counts().fallbacks >= 1);
    assert_eq!(bridge.stats().naming.downgraded, 1);
}

static ALPN: [Alpn; 1] = [Alpn::from_static(b"either/1")];

/// A node with two networks in memory, and a peer that listens on both at the same address.
struct TwoNetworks {
    first: MemoryNetwork,
    node: Memories,
    node_ip: IpAddr,
    peer_ip: IpAddr,
    credential: NetCredential,
    listeners: Vec<MemoryListener>,
}

impl TwoNetworks {
    async fn new() -> Self {
        let [first, second] = [1, 2].map(MemoryNetwork::new);
        let [node_ip, peer_ip] = [1, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        let credential = anyone();
        let mut listeners = Vec::new();
        for network in [&first, &second] {
            let peer = network.host(peer_ip);
            let addr = SocketAddr::new(peer_ip, 7000);
            let listener = peer.create_listener(addr, &ALPN, &credential);
            listeners.push(listener.await.unwrap());
        }
        Self {
            node: EitherTransport::new(first.host(node_ip), second.host(node_ip)),
            first,
            node_ip,
            peer_ip,
            credential,
            listeners,
        }
    }

    async fn dial(&self) -> anyhow::Result<<Memories as NetTransport>::Connection> {
        let addr = SocketAddr::new(self.peer_ip, 7000);
        self.node.connect(addr, &ALPN, &self.credential).await
    }

    /// Runs `dialling` while the peer accepts and keeps all connections.
    async fn while_accepting(&self, dialling: impl Future<Output = ()>) {
        let accepting = async |n: usize| {
            let mut accepted = Vec::new();
            loop {
                let request = self.listeners[n].accept().await.unwrap();
                accepted.push(request.accept().await.unwrap());
            }
        };
        tokio::select! {
            never = accepting(0) => never,
            never = accepting(1) => never,
            () = soon(dialling) => {}
        }
    }
}

/// What is logged, once for each time, when a peer is reached over the second network.
const WARNING: &str = "which fails: using the other one";

#[tokio::test(start_paused = true)]
async fn the_second_network_is_used_only_after_the_first_has_failed_for_its_head_start() {
    let log = Log::collect("gossip_transport=warn");
    let world = TwoNetworks::new().await;
    let (first, node) = (&world.first, &world.node);
    let (node_ip, peer_ip) = (world.node_ip, world.peer_ip);
    let dialling = async {
        for round in 1..=2 {
            let conn = world.dial().await.unwrap();
            assert!(conn.as_first().is_some());
            drop(conn);
            first.set_faults(node_ip, peer_ip, Faults::dialing(DialFault::Refused));
            let start = tokio::time::Instant::now();
            while start.elapsed() <= Duration::from_millis(250) {
                assert!(world.dial().await.is_err());
                tokio::time::advance(Duration::from_millis(50)).await;
            }
            assert_eq!(node.counts().fallbacks, 3 * (round - 1));
            assert_eq!(log.take().matches(WARNING).count(), 0);
            // Each time is counted, and logged only once until the first network is back, also if the
            // connection over the second is lost meanwhile.
            drop(world.dial().await.unwrap());
            // Both connections end when the first network is back.
            let other = world.dial().await.unwrap();
            assert!(other.as_second().is_some());
            let conn = world.dial().await.unwrap();
            assert!(conn.as_second().is_some());
            assert_eq!(node.counts().fallbacks, 3 * round);
            let logged = log.take();
            assert_eq!(logged.matches(WARNING).count(), 1, "{logged}");
            // The first network replaces the second a few seconds after it is back.
            first.heal();
            let back = tokio::time::Instant::now();
            let error = conn.recv().await.unwrap_err();
            assert!(error.is::<TakenOver>(), "{error}");
            assert!(other.recv().await.unwrap_err().is::<TakenOver>());
            assert!(
                back.elapsed() <= Duration::from_secs(6),
                "{:?}",
                back.elapsed()
            );
        }
    };
    world.while_accepting(dialling).await;
}

/// The system drops a dial that is not answered after a while, which tells the network nothing.
#[tokio::test(start_paused = true)]
async fn a_dial_that_is_given_up_counts_as_a_failure_if_it_has_taken_longer_than_the_head_start() {
    let world = TwoNetworks::new().await;
    let (first, node) = (&world.first, &world.node);
    let (node_ip, peer_ip) = (world.node_ip, world.peer_ip);
    let dialling = async {
        drop(world.dial().await.unwrap());
        first.set_faults(node_ip, peer_ip, Faults::cut());
        for (limit, gives_up) in [(200, true), (10_000, true), (10_000, false)] {
            let dial = world.dial();
            let dial = tokio::time::timeout(Duration::from_millis(limit), dial).await;
            assert_eq!(dial.is_err(), gives_up, "{dial:?}");
            tokio::time::advance(Duration::from_millis(300)).await;
        }
        assert_eq!(node.counts().fallbacks, 1);
    };
    world.while_accepting(dialling).await;
}

#[tokio::test]
async fn a_leaf_that_states_the_address_of_a_member_over_udp_does_not_keep_it_out() {
    let secret = ClusterSecret::generate();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let transport = TransportLayerTransport::new(both(), NetCredential::generate(trust));
    let bridge: Socket<Both> = transport.open(ANY_PORT).await.unwrap();
    let upstream = UdpSocket::bind(ANY_PORT).await.unwrap();
    // The leaf is on the host of that member, or behind the same NAT.
    let leaf = NetCredential::generate(holders(&secret, |claims| claims));
    leaf.state_addr(upstream.local_addr().unwrap());
    let (network, alpn) = (TcpTransport::default(), [ChitchatMessage::ALPN]);
    let dialled = network.connect(bridge.local_addr(), &alpn, &leaf);
    let _conn = soon(dialled).await.unwrap();
    until(&bridge, |stats| stats.connections.len() == 1).await;
    let bytes = message().into_bytes().unwrap();
    upstream.send_to(&bytes, bridge.local_addr()).await.unwrap();
    let (from, _) = soon(bridge.recv()).await.unwrap();
    assert_eq!(from, upstream.local_addr().unwrap());
}
