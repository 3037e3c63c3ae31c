//! Clusters of nodes of the published crate and of participants of this crate.

use std::net::SocketAddr;
use std::time::Duration;

use chitchat_013::transport::Transport;
use chitchat_013::{
    ChitchatConfig, ChitchatHandle, FailureDetectorConfig, ProtocolVersion, spawn_chitchat,
};
use gossip_transport::chitchat::ChitchatTransport;
use gossip_transport::gossip::{GossipConfig, Liveness, Participant};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, TransportLayerTransport};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::support::upstream::Bound;
use crate::support::{ANY_PORT, PATIENCE, member};

/// Time between two rounds of gossip.
///
/// The failure detector allows for a multiple of it. With shorter rounds, a machine that is busy with
/// something else would find live nodes dead, again and again.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// Held by the only cluster that runs, for the same reason: twenty nodes keep a processor busy.
static TURN: Mutex<()> = Mutex::const_new(());

pub fn transport(secret: &ClusterSecret) -> ChitchatTransport<TcpTransport> {
    ChitchatTransport::new(TcpTransport::default(), member(secret))
}

/// A node of upstream, on a socket of this crate.
pub struct Node {
    pub handle: ChitchatHandle,
    pub name: String,
}

impl Node {
    pub async fn start(
        secret: &ClusterSecret,
        n: usize,
        generation: u64,
        version: ProtocolVersion,
        seeds: &[SocketAddr],
    ) -> Self {
        let socket = transport(secret).open(ANY_PORT).await.unwrap();
        let addr = socket.local_addr().unwrap();
        let name = format!("theirs-{n}");
        let config = ChitchatConfig {
            chitchat_id: chitchat_013::ChitchatId::new(&*name, generation, addr),
            cluster_id: "cluster".to_owned(),
            gossip_interval: INTERVAL,
            listen_addr: addr,
            seed_nodes: seeds.iter().map(SocketAddr::to_string).collect(),
            failure_detector_config: FailureDetectorConfig {
                initial_interval: INTERVAL * 5,
                max_interval: INTERVAL * 10,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: Duration::from_secs(3),
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: version,
        };
        let bound = Bound::new(socket);
        let handle = spawn_chitchat(config, Vec::new(), &bound).await.unwrap();
        Self { handle, name }
    }

    pub fn addr(&self) -> SocketAddr {
        self.handle.chitchat_id().gossip_advertise_addr
    }

    async fn live(&self) -> usize {
        self.handle
            .with_chitchat(|chitchat| chitchat.live_nodes().count())
            .await
    }

    /// Describes what the node knows about `of`, for a message of a failed test.
    async fn view(&self, of: &str) -> String {
        let ended = self.handle.termination_watcher();
        let ended = futures::FutureExt::now_or_never(ended);
        let view = |chitchat: &mut chitchat_013::Chitchat| {
            let states = chitchat.node_states().iter();
            let named = states.filter(|(id, _)| &*id.node_id == of);
            let states = named.map(|(_, state)| {
                let keys: Vec<_> = state.key_values_including_deleted().collect();
                format!(
                    "{} {} {keys:?}",
                    state.max_version(),
                    state.last_gc_version()
                )
            });
            states.collect::<Vec<_>>().join("; ")
        };
        format!(
            "{}, ended: {ended:?}",
            self.handle.with_chitchat(view).await
        )
    }

    /// Returns the value of `key` in the latest generation of `of`.
    async fn reads(&self, of: &str, key: &str) -> Option<String> {
        self.handle
            .with_chitchat(|chitchat| {
                let states = chitchat.node_states().iter();
                let named = states.filter(|(id, _)| &*id.node_id == of);
                let (_, latest) = named.max_by_key(|(id, _)| id.generation_id)?;
                latest.get(key).map(str::to_owned)
            })
            .await
    }
}

fn our_config(name: &str, seeds: &[SocketAddr], version: ProtocolVersion) -> GossipConfig {
    let mut config = GossipConfig::new("cluster", name);
    config.seeds = seeds.iter().map(SocketAddr::to_string).collect();
    config.gossip_interval = INTERVAL;
    config.failure_detector.initial_interval = INTERVAL * 5;
    config.failure_detector.max_interval = INTERVAL * 10;
    config.marked_for_deletion_grace_period = Duration::from_secs(3);
    config.protocol_version = match version {
        ProtocolVersion::V0 => gossip_transport::message::ProtocolVersion::V0,
        ProtocolVersion::V1 => gossip_transport::message::ProtocolVersion::V1,
    };
    config
}

#[derive(Default)]
pub struct Cluster {
    pub secret: Option<ClusterSecret>,
    pub theirs: Vec<Node>,
    pub ours: Vec<Participant<TcpTransport>>,
    /// Released after the nodes, which are dropped before it.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Cluster {
    /// Starts a cluster whose members use the `versions` in turn.
    pub async fn start(theirs: usize, ours: usize, versions: &[ProtocolVersion]) -> Self {
        let secret = ClusterSecret::generate();
        let mut cluster = Self {
            _turn: Some(TURN.lock().await),
            ..Self::default()
        };
        let mut seeds = Vec::new();
        let versions = |n: usize| versions[n % versions.len()];
        for n in 0..theirs {
            let node = Node::start(&secret, n, 1, versions(n), &seeds).await;
            if n < 2 {
                seeds.push(node.addr());
            }
            cluster.theirs.push(node);
        }
        for n in 0..ours {
            let network = TransportLayerTransport::new(TcpTransport::default(), member(&secret));
            let socket = network.open(ANY_PORT).await.unwrap();
            let config = our_config(&format!("ours-{n}"), &seeds, versions(n));
            cluster
                .ours
                .push(Participant::join(socket, config).await.unwrap());
        }
        cluster.secret = Some(secret);
        cluster.all_see_live(theirs + ours).await;
        cluster
    }

