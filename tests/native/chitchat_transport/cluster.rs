//! Clusters of nodes of the published crate and of participants of this crate.

use std::net::SocketAddr;
use std::time::Duration;

use chitchat_013::ChitchatHandle;
use chitchat_013::transport::Transport;
use gossip_transport::chitchat::ChitchatTransport;
use gossip_transport::gossip::{DialPolicy, GossipConfig, Liveness, Member, Participant};
use gossip_transport::message::{ChitchatId, ProtocolVersion};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, TransportLayerTransport};
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use crate::support::tab::{Tab, nowhere};
use crate::support::upstream::{Settings, TURN, our_config};
use crate::support::{ANY_PORT, PATIENCE, member};

/// Time between two rounds of gossip.
///
/// The failure detector allows for a multiple of it. With shorter rounds, a machine that is busy with
/// something else would find live nodes dead, again and again.
pub const INTERVAL: Duration = Duration::from_millis(250);

const GRACE: Duration = Duration::from_secs(3);

pub fn transport(secret: &ClusterSecret) -> ChitchatTransport<TcpTransport> {
    ChitchatTransport::new(TcpTransport::default(), member(secret))
}

/// A node of upstream, on a socket of this crate.
pub struct Node {
    pub handle: ChitchatHandle,
    pub name: String,
    pub transport: ChitchatTransport<TcpTransport>,
}

impl Node {
    pub async fn start(
        secret: &ClusterSecret,
        n: usize,
        generation: u64,
        version: ProtocolVersion,
        seeds: &[SocketAddr],
    ) -> Self {
        let transport = transport(secret);
        let socket = transport.open(ANY_PORT).await.unwrap();
        let name = format!("theirs-{n}");
        let mut settings = Settings::new("cluster", &*name, INTERVAL, seeds);
        settings.generation = generation;
        settings.grace = GRACE;
        let handle = settings.on(socket, version).await;
        Self {
            handle,
            name,
            transport,
        }
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

fn participant(name: &str, seeds: &[SocketAddr], version: ProtocolVersion) -> GossipConfig {
    let mut config = our_config("cluster", name, INTERVAL, seeds);
    config.marked_for_deletion_grace_period = GRACE;
    config.protocol_version = version;
    config
}

#[derive(Default)]
pub struct Cluster {
    pub secret: Option<ClusterSecret>,
    pub theirs: Vec<Node>,
    pub ours: Vec<Participant<TcpTransport>>,
    pub tabs: Vec<Participant<Tab<TcpTransport>>>,
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
            let config = participant(&format!("ours-{n}"), &seeds, versions(n));
            cluster
                .ours
                .push(Participant::join(socket, config).await.unwrap());
        }
        cluster.secret = Some(secret);
        cluster.all_see_live(theirs + ours).await;
        cluster
    }

    /// Lets `tabs` join whose only seed is the first upstream node.
    pub async fn add_tabs(&mut self, tabs: usize, version: ProtocolVersion) {
        let secret = self.secret.clone().unwrap();
        let seed = [self.theirs[0].addr()];
        for n in 0..tabs {
            let network = Tab(TcpTransport::default());
            let network = TransportLayerTransport::new(network, member(&secret));
            let socket = network.open(nowhere()).await.unwrap();
            let config = participant(&format!("tab-{n}"), &seed, version);
            let config = config.with_dial(DialPolicy::SeedsOnly);
            self.tabs
                .push(Participant::join(socket, config).await.unwrap());
        }
        let all = self.theirs.len() + self.ours.len() + self.tabs.len();
        self.all_see_live(all).await;
    }

    /// Returns the id and the view of each participant, tabs included.
    fn our_views(&self) -> Vec<(ChitchatId, Vec<Member>)> {
        let ours = self.ours.iter().map(|ours| (ours.id(), ours.members()));
        let tabs = self.tabs.iter().map(|tab| (tab.id(), tab.members()));
        ours.chain(tabs).collect()
    }

    pub async fn all_see_live(&self, count: usize) {
        wait_for(&format!("all to see {count} live"), async || {
            for node in &self.theirs {
                let live = node.live().await;
                if live != count {
                    return Err(format!("{} sees {live}", node.name));
                }
            }
            for (id, members) in self.our_views() {
                let live = members.iter().filter(|m| m.liveness != Liveness::Dead);
                let live = live.count();
                if live != count {
                    return Err(format!("{id:?} sees {live}"));
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
            for (id, members) in self.our_views() {
                let named = members.iter().filter(|m| &*m.id.node_id == of);
                let latest = named.max_by_key(|m| m.id.generation_id);
                let read = latest.and_then(|m| m.key_values.get(key));
                if read.map(|read| &*read.value) != value {
                    return Err(format!("{id:?} knows {latest:?}"));
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
