//! The transport layer over WebSocket: queues, replies and statistics.

use std::time::Duration;

use bytes::Bytes;
use gossip_transport::websocket::WebSocketTransport;
use gossip_transport::{TransportLayerSocket, TransportLayerTransport};
use wasm_bindgen_test::wasm_bindgen_test;

use super::nodes::Nodes;
use super::soon;

async fn open(
    network: &WebSocketTransport,
    nodes: &Nodes,
) -> TransportLayerSocket<WebSocketTransport, Bytes> {
    TransportLayerTransport::new(network.clone(), nodes.echo_credential())
        .open(([0, 0, 0, 0], 0).into())
        .await
        .unwrap()
}

#[wasm_bindgen_test]
async fn a_native_socket_replies_over_the_connection_that_the_tab_dialled() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    let socket = open(&network, &nodes).await;
    let messages = 200_u32;
    for i in 0..messages {
        let message = Bytes::copy_from_slice(&i.to_be_bytes());
        socket.send(nodes.echo(), message).await.unwrap();
    }
    for i in 0..messages {
        let (from, message) = soon(socket.recv()).await.unwrap();
        assert_eq!(from, nodes.echo());
        assert_eq!(message, i.to_be_bytes()[..]);
    }
    let large = Bytes::from(vec![3; 1 << 20]);
    socket.send(nodes.echo(), large.clone()).await.unwrap();
    let (from, message) = soon(socket.recv()).await.unwrap();
    assert_eq!(from, nodes.echo());
    assert!(message == large);

    let total = socket.stats().total;
    assert_eq!(total.submitted, u64::from(messages) + 1);
    assert_eq!(total.sent, total.submitted);
    assert_eq!(total.dropped.total(), 0);
    assert_eq!(
        network.open_sockets(),
        1,
        "one connection must serve both directions"
    );
}

#[wasm_bindgen_test]
async fn a_silent_and_a_dead_peer_do_not_delay_other_peers() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    let socket = open(&network, &nodes).await;
    for bad in [nodes.silent(), nodes.dead()] {
        socket.send(bad, "lost".into()).await.unwrap();
    }
    socket.send(nodes.echo(), "hello".into()).await.unwrap();
    let (from, message) = soon(socket.recv()).await.unwrap();
    assert_eq!((from, message), (nodes.echo(), "hello".into()));
}

#[wasm_bindgen_test]
async fn dropping_a_socket_closes_its_websockets_immediately() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    for _ in 0..20 {
        let socket = open(&network, &nodes).await;
        socket.send(nodes.silent(), "lost".into()).await.unwrap();
        socket.send(nodes.echo(), "hello".into()).await.unwrap();
        soon(socket.recv()).await.unwrap();
        drop(socket);
        assert_eq!(network.open_sockets(), 0);
    }
    let socket = open(&network, &nodes).await;
    socket.send(nodes.echo(), "hello".into()).await.unwrap();
    let report = soon(socket.shutdown(Duration::from_secs(5))).await;
    assert_eq!(report.unsent, 0);
    assert_eq!(network.open_sockets(), 0);
}
