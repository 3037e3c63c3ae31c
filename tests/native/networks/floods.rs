//! Floods that cost other peers their connections, or this side its memory, if limits did not hold, on real
//! sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gossip_transport::either::EitherTransport;
use gossip_transport::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, KeyValueMutation, Message as _, NodeDelta,
    ProtocolVersion,
};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{DropReason, SocketStats};
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{
    ClusterSecret, Identity, NetCredential, TransportLayerSocket, TransportLayerTransport, Trust,
};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::support::layer::until;
use crate::support::tab::{Tab, nowhere};
use crate::support::{self, guests, member, soon};

type Both = EitherTransport<TcpTransport, PlaintextUdpTransport>;
type Socket<T> = TransportLayerSocket<T, ChitchatMessage>;

/// The shortest message: 4 bytes.
fn message() -> ChitchatMessage {
    ChitchatMessage::BadCluster {
        version: ProtocolVersion::V0,
    }
}

/// Ten peers that have a connection with a node, and keep it.
struct Honest(Vec<Socket<TcpTransport>>);

impl Honest {
    /// Connects the peers to `node`, which listens at `addr`.
    async fn connect<T: NetTransport>(
        node: &Socket<T>,
        addr: SocketAddr,
        secret: &ClusterSecret,
    ) -> Self {
        let mut honest = Vec::new();
        for _ in 0..10 {
            let peer: Socket<_> = support::open(TcpTransport::default(), member(secret)).await;
            peer.send(addr, message()).await.unwrap();
            soon(node.recv()).await.unwrap();
            honest.push(peer);
        }
        Self(honest)
    }

    /// Asserts that each peer still has the connection that it had at first.
    async fn are_connected<T: NetTransport>(&self, node: &Socket<T>) {
        for peer in &self.0 {
            node.send(peer.local_addr(), message()).await.unwrap();
            soon(peer.recv()).await.unwrap();
            let stats = peer.stats();
            assert_eq!((stats.dials, stats.accepted), (1, 0));
            assert_eq!(stats.connections.len(), 1);
        }
    }
}

fn unauthenticated(stats: &SocketStats) -> usize {
    let connections = stats.connections.iter();
    let unproved = connections.filter(|c| c.remote_identity == Identity::UNPROVED);
    unproved.count()
}

/// Sends one datagram from each address, no faster than `node` handles them.
async fn flood(
    node: &Socket<Both>,
    network: &PlaintextUdpTransport,
    from: impl Iterator<Item = SocketAddr>,
) {
    let bytes = message().into_bytes().unwrap();
    let before = node.stats().total.received;
    for (sent, from) in (1..).zip(from) {
        let socket = UdpSocket::bind(from).await.unwrap();
        socket.send_to(&bytes, node.local_addr()).await.unwrap();
        if sent % 50 == 0 {
            let handled = |stats: &SocketStats| {
                stats.total.received - before + network.counts().unread >= sent
            };
            until(node, handled).await;
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn datagrams_of_1100_hosts_cost_no_authenticated_peer_its_connection() {
    let secret = ClusterSecret::generate();
    let udp = PlaintextUdpTransport::default();
    let both = EitherTransport::new(TcpTransport::default(), udp.clone());
    let node: Socket<Both> = support::open(both, member(&secret)).await;
    let honest = Honest::connect(&node, node.local_addr(), &secret).await;
    // On Linux, all of 127.0.0.0/8 is this machine. Many ports of one host are one host.
    let ports = (0..1100).map(|_| SocketAddr::from(([127, 2, 0, 1], 0)));
    flood(&node, &udp, ports).await;
    assert_eq!(unauthenticated(&node.stats()), 16);
    let hosts = (0..1100_u16).map(|n| {
        let [high, low] = n.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], 0))
    });
    flood(&node, &udp, hosts).await;
    assert_eq!(unauthenticated(&node.stats()), 256);
    honest.are_connected(&node).await;
}

