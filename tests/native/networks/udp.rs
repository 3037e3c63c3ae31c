//! Plaintext UDP over real sockets: between sockets of ours, with upstream nodes, and against
//! malformed and unwanted datagrams.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use chitchat_013::ChitchatEnvelope;
use chitchat_013::transport::{Socket as _, UdpSocket as UpstreamSocket};
use gossip_transport::gossip::{Liveness, Participant};
use gossip_transport::message::{ChitchatMessage, MAX_DATAGRAM_LEN, Message as _, ProtocolVersion};
use gossip_transport::net::{
    CloseCode, CloseReason, NetConnection as _, NetIncomingRequest as _, NetListener as _,
    NetTransport as _,
};
use gossip_transport::transport_layer::DropReason;
use gossip_transport::udp::{PlaintextUdpTransport, UdpConfig, UdpError};
use gossip_transport::{Identity, TransportLayerSocket, TransportLayerTransport};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::support::upstream::{Node, Release, Settings, our_config};
use crate::support::{self, ANY_PORT, anyone, own_cluster, soon, until};

const INTERVAL: Duration = Duration::from_millis(100);

type OurSocket = TransportLayerSocket<PlaintextUdpTransport, ChitchatMessage>;

async fn open(network: &PlaintextUdpTransport) -> OurSocket {
    support::open(network.clone(), anyone()).await
}

fn bad_cluster() -> ChitchatMessage {
    ChitchatMessage::BadCluster {
        version: ProtocolVersion::V0,
    }
}

#[tokio::test]
async fn messages_and_replies_use_the_listening_ports() {
    let network = PlaintextUdpTransport::default();
    let (a, b) = (open(&network).await, open(&network).await);
    a.send(b.local_addr(), bad_cluster()).await.unwrap();
    let (from, message) = soon(b.recv()).await.unwrap();
    assert_eq!((from, message), (a.local_addr(), bad_cluster()));
    b.send(from, bad_cluster()).await.unwrap();
    assert_eq!(soon(a.recv()).await.unwrap().0, b.local_addr());
    assert_eq!(
        a.stats().accepted,
        0,
        "the reply must arrive on the dialled connection"
    );
    assert_eq!(
        b.stats().dials,
        0,
        "the reply must be sent on the accepted connection"
    );
    let info = &b.stats().connections[0];
    assert_eq!(info.remote_identity, Identity::UNPROVED);
}

#[tokio::test]
async fn messages_are_exchanged_with_an_upstream_socket() {
    let ours = open(&PlaintextUdpTransport::default()).await;
    let mut theirs = UpstreamSocket::open(ANY_PORT).await.unwrap();
    let to = theirs.local_addr().unwrap();
    ours.send(to, bad_cluster()).await.unwrap();
    let received = soon(theirs.recv()).await.unwrap();
    assert_eq!(received.from_addr, ours.local_addr());
    assert_eq!(
        received.envelope.message,
        chitchat_013::ChitchatMessage::BadCluster
    );
    let envelope = ChitchatEnvelope {
        version: chitchat_013::ProtocolVersion::V1,
        message: chitchat_013::ChitchatMessage::Syn {
            cluster_id: "cluster".to_owned(),
            digest: Default::default(),
        },
    };
    theirs.send(received.from_addr, envelope).await.unwrap();
    let (from, message) = soon(ours.recv()).await.unwrap();
    assert_eq!(from, to);
    assert_eq!(message.version(), ProtocolVersion::V1);
    assert!(matches!(message, ChitchatMessage::Syn { cluster_id, .. } if cluster_id == "cluster"));
}

#[tokio::test]
async fn a_port_is_bound_once_and_free_as_soon_as_its_socket_is_dropped() {
    let network = PlaintextUdpTransport::default();
    let transport = TransportLayerTransport::new(network, anyone());
    let mut socket: OurSocket = transport.open(ANY_PORT).await.unwrap();
    let addr = socket.local_addr();
    for _ in 0..100 {
        let error = transport.open(addr).await.unwrap_err();
        let kind = error.downcast_ref::<std::io::Error>().map(|e| e.kind());
        assert_eq!(kind, Some(std::io::ErrorKind::AddrInUse), "{error:#}");
        // The port must become free even though the socket has dialled and accepted connections.
        let peer = UdpSocket::bind(ANY_PORT).await.unwrap();
        socket
            .send(peer.local_addr().unwrap(), bad_cluster())
            .await
            .unwrap();
        let bytes = bad_cluster().into_bytes().unwrap();
        let dialler = UdpSocket::bind(ANY_PORT).await.unwrap();
        dialler.send_to(&bytes, addr).await.unwrap();
        soon(socket.recv()).await.unwrap();
        drop(socket);
        socket = transport.open(addr).await.unwrap();
    }
}

