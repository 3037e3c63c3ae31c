//! The transport layer over WebSocket: queues, replies and statistics.

use std::time::Duration;

use bytes::Bytes;
use gossip_transport::websocket::WebSocketTransport;
use gossip_transport::{NetCredential, TransportLayerSocket, TransportLayerTransport, rt};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

use super::nodes::Nodes;
use super::{eventually, soon};

async fn open(
    network: &WebSocketTransport,
    nodes: &Nodes,
) -> TransportLayerSocket<WebSocketTransport, Bytes> {
    open_with(nodes.echo_credential(), network).await
}

async fn open_with(
    credential: NetCredential,
    network: &WebSocketTransport,
) -> TransportLayerSocket<WebSocketTransport, Bytes> {
    TransportLayerTransport::new(network.clone(), credential)
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

/// Firefox opens one WebSocket to an address at a time, so that the silent peer, whose port is another one of
/// the same address, holds up the other.
#[wasm_bindgen_test]
async fn a_silent_peer_holds_up_others_of_its_host_for_a_moment_and_only_once() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    for limit in [4, 1] {
        let socket = open(&network, &nodes).await;
        socket.send(nodes.silent(), "lost".into()).await.unwrap();
        eventually("the silent peer to be dialled", || {
            network.open_sockets() == 1
        })
        .await;
        let began = rt::Instant::now();
        socket.send(nodes.echo(), "hello".into()).await.unwrap();
        let (from, _) = soon(socket.recv()).await.unwrap();
        assert_eq!(from, nodes.echo());
        let took = began.elapsed();
        assert!(took < Duration::from_secs(limit), "{took:?}");
    }
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

/// Runs `code` as the body of a JavaScript function.
fn js(code: &str) {
    let function = js_sys::Function::new_no_args(code);
    function.call0(&JsValue::UNDEFINED).unwrap();
}

/// The events of a page that wakes up, of which a worker has the first one only, and a jump of the clock on
/// the wall, as after a sleep of the machine.
const WAKINGS: [&str; 5] = [
    "dispatchEvent(new Event('online'))",
    "dispatchEvent(new Event('pageshow'))",
    "(globalThis.document ?? globalThis).dispatchEvent(new Event('visibilitychange', { bubbles: true }))",
    "(globalThis.document ?? globalThis).dispatchEvent(new Event('resume', { bubbles: true }))",
    "const now = Date.now; Date.now = () => now.call(Date) + 20_000",
];

#[wasm_bindgen_test]
async fn a_connection_that_is_dead_after_waking_is_replaced_within_seconds() {
    let nodes = Nodes::fetch().await;
    for waking in WAKINGS {
        let network = WebSocketTransport::default();
        let socket = open_with(nodes.credential(), &network).await;
        socket.send(nodes.secure(), "hello".into()).await.unwrap();
        soon(socket.recv()).await.unwrap();
        // From now on, the peer reads nothing and answers nothing.
        socket.send(nodes.secure(), "stall".into()).await.unwrap();
        js(waking);
        let began = rt::Instant::now();
        let answered = async {
            loop {
                socket.send(nodes.secure(), "again".into()).await.unwrap();
                let limit = Duration::from_millis(100);
                if rt::timeout(limit, socket.recv()).await.is_ok() {
                    return;
                }
            }
        };
        soon(answered).await;
        // The clock is looked at every 2 s, and an answer is waited for for 3 s.
        assert!(began.elapsed() < Duration::from_secs(8), "{waking}");
        assert_eq!(socket.stats().dials, 2, "{waking}");
    }
}

#[wasm_bindgen_test]
async fn a_connection_that_is_alive_after_waking_stays() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    let socket = open(&network, &nodes).await;
    socket.send(nodes.echo(), "hello".into()).await.unwrap();
    soon(socket.recv()).await.unwrap();
    for waking in WAKINGS {
        js(waking);
    }
    // Longer than an answer is waited for.
    rt::sleep(Duration::from_secs(6)).await;
    let stats = socket.stats();
    assert_eq!((stats.dials, stats.connections.len()), (1, 1));
}

#[wasm_bindgen_test]
async fn waking_ends_the_wait_before_a_dial() {
    let nodes = Nodes::fetch().await;
    let network = WebSocketTransport::default();
    let socket = open(&network, &nodes).await;
    let peer = socket
        .get_or_create_outgoing_connection(nodes.dead())
        .unwrap();
    let woken = async {
        let next_dial = || socket.stats().peers[&nodes.dead()].next_dial;
        while next_dial().is_none_or(|wait| wait < Duration::from_secs(2)) {
            rt::sleep(Duration::from_millis(10)).await;
        }
        let dials = socket.stats().dials;
        js(WAKINGS[0]);
        let began = rt::Instant::now();
        while socket.stats().dials == dials {
            rt::sleep(Duration::from_millis(1)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(1));
    };
    let connected = peer.connected(Duration::from_secs(60));
    soon(futures::future::select(
        std::pin::pin!(connected),
        std::pin::pin!(woken),
    ))
    .await;
}
