//! Addresses that have several forms: IPv4 addresses that a socket on `[::]` sees mapped into IPv6, and
//! IPv6 link-local addresses. Addresses that belong to no single machine.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use chitchat_013::transport::Socket as Socket013;
use gossip_transport::either::EitherTransport;
use gossip_transport::gossip::engine::{Engine, Event, Output};
use gossip_transport::gossip::{GossipConfig, Participant};
use gossip_transport::memory::MemoryNetwork;
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, Digest, Message as _, NodeDigest, ProtocolVersion,
};
use gossip_transport::net::{ConnectError, NetTransport, NotListenable};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{DropReason, TransportLayerConfig};
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{
    ClusterSecret, ConfigError, Identity, Role, TransportLayerSocket, TransportLayerTransport,
};

use crate::support::upstream::{Bound, Node, Release, Settings, our_config};
use crate::support::{self, anyone, member, soon, until};

type Socket<T> = TransportLayerSocket<T, ChitchatMessage>;

fn message() -> ChitchatMessage {
    ChitchatMessage::BadCluster {
        version: ProtocolVersion::V0,
    }
}

/// Every address of this machine, of both families.
fn everywhere() -> SocketAddr {
    "[::]:0".parse().unwrap()
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn mapped(addr: SocketAddr) -> SocketAddr {
    let SocketAddr::V4(addr) = addr else {
        panic!("{addr} is no IPv4 address");
    };
    (addr.ip().to_ipv6_mapped(), addr.port()).into()
}

/// Returns whether this machine has IPv6. Tests of it are skipped otherwise.
fn has_ipv6() -> bool {
    let has = std::net::UdpSocket::bind(everywhere()).is_ok();
    if !has {
        eprintln!("skipped: there is no IPv6 here");
    }
    has
}

async fn open<T: NetTransport>(network: T, secret: &ClusterSecret) -> Socket<T> {
    let config = TransportLayerConfig::default().with_advertise_addr(Some(mapped(loopback(0))));
    let transport = TransportLayerTransport::with_config(network, member(secret), config);
    transport.open(everywhere()).await.unwrap()
}

/// Sends to and fro between a socket on `[::]` and one on an IPv4 address, in all forms of the addresses.
async fn exchange<T: NetTransport>(network: T) {
    let secret = ClusterSecret::generate();
    let node = open(network.clone(), &secret).await;
    let peer: Socket<T> = support::open(network, member(&secret)).await;
    let addr = loopback(node.local_addr().port());
    assert_eq!(node.advertised_addr(), addr);
    for to in [addr, mapped(addr)] {
        peer.send(to, message()).await.unwrap();
        assert_eq!(soon(node.recv()).await.unwrap().0, peer.local_addr());
    }
    for to in [peer.local_addr(), mapped(peer.local_addr())] {
        node.send(to, message()).await.unwrap();
        assert_eq!(soon(peer.recv()).await.unwrap().0, addr);
    }
    let (here, there) = (node.stats(), peer.stats());
    assert!(here.peers.keys().eq([&peer.local_addr()]));
    assert!(there.peers.keys().eq([&addr]));
    for connection in here.connections.iter().chain(&there.connections) {
        assert!(connection.network_addr.is_ipv4(), "{connection:?}");
    }
}

#[tokio::test]
async fn a_socket_on_every_address_knows_ipv4_peers_by_their_ipv4_addresses() {
    if !has_ipv6() {
        return;
    }
    exchange(TcpTransport::default()).await;
    exchange(PlaintextUdpTransport::default()).await;
    let both = EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
    exchange(both).await;
}

#[tokio::test]
async fn a_udp_socket_on_every_address_reaches_ipv4_and_ipv6_peers() {
    if !has_ipv6() {
        return;
    }
    let secret = ClusterSecret::generate();
    let node = open(PlaintextUdpTransport::default(), &secret).await;
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let network = TransportLayerTransport::new(PlaintextUdpTransport::default(), anyone());
        let peer: Socket<_> = network.open(addr.parse().unwrap()).await.unwrap();
        node.send(peer.local_addr(), message()).await.unwrap();
        let (from, _) = soon(peer.recv()).await.unwrap();
        peer.send(from, message()).await.unwrap();
        assert_eq!(soon(node.recv()).await.unwrap().0, peer.local_addr());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_on_every_address_hears_upstream_nodes_under_the_addresses_that_they_advertise() {
    const INTERVAL: Duration = Duration::from_millis(100);
    if !has_ipv6() {
        return;
    }
    let mut upstream: Vec<Node> = Vec::new();
    for n in 0..3 {
        let seeds: Vec<_> = upstream.iter().map(Node::addr).collect();
        let settings = Settings::new("canonical", format!("upstream-{n}"), INTERVAL, &seeds);
        let release = Release::V013(ProtocolVersion::V0);
        upstream.push(settings.named().on_udp(release).await);
    }
    let seeds: Vec<_> = upstream.iter().map(Node::addr).collect();
    let both = EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
    let bridge = open(both, &ClusterSecret::generate()).await;
    let config = our_config("canonical", "bridge", INTERVAL, &seeds);
    let bridge = Participant::join(bridge, config).await.unwrap();
    assert!(bridge.id().gossip_advertise_addr.is_ipv4());
    bridge.set("name", "bridge").unwrap();
    until("all to know each other", async || {
        for node in &upstream {
            if node.live_and_named().await != 4 {
                return false;
            }
        }
        bridge.members().len() == 4
    })
    .await;
    // What is sent to the address of a member and what is heard from it belong together: a member that
    // seems silent would receive no changes until a round selects it.
    let stats = bridge.stats();
    assert!(
        stats
            .peers
            .keys()
            .eq(&seeds.iter().copied().collect::<BTreeSet<_>>())
    );
    for peer in stats.peers.values() {
        assert!(peer.sent > 0 && peer.received > 0, "{peer:?}");
    }
    bridge.set("late", "yes").unwrap();
    until("the change to arrive", async || {
        let late = upstream.iter().map(|node| node.read("bridge", "late"));
        futures::future::join_all(late)
            .await
            .iter()
            .all(Option::is_some)
    })
    .await;
}

/// Starts an upstream node on an IPv4 address that advertises it mapped into IPv6.
async fn upstream_with_mapped_address(seed: SocketAddr) -> chitchat_013::ChitchatHandle {
    let socket = chitchat_013::transport::UdpSocket::open(loopback(0)).await;
    let socket = socket.unwrap();
    let addr = Socket013::local_addr(&socket).unwrap();
    let config = chitchat_013::ChitchatConfig {
        chitchat_id: chitchat_013::ChitchatId::new("mapped".to_owned(), 1, mapped(addr)),
        cluster_id: "canonical".to_owned(),
        gossip_interval: Duration::from_millis(20),
        listen_addr: addr,
        seed_nodes: vec![seed.to_string()],
        failure_detector_config: chitchat_013::FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(60),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: chitchat_013::ProtocolVersion::V0,
    };
    let transport = Bound::new(Box::new(socket));
    let node = chitchat_013::spawn_chitchat(config, Vec::new(), &transport);
    node.await.unwrap()
}

#[tokio::test]
async fn an_upstream_node_that_advertises_a_mapped_address_is_the_peer_at_its_ipv4_address() {
    const SECOND: Duration = Duration::from_secs(1);
    let socket = tokio::net::UdpSocket::bind(loopback(0)).await.unwrap();
    let own = socket.local_addr().unwrap();
    let _node = upstream_with_mapped_address(own).await;
    let config = GossipConfig::new("canonical", "us").with_rng_seed(Some(1));
    let mut engine = Engine::new(config, ChitchatId::new("us", 1, own), Duration::ZERO).unwrap();
    // Its own address is no seed.
    engine.handle(Event::Seeds(vec![mapped(own)]), Duration::ZERO);
    let other = ChitchatId::new("other", 1, loopback(9));
    let (mut node, mut selected) = (own, BTreeSet::new());
    for at in 1..=10 {
        let mut bytes = [0; 65_536];
        let (len, from) = soon(socket.recv_from(&mut bytes)).await.unwrap();
        let bytes = bytes::Bytes::copy_from_slice(&bytes[..len]);
        let theirs = ChitchatMessage::decode(bytes.clone()).unwrap();
        assert_eq!(theirs.clone().into_bytes().unwrap(), bytes);
        node = from;
        let beat = NodeDigest {
            heartbeat: at,
            ..NodeDigest::default()
        };
        let ours = ChitchatMessage::Syn {
            version: ProtocolVersion::V0,
            cluster_id: "canonical".to_owned(),
            digest: Digest {
                node_digests: [(other.clone(), beat)].into(),
            },
        };
        let now = SECOND * u32::try_from(at).unwrap();
        for (from, message) in [(mapped(from), theirs), (loopback(9), ours)] {
            let event = Event::Message {
                from,
                identity: Identity::UNPROVED,
                role: Role::Core,
                message,
            };
            engine.handle(event, now);
        }
        selected.extend(receivers(engine.handle(Event::Round, now)));
    }
    assert_eq!(selected, BTreeSet::from([node, loopback(9)]));
    let members = engine.members().into_iter();
    let ids = members.map(|member| member.id.gossip_advertise_addr);
    assert!(ids.collect::<Vec<_>>().contains(&mapped(node)));
    // Neither of them is silent, so both get a change at once.
    engine.set("key", "value", SECOND * 10).unwrap();
    let pushed = receivers(engine.handle(Event::Rumours, SECOND * 10));
    assert_eq!(BTreeSet::from_iter(pushed), selected);
}

fn receivers(outputs: Vec<Output>) -> Vec<SocketAddr> {
    let to = |output| match output {
        Output::Send { to, .. } => vec![to],
        Output::SendToAll { to, .. } => to,
        _ => Vec::new(),
    };
    outputs.into_iter().flat_map(to).collect()
}

#[test]
fn a_member_id_equals_its_own_wire_form() {
    for ip in ["fe80::1", "2001:db8::1", "::ffff:192.0.2.1"] {
        let addr = SocketAddrV6::new(ip.parse().unwrap(), 7946, 5, 2);
        let id = ChitchatId::new("member", 1, addr.into());
        let mut digest = Digest::default();
        digest
            .node_digests
            .insert(id.clone(), NodeDigest::default());
        let syn = ChitchatMessage::Syn {
            version: ProtocolVersion::V0,
            cluster_id: "cluster".to_owned(),
            digest: digest.clone(),
        };
        let bytes = syn.clone().into_bytes().unwrap();
        assert_eq!(ChitchatMessage::decode(bytes).unwrap(), syn);
    }
}

#[tokio::test]
async fn a_participant_advertises_the_canonical_form_of_its_address() {
    let socket: Socket<TcpTransport> = support::open(TcpTransport::default(), anyone()).await;
    let config =
        GossipConfig::new("cluster", "member").with_advertise_addr(Some(mapped(loopback(7946))));
    let member = Participant::join(socket, config).await.unwrap();
    assert_eq!(member.id().gossip_advertise_addr, loopback(7946));
}

#[tokio::test]
async fn link_local_addresses_are_refused_with_an_explanation() {
    let scoped = "[fe80::1%1]:7946".parse().unwrap();
    let config = TransportLayerConfig::default().with_advertise_addr(Some(scoped));
    let error: ConfigError = config.validate().unwrap_err();
    assert!(error.to_string().contains("link-local"), "{error}");

    let socket: Socket<TcpTransport> = support::open(TcpTransport::default(), anyone()).await;
    let peer = socket.get_or_create_outgoing_connection(scoped).unwrap();
    let error = soon(peer.connected(Duration::from_secs(60)))
        .await
        .unwrap_err();
    let typed = error.downcast_ref::<ConnectError>();
    assert!(
        matches!(typed, Some(ConnectError::NotDialable { .. })),
        "{error:#}"
    );
    assert!(error.to_string().contains("link-local"), "{error:#}");
    socket.send(scoped, message()).await.unwrap();
    let dropped = socket.stats().total.dropped;
    assert_eq!(dropped.count(DropReason::Unroutable), 1);
}

/// Addresses of no single machine, with the port 7.
const NO_MACHINE: [&str; 7] = [
    "224.0.0.1:7",
    "[::ffff:224.0.0.1]:7",
    "255.255.255.255:7",
    "240.0.0.1:7",
    "0.0.0.1:7",
    "[ff02::1]:7",
    "[100::1]:7",
];

async fn neither_dials_nor_listens<T: NetTransport>(network: T) {
    let (alpn, credential) = (ChitchatMessage::alpns(), anyone());
    for text in NO_MACHINE {
        let addr = text.parse().unwrap();
        let bound = network.create_listener(addr, &alpn, &credential).await;
        let error = bound.err().expect("the address belongs to no machine");
        let typed = error.downcast_ref();
        assert_eq!(typed, Some(&NotListenable { addr }), "{error:#}");
        assert!(format!("{error:#}").contains(text), "{error:#}");
        let dialled = soon(network.connect(addr, &alpn, &credential)).await;
        let error = dialled.err().unwrap();
        let typed = error.downcast_ref();
        assert!(
            matches!(typed, Some(ConnectError::NotDialable { .. })),
            "{error:#}"
        );
        assert!(format!("{error:#}").contains(text), "{error:#}");
    }
}

#[tokio::test]
async fn no_network_dials_or_listens_on_an_address_of_no_single_machine() {
    let memory = MemoryNetwork::new(1).host([127, 0, 0, 1].into());
    neither_dials_nor_listens(memory).await;
    neither_dials_nor_listens(TcpTransport::default()).await;
    neither_dials_nor_listens(PlaintextUdpTransport::default()).await;
    let (tcp, udp) = (TcpTransport::default(), PlaintextUdpTransport::default());
    neither_dials_nor_listens(EitherTransport::new(tcp, udp)).await;
}

#[tokio::test]
async fn no_participant_advertises_an_address_of_no_single_machine() {
    for text in NO_MACHINE {
        let addr = Some(text.parse().unwrap());
        let config = TransportLayerConfig::default().with_advertise_addr(addr);
        assert!(config.validate().unwrap_err().to_string().contains(text));
        let socket: Socket<TcpTransport> = support::open(TcpTransport::default(), anyone()).await;
        let config = GossipConfig::new("cluster", "member").with_advertise_addr(addr);
        let error = Participant::join(socket, config).await.err().unwrap();
        let error: ConfigError = error.downcast().unwrap();
        assert_eq!((&*error.field, &*error.value), ("advertise_addr", text));
    }
}