#[tokio::test]
async fn a_dialled_connection_takes_the_place_of_an_accepted_one_of_its_address_without_a_loss() {
    let network = PlaintextUdpTransport::default();
    let (ours, theirs) = (anyone(), UdpSocket::bind(ANY_PORT).await.unwrap());
    let alpn = [ChitchatMessage::ALPN];
    let listener = network.create_listener(ANY_PORT, &alpn, &ours).await;
    let listener = listener.unwrap();
    let (here, there) = (listener.local_addr(), theirs.local_addr().unwrap());
    let bytes = bad_cluster().into_bytes().unwrap();
    let is_replaced = |reason| matches!(reason, CloseReason::Local(CloseCode::REDUNDANT));
    theirs.send_to(&bytes, here).await.unwrap();
    let accepted = soon(listener.accept()).await.unwrap();
    let accepted = accepted.accept().await.unwrap();
    let dial = || network.connect_from(here, there, &alpn, &ours);
    // One that is dialled and not used changes nothing.
    drop(dial().await.unwrap());
    assert_eq!(soon(accepted.recv()).await.unwrap(), Some(bytes.clone()));
    let mut replaced = accepted;
    for _ in 0..3 {
        theirs.send_to(&bytes, here).await.unwrap();
        let dialled = dial().await.unwrap();
        let end = replaced.clone();
        let end = tokio::spawn(async move { end.watch_close().await });
        assert_eq!(soon(dialled.recv()).await.unwrap(), Some(bytes.clone()));
        assert!(is_replaced(soon(end).await.unwrap()));
        assert!(soon(replaced.recv()).await.is_err(), "it has ended");
        replaced.close(CloseCode::NORMAL).await;
        replaced = dialled;
        let mut batch = VecDeque::from([bytes.clone()]);
        replaced.send_many(&mut batch).await.unwrap();
        let mut buffer = [0; 100];
        let (len, from) = soon(theirs.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..len], from), (&bytes[..], here));
    }
    assert_eq!(network.counts().unread, 0);
    // With the last one, the peer is forgotten.
    drop(replaced);
    theirs.send_to(&bytes, here).await.unwrap();
    soon(listener.accept()).await.unwrap();
}

#[tokio::test]
async fn other_protocols_and_messages_longer_than_a_datagram_are_refused() {
    let network = PlaintextUdpTransport::default();
    let bytes = TransportLayerTransport::<_, Bytes>::new(network.clone(), anyone());
    let error = bytes.open(ANY_PORT).await.unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(UdpError::NotChitchat { .. })
    ));

    let socket = open(&network).await;
    let to = ([127, 0, 0, 1], 9).into();
    let too_long = ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: "x".repeat(MAX_DATAGRAM_LEN - 7),
        digest: Default::default(),
    };
    // The cluster id alone is a valid one, of less than 65,535 bytes. The message is too long by
    // its header.
    socket.send(to, too_long).await.unwrap();
    let total = socket.stats().total;
    assert_eq!(total.dropped.count(DropReason::TooLarge), 1);
}

#[tokio::test]
async fn pending_flows_and_unread_messages_are_bounded() {
    let config = UdpConfig::default()
        .with_max_pending_flows(3)
        .with_max_messages_per_peer(5);
    let network = PlaintextUdpTransport::new(config);
    let alpn = [ChitchatMessage::ALPN];
    let listener = network
        .create_listener(ANY_PORT, &alpn, &anyone())
        .await
        .unwrap();
    let bytes = bad_cluster().into_bytes().unwrap();
    let mut diallers = Vec::new();
    for _ in 0..10 {
        let dialler = UdpSocket::bind(ANY_PORT).await.unwrap();
        dialler
            .send_to(&bytes, listener.local_addr())
            .await
            .unwrap();
        diallers.push(dialler);
    }
    until("seven flows to be refused", async || {
        network.counts().refused == 7
    })
    .await;
    let request = soon(listener.accept()).await.unwrap();
    let connection = request.accept().await.unwrap();
    let first = diallers
        .iter()
        .find(|s| s.local_addr().unwrap() == connection.remote_addr())
        .unwrap();
    for _ in 0..9 {
        first.send_to(&bytes, listener.local_addr()).await.unwrap();
    }
    until("five messages to be dropped", async || {
        network.counts().overflowed == 5
    })
    .await;
    for _ in 0..5 {
        assert_eq!(soon(connection.recv()).await.unwrap().unwrap(), bytes);
    }
    connection.close(CloseCode::NORMAL).await;
    assert!(connection.recv().await.is_err());
    // The address starts a new flow after its connection is closed, and another one after the next
    // connection is dropped. Two flows of other addresses are pending before that.
    first.send_to(&bytes, listener.local_addr()).await.unwrap();
    let (_, _) = (soon(listener.accept()).await, soon(listener.accept()).await);
    let again = soon(listener.accept()).await.unwrap();
    assert_eq!(again.remote_addr(), first.local_addr().unwrap());
    drop(again.accept().await.unwrap());
    first.send_to(&bytes, listener.local_addr()).await.unwrap();
    soon(listener.accept()).await.unwrap();
}

/// A cluster of upstream nodes, on the transport of upstream, and participants of ours.
struct Mixed {
    theirs: Vec<Node>,
    ours: Vec<Participant<PlaintextUdpTransport>>,
    network: PlaintextUdpTransport,
}

