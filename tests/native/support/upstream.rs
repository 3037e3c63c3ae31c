//! Nodes of the published chitchat crate, in both releases.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use chitchat_013::transport::{Socket, Transport, UdpSocket};
use gossip_transport::gossip::GossipConfig;
use gossip_transport::message::ProtocolVersion;

use super::ANY_PORT;

/// Held by a test with many nodes while they run. They keep a processor busy, and two such clusters at a
/// time would find live nodes dead.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A transport whose only socket is bound already, so that a node can be configured with its address.
pub(crate) struct Bound(Mutex<Option<Box<dyn Socket>>>);

impl Bound {
    pub(crate) fn new(socket: Box<dyn Socket>) -> Self {
        Self(Mutex::new(Some(socket)))
    }
}

impl Transport for Bound {
    // The expansion of `async fn open` by `async_trait`.
    fn open<'a, 'f>(
        &'a self,
        _listen_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = anyhow::Result<Box<dyn Socket>>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move { Ok(self.0.lock().unwrap().take().unwrap()) })
    }
}

/// Returns a configuration of a participant whose failure detector has the times of [`Settings`].
pub(crate) fn our_config(
    cluster: &str,
    name: &str,
    interval: Duration,
    seeds: &[SocketAddr],
) -> GossipConfig {
    let mut config = GossipConfig::new(cluster, name);
    config.seeds = seeds.iter().map(SocketAddr::to_string).collect();
    config.gossip_interval = interval;
    config.failure_detector.initial_interval = interval * 5;
    config.failure_detector.max_interval = interval * 10;
    config
}

/// A release of the crate, and the version in which its nodes open exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// 0.11, which knows version 0 only.
    V011,
    /// 0.13.
    V013(ProtocolVersion),
}

/// What an upstream node is started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cluster: String,
    pub(crate) name: String,
    pub(crate) generation: u64,
    pub(crate) interval: Duration,
    pub(crate) grace: Duration,
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) key_values: Vec<(String, String)>,
}

impl Settings {
    /// Returns the settings of a node without keys, in its first generation.
    pub(crate) fn new(
        cluster: &str,
        name: impl Into<String>,
        interval: Duration,
        seeds: &[SocketAddr],
    ) -> Self {
        Self {
            cluster: cluster.to_owned(),
            name: name.into(),
            generation: 1,
            interval,
            grace: Duration::from_secs(60),
            seeds: seeds.to_vec(),
            key_values: Vec::new(),
        }
    }

    /// Adds the key `name`, whose value is the name of the node.
    pub(crate) fn named(mut self) -> Self {
        let name = self.name.clone();
        self.key_values.push(("name".to_owned(), name));
        self
    }

    /// Starts a node on a UDP socket of upstream's, on loopback.
    pub(crate) async fn on_udp(self, release: Release) -> Node {
        match release {
            Release::V011 => Node::V011(self.on_udp_011().await),
            Release::V013(version) => {
                let socket = UdpSocket::open(ANY_PORT).await.unwrap();
                Node::V013(self.on(Box::new(socket), version).await)
            }
        }
    }

