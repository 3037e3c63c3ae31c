//! Unmodified upstream nodes on UDP beside tabs, which advertise key addresses: addresses that no network
//! routes. One bridge connects them.

use std::net::SocketAddr;
use std::time::Duration;

use gossip_transport::credential::is_key_address;
use gossip_transport::either::EitherTransport;
use gossip_transport::gossip::{DialPolicy, Liveness, Participant};
use gossip_transport::message::ProtocolVersion;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{ClusterSecret, TransportLayerTransport};
use tokio::time::Instant;

use crate::support::log::Log;
use crate::support::tab::{Tab, nowhere};
use crate::support::upstream::{Node, Release, Settings, TURN, our_config};
use crate::support::{self, PATIENCE, member, own_cluster};

/// The failure detector allows for a multiple of it, so it must not be much shorter.
const INTERVAL: Duration = Duration::from_millis(250);

type Bridge = Participant<EitherTransport<TcpTransport, PlaintextUdpTransport>>;

struct Cluster {
    upstream: Vec<Node>,
    bridge: Bridge,
    tabs: Vec<Participant<Tab<TcpTransport>>>,
}

impl Cluster {
    /// Starts upstream nodes of the `releases` in turn, and a bridge that uses `version`.
    async fn start(
        upstream: usize,
        tabs: usize,
        releases: &[Release],
        version: ProtocolVersion,
    ) -> Self {
        let secret = ClusterSecret::generate();
        let mut nodes: Vec<Node> = Vec::new();
        for n in 0..upstream {
            let seeds: Vec<SocketAddr> = nodes.iter().take(2).map(Node::addr).collect();
            let name = format!("theirs-{n}");
            let settings = Settings::new(&own_cluster(), name, INTERVAL, &seeds).named();
            nodes.push(settings.on_udp(releases[n % releases.len()]).await);
        }
        let config = |name: &str, seeds: &[SocketAddr]| {
            let mut config = our_config(&own_cluster(), name, INTERVAL, seeds);
            config.protocol_version = version;
            config.initial_key_values = vec![("name".to_owned(), name.to_owned())];
            config
        };
        let network =
            EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
        let socket = support::open(network, member(&secret)).await;
        let bridge = Participant::join(socket, config("bridge", &[nodes[0].addr()]));
        let mut cluster = Self {
            upstream: nodes,
            bridge: bridge.await.unwrap(),
            tabs: Vec::new(),
        };
        let seed = cluster.bridge.id().gossip_advertise_addr;
        for n in 0..tabs {
            let network = Tab(TcpTransport::default());
            let network = TransportLayerTransport::new(network, member(&secret));
            let socket = network.open(nowhere()).await.unwrap();
            let config = config(&format!("tab-{n}"), &[seed]).with_dial(DialPolicy::SeedsOnly);
            let tab = Participant::join(socket, config).await.unwrap();
            assert!(is_key_address(tab.id().gossip_advertise_addr));
            cluster.tabs.push(tab);
        }
        cluster
    }

    fn len(&self) -> usize {
        self.upstream.len() + 1 + self.tabs.len()
    }

    /// Returns the name of each member, with what `of_theirs` or `of_ours` says about it.
    async fn map<T>(
        &self,
        of_theirs: impl AsyncFn(&Node) -> T,
        of_ours: impl Fn(Vec<gossip_transport::gossip::Member>) -> T,
    ) -> Vec<(String, T)> {
        let mut mapped = Vec::new();
        for node in &self.upstream {
            mapped.push((node.name().to_owned(), of_theirs(node).await));
        }
        mapped.push(("bridge".to_owned(), of_ours(self.bridge.members())));
        for tab in &self.tabs {
            mapped.push((tab.id().node_id.to_string(), of_ours(tab.members())));
        }
        mapped
    }

    /// Returns the members that do not see everyone live, and how many they see.
    async fn incomplete(&self) -> Vec<(String, usize)> {
        let of_ours = |members: Vec<gossip_transport::gossip::Member>| {
            let live = members.iter().filter(|member| {
                member.liveness != Liveness::Dead && member.key_values.contains_key("name")
            });
            live.count()
        };
        let mut views = self.map(Node::live_and_named, of_ours).await;
        views.retain(|(_, seen)| *seen != self.len());
        views
    }

    /// Waits until everyone sees everyone live.
    async fn is_whole(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let incomplete = self.incomplete().await;
            if incomplete.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "waited too long: {incomplete:?}");
            tokio::time::sleep(INTERVAL / 4).await;
        }
    }

    /// Returns the members that do not know that `key` of `of` is `value`.
    async fn without(&self, of: &str, key: &str, value: &str) -> Vec<String> {
        let of_ours = |members: Vec<gossip_transport::gossip::Member>| {
            let found = members.into_iter().find(|member| &*member.id.node_id == of);
            let read = found.and_then(|member| Some(member.key_values.get(key)?.value.clone()));
            read.as_deref() == Some(value)
        };
        let of_theirs = async |node: &Node| node.read(of, key).await.as_deref() == Some(value);
        let views = self.map(of_theirs, of_ours).await;
        let without = views.into_iter().filter(|(_, has)| !has);
        without.map(|(name, _)| name).collect()
    }

    /// Waits until everyone knows that `key` of `of` is `value`, and returns how long that took.
    async fn spread(&self, of: &str, key: &str, value: &str) -> Duration {
        let begin = Instant::now();
        loop {
            let without = self.without(of, key, value).await;
            if without.is_empty() {
                return begin.elapsed();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "waited too long for {of}: {without:?}"
            );
            tokio::time::sleep(INTERVAL / 10).await;
        }
    }
}

