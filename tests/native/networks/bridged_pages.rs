//! A bridge at which many pages come and go, each with an invite, beside unmodified nodes of the published crate
//! that use version 0 over UDP: such a node panics once it knows of about 1,070 members.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chitchat_013::ChitchatHandle;
use chitchat_013::transport::UdpSocket;
use futures::FutureExt as _;
use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::either::EitherTransport;
use gossip_transport::gossip::{Denial, DialPolicy, GossipConfig, Liveness, Participant};
use gossip_transport::message::ProtocolVersion;
use gossip_transport::rt::unix_time;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::udp::PlaintextUdpTransport;
use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::tab::{Tab, nowhere};
use crate::support::upstream::{Settings, TURN, our_config};
use crate::support::{self, ANY_PORT, soon, until};

const CLUSTER: &str = "bridged pages";
const HOUR: Duration = Duration::from_secs(3600);
const NODES: usize = 5;
/// The failure detector allows for a multiple of it, so it must not be much shorter.
const INTERVAL: Duration = Duration::from_millis(250);
/// The number of pages that are loaded at a time.
const AT_ONCE: usize = 20;

type Bridge = Participant<EitherTransport<TcpTransport, PlaintextUdpTransport>>;
type Page = Participant<Tab<TcpTransport>>;

/// What the nodes have known at any time.
#[derive(Default)]
struct Seen {
    looks: AtomicUsize,
    /// The largest number of members that one of them knew.
    most: AtomicUsize,
    /// The number of looks at which one of them did not find all others and the bridge live.
    incomplete: AtomicUsize,
}

/// Nodes of the published crate, and a bridge of ours.
struct Cluster {
    nodes: Arc<Vec<ChitchatHandle>>,
    bridge: Bridge,
    secret: ClusterSecret,
}

impl Cluster {
    async fn start(max_udp_members: usize) -> Self {
        let mut nodes: Vec<ChitchatHandle> = Vec::new();
        for n in 0..NODES {
            let seeds = nodes.iter().take(2).map(addr).collect::<Vec<_>>();
            let settings = Settings::new(CLUSTER, format!("theirs-{n}"), INTERVAL, &seeds);
            let socket = UdpSocket::open(ANY_PORT).await.unwrap();
            nodes.push(settings.on(Box::new(socket), ProtocolVersion::V0).await);
        }
        let secret = ClusterSecret::generate();
        let trust = Trust::secret(secret.clone()).accepting_invites();
        let network =
            EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
        let socket = support::open(network, NetCredential::generate(trust)).await;
        let config = our_config(CLUSTER, "bridge", INTERVAL, &[addr(&nodes[0])]);
        let config = config.with_max_udp_members(max_udp_members);
        let bridge = Participant::join(socket, config).await.unwrap();
        let cluster = Self {
            nodes: Arc::new(nodes),
            bridge,
            secret,
        };
        cluster.is_whole().await;
        cluster
    }

    /// Waits until the nodes and the bridge find each other live.
    async fn is_whole(&self) {
        until("all to be live", async || {
            for node in self.nodes.iter() {
                if !finds_all_live(node).await {
                    return false;
                }
            }
            let members = self.bridge.members().into_iter();
            let live = members.filter(|member| member.liveness == Liveness::Live);
            let nodes = live.filter(|member| member.id.node_id.starts_with("theirs-"));
            nodes.count() == NODES
        })
        .await;
    }

    /// Looks at the nodes until the task is aborted.
    fn watch(&self) -> (Arc<Seen>, JoinHandle<()>) {
        let (nodes, seen) = (Arc::clone(&self.nodes), Arc::new(Seen::default()));
        let watched = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                for node in nodes.iter() {
                    let known = node.with_chitchat(|chitchat| chitchat.node_states().len());
                    seen.most.fetch_max(known.await, Ordering::Relaxed);
                    let incomplete = usize::from(!finds_all_live(node).await);
                    seen.incomplete.fetch_add(incomplete, Ordering::Relaxed);
                    seen.looks.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(INTERVAL / 2).await;
            }
        });
        (watched, task)
    }

    /// Loads a page, which becomes a member of the bridge.
    async fn load(&self, name: &str, invite: &Invite) -> Page {
        let credential = NetCredential::generate(Trust::invite(invite.clone()));
        let network =
            TransportLayerTransport::new(Tab(TcpTransport::default()), credential.clone());
        let socket = network.open(nowhere()).await.unwrap();
        let config = GossipConfig::new(CLUSTER, name).with_dial(DialPolicy::SeedsOnly);
        let config = config.with_interval(INTERVAL).with_seeds(self.seeds());
        let page = Participant::join(socket, config).await.unwrap();
        page.set("path", &format!("/{name}")).unwrap();
        let (id, mut watch) = (page.id(), self.bridge.watch());
        soon(async {
            let is_live = || {
                // Copying all members for each page would take more time than everything else.
                let mut members = self.bridge.liveness_of_members().into_iter();
                members.any(|(member, liveness)| member == id && liveness == Liveness::Live)
            };
            while !is_live() || self.bridge.member_value(&id, "path").is_none() {
                assert!(watch.changed().await);
            }
        })
        .await;
        page
    }

    fn seeds(&self) -> Vec<String> {
        vec![self.bridge.id().gossip_advertise_addr.to_string()]
    }

    fn invite(&self) -> Invite {
        let claims = Claims::new(InviteId::generate(unix_time(), HOUR).unwrap());
        Invite::issue(&self.secret, claims, CLUSTER.to_owned(), Vec::new()).unwrap()
    }

    /// Loads pages with names of at least `digits` digits, one after the other. Half of them say that they leave, and
    /// the others vanish.
    async fn load_all(&self, numbers: Range<usize>, digits: usize) {
        let invite = self.invite();
        for n in numbers {
            let page = self.load(&format!("page-{n:0>digits$}"), &invite).await;
            if n % 2 == 0 {
                page.leave(Duration::from_secs(1)).await.unwrap();
            }
        }
    }

    /// Waits until all nodes, the bridge and `page` know a key that each of the two sides sets.
    async fn keys_travel_both_ways(&self, page: &Page) {
        let last = &self.nodes[NODES - 1];
        last.with_chitchat(|chitchat| chitchat.self_node_state().set("late", "of theirs"))
            .await;
        self.bridge.set("late", "of ours").unwrap();
        until("the keys to arrive", async || {
            for node in self.nodes.iter() {
                if read(node, "bridge").await.as_deref() != Some("of ours")
                    || read(node, "theirs-4").await.as_deref() != Some("of theirs")
                {
                    return false;
                }
            }
            let has_both = |members: Vec<gossip_transport::gossip::Member>| {
                let late = members.iter().filter_map(|m| m.key_values.get("late"));
                late.count() == 2
            };
            has_both(self.bridge.members()) && has_both(page.members())
        })
        .await;
    }
}

