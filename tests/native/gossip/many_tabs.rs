//! Many tabs behind one proxy as members of a cluster, on real sockets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gossip_transport::credential::is_key_address;
use gossip_transport::gossip::{DialPolicy, GossipConfig, Liveness, Participant};
use gossip_transport::net::NetTransport;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{ClusterSecret, TransportLayerConfig, TransportLayerTransport};

use crate::support::proxy::Proxy;
use crate::support::tab::{Tab, nowhere};
use crate::support::{ANY_PORT, member, until};

#[tokio::test]
async fn a_hundred_tabs_behind_one_proxy_are_a_hundred_members() {
    meet(100, Duration::from_secs(1)).await;
}

#[tokio::test]
#[ignore = "half a minute of unoptimised code"]
async fn five_hundred_tabs_behind_one_proxy_are_five_hundred_members() {
    meet(500, Duration::from_secs(5)).await;
}

async fn join<T: NetTransport>(
    network: T,
    secret: &ClusterSecret,
    config: GossipConfig,
) -> Participant<T> {
    let limits = TransportLayerConfig::default().with_max_pending_handshakes(500);
    let listen = match config.dial {
        DialPolicy::SeedsOnly => nowhere(),
        _ => ANY_PORT,
    };
    let transport = TransportLayerTransport::with_config(network, member(secret), limits);
    let socket = transport.open(listen).await.unwrap();
    Participant::join(socket, config).await.unwrap()
}

/// Returns the names and addresses of the members that `member` finds live, besides itself.
fn live<T: NetTransport>(member: &Participant<T>) -> BTreeSet<(String, std::net::SocketAddr)> {
    let members = member.members().into_iter();
    let live = members.filter(|m| m.liveness == Liveness::Live);
    live.map(|m| (m.id.node_id.to_string(), m.id.gossip_advertise_addr))
        .collect()
}

/// Lets one node and so many tabs behind one proxy meet, and each tab hear of a change in another one.
async fn meet(count: usize, interval: Duration) {
    let start = Instant::now();
    let secret = ClusterSecret::generate();
    let config = |name: &str| GossipConfig::new("cluster", name).with_interval(interval);
    let node = join(TcpTransport::default(), &secret, config("node")).await;
    let proxy = Proxy::new(node.id().gossip_advertise_addr).await;
    let mut tabs = Vec::new();
    for n in 0..count {
        let mut config = config(&format!("tab-{n}"));
        config.seeds = vec![proxy.addr.to_string()];
        config.dial = DialPolicy::SeedsOnly;
        tabs.push(join(Tab(TcpTransport::default()), &secret, config).await);
    }
    let of_tab =
        |tab: &Participant<_>| (tab.id().node_id.to_string(), tab.id().gossip_advertise_addr);
    let mut expected: BTreeSet<_> = tabs.iter().map(of_tab).collect();
    assert_eq!(expected.len(), count);
    assert!(expected.iter().all(|(_, addr)| is_key_address(*addr)));
    until("the node to find all tabs live", async || {
        live(&node) == expected
    })
    .await;
    println!("{count} tabs are live after {:?}", start.elapsed());
    expected.insert(("node".to_owned(), node.id().gossip_advertise_addr));
    // One after the other: a look at all members of all tabs takes longer than a round of all of them.
    for tab in &tabs {
        let finds_all = async || live(tab).len() == count;
        until("the tab to find all others live", finds_all).await;
    }
    println!("everywhere after {:?}", start.elapsed());
    let last = &tabs[count - 1];
    let mut all = live(last);
    all.insert(of_tab(last));
    assert_eq!(all, expected);
    tabs[0].set("colour", "blue").unwrap();
    let (changed, id) = (Instant::now(), tabs[0].id());
    until("the change to reach each tab", async || {
        let has_it =
            |tab: &Participant<_>| tab.member_value(&id, "colour").as_deref() == Some("blue");
        tabs[1..].iter().all(has_it)
    })
    .await;
    println!("the change after {:?}", changed.elapsed());
    // Behind the proxy, they have one host. On a machine that is too busy to answer probes, a tab may be
    // connected twice for a moment.
    until("each tab to have one connection", async || {
        let connections = node.stats().connections.into_iter();
        let of: Vec<_> = connections.map(|c| c.network_addr.ip()).collect();
        of.len() == count && of.iter().all(|ip| *ip == of[0])
    })
    .await;
}
