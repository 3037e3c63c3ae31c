//! Peers by key: the addresses under which they are registered, one connection for each pair, and
//! duplicates, on real connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use gossip_transport::memory::{DialFault, Faults};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    DuplicateIdentity, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, NetCredential};
use tokio::time::Instant;

use crate::support::layer::{
    World, addr, config, configured, ip, ms, number, numbered, secs, until,
};
use crate::support::proxy::Proxy;
use crate::support::tab::{Tab, tab_at};
use crate::support::{member, soon};

type TcpSocket = TransportLayerSocket<TcpTransport, Bytes>;
type TabSocket = TransportLayerSocket<Tab<TcpTransport>, Bytes>;

async fn node(credential: NetCredential) -> TcpSocket {
    let network = TransportLayerTransport::new(TcpTransport::default(), credential);
    network.open(([127, 0, 0, 1], 0).into()).await.unwrap()
}

async fn tab(credential: NetCredential) -> TabSocket {
    tab_at(TcpTransport::default(), &credential).await
}

#[tokio::test]
async fn a_reply_to_a_tab_goes_to_its_key_address() {
    let secret = ClusterSecret::generate();
    let (node, tab) = (node(member(&secret)).await, tab(member(&secret)).await);
    assert_eq!(tab.advertised_addr(), tab.local_identity().address());
    assert_eq!(node.advertised_addr(), node.local_addr());
    tab.send(node.local_addr(), numbered(1, 8)).await.unwrap();
    let (from, _) = soon(node.recv()).await.unwrap();
    assert_eq!(from, tab.advertised_addr());
    node.send(from, numbered(2, 8)).await.unwrap();
    let (from, message) = soon(tab.recv()).await.unwrap();
    assert_eq!((from, number(&message)), (node.local_addr(), 2));
}

#[tokio::test]
async fn tabs_behind_proxies_keep_their_names_when_the_proxies_restart() {
    let secret = ClusterSecret::generate();
    let node = node(member(&secret)).await;
    let mut proxies = vec![Proxy::new(node.local_addr()).await];
    proxies.push(Proxy::new(node.local_addr()).await);
    let tabs = [tab(member(&secret)).await, tab(member(&secret)).await];
    for round in 0..3 {
        for (tab, proxy) in tabs.iter().zip(&proxies) {
            tab.send(proxy.addr, numbered(round, 8)).await.unwrap();
            let (from, message) = soon(node.recv()).await.unwrap();
            assert_eq!((from, number(&message)), (tab.advertised_addr(), round));
            node.send(from, numbered(round, 8)).await.unwrap();
            let (from, _) = soon(tab.recv()).await.unwrap();
            assert_eq!(from, node.local_addr(), "the node states its address");
        }
        let addrs = [proxies[0].addr, proxies[1].addr];
        proxies.clear();
        for tab in &tabs {
            until(tab, |stats| stats.connections.is_empty()).await;
        }
        for addr in addrs {
            proxies.push(Proxy::at(addr, node.local_addr()).await);
        }
    }
    assert_eq!(node.stats().peers.len(), 2);
}

#[tokio::test]
async fn five_hundred_tabs_behind_one_proxy_are_five_hundred_peers() {
    let secret = ClusterSecret::generate();
    let network = TransportLayerTransport::<_, Bytes>::with_config(
        TcpTransport::default(),
        member(&secret),
        configured(|c| c.max_pending_handshakes = 500),
    );
    let node = network.open(([127, 0, 0, 1], 0).into()).await.unwrap();
    let proxy = Proxy::new(node.local_addr()).await;
    let (mut tabs, mut seen) = (Vec::new(), BTreeSet::new());
    let mut expected = BTreeSet::new();
    for n in 0..500 {
        let tab = tab(member(&secret)).await;
        expected.insert(tab.advertised_addr());
        tab.send(proxy.addr, numbered(n, 8)).await.unwrap();
        tabs.push(tab);
        // On a busy machine, 500 handshakes at once take longer than messages wait to be sent.
        if tabs.len() % 50 == 0 {
            for _ in 0..50 {
                seen.insert(soon(node.recv()).await.unwrap().0);
            }
        }
    }
    assert_eq!(seen, expected);
    for tab in &tabs {
        node.send(tab.advertised_addr(), numbered(7, 8))
            .await
            .unwrap();
    }
    for tab in &tabs {
        assert_eq!(number(&soon(tab.recv()).await.unwrap().1), 7);
    }
    assert_eq!(node.stats().connections.len(), 500);
}