    pub async fn all_see_live(&self, count: usize) {
        wait_for(&format!("all to see {count} live"), async || {
            for node in &self.theirs {
                let live = node.live().await;
                if live != count {
                    return Err(format!("{} sees {live}", node.name));
                }
            }
            for member in &self.ours {
                let members = member.members();
                let live = members.iter().filter(|m| m.liveness != Liveness::Dead);
                let live = live.count();
                if live != count {
                    return Err(format!("{:?} sees {live}", member.id()));
                }
            }
            Ok(())
        })
        .await;
    }

    pub async fn all_read(&self, of: &str, key: &str, value: Option<&str>) {
        wait_for(&format!("{of}'s {key} to be {value:?}"), async || {
            for node in &self.theirs {
                if node.reads(of, key).await.as_deref() != value {
                    return Err(format!("{} knows {}", node.name, node.view(of).await));
                }
            }
            for member in &self.ours {
                let members = member.members();
                let named = members.iter().filter(|m| &*m.id.node_id == of);
                let latest = named.max_by_key(|m| m.id.generation_id);
                let read = latest.and_then(|m| m.key_values.get(key));
                if read.map(|read| &*read.value) != value {
                    return Err(format!("{:?} knows {latest:?}", member.id()));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Checks that a set, a delete and a TTL at the first upstream node reach every member.
    pub async fn theirs_travel(&self) {
        let node = &self.theirs[0];
        node.handle
            .with_chitchat(|chitchat| {
                let own = chitchat.self_node_state();
                own.set("set", "yes");
                own.set("deleted", "yes");
                own.set_with_ttl("ttl", "yes");
            })
            .await;
        for key in ["set", "deleted"] {
            self.all_read(&node.name, key, Some("yes")).await;
        }
        node.handle
            .with_chitchat(|chitchat| chitchat.self_node_state().delete("deleted"))
            .await;
        for (key, value) in [("deleted", None), ("ttl", None), ("set", Some("yes"))] {
            self.all_read(&node.name, key, value).await;
        }
    }
}

async fn wait_for(what: &str, condition: impl AsyncFn() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(but) = condition().await {
        assert!(
            Instant::now() < deadline,
            "waited too long for {what}: {but}"
        );
        // Upstream has no way to wait for this, so the condition is polled.
        tokio::time::sleep(INTERVAL / 4).await;
    }
}