    /// Starts a node of 0.13 on `socket`.
    pub(crate) async fn on(
        self,
        socket: Box<dyn Socket>,
        version: ProtocolVersion,
    ) -> chitchat_013::ChitchatHandle {
        let addr = socket.local_addr().unwrap();
        let config = chitchat_013::ChitchatConfig {
            chitchat_id: chitchat_013::ChitchatId::new(self.name, self.generation, addr),
            cluster_id: self.cluster,
            gossip_interval: self.interval,
            listen_addr: addr,
            seed_nodes: self.seeds.iter().map(SocketAddr::to_string).collect(),
            failure_detector_config: chitchat_013::FailureDetectorConfig {
                initial_interval: self.interval * 5,
                max_interval: self.interval * 10,
                ..chitchat_013::FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: self.grace,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: match version {
                ProtocolVersion::V0 => chitchat_013::ProtocolVersion::V0,
                ProtocolVersion::V1 => chitchat_013::ProtocolVersion::V1,
            },
        };
        chitchat_013::spawn_chitchat(config, self.key_values, &Bound::new(socket))
            .await
            .unwrap()
    }

    async fn on_udp_011(self) -> chitchat_011::ChitchatHandle {
        // Sockets of 0.11 do not tell their address, and another one may take a free port first.
        for _ in 0..10 {
            let free = std::net::UdpSocket::bind(ANY_PORT).unwrap();
            let addr = free.local_addr().unwrap();
            drop(free);
            if let Ok(node) = self.clone().at_011(addr).await {
                return node;
            }
        }
        panic!("no port is free");
    }

    async fn at_011(self, addr: SocketAddr) -> anyhow::Result<chitchat_011::ChitchatHandle> {
        let config = chitchat_011::ChitchatConfig {
            chitchat_id: chitchat_011::ChitchatId::new(self.name, self.generation, addr),
            cluster_id: self.cluster,
            gossip_interval: self.interval,
            listen_addr: addr,
            seed_nodes: self.seeds.iter().map(SocketAddr::to_string).collect(),
            failure_detector_config: chitchat_011::FailureDetectorConfig {
                initial_interval: self.interval * 5,
                max_interval: self.interval * 10,
                ..chitchat_011::FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: self.grace,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let transport = chitchat_011::transport::UdpTransport;
        chitchat_011::spawn_chitchat(config, self.key_values, &transport).await
    }
}

/// A running node of either release. Dropping it leaves it running until its runtime ends.
pub(crate) enum Node {
    V011(chitchat_011::ChitchatHandle),
    V013(chitchat_013::ChitchatHandle),
}

/// Makes the same calls on a node of either release: the two crates have the same API here.
macro_rules! on_either {
    ($node:expr, $handle:ident => $call:expr) => {
        match $node {
            Node::V011($handle) => $call,
            Node::V013($handle) => $call,
        }
    };
}

impl Node {
    pub(crate) fn addr(&self) -> SocketAddr {
        on_either!(self, handle => handle.chitchat_id().gossip_advertise_addr)
    }

    pub(crate) fn name(&self) -> &str {
        on_either!(self, handle => &handle.chitchat_id().node_id)
    }

    /// Returns the number of members that are live and have the key `name`.
    pub(crate) async fn live_and_named(&self) -> usize {
        on_either!(self, handle => handle
            .with_chitchat(|chitchat| {
                let live: Vec<_> = chitchat.live_nodes().cloned().collect();
                let states = live.iter().filter_map(|id| chitchat.node_state(id));
                states.filter(|state| state.get("name").is_some()).count()
            })
            .await)
    }

    /// Returns the value of `key` in the latest generation of the member `of`.
    pub(crate) async fn read(&self, of: &str, key: &str) -> Option<String> {
        on_either!(self, handle => handle
            .with_chitchat(|chitchat| {
                let states = chitchat.node_states().iter();
                let named = states.filter(|(id, _)| &*id.node_id == of);
                let (_, latest) = named.max_by_key(|(id, _)| id.generation_id)?;
                latest.get(key).map(str::to_owned)
            })
            .await)
    }

    /// Returns the number of members that have `key`.
    pub(crate) async fn count_with(&self, key: &str) -> usize {
        on_either!(self, handle => handle
            .with_chitchat(|chitchat| {
                let states = chitchat.node_states().values();
                states.filter(|state| state.get(key).is_some()).count()
            })
            .await)
    }

    pub(crate) async fn set(&self, key: &str, value: &str) {
        on_either!(self, handle => handle
            .with_chitchat(|chitchat| chitchat.self_node_state().set(key, value))
            .await);
    }

    /// Stops the node without a last message.
    pub(crate) fn abort(&self) {
        on_either!(self, handle => handle.abort());
    }
}
