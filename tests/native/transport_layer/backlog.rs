//! Peers that do not read, for which more is queued than all queues together may hold.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use gossip_transport::net::{NetConnection as _, NetTransport};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::transport_layer::{
    DropReason, OverflowPolicy, SocketStats, TransportLayerSocket, TransportLayerTransport,
};
use gossip_transport::{ClusterSecret, Message};
use tokio::task::JoinSet;

use crate::support::layer::{check_sums, config, number, numbered, until};
use crate::support::{ANY_PORT, member, soon};

type Socket = TransportLayerSocket<TcpTransport, Bytes>;
type Connection = <TcpTransport as NetTransport>::Connection;

const MIB: usize = 1 << 20;
/// The bound on all queues together.
const MOST: usize = 8 * MIB;
const STALLED: usize = 12;
/// More than the queue of a peer and the buffers of the system hold.
const MESSAGES: u64 = 160;
const LEN: usize = 64 << 10;

/// A node, and connections with it that nobody reads.
struct Stalled {
    node: Arc<Socket>,
    connections: Vec<Connection>,
    secret: ClusterSecret,
}

impl Stalled {
    async fn new(overflow: OverflowPolicy) -> Self {
        let secret = ClusterSecret::generate();
        let mut config = config().with_max_outgoing_bytes(MOST);
        config.outgoing.overflow = overflow;
        let network = TcpTransport::default();
        let network = TransportLayerTransport::with_config(network, member(&secret), config);
        let node: Socket = network.open(ANY_PORT).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..STALLED {
            let network = TcpTransport::default();
            let (alpn, credential) = (Bytes::alpns(), member(&secret));
            let dial = network.connect(node.local_addr(), &alpn, &credential);
            connections.push(soon(dial).await.unwrap());
        }
        until(&node, |stats| stats.connections.len() == STALLED).await;
        Self {
            node: Arc::new(node),
            connections,
            secret,
        }
    }

    /// The addresses of the peers that do not read.
    fn peers(&self) -> Vec<SocketAddr> {
        let identities = self.connections.iter().map(|conn| conn.local_identity());
        identities.map(|identity| identity.address()).collect()
    }

    /// Asserts that the queues together hold no more than they may, and what the network is taking.
    fn check(&self) -> SocketStats {
        let stats = self.node.stats();
        check_sums(&stats);
        let most = MOST + (STALLED + 1) * (256 << 10);
        let queued = stats.total.queued_bytes;
        assert!(queued <= most as u64, "{queued} bytes are queued");
        stats
    }

    /// Sends messages to a peer that reads, which all arrive.
    async fn send_to_another(&self) {
        let network = TransportLayerTransport::with_config(
            TcpTransport::default(),
            member(&self.secret),
            config(),
        );
        let peer: Socket = network.open(ANY_PORT).await.unwrap();
        for n in 0..300 {
            soon(self.node.send(peer.local_addr(), numbered(n, 1000)))
                .await
                .unwrap();
            if n % 10 == 9 {
                for n in n - 9..=n {
                    let (_, message) = soon(peer.recv()).await.unwrap();
                    assert_eq!(number(&message), n);
                }
            }
        }
        let stats = self.check();
        assert_eq!(stats.peers[&peer.local_addr()].dropped.total(), 0);
    }
}

#[tokio::test]
async fn peers_that_do_not_read_lose_their_messages_when_all_queues_together_are_full() {
    for overflow in [OverflowPolicy::DropOldest, OverflowPolicy::DropNewest] {
        let stalled = Stalled::new(overflow).await;
        for n in 0..MESSAGES {
            for peer in stalled.peers() {
                stalled.node.send(peer, numbered(n, LEN)).await.unwrap();
            }
            stalled.check();
            // The system takes what it has room for.
            tokio::task::yield_now().await;
        }
        stalled.send_to_another().await;
        let stats = stalled.check();
        let dropped = stats.total.dropped.count(DropReason::TotalOverflow);
        assert!(dropped > 0 && stats.total.queued_bytes > (MOST / 2) as u64);
    }
}

#[tokio::test]
async fn under_backpressure_senders_to_peers_that_do_not_read_wait_and_no_others() {
    let stalled = Stalled::new(OverflowPolicy::Backpressure).await;
    let mut senders = JoinSet::new();
    for peer in stalled.peers() {
        let node = Arc::clone(&stalled.node);
        senders.spawn(async move {
            for n in 0..MESSAGES {
                node.send(peer, numbered(n, LEN)).await.unwrap();
            }
        });
    }
    until(&stalled.node, |stats| {
        stats.total.queued_bytes > (MOST / 2) as u64
    })
    .await;
    stalled.send_to_another().await;
    // Once the peers read, every message arrives, in order.
    let mut readers = JoinSet::new();
    for connection in &stalled.connections {
        let connection = connection.clone();
        readers.spawn(async move {
            for n in 0..MESSAGES {
                let message = soon(connection.recv()).await.unwrap().unwrap();
                assert_eq!(number(&message), n);
            }
        });
    }
    soon(readers.join_all()).await;
    soon(senders.join_all()).await;
    assert_eq!(stalled.check().total.dropped.total(), 0);
}
