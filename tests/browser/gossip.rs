//! A tab that joins the cluster of a native node.

use std::time::Duration;

use gossip_transport::gossip::{
    ConnectedError, DialPolicy, GossipConfig, Liveness, Member, Participant,
};
use gossip_transport::websocket::WebSocketTransport;
use gossip_transport::{NetCredential, TransportLayerTransport, rt};
use wasm_bindgen_test::wasm_bindgen_test;

use super::nodes::Nodes;
use super::{soon, unique};

type Tab = Participant<WebSocketTransport>;

async fn join(nodes: &Nodes, network: &WebSocketTransport) -> Tab {
    let (_, credential, _) = nodes.gossip();
    join_with(credential, nodes, network).await
}

async fn join_with(credential: NetCredential, nodes: &Nodes, network: &WebSocketTransport) -> Tab {
    let (addr, _, cluster) = nodes.gossip();
    let key_addr = credential.identity().address();
    let socket = TransportLayerTransport::new(network.clone(), credential)
        .open(([0, 0, 0, 0], 0).into())
        .await
        .unwrap();
    let config = GossipConfig::new(cluster, format!("tab-{}", unique()));
    let mut config = config.with_dial(DialPolicy::SeedsOnly);
    config.seeds = vec![format!("ws://{addr}/")];
    config.gossip_interval = Duration::from_millis(200);
    let tab = Participant::join(socket, config).await.unwrap();
    // A tab knows its address before it has met anyone.
    assert_eq!(tab.id().gossip_advertise_addr, key_addr);
    tab
}

/// Waits until `tab` knows a member for which `wanted` is true.
async fn sees(tab: &Tab, wanted: impl Fn(&Member) -> bool) {
    let mut watch = tab.watch();
    let seen = async {
        while !tab.members().iter().any(&wanted) {
            assert!(watch.changed().await);
        }
    };
    soon(seen).await;
}

/// Runs the browser example of the crate's front page, which is that file to the letter.
#[wasm_bindgen_test]
async fn the_example_of_the_front_page_joins_and_sets_a_key() {
    let nodes = Nodes::fetch().await;
    let (addr, credential, cluster) = nodes.gossip();
    let seed = format!("ws://{addr}/");
    let tab = super::front_page::join(credential, cluster, &seed);
    let tab = soon(tab).await.unwrap();
    assert_eq!(tab.get("mood").as_deref(), Some("sunny"));
    sees(&tab, |member| member.id.gossip_advertise_addr == addr).await;
    soon(tab.leave(Duration::from_secs(2))).await.unwrap();
}

#[wasm_bindgen_test]
async fn two_tabs_join_a_native_node_and_read_each_others_keys() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    let (addr, _, _) = nodes.gossip();

    let first = join(&nodes, &network).await;
    sees(&first, |member| {
        member.id.gossip_advertise_addr == addr && member.liveness == Liveness::Live
    })
    .await;

    let second = join(&nodes, &network).await;
    first.set("colour", "green").unwrap();
    let is_first = |member: &Member| member.id == first.id();
    let value = |member: &Member| member.key_values.get("colour").map(|v| v.value.clone());
    sees(&second, |m| is_first(m) && m.liveness == Liveness::Live).await;
    sees(&second, |m| {
        is_first(m) && value(m).as_deref() == Some("green")
    })
    .await;
    first.delete("colour").unwrap();
    sees(&second, |m| is_first(m) && value(m).is_none()).await;

    soon(first.leave(Duration::from_secs(2))).await.unwrap();
    soon(second.leave(Duration::from_secs(2))).await.unwrap();
    assert_eq!(network.open_sockets(), 0);
}

#[wasm_bindgen_test]
async fn a_second_tab_with_the_same_key_is_refused_until_the_first_one_is_gone() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    let (_, credential, _) = nodes.gossip();
    let first = join_with(credential.clone(), &nodes, &network).await;
    soon(first.connected()).await.unwrap();

    let second = join_with(credential, &nodes, &network).await;
    let error = soon(second.connected()).await.unwrap_err();
    assert!(
        matches!(error, ConnectedError::DuplicateKey { .. }),
        "{error}"
    );
    assert_eq!(error.code(), "duplicate-key");
    assert_eq!(
        first.stats().connections.len(),
        1,
        "the first tab must keep its connection"
    );

    drop(first);
    let connected = async {
        while second.connected().await.is_err() {
            rt::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(connected).await;
    soon(second.leave(Duration::from_secs(2))).await.unwrap();
    assert_eq!(network.open_sockets(), 0);
}