impl Mixed {
    async fn start(theirs: usize, ours: usize, version: ProtocolVersion) -> Self {
        let mut mixed = Self {
            theirs: Vec::new(),
            ours: Vec::new(),
            network: PlaintextUdpTransport::default(),
        };
        let mut seeds = Vec::new();
        for n in 0..theirs {
            let name = format!("theirs-{n}");
            let settings = Settings::new(&own_cluster(), name, INTERVAL, &seeds).named();
            let node = settings.on_udp(Release::V013(version)).await;
            seeds.push(node.addr());
            mixed.theirs.push(node);
        }
        for n in 0..ours {
            let name = format!("ours-{n}");
            let mut config = our_config(&own_cluster(), &name, INTERVAL, &seeds);
            config.protocol_version = version;
            config.initial_key_values = vec![("name".to_owned(), name)];
            let socket = open(&mixed.network).await;
            let member = Participant::join(socket, config).await.unwrap();
            mixed.ours.push(member);
        }
        until("all to be one cluster", async || mixed.is_whole().await).await;
        mixed
    }

    fn len(&self) -> usize {
        self.theirs.len() + self.ours.len()
    }

    /// Returns whether every node sees all nodes as live, each with its key.
    async fn is_whole(&self) -> bool {
        self.sees(self.len()).await
    }

    /// Returns whether every node sees `count` nodes as live, each with its key.
    async fn sees(&self, count: usize) -> bool {
        for node in &self.theirs {
            let known = node.live_and_named().await;
            if known != count {
                return false;
            }
        }
        self.ours.iter().all(|member| {
            let members = member.members();
            let live = members.iter().filter(|member| {
                member.liveness != Liveness::Dead && member.key_values.contains_key("name")
            });
            live.count() == count
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn participants_join_an_upstream_cluster_in_either_protocol_version() {
    for version in [ProtocolVersion::V0, ProtocolVersion::V1] {
        let mixed = Mixed::start(3, 2, version).await;
        mixed.theirs[0].set("late", "yes").await;
        mixed.ours[0].set("late", "yes").unwrap();
        until("all nodes to know the late keys", async || {
            for node in &mixed.theirs {
                if node.count_with("late").await != 2 {
                    return false;
                }
            }
            mixed.ours.iter().all(|member| {
                let members = member.members();
                let late = members.iter().filter(|m| m.key_values.contains_key("late"));
                late.count() == 2
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_upstream_0_11_and_0_13_form_one_cluster_with_a_participant() {
    let mixed = Mixed::start(1, 1, ProtocolVersion::V0).await;
    let seed = mixed.ours[0].id().gossip_advertise_addr;
    let mut older = Vec::new();
    for n in 0..2 {
        // The participant is the only member that they know.
        let name = format!("older-{n}");
        let settings = Settings::new(&own_cluster(), name, INTERVAL, &[seed]).named();
        older.push(settings.on_udp(Release::V011).await);
    }
    until("all four to know each other", async || {
        for node in &older {
            if node.live_and_named().await != 4 {
                return false;
            }
        }
        mixed.sees(4).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_datagrams_are_counted_and_do_not_disturb_the_cluster() {
    let mixed = Mixed::start(2, 2, ProtocolVersion::V0).await;
    let to = mixed.ours[0].id().gossip_advertise_addr;
    let attacker = UdpSocket::bind(ANY_PORT).await.unwrap();
    let syn = ChitchatMessage::Syn {
        version: ProtocolVersion::V0,
        cluster_id: own_cluster(),
        digest: Default::default(),
    };
    let syn = syn.into_bytes().unwrap();
    let mut wrong_magic = syn.to_vec();
    wrong_magic[0] ^= 1;
    let noise: Vec<u8> = (0..MAX_DATAGRAM_LEN).map(|_| fastrand::u8(..)).collect();
    let mut header_and_noise = noise.clone();
    header_and_noise[..4].copy_from_slice(&syn[..4]);
    let kinds = [
        &b""[..],
        &wrong_magic,
        &syn[..3],
        &syn[..syn.len() - 1],
        &noise,
        &header_and_noise,
    ];
    let (begin, mut sent) = (Instant::now(), 0_u32);
    // 10,000 datagrams per second, for two seconds.
    while begin.elapsed() < Duration::from_secs(2) {
        for kind in kinds {
            attacker.send_to(kind, to).await.unwrap();
            sent += 1;
        }
        let due = begin + Duration::from_micros(100) * sent;
        tokio::time::sleep_until(due).await;
        if sent % 600 == 0 {
            assert!(mixed.is_whole().await, "after {sent} datagrams");
        }
    }
    let malformed = mixed.network.counts().malformed;
    // The system may have dropped some of them.
    assert!(
        malformed > 1000 && malformed <= sent.into(),
        "{malformed} of {sent}"
    );
    let stats = mixed.ours[0].stats();
    assert!(
        stats
            .peers
            .keys()
            .all(|peer| *peer != attacker.local_addr().unwrap())
    );
    mixed.ours[0].set("after", "all").unwrap();
    until("the change to arrive", async || {
        let id = mixed.ours[0].id();
        mixed.ours[1].member_value(&id, "after").as_deref() == Some("all")
    })
    .await;
}
