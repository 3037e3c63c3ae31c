//! Participants that leave, over TCP.

use std::time::Duration;

use gossip_transport::credential::{Grounds, Keyring};
use gossip_transport::gossip::{DialPolicy, GossipConfig, Liveness, Participant};
use gossip_transport::message::ChitchatId;
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::time::Instant;

use crate::support::tab::{Tab, nowhere};
use crate::support::{ANY_PORT, PATIENCE, until};

const MEMBERS: usize = 20;
/// The time within which all members show that one has left, if the machine is not busy.
const AT_ONCE: Duration = Duration::from_millis(300);

/// A cluster of nodes that share a policy, of which the first is the seed of the others.
struct Cluster {
    trust: Trust,
    nodes: Vec<Participant<TcpTransport>>,
}

impl Cluster {
    async fn start(secret: ClusterSecret) -> Self {
        let trust = Trust::secret(secret);
        let mut cluster = Self {
            trust,
            nodes: Vec::new(),
        };
        for n in 0..MEMBERS {
            let config = cluster.config(&format!("m{n}"));
            let node = cluster.join(TcpTransport::default(), config).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    fn config(&self, name: &str) -> GossipConfig {
        let seed = self.nodes.first().map(|node| node.id().addr().to_string());
        GossipConfig::new("cluster", name)
            .with_interval(Duration::from_millis(500))
            .with_seeds(seed.into_iter().collect())
    }

    async fn join<T: NetTransport>(&self, network: T, config: GossipConfig) -> Participant<T> {
        let listen = match config.dial {
            DialPolicy::SeedsOnly => nowhere(),
            _ => ANY_PORT,
        };
        let credential = NetCredential::generate(self.trust.clone());
        let transport = TransportLayerTransport::new(network, credential);
        let socket = transport.open(listen).await.unwrap();
        Participant::join(socket, config).await.unwrap()
    }

    async fn tab(&self, name: &str) -> Participant<Tab<TcpTransport>> {
        let config = self.config(name).with_dial(DialPolicy::SeedsOnly);
        self.join(Tab(TcpTransport::default()), config).await
    }

    /// Waits until all nodes see `id` so.
    async fn all_see(&self, id: &ChitchatId, liveness: Liveness) {
        let seen = (id.clone(), liveness);
        until(&format!("all to see that {seen:?}"), async || {
            let mut nodes = self.nodes.iter();
            nodes.all(|node| node.liveness_of_members().contains(&seen))
        })
        .await;
    }

    /// Sets a key of a tab. Returns the time until all nodes have it.
    async fn time_of_a_change(&self, tab: &Participant<Tab<TcpTransport>>) -> Duration {
        let (start, id) = (Instant::now(), tab.id());
        tab.set("k", "v").unwrap();
        until("all to have a key", async || {
            let has_it = |node: &Participant<_>| node.member_value(&id, "k").is_some();
            self.nodes.iter().all(has_it)
        })
        .await;
        start.elapsed()
    }
}

/// Returns the time that `what` takes.
async fn time(what: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    what.await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_tabs_that_leave_have_left_for_twenty_members_at_once() {
    const LEAVING: usize = 5;
    let cluster = Cluster::start(ClusterSecret::generate()).await;
    let mut tabs = Vec::new();
    for n in 0..LEAVING {
        tabs.push(cluster.tab(&format!("tab-{n}")).await);
    }
    let mut more = Vec::new();
    for n in 0..LEAVING {
        let config = cluster.config(&format!("more-{n}"));
        more.push(cluster.join(TcpTransport::default(), config).await);
    }
    let ids = tabs.iter().map(Participant::id);
    for id in ids.chain(more.iter().map(Participant::id)) {
        cluster.all_see(&id, Liveness::Live).await;
    }
    let (mut of_nodes, mut of_tabs, mut of_keys) = (Vec::new(), Vec::new(), Vec::new());
    for (node, tab) in more.into_iter().zip(tabs) {
        of_keys.push(cluster.time_of_a_change(&tab).await);
        let (start, id) = (Instant::now(), node.id());
        let leaving = node.leave(PATIENCE);
        cluster.all_see(&id, Liveness::Left).await;
        of_nodes.push(start.elapsed());
        leaving.await.unwrap();
        let (start, id) = (Instant::now(), tab.id());
        // As a page does that has no time to wait.
        tab.announce_leaving();
        drop(tab);
        cluster.all_see(&id, Liveness::Left).await;
        of_tabs.push(start.elapsed());
    }
    of_keys.sort();
    println!("keys: {of_keys:?}");
    // On a busy machine, that takes as much longer as it takes a change of a key.
    let limit = AT_ONCE.max(of_keys[LEAVING / 2] * 3);
    for mut times in [of_nodes, of_tabs] {
        times.sort();
        println!("{times:?}");
        assert!(times[LEAVING / 2] < limit, "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_is_believed_after_the_secret_was_replaced() {
    let old = ClusterSecret::generate();
    let new = ClusterSecret::generate();
    let mut cluster = Cluster::start(old.clone()).await;
    let leaving = cluster.nodes.pop().unwrap();
    let id = leaving.id();
    cluster.all_see(&id, Liveness::Live).await;
    let both = Keyring::new([new, old]).unwrap();
    let used = Grounds::Secret(both.first().id());
    assert!(cluster.trust.set_keyring(both.clone()));
    until("all to use the new secret", async || {
        let members = cluster.nodes.iter().chain([&leaving]);
        let connections = members.flat_map(|member| member.stats().connections);
        connections.into_iter().all(|c| c.grounds == used)
    })
    .await;
    cluster.trust.set_keyring(both.first().clone());
    leaving.leave(Duration::from_secs(5)).await.unwrap();
    cluster.all_see(&id, Liveness::Left).await;
    let refused = cluster.nodes.iter();
    let refused = refused.map(|node| node.engine_counts().refused_reserved_keys);
    assert_eq!(refused.sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_that_is_gone_without_a_word_has_left_within_five_seconds() {
    let cluster = Cluster::start(ClusterSecret::generate()).await;
    let tab = cluster.tab("tab").await;
    let id = tab.id();
    cluster.all_see(&id, Liveness::Live).await;
    let of_key = cluster.time_of_a_change(&tab).await;
    drop(tab);
    let took = time(cluster.all_see(&id, Liveness::Left)).await;
    // On a busy machine, it takes longer, as a change of a key does.
    let limit = Duration::from_secs(5) + of_key * 5;
    assert!(took < limit, "{took:?}, {of_key:?} for a key");
}
