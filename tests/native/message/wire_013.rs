//! Tests the codec between real nodes of the published chitchat 0.13, over UDP on loopback, in both
//! protocol versions.
//!
//! Every node is behind a relay of the test, which decodes each datagram with this crate and passes on
//! the re-encoded message. The nodes converge only if both steps are right. Afterwards upstream's own
//! socket decodes each datagram and its translation, and the results must be equal.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chitchat_013::transport::{Socket as _, UdpSocket as UpstreamSocket};
use chitchat_013::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig};
use gossip_transport::message::{
    ChitchatMessage, DeletionStatus, Digest, MAX_DATAGRAM_LEN, Message, ProtocolVersion,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::messages::without_encoded_len;
use crate::support::upstream::Bound;
use crate::support::{ANY_PORT, PATIENCE};

const CLUSTER: &str = "one";

/// A datagram between two nodes, the message that it decodes to, and that message encoded again.
struct Recorded {
    original: Vec<u8>,
    message: ChitchatMessage,
    translated: Vec<u8>,
}

/// A relay between nodes, with one socket for each node. A datagram that arrives at a socket is sent
/// to its node from the socket of the sending node, so that the answer comes back to the relay.
struct Relay {
    sockets: Vec<UdpSocket>,
    /// The index of the node that is bound to each address.
    nodes: Mutex<HashMap<SocketAddr, usize>>,
}

impl Relay {
    async fn new(nodes: usize) -> Self {
        let mut sockets = Vec::new();
        for _ in 0..nodes {
            sockets.push(UdpSocket::bind(ANY_PORT).await.unwrap());
        }
        Self {
            sockets,
            nodes: Mutex::default(),
        }
    }

    fn advertised(&self, node: usize) -> SocketAddr {
        self.sockets[node].local_addr().unwrap()
    }

    fn bound_addr(&self, node: usize) -> Option<SocketAddr> {
        let nodes = self.nodes.lock().unwrap();
        nodes
            .iter()
            .find_map(|(addr, &at)| (at == node).then_some(*addr))
    }

    async fn serve(self: Arc<Self>, node: usize, recorded: mpsc::Sender<Recorded>) {
        let mut buffer = vec![0; 65_536];
        loop {
            let (len, from) = self.sockets[node].recv_from(&mut buffer).await.unwrap();
            let sender = self.nodes.lock().unwrap().get(&from).copied();
            // A node that has just started may not be in the table yet. Its datagram is lost.
            let (Some(sender), Some(to)) = (sender, self.bound_addr(node)) else {
                continue;
            };
            let original = buffer[..len].to_vec();
            let message = ChitchatMessage::decode(Bytes::from(original.clone())).unwrap();
            let translated = message.clone().into_bytes().unwrap().to_vec();
            self.sockets[sender].send_to(&translated, to).await.unwrap();
            let entry = Recorded {
                original,
                message,
                translated,
            };
            if recorded.send(entry).await.is_err() {
                return;
            }
        }
    }
}

async fn start(
    relay: &Relay,
    node: usize,
    cluster_id: &str,
    version: chitchat_013::ProtocolVersion,
) -> ChitchatHandle {
    let socket = UpstreamSocket::open(ANY_PORT).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(format!("node-{node}"), 7, relay.advertised(node)),
        cluster_id: cluster_id.to_owned(),
        gossip_interval: Duration::from_millis(25),
        listen_addr: addr,
        seed_nodes: vec![relay.advertised(0).to_string()],
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_millis(500),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: version,
    };
    let initial = vec![(format!("from-{node}"), "héllo".to_owned())];
    let handle = chitchat_013::spawn_chitchat(config, initial, &Bound::new(Box::new(socket)))
        .await
        .unwrap();
    relay.nodes.lock().unwrap().insert(addr, node);
    handle
}

/// The cases that have been seen on the wire. The test waits for all of them.
#[derive(Default, Debug)]
struct Seen {
    kinds: BTreeSet<&'static str>,
    deleted: bool,
    with_ttl: bool,
    collected: bool,
    max_version_alone: bool,
    several_blocks: bool,
}

impl Seen {
    fn note(&mut self, recorded: &Recorded) {
        self.kinds.insert(recorded.message.kind());
        self.several_blocks |= recorded.original.len() > 16_384 + 100;
        let (digest, delta) = match &recorded.message {
            ChitchatMessage::Syn { digest, .. } => (Some(digest), None),
            ChitchatMessage::SynAck { digest, delta, .. } => (Some(digest), Some(delta)),
            ChitchatMessage::Ack { delta, .. } => (None, Some(delta)),
            ChitchatMessage::BadCluster { .. } => (None, None),
        };
        let collected =
            |digest: &Digest| digest.node_digests.values().any(|d| d.last_gc_version > 0);
        self.collected |= digest.is_some_and(collected);
        for node_delta in delta.iter().flat_map(|delta| &delta.node_deltas) {
            self.max_version_alone |=
                node_delta.key_values.is_empty() && node_delta.max_version > 0;
            for change in &node_delta.key_values {
                self.deleted |= change.status == DeletionStatus::Deleted;
                self.with_ttl |= change.status == DeletionStatus::DeleteAfterTtl;
            }
        }
    }

