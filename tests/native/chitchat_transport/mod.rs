//! Nodes of the published chitchat crate, on sockets of this crate.

mod cluster;

use std::net::SocketAddr;
use std::time::Duration;

use chitchat_013::transport::Transport as _;
use chitchat_013::{ChitchatEnvelope, ChitchatMessage};
use cluster::{Cluster, INTERVAL, Node, transport};
use gossip_transport::chitchat::ChitchatTransport;
use gossip_transport::credential::is_key_address;
use gossip_transport::memory::MemoryNetwork;
use gossip_transport::message::ProtocolVersion;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{DropReason, OverflowPolicy};
use gossip_transport::{
    ClusterSecret, Message as _, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport,
};
use tokio::time::{Instant, timeout};

use crate::support::{ANY_PORT, PATIENCE, anyone, member, until};

fn empty_syn() -> ChitchatEnvelope {
    ChitchatEnvelope {
        version: chitchat_013::ProtocolVersion::V0,
        message: ChitchatMessage::Syn {
            cluster_id: "cluster".to_owned(),
            digest: Default::default(),
        },
    }
}

// The behaviour that upstream's own conformance tests check.

#[tokio::test]
async fn an_address_cannot_be_opened_twice_and_is_free_after_its_socket_is_dropped() {
    let transport = transport(&ClusterSecret::generate());
    let mut socket = transport.open(ANY_PORT).await.unwrap();
    let addr = socket.local_addr().unwrap();
    for _ in 0..100 {
        assert!(transport.open(addr).await.is_err());
        drop(socket);
        socket = transport.open(addr).await.unwrap();
    }
}

#[tokio::test]
async fn recv_waits_for_an_envelope_and_both_sides_count_the_same_bytes() {
    let secret = ClusterSecret::generate();
    let mut a = transport(&secret).open(ANY_PORT).await.unwrap();
    let transport = transport(&secret);
    let _earlier = transport.open(ANY_PORT).await.unwrap();
    let mut b = transport.open(ANY_PORT).await.unwrap();
    let early = timeout(Duration::from_millis(200), b.recv()).await;
    assert!(early.is_err(), "nothing has been sent");
    let to = b.local_addr().unwrap();
    let sent = a.send(to, empty_syn()).await.unwrap();
    assert_eq!(sent.num_bytes_sent, 2 + 1 + 1 + 2 + 2 + "cluster".len());
    let received = timeout(PATIENCE, b.recv()).await.unwrap().unwrap();
    assert_eq!(received.num_bytes_received, sent.num_bytes_sent);
    assert_eq!(received.envelope, empty_syn());
    // The answer goes over the connection that the message came over.
    b.send(received.from_addr, empty_syn()).await.unwrap();
    let answer = timeout(PATIENCE, a.recv()).await.unwrap().unwrap();
    assert_eq!(answer.from_addr, to);
    let stats = transport.stats().unwrap();
    assert_eq!(
        (stats.dials, stats.accepted),
        (0, 1),
        "the statistics are those of the socket that was opened last"
    );
}

#[tokio::test]
async fn a_node_can_use_any_network() {
    let network = MemoryNetwork::new(1);
    let open = async |n: u8| {
        let addr = SocketAddr::from(([10, 0, 0, n], 7000));
        let credential = anyone();
        let transport = ChitchatTransport::new(network.host(addr.ip()), credential);
        transport.open(addr).await.unwrap()
    };
    let (mut a, mut b) = (open(1).await, open(2).await);
    a.send(b.local_addr().unwrap(), empty_syn()).await.unwrap();
    let received = timeout(PATIENCE, b.recv()).await.unwrap().unwrap();
    assert_eq!(received.envelope, empty_syn());
}

#[tokio::test]
async fn sending_to_an_unbound_address_succeeds_without_waiting() {
    // Not even with back-pressure, since upstream's only loop waits for each send.
    let mut config = TransportLayerConfig::default();
    config.outgoing.overflow = OverflowPolicy::Backpressure;
    let credential = member(&ClusterSecret::generate());
    let transport = ChitchatTransport::with_config(TcpTransport::default(), credential, config);
    let mut socket = transport.open(ANY_PORT).await.unwrap();
    let mut unbound = socket.local_addr().unwrap();
    unbound.set_ip([127, 0, 0, 2].into());
    let sending = async {
        for _ in 0..5000 {
            socket.send(unbound, empty_syn()).await.unwrap();
        }
    };
    timeout(Duration::from_secs(20), sending).await.unwrap();
    let total = transport.stats().unwrap().total;
    assert_eq!(total.submitted, 5000);
    assert_eq!(
        total.submitted,
        total.sent + total.queued + total.dropped.total()
    );
}