#[tokio::test]
async fn a_mesh_of_64_settles_at_one_connection_for_each_pair() {
    const NODES: usize = 64;
    let secret = ClusterSecret::generate();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let network = TransportLayerTransport::<_, Bytes>::with_config(
            TcpTransport::default(),
            member(&secret),
            configured(|c| c.max_pending_handshakes = 1024),
        );
        nodes.push(network.open(([127, 0, 0, 1], 0).into()).await.unwrap());
    }
    // In each wave, every node and the one at that distance write to each other at once.
    let addrs: Vec<_> = nodes.iter().map(TransportLayerSocket::local_addr).collect();
    for distance in 1..=NODES / 2 {
        let others = |n: usize| [(n + distance) % NODES, (n + NODES - distance) % NODES];
        for (n, node) in nodes.iter().enumerate() {
            for other in others(n) {
                node.send(addrs[other], numbered(0, 8)).await.unwrap();
            }
        }
        for (n, node) in nodes.iter().enumerate() {
            let mut from = Vec::new();
            for _ in others(n) {
                from.push(soon(node.recv()).await.unwrap().0);
            }
            from.sort();
            let mut expected = others(n).map(|other| addrs[other]);
            expected.sort();
            assert_eq!(from, expected);
        }
    }
    for node in &nodes {
        until(node, |stats| stats.connections.len() == NODES - 1).await;
    }
    let ends: usize = nodes
        .iter()
        .map(|node| node.stats().connections.len())
        .sum();
    assert_eq!(ends / 2, 2016);
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_again_and_again_lose_and_reorder_nothing() {
    let secret = ClusterSecret::generate();
    let credentials = [member(&secret), member(&secret)];
    for round in 0..20 {
        let [a, b] = [
            node(credentials[0].clone()).await,
            node(credentials[1].clone()).await,
        ];
        // Both write while both dial, and while one of the two connections is given up.
        let send = async |from: &TcpSocket, to: SocketAddr| {
            for n in 0..300 {
                from.send(to, numbered(n, 64)).await.unwrap();
                if n % 10 == 0 {
                    tokio::time::sleep(ms(1)).await;
                }
            }
        };
        let receive = async |at: &TcpSocket, other: SocketAddr| {
            for n in 0..300 {
                let (from, message) = soon(at.recv()).await.unwrap();
                assert_eq!((from, number(&message)), (other, n), "round {round}");
            }
        };
        tokio::join!(
            send(&a, b.local_addr()),
            send(&b, a.local_addr()),
            receive(&a, b.local_addr()),
            receive(&b, a.local_addr()),
        );
        for node in [&a, &b] {
            until(node, |stats| stats.connections.len() == 1).await;
        }
        let [a, b] = [a, b].map(|node| node.stats().connections[0].direction);
        assert_ne!(a, b, "it is the same connection");
    }
}

#[tokio::test]
async fn a_second_program_with_the_same_key_is_refused_while_the_first_is_alive() {
    let secret = ClusterSecret::generate();
    let node = node(member(&secret)).await;
    let shared = member(&secret);
    let [first, second] = [tab(shared.clone()).await, tab(shared).await];
    first.send(node.local_addr(), numbered(1, 8)).await.unwrap();
    soon(node.recv()).await.unwrap();
    second
        .send(node.local_addr(), numbered(2, 8))
        .await
        .unwrap();
    let refused = |_: &_| {
        let failure = second.dial_failure(node.local_addr());
        failure.is_some_and(|(_, error)| error.is::<DuplicateIdentity>())
    };
    until(&second, refused).await;
    assert!(node.stats().naming.duplicates_refused >= 1);
    // The first one notices nothing.
    first.send(node.local_addr(), numbered(3, 8)).await.unwrap();
    let (from, message) = soon(node.recv()).await.unwrap();
    assert_eq!((from, number(&message)), (first.advertised_addr(), 3));
    // Once it is gone, the second one takes its place.
    drop(first);
    until(&node, |stats| stats.connections.is_empty()).await;
    second
        .send(node.local_addr(), numbered(4, 8))
        .await
        .unwrap();
    let (_, message) = soon(node.recv()).await.unwrap();
    assert_eq!(number(&message), 4);
}