    fn everything(&self) -> bool {
        self.kinds.len() == 4
            && self.deleted
            && self.with_ttl
            && self.collected
            && self.max_version_alone
            && self.several_blocks
    }
}

/// Returns text that zstd cannot compress to less than three quarters.
fn noise(len: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(11);
    (0..len).map(|_| char::from(rng.u8(b'0'..b'p'))).collect()
}

/// Runs a cluster through the relay until its members agree. Returns all datagrams.
async fn exchange(version: chitchat_013::ProtocolVersion) -> Vec<Recorded> {
    const LATE: usize = 3;
    const OTHER_CLUSTER: usize = 4;
    let relay = Arc::new(Relay::new(5).await);
    let (tx, mut rx) = mpsc::channel(4096);
    let mut tasks = JoinSet::new();
    for node in 0..5 {
        tasks.spawn(Arc::clone(&relay).serve(node, tx.clone()));
    }

    let mut members = Vec::new();
    for node in 0..LATE {
        members.push(start(&relay, node, CLUSTER, version).await);
    }
    let other = start(&relay, OTHER_CLUSTER, "another", version).await;
    members[0]
        .with_chitchat(|chitchat| {
            let state = chitchat.self_node_state();
            for key in 0..40 {
                state.set(
                    format!("shard:{key}"),
                    format!("{{\"position\":{}}}", key * 977),
                );
            }
            state.set("noise", noise(40_000));
            state.set("gone", "soon");
            state.delete("gone");
            state.set_with_ttl("fleeting", "yes");
        })
        .await;
    // After its only key has been collected, all that node 1 can send to the late node is a max
    // version.
    members[1]
        .with_chitchat(|chitchat| chitchat.self_node_state().delete("from-1"))
        .await;

    let mut seen = Seen::default();
    let mut all = Vec::new();
    let agreed = timeout(PATIENCE, async {
        loop {
            let recorded = rx.recv().await.unwrap();
            seen.note(&recorded);
            all.push(recorded);
            if seen.deleted && seen.collected && members.len() == LATE {
                members.push(start(&relay, LATE, CLUSTER, version).await);
            }
            if seen.everything() && agree(&members).await {
                return;
            }
        }
    });
    let agreed = agreed.await;
    let known = all.len();
    assert!(agreed.is_ok(), "after {known} datagrams: {seen:?}");

    for handle in members.into_iter().chain([other]) {
        handle.shutdown().await.unwrap();
    }
    while let Some(outcome) = tasks.try_join_next() {
        outcome.expect("every datagram decodes");
    }
    all
}

/// Returns whether every member knows the long value of node 0 and the key of the late node, and no
/// member knows the deleted key.
async fn agree(members: &[ChitchatHandle]) -> bool {
    let ids: Vec<_> = members.iter().map(|m| m.chitchat_id().clone()).collect();
    let (Some(first), Some(last)) = (ids.first(), ids.get(3)) else {
        return false;
    };
    for member in members {
        let knows = member
            .with_chitchat(|chitchat| {
                let first = chitchat.node_state(first);
                let last = chitchat.node_state(last);
                first.is_some_and(|state| {
                    state
                        .get("noise")
                        .is_some_and(|value| value.len() == 40_000)
                        && state.get("shard:39") == Some("{\"position\":38103}")
                        && state.get("gone").is_none()
                }) && last.is_some_and(|state| state.get("from-3") == Some("héllo"))
            })
            .await;
        if !knows {
            return false;
        }
    }
    true
}

/// Returns the `Debug` output of what upstream's socket decodes, without the encoded length.
async fn upstream_decodes(
    from: &UdpSocket,
    socket: &mut UpstreamSocket,
    datagram: &[u8],
) -> String {
    from.send_to(datagram, socket.local_addr().unwrap())
        .await
        .unwrap();
    let outcome = timeout(PATIENCE, socket.recv())
        .await
        .expect("upstream must decode it")
        .unwrap();
    assert_eq!(outcome.from_addr, from.local_addr().unwrap());
    assert_eq!(outcome.num_bytes_received, datagram.len());
    without_encoded_len(&format!("{:?}", outcome.envelope))
}

async fn nodes_converge_through_the_codec(
    version: chitchat_013::ProtocolVersion,
    expected: ProtocolVersion,
) {
    let all = exchange(version).await;
    let from = UdpSocket::bind(ANY_PORT).await.unwrap();
    let mut socket = UpstreamSocket::open(ANY_PORT).await.unwrap();
    for recorded in &all {
        assert_eq!(recorded.message.version(), expected);
        assert!(recorded.translated.len() <= MAX_DATAGRAM_LEN);
        let again = ChitchatMessage::decode(Bytes::from(recorded.translated.clone())).unwrap();
        assert_eq!(again, recorded.message);
        assert_eq!(
            upstream_decodes(&from, &mut socket, &recorded.original).await,
            upstream_decodes(&from, &mut socket, &recorded.translated).await,
        );
    }
}

#[tokio::test]
async fn real_nodes_converge_on_translated_datagrams_in_v0() {
    nodes_converge_through_the_codec(chitchat_013::ProtocolVersion::V0, ProtocolVersion::V0).await;
}

#[tokio::test]
async fn real_nodes_converge_on_translated_datagrams_in_v1() {
    nodes_converge_through_the_codec(chitchat_013::ProtocolVersion::V1, ProtocolVersion::V1).await;
}