#[tokio::test]
async fn a_cancelled_recv_loses_no_envelope() {
    let secret = ClusterSecret::generate();
    let mut a = transport(&secret).open(ANY_PORT).await.unwrap();
    let mut b = transport(&secret).open(ANY_PORT).await.unwrap();
    let to = b.local_addr().unwrap();
    for _ in 0..200 {
        a.send(to, empty_syn()).await.unwrap();
    }
    let (mut received, mut cancelled) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while received < 200 {
        assert!(
            Instant::now() < deadline,
            "{received} of 200, {cancelled} times cancelled"
        );
        // Poll it at least once, and drop it at different points.
        let polls = cancelled % 7;
        let patience = async {
            for _ in 0..=polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            outcome = b.recv() => { assert_eq!(outcome.unwrap().envelope, empty_syn()); received += 1 }
            () = patience => cancelled += 1,
        }
    }
    assert!(cancelled > 0);
    let more = timeout(Duration::from_millis(100), b.recv()).await;
    assert!(more.is_err(), "an envelope arrived twice");
}

#[tokio::test]
async fn a_message_that_is_not_an_envelope_is_counted_and_those_after_it_arrive() {
    let secret = ClusterSecret::generate();
    let transport = transport(&secret);
    let mut node = transport.open(ANY_PORT).await.unwrap();
    let to = node.local_addr().unwrap();
    let mut config = TransportLayerConfig::default();
    config.alpn.push(gossip_transport::ChitchatMessage::ALPN);
    let peer = TransportLayerTransport::<_, bytes::Bytes>::with_config(
        TcpTransport::default(),
        member(&secret),
        config,
    );
    let peer: TransportLayerSocket<_, _> = peer.open(ANY_PORT).await.unwrap();
    for junk in [&b"junk"[..], b"", &[7; 65_507], &[0; 200_000]] {
        let junk = bytes::Bytes::copy_from_slice(junk);
        peer.send(to, junk).await.unwrap();
    }
    let bad_cluster = bytes::Bytes::from_static(&[0x53, 0xb0, 0, 3]);
    peer.send(to, bad_cluster).await.unwrap();
    let received = timeout(PATIENCE, node.recv()).await.unwrap().unwrap();
    assert_eq!(received.envelope.message, ChitchatMessage::BadCluster);
    assert_eq!(transport.counts().decode_failed, 4);
    assert_eq!(transport.counts().encode_failed, 0);
}

