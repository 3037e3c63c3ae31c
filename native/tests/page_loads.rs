//! Pages that are loaded and closed again: what they leave behind in a node. The node is a real process, and the
//! pages are members on sockets of this one that cannot be dialled, as tabs are.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;
#[path = "../../tests/native/support/tab.rs"]
#[allow(dead_code, reason = "shared with the tests of the library")]
mod tab;

use std::collections::VecDeque;
use std::time::Duration;

use gossip_transport::gossip::{DialPolicy, GossipConfig, Participant};
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{NetCredential, TransportLayerTransport, Trust};

use support::process::Node;
use tab::{Tab, nowhere};

/// The pages that are open at a time.
const OPEN: usize = 10;
/// Those after which the memory is looked at for the first time: more than the node may remember.
const BEFORE: usize = 150;
const LATER: usize = 450;

/// Returns the memory of a node that no file backs, in kilobytes.
fn anonymous(node: &Node) -> u64 {
    node.memory("RssAnon")
}

async fn page(n: usize, node: &Node) -> Participant<Tab<TcpTransport>> {
    let credential = NetCredential::generate(Trust::dangerously_anyone());
    let network = TransportLayerTransport::new(Tab(TcpTransport::default()), credential);
    let socket = network.open(nowhere()).await.unwrap();
    let mut config = GossipConfig::new("pages", format!("tab-{n}"));
    config.seeds = vec![node.gossip.to_string()];
    config.dial = DialPolicy::SeedsOnly;
    let config = config.with_interval(Duration::from_millis(100));
    let page = Participant::join(socket, config).await.unwrap();
    page.set("kind", "tab").unwrap();
    tokio::time::timeout(Duration::from_secs(10), page.connected())
        .await
        .expect("no answer")
        .unwrap();
    page
}

#[tokio::test]
async fn pages_that_are_closed_leave_no_memory_no_dials_and_few_lines_behind() {
    let node = Node::start(&[
        "--trust-anyone",
        "--cluster",
        "pages",
        "--max-members",
        "100",
    ]);
    let mut open = VecDeque::new();
    let mut before = 0;
    for n in 0..LATER {
        if n == BEFORE {
            before = anonymous(&node);
        }
        open.push_back(page(n, &node).await);
        if open.len() > OPEN {
            drop(open.pop_front());
        }
    }
    let after = anonymous(&node);
    println!("{before} kB after {BEFORE} pages, {after} kB after {LATER}");
    // A page takes about 3 kB, most of it until the node forgets the peer after `peer_linger`.
    assert!(after < before + 2_000, "{before} kB, then {after} kB");
    let stats = &node.json("/status")["stats"];
    assert_eq!(stats["dials"], 0, "{stats}");
    // Each page is logged as it connects, joins, and goes.
    let lines = node.log().lines().count();
    println!("{lines} lines");
    assert!(lines < 6 * LATER, "{lines} lines");
}
