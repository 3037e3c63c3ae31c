//! A cluster of the published chitchat crate's nodes over its own UDP transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpSocket};
use chitchat::{
    ChitchatConfig, ChitchatEnvelope, ChitchatHandle, ChitchatId, FailureDetectorConfig,
    ProtocolVersion, spawn_chitchat,
};
use tokio::sync::Mutex;

use super::{Cluster, STAGGER, Version};

/// A cluster of the published chitchat crate.
pub struct UpstreamCluster {
    nodes: Vec<ChitchatHandle>,
    sent: Arc<Sent>,
}

/// What all nodes of a cluster have sent.
#[derive(Default)]
struct Sent {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Opens a socket that was bound earlier, since a node's id must contain the address.
struct Counted(Mutex<Option<CountedSocket>>);

/// A socket that counts what it sends.
struct CountedSocket {
    socket: UdpSocket,
    sent: Arc<Sent>,
}

#[async_trait]
impl Transport for Counted {
    async fn open(&self, _addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.0.lock().await.take();
        let socket = socket.ok_or_else(|| anyhow::anyhow!("opened twice"))?;
        Ok(Box::new(socket))
    }
}

#[async_trait]
impl Socket for CountedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.socket.local_addr()
    }

    async fn send(
        &mut self,
        to: SocketAddr,
        envelope: ChitchatEnvelope,
    ) -> anyhow::Result<SendOutcome> {
        let outcome = self.socket.send(to, envelope).await?;
        let bytes = outcome.num_bytes_sent as u64;
        self.sent.messages.fetch_add(1, Ordering::Relaxed);
        self.sent.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(outcome)
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.socket.recv().await
    }
}

impl Cluster for UpstreamCluster {
    const NAME: &'static str = "chitchat, UDP, plain";

    async fn start(members: usize, version: Version) -> anyhow::Result<Self> {
        let sent = Arc::<Sent>::default();
        let mut nodes = Vec::with_capacity(members);
        let mut seeds = Vec::new();
        for n in 0..members {
            tokio::time::sleep(STAGGER / members as u32).await;
            let socket = UdpSocket::open("127.0.0.1:0".parse()?).await?;
            let addr = socket.local_addr()?;
            let config = ChitchatConfig {
                chitchat_id: ChitchatId::new(format!("node-{n:04}"), 1, addr),
                cluster_id: "bench".to_owned(),
                gossip_interval: Duration::from_secs(1),
                listen_addr: addr,
                seed_nodes: seeds.clone(),
                failure_detector_config: FailureDetectorConfig::default(),
                marked_for_deletion_grace_period: Duration::from_secs(7200),
                catchup_callback: None,
                extra_liveness_predicate: None,
                protocol_version: match version {
                    Version::V0 => ProtocolVersion::V0,
                    Version::V1 => ProtocolVersion::V1,
                },
            };
            if seeds.is_empty() {
                seeds.push(addr.to_string());
            }
            let sent = Arc::clone(&sent);
            let transport = Counted(Mutex::new(Some(CountedSocket { socket, sent })));
            nodes.push(spawn_chitchat(config, Vec::new(), &transport).await?);
        }
        Ok(Self { nodes, sent })
    }

    async fn is_complete(&self) -> bool {
        for node in &self.nodes {
            let chitchat = node.chitchat();
            if chitchat.lock().await.live_nodes().count() < self.nodes.len() {
                return false;
            }
        }
        true
    }

    async fn set(&self, member: usize, value: &str) -> anyhow::Result<()> {
        let chitchat = self.nodes[member].chitchat();
        chitchat.lock().await.self_node_state().set("k", value);
        Ok(())
    }

    async fn all_have(&self, member: usize, value: &str) -> bool {
        let id = self.nodes[member].chitchat_id();
        for node in &self.nodes {
            let chitchat = node.chitchat();
            let chitchat = chitchat.lock().await;
            let state = chitchat.node_state(id);
            if state.and_then(|state| state.get("k")) != Some(value) {
                return false;
            }
        }
        true
    }

    fn sent_messages(&self) -> u64 {
        self.sent.messages.load(Ordering::Relaxed)
    }

    fn sent_bytes(&self) -> u64 {
        self.sent.bytes.load(Ordering::Relaxed)
    }
}
