//! Peers that claim the addresses, places and time of others, on real connections and in memory.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::memory::Faults;
use gossip_transport::net::{NetConnection, NetIncomingRequest, NetListener, NetTransport};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::DropReason;
use gossip_transport::transport_layer::{
    SocketStats, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, Message, NetCredential};
use tokio::net::{TcpListener, TcpSocket as RawSocket};
use tokio::time::Instant;

use crate::support::layer::{
    World, addr, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::tab::{Tab, nowhere, tab_at};
use crate::support::{ANY_PORT, member, soon};

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_lost_an_address_sends_nothing_in_its_name_any_more() {
    let world = World::new();
    let node = world.open(4, config()).await;
    let honest = world.open(1, config()).await;
    let liar = configured(|c| c.advertise_addr = Some(addr(1)));
    let liar = world.open(3, liar).await;
    // Nobody receives, so what the liar has sent in that name stays queued.
    liar.send(addr(4), numbered(1, 8)).await.unwrap();
    until(&node, |stats| stats.total.received == 1).await;
    honest.send(addr(4), numbered(2, 8)).await.unwrap();
    let owner = |stats: &SocketStats| {
        let of = |addr| stats.connections.iter().find(|c| c.remote_addr == addr);
        of(addr(1)).is_some_and(|c| c.remote_identity == honest.local_identity())
    };
    until(&node, owner).await;
    liar.send(addr(4), numbered(3, 8)).await.unwrap();
    honest.send(addr(4), numbered(4, 8)).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    let mut of_liar = Vec::new();
    for _ in 0..4 {
        let received = soon(node.recv_detailed()).await.unwrap();
        if received.identity == liar.local_identity() {
            of_liar.push((received.from, number(&received.message)));
        }
    }
    let key = liar.local_identity().address();
    assert_eq!(of_liar, [(addr(1), 1), (key, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_connects_again_is_served_although_a_write_to_its_old_connection_is_stuck() {
    let world = World::new();
    let node = world.open(1, config()).await;
    let credential = world.credential();
    let tab = async |host: u8| tab_at(world.network.host(ip(host)), &credential).await;
    let frozen = tab(3).await;
    frozen.send(addr(1), numbered(1, 8)).await.unwrap();
    let (from, _) = soon(node.recv()).await.unwrap();
    world
        .network
        .set_faults_between(ip(1), ip(3), Faults::stalled());
    for n in 0..500 {
        node.send(from, numbered(n, 8000)).await.unwrap();
    }
    tokio::time::sleep(secs(2)).await;
    assert_ne!(node.stats().total.queued, 0, "the write is stuck");
    let again = tab(4).await;
    let start = Instant::now();
    again.send(addr(1), numbered(2, 8)).await.unwrap();
    assert_eq!(number(&soon(node.recv()).await.unwrap().1), 2);
    assert!(start.elapsed() < secs(3), "{:?}", start.elapsed());
    node.send(from, numbered(1000, 8)).await.unwrap();
    while number(&soon(again.recv()).await.unwrap().1) != 1000 {}
    assert!(start.elapsed() < secs(3), "{:?}", start.elapsed());
}

type TcpSocket = TransportLayerSocket<TcpTransport, Bytes>;

async fn tab(credential: NetCredential) -> TransportLayerSocket<Tab<TcpTransport>, Bytes> {
    let network = TransportLayerTransport::new(Tab(TcpTransport::default()), credential);
    network.open(nowhere()).await.unwrap()
}

async fn node(credential: NetCredential) -> TcpSocket {
    let network = TransportLayerTransport::new(TcpTransport::default(), credential);
    network.open(([127, 0, 0, 1], 0).into()).await.unwrap()
}

/// Sends a message over a connection that has no socket of ours.
async fn send_over(conn: &impl NetConnection, message: Bytes) {
    conn.send_many(&mut VecDeque::from([message]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_peer_that_states_an_address_of_this_node_or_the_key_address_of_another_gets_neither() {
    let secret = ClusterSecret::generate();
    let (node, honest) = (node(member(&secret)).await, node(member(&secret)).await);
    honest
        .send(node.local_addr(), numbered(0, 8))
        .await
        .unwrap();
    assert_eq!(soon(node.recv()).await.unwrap().0, honest.local_addr());
    let key_of = |socket: &TcpSocket| socket.local_identity().address();
    let (mut number_sent, mut ignored) = (0, 0);
    for stated in [node.local_addr(), key_of(&honest), key_of(&node)] {
        // One dials the node, and the other one is dialled by it.
        let [accepted, dialled] = [member(&secret), member(&secret)];
        let network = TcpTransport::default();
        let alpns = <Bytes as Message>::alpns();
        accepted.state_addr(stated);
        dialled.state_addr(stated);
        let conn = network.connect(node.local_addr(), &alpns, &accepted).await;
        let conn = conn.unwrap();
        send_over(&conn, numbered(1, 8)).await;
        let received = soon(node.recv_detailed()).await.unwrap();
        assert_eq!(received.identity, accepted.identity());
        let key = accepted.identity().address();
        assert_eq!(received.from, key, "it states {stated}");
        node.send(key, numbered(2, 8)).await.unwrap();
        let message = soon(conn.recv()).await.unwrap().unwrap();
        assert_eq!(number(&message), 2);

        let listener = network.create_listener(ANY_PORT, &alpns, &dialled).await;
        let listener = listener.unwrap();
        let addr = listener.local_addr();
        node.send(addr, numbered(3, 8)).await.unwrap();
        let other = soon(listener.accept()).await.unwrap();
        let other = soon(other.accept()).await.unwrap();
        let message = soon(other.recv()).await.unwrap().unwrap();
        assert_eq!(number(&message), 3);
        send_over(&other, numbered(4, 8)).await;
        let received = soon(node.recv_detailed()).await.unwrap();
        assert_eq!(received.identity, dialled.identity());
        assert_eq!(received.from, addr, "it states {stated}");
        ignored += 2;
        let naming = node.stats().naming;
        assert_eq!(naming.stated_addrs_ignored, ignored, "{stated}");
        assert_eq!(naming.stated_addrs_contested, 0, "{stated}");
        // What is sent to the honest peer still arrives there, under both of its names, and so does what it
        // sends.
        for to in [honest.local_addr(), key_of(&honest)] {
            number_sent += 1;
            node.send(to, numbered(number_sent, 8)).await.unwrap();
            let (from, message) = soon(honest.recv()).await.unwrap();
            assert_eq!((from, number(&message)), (node.local_addr(), number_sent));
        }
        honest
            .send(node.local_addr(), numbered(4, 8))
            .await
            .unwrap();
        assert_eq!(soon(node.recv()).await.unwrap().0, honest.local_addr());
        assert_eq!(node.stats().connections.len(), 3);
        drop((conn, other));
        until(&node, |stats| stats.connections.len() == 1).await;
    }
}

/// Returns the address of this machine that leads elsewhere, or `None` if it has none.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing. The address is one of those for documentation.
    socket.connect("198.51.100.1:9").ok()?;
    let own = socket.local_addr().unwrap().ip();
    (!own.is_loopback()).then_some(own)
}

/// Where the machine has no other address than loopback, only the second half runs. The rule itself is tested in
/// memory as well (`naming`).
#[tokio::test]
async fn a_loopback_address_that_is_stated_from_elsewhere_is_ignored_and_nobody_else_loses_it() {
    let secret = ClusterSecret::generate();
    for host in own_address().into_iter().chain([ANY_PORT.ip()]) {
        let network = TransportLayerTransport::new(TcpTransport::default(), member(&secret));
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let node: TcpSocket = network.open(any).await.unwrap();
        let node_addr = SocketAddr::from((host, node.local_addr().port()));
        let (local, stranger) = (self::node(member(&secret)).await, member(&secret));
        stranger.state_addr(local.local_addr());
        let network = TcpTransport::default();
        let alpns = <Bytes as Message>::alpns();
        let conn = network.connect(node_addr, &alpns, &stranger).await.unwrap();
        send_over(&conn, numbered(1, 8)).await;
        let received = soon(node.recv_detailed()).await.unwrap();
        assert_eq!(received.identity, stranger.identity());
        let is_elsewhere = !host.is_loopback();
        let stated = if is_elsewhere {
            stranger.identity().address()
        } else {
            local.local_addr()
        };
        assert_eq!(received.from, stated, "{host}");
        let naming = node.stats().naming;
        assert_eq!(naming.stated_addrs_ignored, u64::from(is_elsewhere));
        // The peer on this machine is reached at the address that the other one has stated.
        if is_elsewhere {
            node.send(local.local_addr(), numbered(2, 8)).await.unwrap();
            assert_eq!(number(&soon(local.recv()).await.unwrap().1), 2);
        }
    }
}

#[tokio::test]
async fn pairs_that_dial_each_other_in_a_loop_disturb_no_third_peer() {
    let secret = ClusterSecret::generate();
    let (node, honest) = (node(member(&secret)).await, node(member(&secret)).await);
    let shared = member(&secret);
    let attack = async {
        let mut used = HashSet::new();
        for n in 0..60 {
            // The same key, or another one.
            let key = if n % 2 == 0 {
                shared.clone()
            } else {
                member(&secret)
            };
            let other = node_at_unused_port(key, &mut used).await;
            let (there, back) = (other.local_addr(), node.local_addr());
            let (one, two) = tokio::join!(
                node.send(there, numbered(n, 8)),
                other.send(back, numbered(n, 8)),
            );
            one.and(two).unwrap();
            assert_eq!(soon(other.recv()).await.unwrap().0, back);
        }
    };
    let slowest = slowest_while((&honest, &node), attack).await;
    assert!(slowest < ms(500), "{slowest:?}");
    let stats = node.stats();
    let of_honest = stats.connections.iter();
    let of_honest: Vec<_> = of_honest
        .filter(|c| c.remote_identity == honest.local_identity())
        .collect();
    let ages: Vec<_> = of_honest.iter().map(|c| c.age).collect();
    assert_eq!(ages.len(), 1, "{stats:#?}");
    assert_eq!(
        stats.peers[&honest.local_addr()].incoming_dropped.total(),
        0
    );
    assert_eq!(honest.stats().dials, 1, "it has kept its connection");
    assert!(stats.dials >= 60, "{}", stats.dials);
}

/// Opens a node at an address that none of `used` had. What is sent to the address of a node that has just
/// ended may still be written to its connection, and is lost with that.
async fn node_at_unused_port(key: NetCredential, used: &mut HashSet<SocketAddr>) -> TcpSocket {
    loop {
        let node = node(key.clone()).await;
        if used.insert(node.local_addr()) {
            return node;
        }
    }
}

/// Sends messages to and fro while `attack` runs. Returns the longest time that one took.
async fn slowest_while(
    (honest, node): (&TcpSocket, &TcpSocket),
    attack: impl Future<Output = ()>,
) -> Duration {
    let mut slowest = Duration::ZERO;
    let exchange = async {
        for n in 0.. {
            let start = Instant::now();
            honest
                .send(node.local_addr(), numbered(n, 64))
                .await
                .unwrap();
            loop {
                let (from, message) = soon(node.recv()).await.unwrap();
                if from == honest.local_addr() {
                    assert_eq!(number(&message), n);
                    break;
                }
            }
            slowest = slowest.max(start.elapsed());
            tokio::time::sleep(ms(5)).await;
        }
    };
    tokio::select! {
        () = exchange => {}
        () = attack => {}
    }
    slowest
}

#[tokio::test]
async fn peers_that_reconnect_all_the_time_disturb_no_other_peer() {
    let secret = ClusterSecret::generate();
    let (node, honest) = (node(member(&secret)).await, node(member(&secret)).await);
    let shared = member(&secret);
    let attack = async {
        let first = tab(shared.clone()).await;
        first.send(node.local_addr(), numbered(0, 8)).await.unwrap();
        for n in 0..200 {
            // The same key, or another one.
            let key = if n % 2 == 0 {
                shared.clone()
            } else {
                member(&secret)
            };
            let other = tab(key).await;
            other.send(node.local_addr(), numbered(n, 8)).await.unwrap();
            let peer = other
                .get_or_create_outgoing_connection(node.local_addr())
                .unwrap();
            let opened = peer.connected(secs(5)).await;
            assert!(opened.is_ok() || n % 2 == 0, "{opened:?}");
        }
    };
    let slowest = slowest_while((&honest, &node), attack).await;
    assert!(slowest < ms(500), "{slowest:?}");
    let stats = node.stats();
    let of_honest = stats.connections.iter();
    let of_honest = of_honest.filter(|c| c.remote_identity == honest.local_identity());
    assert_eq!(of_honest.count(), 1);
    assert_eq!(
        stats.peers[&honest.local_addr()].incoming_dropped.total(),
        0
    );
    until(&node, |stats| stats.connections.len() <= 2).await;
}

/// A NAT with one port: all connections to `to` come from one address, one after the other. Returns the
/// address to dial.
async fn nat(source: SocketAddr, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let socket = RawSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            // The port is free at once when the connection is closed.
            socket.set_zero_linger()?;
            socket.bind(source)?;
            let mut far = socket.connect(to).await?;
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
        Ok::<_, std::io::Error>(())
    });
    addr
}

#[tokio::test]
async fn what_is_queued_for_a_peer_that_has_gone_is_not_delivered_to_the_next_one_at_its_address() {
    let secret = ClusterSecret::generate();
    let node = node(member(&secret)).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = free.local_addr().unwrap();
    drop(free);
    let nat = nat(source, node.local_addr()).await;
    let meet = async |number: u64| {
        let tab = tab(member(&secret)).await;
        tab.send(nat, numbered(number, 8)).await.unwrap();
        let (from, message) = soon(node.recv()).await.unwrap();
        assert_eq!(self::number(&message), number);
        assert_eq!(node.stats().connections[0].network_addr, source);
        (tab, from)
    };
    let (first, addr_of_first) = meet(1).await;
    drop(first);
    until(&node, |stats| stats.connections.is_empty()).await;
    for n in 100..200 {
        node.send(addr_of_first, numbered(n, 8)).await.unwrap();
    }
    let (second, addr_of_second) = meet(2).await;
    for n in 200..300 {
        node.send(addr_of_first, numbered(n, 8)).await.unwrap();
    }
    node.send(addr_of_second, numbered(3, 8)).await.unwrap();
    assert_eq!(number(&soon(second.recv()).await.unwrap().1), 3);
    let stats = until(&node, |stats| stats.total.queued == 0).await;
    let dropped = stats.total.dropped;
    assert_eq!(dropped.count(DropReason::Unroutable), 200);
    assert_eq!((dropped.total(), stats.total.sent), (200, 1));
    assert_eq!(stats.dials, 0, "nothing listens at {source}");
    assert_eq!(second.stats().total.received, 1);
}

#[tokio::test]
async fn what_is_queued_for_a_member_is_not_delivered_to_another_one_that_listens_at_its_address() {
    let secret = ClusterSecret::generate();
    let (node, first) = (node(member(&secret)).await, node(member(&secret)).await);
    let addr = first.local_addr();
    first.send(node.local_addr(), numbered(1, 8)).await.unwrap();
    assert_eq!(soon(node.recv()).await.unwrap().0, addr);
    drop(first);
    until(&node, |stats| stats.connections.is_empty()).await;
    for n in 0..100 {
        node.send(addr, numbered(n, 8)).await.unwrap();
    }
    let network =
        TransportLayerTransport::<_, Bytes>::new(TcpTransport::default(), member(&secret));
    let second = network.open(addr).await.unwrap();
    let dropped = |stats: &SocketStats| stats.total.dropped.count(DropReason::IdentityChanged);
    until(&node, |stats| dropped(stats) == 100).await;
    node.send(addr, numbered(1000, 8)).await.unwrap();
    assert_eq!(number(&soon(second.recv()).await.unwrap().1), 1000);
    assert_eq!(second.stats().total.received, 1);
}