// Clusters.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upstream_nodes_form_a_cluster_of_which_five_can_fail_and_return() {
    let mut cluster = Cluster::start(20, 0, &[ProtocolVersion::V0]).await;
    cluster.theirs_travel().await;
    for node in cluster.theirs.drain(15..) {
        node.handle.abort();
    }
    cluster.all_see_live(15).await;
    let seeds = [cluster.theirs[0].addr()];
    let secret = cluster.secret.clone().unwrap();
    for n in 15..20 {
        let node = Node::start(&secret, n, 2, ProtocolVersion::V0, &seeds).await;
        let own =
            |chitchat: &mut chitchat_013::Chitchat| chitchat.self_node_state().set("back", "yes");
        node.handle.with_chitchat(own).await;
        cluster.theirs.push(node);
    }
    cluster.all_see_live(20).await;
    for n in 15..20 {
        cluster
            .all_read(&format!("theirs-{n}"), "back", Some("yes"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_nodes_and_our_participants_of_both_versions_form_one_cluster() {
    let cluster = Cluster::start(10, 10, &[ProtocolVersion::V0, ProtocolVersion::V1]).await;
    cluster.theirs_travel().await;
    let ours = &cluster.ours[3];
    let name = ours.id().node_id.to_string();
    ours.set("set", "yes").unwrap();
    ours.set("deleted", "yes").unwrap();
    ours.set_with_ttl("ttl", "yes").unwrap();
    for key in ["set", "deleted"] {
        cluster.all_read(&name, key, Some("yes")).await;
    }
    ours.delete("deleted").unwrap();
    for (key, value) in [("deleted", None), ("ttl", None), ("set", Some("yes"))] {
        cluster.all_read(&name, key, value).await;
    }
}

/// Tabs advertise key addresses. Only the first node is connected to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_nodes_and_tabs_form_one_cluster_in_which_no_key_address_is_dialled() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let mut cluster = Cluster::start(10, 0, &[version]).await;
        cluster.add_tabs(5, version).await;
        cluster.theirs_travel().await;
        let tab = &cluster.tabs[4];
        assert!(is_key_address(tab.id().gossip_advertise_addr));
        tab.set("set", "yes").unwrap();
        cluster.all_read("tab-4", "set", Some("yes")).await;
        for node in &cluster.theirs[1..] {
            until("attempts to reach a tab", async || {
                let stats = node.transport.stats().unwrap();
                stats.total.dropped.count(DropReason::Unroutable) > 0
            })
            .await;
            let stats = node.transport.stats().unwrap();
            let peers = stats
                .peers
                .iter()
                .filter(|(peer, _)| is_key_address(**peer));
            for (peer, stats) in peers {
                let unroutable = stats.dropped.count(DropReason::Unroutable);
                assert_eq!((stats.sent, stats.submitted), (0, unroutable), "{peer}");
            }
            assert_eq!(stats.dials_failed, 0);
            assert_eq!(node.transport.counts().encode_failed, 0);
        }
        cluster.all_see_live(15).await;
    }
}

#[tokio::test]
async fn sending_to_a_key_address_succeeds_and_is_counted_as_unroutable() {
    let transport = transport(&ClusterSecret::generate());
    let mut socket = transport.open(ANY_PORT).await.unwrap();
    let nobody = anyone().identity().address();
    let sent = socket.send(nobody, empty_syn()).await.unwrap();
    assert!(sent.num_bytes_sent > 0);
    let stats = transport.stats().unwrap();
    assert_eq!(stats.total.dropped.count(DropReason::Unroutable), 1);
    assert_eq!((stats.total.submitted, stats.dials), (1, 0));
}

/// Over UDP, this answer cannot be sent.
#[tokio::test]
async fn an_answer_may_contain_more_members_than_a_datagram_can_hold() {
    use gossip_transport::message::{ChitchatId, Digest, NodeDigest};

    const MEMBERS: u16 = 3000;
    let secret = ClusterSecret::generate();
    let node = Node::start(&secret, 0, 1, ProtocolVersion::V1, &[]).await;
    let peer = TransportLayerTransport::new(TcpTransport::default(), member(&secret));
    let peer: TransportLayerSocket<_, gossip_transport::ChitchatMessage> =
        peer.open(ANY_PORT).await.unwrap();
    let syn = |version, members: u16| {
        let entries = (0..members).map(|n| {
            let id = ChitchatId::new(format!("member-{n:05}"), 1, ([10, 0, 0, 1], n).into());
            let digest = NodeDigest {
                heartbeat: 1,
                ..NodeDigest::default()
            };
            (id, digest)
        });
        gossip_transport::ChitchatMessage::Syn {
            version,
            cluster_id: "cluster".to_owned(),
            digest: Digest {
                node_digests: entries.collect(),
            },
        }
    };
    peer.send(node.addr(), syn(ProtocolVersion::V1, MEMBERS))
        .await
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline);
        // The codec refuses the first long answer.
        peer.send(node.addr(), syn(ProtocolVersion::V0, 0))
            .await
            .unwrap();
        let answer = timeout(INTERVAL, async {
            loop {
                let (_, message) = peer.recv().await.unwrap();
                if let gossip_transport::ChitchatMessage::SynAck {
                    version: ProtocolVersion::V0,
                    digest,
                    ..
                } = message
                {
                    return digest;
                }
            }
        });
        if let Ok(digest) = answer.await {
            // The digest lists the members and the node itself.
            assert_eq!(digest.node_digests.len(), usize::from(MEMBERS) + 1);
            break;
        }
    }
}