const ALL_RELEASES: [Release; 3] = [
    Release::V013(ProtocolVersion::V0),
    Release::V013(ProtocolVersion::V1),
    Release::V011,
];

/// Lets everyone learn of everyone and of a key of each kind of member, and then watches 20 rounds in
/// which nobody may be found dead.
async fn everyone_is_known_and_nobody_dies(releases: &[Release], version: ProtocolVersion) {
    let _turn = TURN.lock().await;
    let cluster = Cluster::start(20, 5, releases, version).await;
    cluster.is_whole().await;
    for node in &cluster.upstream[17..] {
        node.set("late", "of theirs").await;
    }
    cluster.tabs[4].set("late", "of a tab").unwrap();
    cluster.bridge.set("late", "of the bridge").unwrap();
    for node in &cluster.upstream[17..] {
        cluster.spread(node.name(), "late", "of theirs").await;
    }
    cluster.spread("tab-4", "late", "of a tab").await;
    cluster.spread("bridge", "late", "of the bridge").await;

    let end = Instant::now() + INTERVAL * 20;
    while Instant::now() < end {
        assert_eq!(cluster.incomplete().await, []);
        tokio::time::sleep(INTERVAL / 4).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_of_all_releases_and_five_tabs_are_one_cluster_in_v0() {
    everyone_is_known_and_nobody_dies(&ALL_RELEASES, ProtocolVersion::V0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_of_all_releases_and_five_tabs_are_one_cluster_in_v1() {
    everyone_is_known_and_nobody_dies(&ALL_RELEASES, ProtocolVersion::V1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_that_open_exchanges_in_v1_and_five_tabs_are_one_cluster() {
    let releases = [Release::V013(ProtocolVersion::V1)];
    everyone_is_known_and_nobody_dies(&releases, ProtocolVersion::V1).await;
}

/// Prints what README.md says about the time that tabs cost upstream nodes: the rounds until all 20 nodes have a
/// change that one of them has made. The tabs are real members, so a release build should run it:
/// `cargo test --release --test native what_tabs_cost -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of minutes"]
async fn what_tabs_cost_upstream_nodes() {
    const CHANGES: usize = 40;
    let releases = [Release::V011, Release::V013(ProtocolVersion::V0)];
    println!("tabs  median  90 %  slowest");
    for tabs in [0, 5, 50] {
        let _turn = TURN.lock().await;
        let cluster = Cluster::start(20, tabs, &releases, ProtocolVersion::V0).await;
        cluster.is_whole().await;
        let mut rounds = Vec::new();
        for n in 0..CHANGES {
            let node = &cluster.upstream[n % cluster.upstream.len()];
            let value = n.to_string();
            node.set("change", &value).await;
            let begin = Instant::now();
            for reader in &cluster.upstream {
                while reader.read(node.name(), "change").await.as_deref() != Some(&value) {
                    assert!(begin.elapsed() < PATIENCE, "{n} does not arrive");
                    tokio::time::sleep(INTERVAL / 50).await;
                }
            }
            rounds.push(begin.elapsed().as_secs_f64() / INTERVAL.as_secs_f64());
            // So that the next change meets the rounds at another point.
            tokio::time::sleep(INTERVAL * 3 / 7).await;
        }
        rounds.sort_by(f64::total_cmp);
        let (median, most) = (rounds[CHANGES / 2], rounds[CHANGES * 9 / 10]);
        let slowest = rounds[CHANGES - 1];
        println!("{tabs:>4}  {median:>6.1}  {most:>4.1}  {slowest:>7.1}");
    }
}

/// Each node has three other live members, the tab among them, and selects three in every round.
#[tokio::test]
async fn an_attempt_to_reach_a_tab_is_one_warning_and_the_round_goes_on() {
    const FAILED: &str = "Failed to gossip with live node.";
    for release in [Release::V011, Release::V013(ProtocolVersion::V0)] {
        let warnings = Log::collect("chitchat=info");
        let cluster = Cluster::start(2, 1, &[release], ProtocolVersion::V0).await;
        cluster.is_whole().await;
        warnings.take();
        let mut logged = String::new();
        while logged.matches(FAILED).count() < 20 {
            tokio::time::sleep(INTERVAL).await;
            assert_eq!(cluster.incomplete().await, []);
            logged.push_str(&warnings.take());
        }
        let tab = cluster.tabs[0].id().gossip_advertise_addr;
        for (text, of) in [
            (" WARN ", "warnings"),
            ("failed to send chitchat message to peer", "their errors"),
            (&*format!("node_address={tab}"), "their addresses"),
        ] {
            let (count, all) = (logged.matches(text).count(), logged.matches(FAILED).count());
            assert_eq!(count, all, "{of}: {logged}");
        }
        cluster.upstream[1].set("late", "yes").await;
        cluster.spread("theirs-1", "late", "yes").await;
    }
}