#[tokio::test]
async fn a_node_keeps_its_address_while_a_second_one_with_its_key_dials_and_is_dialled() {
    let secret = ClusterSecret::generate();
    let hub = node(member(&secret)).await;
    let shared = member(&secret);
    let [first, second] = [node(shared.clone()).await, node(shared).await];
    first.send(hub.local_addr(), numbered(1, 8)).await.unwrap();
    let (from, _) = soon(hub.recv()).await.unwrap();
    assert_eq!(from, first.local_addr());
    second.send(hub.local_addr(), numbered(2, 8)).await.unwrap();
    let refused = |_: &_| {
        let failure = second.dial_failure(hub.local_addr());
        failure.is_some_and(|(_, error)| error.is::<DuplicateIdentity>())
    };
    until(&second, refused).await;
    hub.send(second.local_addr(), numbered(3, 8)).await.unwrap();
    for _ in 0..10 {
        until(&hub, |stats| {
            stats.connections.len() == 1 && stats.dials > 0
        })
        .await;
        assert_eq!(hub.stats().connections[0].remote_addr, first.local_addr());
        tokio::time::sleep(ms(100)).await;
    }
    hub.send(first.local_addr(), numbered(4, 8)).await.unwrap();
    while number(&soon(first.recv()).await.unwrap().1) != 4 {}
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_answer_is_replaced_by_a_newer_one_within_two_seconds() {
    let world = World::new();
    let node = world.open(1, config()).await;
    let credential = world.credential();
    let tab = async |host: u8| tab_at(world.network.host(ip(host)), &credential).await;
    let frozen = tab(3).await;
    frozen.send(addr(1), numbered(1, 8)).await.unwrap();
    soon(node.recv()).await.unwrap();
    // The tab sleeps: its connection stays open, and nothing is heard of it any more.
    let stalled = Faults::stalled();
    world.network.set_faults_between(ip(1), ip(3), stalled);
    // It is opened again elsewhere, with the same key.
    let again = tab(4).await;
    let start = Instant::now();
    again.send(addr(1), numbered(2, 8)).await.unwrap();
    let (from, message) = soon(node.recv()).await.unwrap();
    assert_eq!((from, number(&message)), (again.advertised_addr(), 2));
    assert!(start.elapsed() < secs(2));
    node.send(from, numbered(3, 8)).await.unwrap();
    assert_eq!(number(&soon(again.recv()).await.unwrap().1), 3);
    assert_eq!(node.stats().connections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_member_has_stated_is_not_taken_over() {
    let world = World::new();
    let honest = world.open(1, config()).await;
    let node = world.open(2, config()).await;
    let liar = world
        .open(3, configured(|c| c.advertise_addr = Some(addr(1))))
        .await;
    honest.send(addr(2), numbered(1, 8)).await.unwrap();
    let (from, _) = soon(node.recv()).await.unwrap();
    assert_eq!(from, addr(1));
    liar.send(addr(2), numbered(2, 8)).await.unwrap();
    let (from, _) = soon(node.recv()).await.unwrap();
    assert_eq!(from, liar.local_identity().address());
    node.send(addr(1), numbered(3, 8)).await.unwrap();
    assert_eq!(number(&soon(honest.recv()).await.unwrap().1), 3);
    assert!(node.stats().naming.stated_addrs_contested >= 1);
    // The liar comes first: the address is its own until somebody answers there.
    let node = world.open(4, config()).await;
    liar.send(addr(4), numbered(4, 8)).await.unwrap();
    let (from, _) = soon(node.recv()).await.unwrap();
    assert_eq!(from, addr(1));
    honest.send(addr(4), numbered(5, 8)).await.unwrap();
    let (from, message) = soon(node.recv()).await.unwrap();
    assert_eq!(number(&message), 5);
    assert_eq!(from, honest.local_identity().address());
    let owner = |stats: &gossip_transport::transport_layer::SocketStats| {
        let of = |addr| stats.connections.iter().find(|c| c.remote_addr == addr);
        of(addr(1)).is_some_and(|c| c.remote_identity == honest.local_identity())
    };
    until(&node, owner).await;
    node.send(addr(1), numbered(6, 8)).await.unwrap();
    assert_eq!(number(&soon(honest.recv()).await.unwrap().1), 6);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_dialled_is_answered_at_its_key_address() {
    let world = World::new();
    let node = world.open(1, config()).await;
    let unreachable = Faults::dialing(DialFault::Refused);
    world.network.set_faults(ip(1), ip(2), unreachable);
    let loopback = configured(|c| c.advertise_addr = Some(([127, 0, 0, 1], 7000).into()));
    let other = world.open(2, loopback).await;
    other.send(addr(1), numbered(1, 8)).await.unwrap();
    let (from, _) = soon(node.recv()).await.unwrap();
    assert_eq!(from, other.local_identity().address());
    assert_eq!(node.stats().naming.stated_addrs_ignored, 1);
    node.send(from, numbered(2, 8)).await.unwrap();
    assert_eq!(number(&soon(other.recv()).await.unwrap().1), 2);
    assert_eq!(node.stats().dials, 0);
}

#[tokio::test]
async fn a_peer_with_a_new_key_at_each_connection_leaves_nothing_behind() {
    let secret = ClusterSecret::generate();
    let network = TransportLayerTransport::<_, Bytes>::with_config(
        TcpTransport::default(),
        member(&secret),
        configured(|c| {
            c.max_connections = 16;
            c.max_peers = 32;
        }),
    );
    let node = network.open(([127, 0, 0, 1], 0).into()).await.unwrap();
    let honest = self::node(member(&secret)).await;
    honest
        .send(node.local_addr(), numbered(0, 8))
        .await
        .unwrap();
    soon(node.recv()).await.unwrap();
    for n in 0..100 {
        let other = tab(member(&secret)).await;
        other.send(node.local_addr(), numbered(n, 8)).await.unwrap();
        let (from, _) = soon(node.recv()).await.unwrap();
        node.send(from, numbered(n, 8)).await.unwrap();
        soon(other.recv()).await.unwrap();
        let stats = node.stats();
        assert!(stats.connections.len() <= 16 && stats.peers.len() <= 32);
        // An identity that is used goes on.
        honest
            .send(node.local_addr(), numbered(n, 8))
            .await
            .unwrap();
        assert_eq!(soon(node.recv()).await.unwrap().0, honest.local_addr());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_with_another_key_each_time_is_counted_and_leaves_nothing_behind() {
    let world = World::new();
    let node = world.open(1, config()).await;
    let honest = world.open(9, config()).await;
    honest.send(addr(1), numbered(0, 8)).await.unwrap();
    soon(node.recv()).await.unwrap();
    for n in 1..=10 {
        let peer = world.open(2, config()).await;
        peer.send(addr(1), numbered(n, 8)).await.unwrap();
        let received = soon(node.recv_detailed()).await.unwrap();
        assert_eq!(received.identity, peer.local_identity());
        // Who listens there is found out by a dial, and that is one which answers.
        let owner = |stats: &gossip_transport::transport_layer::SocketStats| {
            let mut connections = stats.connections.iter();
            let found = connections.find(|c| c.remote_addr == addr(2));
            found.is_some_and(|c| c.remote_identity == peer.local_identity())
        };
        let naming = until(&node, owner).await.naming;
        assert_eq!(naming.stated_addrs_contested, n - 1);
        assert_eq!(naming.wrong_identities, n - 1);
        drop(peer);
        until(&node, |stats| stats.connections.len() == 1).await;
        honest.send(addr(1), numbered(n, 8)).await.unwrap();
        assert_eq!(soon(node.recv()).await.unwrap().0, addr(9));
        tokio::time::sleep(secs(3)).await;
    }
    let stats = node.stats();
    assert!(stats.peers.len() <= 3, "{:?}", stats.peers.keys());
    assert_eq!(stats.connections.len(), 1);
    assert_eq!(honest.stats().dials, 1);
}
