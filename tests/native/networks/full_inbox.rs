//! An inbox that forged datagrams have filled, on real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::either::EitherTransport;
use gossip_transport::message::{ChitchatMessage, ProtocolVersion};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{IncomingConfig, OverflowPolicy, TransportLayerConfig};
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{
    ClusterSecret, Identity, Message as _, TransportLayerSocket, TransportLayerTransport,
};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::layer::{check_sums, until};
use crate::support::{self, ANY_PORT, member, soon};

type Both = EitherTransport<TcpTransport, PlaintextUdpTransport>;
type Socket<T> = TransportLayerSocket<T, ChitchatMessage>;

/// More than the places of connections without a proved identity.
const HOSTS: u16 = 300;
/// More messages than any forged source has in the inbox, and fewer than half of the inbox.
const BURST: usize = 200;
/// The messages of others that are received while messages of a burst wait. One for each is the rule,
/// and with a turn for each forged source there would be 250 for each.
const MOST_OTHERS: usize = 2 * BURST;

fn message() -> ChitchatMessage {
    ChitchatMessage::BadCluster {
        version: ProtocolVersion::V0,
    }
}

/// Starts to send datagrams to `node` from many hosts, faster than it receives them, until the task is
/// dropped.
async fn start_flood(node: SocketAddr) -> JoinHandle<()> {
    let mut sockets = Vec::new();
    for n in 0..HOSTS {
        // On Linux, all of 127.0.0.0/8 is this machine.
        let [high, low] = n.to_be_bytes();
        let from = SocketAddr::from(([127, 3, high, low], 0));
        sockets.push(UdpSocket::bind(from).await.unwrap());
    }
    let bytes = message().into_bytes().unwrap();
    tokio::spawn(async move {
        loop {
            for socket in &sockets {
                let _ = socket.send_to(&bytes, node).await;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn datagrams_that_fill_the_inbox_cost_no_authenticated_peer_a_message_or_delay_it() {
    for overflow in [
        OverflowPolicy::DropOldest,
        OverflowPolicy::DropNewest,
        OverflowPolicy::Backpressure,
    ] {
        let secret = ClusterSecret::generate();
        let both = EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
        let incoming = IncomingConfig::default()
            .with_max_messages(512)
            .with_overflow(overflow);
        let config = TransportLayerConfig::default().with_incoming(incoming);
        let node: Socket<Both> =
            TransportLayerTransport::with_config(both, member(&secret), config)
                .open(ANY_PORT)
                .await
                .unwrap();
        let peer: Socket<TcpTransport> =
            support::open(TcpTransport::default(), member(&secret)).await;
        let flood = start_flood(node.local_addr()).await;
        until(&node, |stats| stats.total.incoming_queued >= 256).await;
        receive_a_burst(&node, &peer).await;
        flood.abort();
        let stats = node.stats();
        check_sums(&stats);
        let dropped = |addr| stats.peers[&addr].incoming_dropped.total();
        assert_eq!(dropped(peer.local_addr()), 0, "{overflow:?}");
        let unproved = stats.connections.iter();
        let unproved = unproved.filter(|c| c.remote_identity == Identity::UNPROVED);
        assert_eq!(unproved.count(), 256);
    }
}

/// Receives, slowly, until all messages of a burst from `peer` have arrived.
async fn receive_a_burst<T: NetTransport>(node: &Socket<T>, peer: &Socket<TcpTransport>) {
    for _ in 0..BURST {
        peer.send(node.local_addr(), message()).await.unwrap();
    }
    let from_peer = peer.local_addr();
    let (mut received, mut others) = (0, 0);
    while received < BURST {
        let stats = node.stats();
        let queued = stats.peers.get(&from_peer).map(|one| one.incoming_queued);
        let (from, _) = soon(node.recv()).await.unwrap();
        if from == from_peer {
            received += 1;
        } else if queued.is_some_and(|queued| queued > 0) {
            others += 1;
        }
        // The work that a message causes.
        sleep(Duration::from_millis(1)).await;
        assert!(others < MOST_OTHERS, "{others} beside {received}");
    }
}
