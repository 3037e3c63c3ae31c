//! Dials that fail, and dials that are given up.

use std::time::Duration;

use gossip_transport::net::{CloseCode, ConnectError, NetConnection as _};
use gossip_transport::rt::{self, Instant};
use gossip_transport::secure::HandshakeError;
use gossip_transport::websocket::{WebSocketConfig, WebSocketTransport};
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use wasm_bindgen_test::wasm_bindgen_test;

use super::nodes::Nodes;
use super::{dial, soon};

fn impatient() -> WebSocketTransport {
    let mut config = WebSocketConfig::default();
    config.connect_timeout = Duration::from_millis(300);
    WebSocketTransport::new(config)
}

#[wasm_bindgen_test]
async fn a_dead_port_is_a_connect_error_that_says_what_to_check() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let began = Instant::now();
    let error = soon(dial(&transport, nodes.dead(), &nodes.credential()))
        .await
        .unwrap_err();
    let Some(ConnectError::Refused { addr, help }) = error.downcast_ref() else {
        panic!("{error:?}");
    };
    assert_eq!(*addr, nodes.dead());
    assert!(help.contains("ws://127.0.0.77:"), "{help}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(transport.open_sockets(), 0);
}

#[wasm_bindgen_test]
async fn an_address_that_nobody_can_have_is_not_dialled() {
    let transport = WebSocketTransport::default();
    for addr in [
        "0.0.0.0:7000",
        "127.0.0.1:0",
        "[100::1]:7000",
        "224.0.0.1:7000",
    ] {
        let error = soon(transport.open(addr.parse().unwrap()))
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::NotDialable { .. }), "{addr}");
    }
}

#[wasm_bindgen_test]
async fn a_port_that_accepts_and_never_answers_times_out() {
    let nodes = Nodes::fetch().await;
    let transport = impatient();
    let error = soon(dial(&transport, nodes.silent(), &nodes.credential()))
        .await
        .unwrap_err();
    let Some(ConnectError::Timeout { .. }) = error.downcast_ref() else {
        panic!("{error:?}");
    };
    assert_eq!(transport.open_sockets(), 0);
}

#[wasm_bindgen_test]
async fn a_websocket_that_never_answers_the_handshake_times_out() {
    let nodes = Nodes::fetch().await;
    let transport = impatient();
    let addr = nodes.raw(&transport, "stall").await;
    let error = soon(dial(&transport, addr, &nodes.credential()))
        .await
        .unwrap_err();
    let Some(HandshakeError::Timeout { .. }) = error.downcast_ref() else {
        panic!("{error:?}");
    };
    assert_eq!(transport.open_sockets(), 0);
}

#[wasm_bindgen_test]
async fn a_dial_that_is_dropped_closes_its_socket() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let stall = nodes.raw(&transport, "stall").await;
    for addr in [nodes.silent(), stall] {
        let credential = nodes.credential();
        let dial = dial(&transport, addr, &credential);
        let given_up = rt::timeout(Duration::from_millis(200), dial).await;
        assert!(given_up.is_err());
        assert_eq!(transport.open_sockets(), 0);
    }
}

#[wasm_bindgen_test]
async fn another_cluster_secret_is_refused_with_a_typed_error() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let stranger = NetCredential::generate(Trust::secret(ClusterSecret::generate()));
    let error = soon(dial(&transport, nodes.secure(), &stranger))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.downcast_ref(),
            Some(HandshakeError::ClosedByPeer | HandshakeError::Decrypt)
        ),
        "{error:?}"
    );
    assert_eq!(transport.open_sockets(), 0);
}

#[wasm_bindgen_test]
async fn nothing_is_left_of_hundreds_of_connections() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let mut settled = None;
    for round in 0..300_u32 {
        // Every third ends with a goodbye, every third without, every third is not even made.
        if round % 3 == 2 {
            let (reader, writer) = soon(transport.open(nodes.secure())).await.unwrap();
            drop((reader, writer));
        } else {
            let credential = nodes.credential();
            let connection = soon(dial(&transport, nodes.secure(), &credential))
                .await
                .unwrap();
            if round % 3 == 0 {
                soon(connection.close(CloseCode::NORMAL)).await;
            }
        }
        assert_eq!(transport.open_sockets(), 0, "round {round}");
        if round == 20 {
            settled = Some(wasm_bindgen::externref_heap_live_count());
        }
    }
    let handles = wasm_bindgen::externref_heap_live_count();
    assert!(
        handles <= settled.unwrap() + 10,
        "handles of JavaScript objects grew from {settled:?} to {handles}"
    );
}