fn addr(node: &ChitchatHandle) -> std::net::SocketAddr {
    node.chitchat_id().gossip_advertise_addr
}

/// Returns true if `node` finds the other nodes and the bridge live.
async fn finds_all_live(node: &ChitchatHandle) -> bool {
    let is_native = |name: &str| name.starts_with("theirs-") || name == "bridge";
    let native = node.with_chitchat(|chitchat| {
        let live = chitchat.live_nodes();
        live.filter(|id| is_native(&id.node_id)).count()
    });
    native.await == NODES + 1
}

/// Returns the value of the key "late" of the member `of`.
async fn read(node: &ChitchatHandle, of: &str) -> Option<String> {
    let value = node.with_chitchat(|chitchat| {
        let mut states = chitchat.node_states().iter();
        let (_, state) = states.find(|(id, _)| &*id.node_id == of)?;
        state.get("late").map(str::to_owned)
    });
    value.await
}

/// Loads `loads` pages with names of `name_len` bytes at a bridge that tells the nodes of `max_udp_members` members, and
/// checks that the nodes come to no harm and hear of at most `most` members, but of a third of them.
async fn pages_do_no_harm(loads: usize, name_len: usize, max_udp_members: usize, most: usize) {
    let _turn = TURN.lock().await;
    let cluster = Cluster::start(max_udp_members).await;
    let (seen, watching) = cluster.watch();
    let start = Instant::now();
    let each = loads / AT_ONCE;
    let digits = name_len.saturating_sub("page-".len());
    let pages = (0..AT_ONCE).map(|n| cluster.load_all(n * each..(n + 1) * each, digits));
    futures::future::join_all(pages).await;
    let took = start.elapsed();

    cluster.is_whole().await;
    let page = cluster.load("page-last", &cluster.invite()).await;
    cluster.keys_travel_both_ways(&page).await;
    watching.abort();
    assert!(watching.await.unwrap_err().is_cancelled());
    let denied = cluster.bridge.engine_counts().denied;
    let hidden = denied.count(Denial::Hidden);
    let [looks, known, incomplete] =
        [&seen.looks, &seen.most, &seen.incomplete].map(|n| n.load(Ordering::Relaxed));
    println!(
        "{loads} page loads in {took:?}: a node knew at most {known} members, {hidden} pages were not told to them; in \
         {incomplete} of {looks} looks, one did not find all others live"
    );
    assert!(known <= most, "{known} members");
    assert!(known > most / 3, "they hear of {known} members");
    assert!(hidden > 0, "the limit was not reached");
    let nodes = Arc::into_inner(cluster.nodes).unwrap();
    for node in nodes {
        assert!(node.termination_watcher().now_or_never().is_none());
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_come_and_go_at_a_bridge_do_not_harm_nodes_that_use_v0() {
    pages_do_no_harm(160, 0, 40, 40).await;
}

/// 240 of them would exceed the digest of such a node, although they are far fewer than it is told of otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_with_the_longest_names_at_a_bridge_do_not_harm_nodes_that_use_v0() {
    const NAME_LEN: usize = 256;
    // Beside the name, an entry takes the lengths, generation, address and three numbers.
    let most = (48 << 10) / (NAME_LEN + 53) + NODES + 1;
    pages_do_no_harm(240, NAME_LEN, 500, most).await;
}

/// Loads pages with the default limit, as many as would end the nodes without it. Takes 40 s:
/// `cargo test --release --test native -- --ignored --nocapture two_thousand_page_loads_at_a_bridge`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 40 s of optimised code"]
async fn two_thousand_page_loads_at_a_bridge_do_not_harm_nodes_that_use_v0() {
    let config = GossipConfig::new(CLUSTER, "unused");
    let most = config.max_udp_members;
    pages_do_no_harm(2_000, 0, most, most).await;
}