#[tokio::test]
async fn an_identity_that_opens_a_thousand_connections_costs_no_other_peer_its_own() {
    let secret = ClusterSecret::generate();
    let node: Socket<TcpTransport> = support::open(TcpTransport::default(), member(&secret)).await;
    let honest = Honest::connect(&node, node.local_addr(), &secret).await;
    let (attacker, addr) = (Arc::new(member(&secret)), node.local_addr());
    let (mut open, mut dials) = (Vec::new(), JoinSet::new());
    for _ in 0..1100 {
        let attacker = Arc::clone(&attacker);
        dials.spawn(async move {
            let alpn = ChitchatMessage::alpns();
            TcpTransport::default()
                .connect(addr, &alpn, &attacker)
                .await
        });
        if dials.len() >= 32 {
            open.extend(dials.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(dialled) = dials.join_next().await {
        open.extend(dialled.unwrap());
    }
    assert!(open.len() > 1000, "{} were accepted", open.len());
    let stats = node.stats();
    let connections = stats.connections.iter();
    let of_attacker = connections.filter(|c| c.remote_identity == attacker.identity());
    assert!(of_attacker.count() <= 16);
    assert!(stats.naming.duplicates_refused > 1000);
    honest.are_connected(&node).await;
}

#[tokio::test]
async fn ten_thousand_identities_of_one_host_cost_no_peer_of_another_host_its_connection() {
    const IDENTITIES: usize = 10_000;
    let secret = ClusterSecret::generate();
    let transport = TransportLayerTransport::new(TcpTransport::default(), member(&secret));
    let everywhere = (Ipv6Addr::UNSPECIFIED, 0).into();
    let node: Socket<TcpTransport> = transport.open(everywhere).await.unwrap();
    let at = |ip: IpAddr| SocketAddr::from((ip, node.local_addr().port()));
    let honest = Honest::connect(&node, at(Ipv4Addr::LOCALHOST.into()), &secret).await;
    let (mut open, mut dials) = (VecDeque::new(), JoinSet::new());
    let attacked = at(Ipv6Addr::LOCALHOST.into());
    for _ in 0..IDENTITIES {
        let attacker = member(&secret);
        dials.spawn(async move {
            let alpn = ChitchatMessage::alpns();
            let network = TcpTransport::default();
            network.connect(attacked, &alpn, &attacker).await.unwrap()
        });
        if dials.len() >= 32 {
            open.push_back(dials.join_next().await.unwrap().unwrap());
        }
        // The node keeps fewer of them.
        if open.len() > 1100 {
            open.pop_front();
        }
    }
    while let Some(dialled) = dials.join_next().await {
        open.push_back(dialled.unwrap());
    }
    let accepted = u64::try_from(IDENTITIES).unwrap() + 10;
    until(&node, |stats| stats.accepted == accepted).await;
    let stats = node.stats();
    assert_eq!(stats.connections.len(), 1024);
    assert!(stats.peers.len() <= 4096, "{}", stats.peers.len());
    honest.are_connected(&node).await;
}

/// Opens connections of eight identities with one invite until it is aborted, and closes all but the last four.
async fn open_and_close(addr: SocketAddr, trust: Trust, opened: Arc<AtomicUsize>) {
    let mut held = VecDeque::new();
    let identities: Vec<_> = (0..8)
        .map(|_| NetCredential::generate(trust.clone()))
        .collect();
    for n in 0.. {
        let identity = &identities[n % identities.len()];
        let alpn = ChitchatMessage::alpns();
        // Some are refused, which costs the node as much.
        let dialled = TcpTransport::default().connect(addr, &alpn, identity).await;
        opened.fetch_add(1, Ordering::Relaxed);
        held.extend(dialled.ok());
        if held.len() > 4 {
            held.pop_front();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_that_open_and_close_connections_by_the_thousand_keep_no_leaf_of_another_host_waiting()
 {
    const LEAST: usize = 5000;
    let secret = ClusterSecret::generate();
    let trust = Trust::secret(secret.clone()).accepting_invites();
    let credential = NetCredential::generate(trust);
    let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
    let everywhere = (Ipv6Addr::UNSPECIFIED, 0).into();
    let node: Socket<TcpTransport> = transport.open(everywhere).await.unwrap();
    let at = |ip: IpAddr| SocketAddr::from((ip, node.local_addr().port()));
    let (near, attacked) = (
        at(Ipv4Addr::LOCALHOST.into()),
        at(Ipv6Addr::LOCALHOST.into()),
    );
    let honest = Honest::connect(&node, near, &secret).await;
    let (opened, stolen) = (Arc::new(AtomicUsize::new(0)), guests(&secret, ""));
    let mut attackers = JoinSet::new();
    for _ in 0..16 {
        attackers.spawn(open_and_close(
            attacked,
            stolen.clone(),
            Arc::clone(&opened),
        ));
    }
    // Leaves come all the time, each with an invite of its own, and stay.
    let (mut leaves, mut times) = (Vec::new(), Vec::new());
    while opened.load(Ordering::Relaxed) < LEAST {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let credential = NetCredential::generate(guests(&secret, ""));
        let tab = Tab(TcpTransport::default());
        let transport = TransportLayerTransport::new(tab, credential.clone());
        let leaf: Socket<Tab<TcpTransport>> = transport.open(nowhere()).await.unwrap();
        let start = Instant::now();
        leaf.send(near, message()).await.unwrap();
        let from = credential.identity().address();
        while soon(node.recv()).await.unwrap().0 != from {}
        times.push(start.elapsed());
        leaves.push(leaf);
    }
    assert!(leaves.len() > 5, "{}", leaves.len());
    // The median, since a machine that does other things stands still for a second now and then.
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_secs(1), "{times:?}");
    for leaf in &leaves {
        let stats = leaf.stats();
        assert_eq!((stats.dials, stats.connections.len()), (1, 1));
    }
    honest.are_connected(&node).await;
    attackers.abort_all();
}

/// Returns a message with many keys that are alike, which compress well.
fn expanding() -> ChitchatMessage {
    let key_values = (1..=40_000).map(|version| KeyValueMutation {
        key: format!("{version:06x}"),
        value: String::new(),
        version,
        status: DeletionStatus::Set,
    });
    ChitchatMessage::Ack {
        version: ProtocolVersion::V1,
        delta: Delta {
            node_deltas: vec![NodeDelta {
                chitchat_id: ChitchatId::new("a", 1, ([10, 0, 0, 1], 7000).into()),
                last_gc_version: 0,
                from_version_excluded: 0,
                key_values: key_values.collect(),
                max_version: 40_000,
            }],
        },
    }
}

#[tokio::test]
async fn messages_that_expand_take_no_more_memory_in_the_queue_than_one_peer_may_have() {
    const SENT: u64 = 30;
    let secret = ClusterSecret::generate();
    let node: Socket<TcpTransport> = support::open(TcpTransport::default(), member(&secret)).await;
    let peer: Socket<TcpTransport> = support::open(TcpTransport::default(), member(&secret)).await;
    let message = expanding();
    let (memory, len) = (
        message.memory(),
        message.clone().into_bytes().unwrap().len(),
    );
    assert!(memory > 30 * len, "{memory} for {len}");
    for _ in 0..SENT {
        peer.send(node.local_addr(), message.clone()).await.unwrap();
    }
    let stats = until(&node, |stats| stats.total.received == SENT)
        .await
        .total;
    let (kept, most) = (stats.incoming_queued, 16 << 20);
    assert!(kept * memory as u64 <= most, "{kept} of {memory} bytes");
    assert_eq!(stats.received_bytes, SENT * len as u64);
    assert_eq!(
        kept + stats.incoming_dropped.count(DropReason::Overflow),
        SENT
    );
}
