//! Dials that fail, and dials that are cancelled.

use std::time::Duration;

use gossip_transport::net::{CloseCode, ConnectError, NetConnection as _, NetTransport as _};
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
async fn dialling_a_port_without_a_listener_fails_with_hints_on_what_to_check() {
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
async fn a_port_that_browsers_never_dial_is_a_typed_error_that_says_so() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    for name in ["127.0.0.1:6000", "ws://127.0.0.1:10080/path"] {
        let addr = transport.resolve(name).await.unwrap()[0];
        let error = soon(dial(&transport, addr, &nodes.credential()))
            .await
            .unwrap_err();
        let Some(ConnectError::NotPermitted { help, .. }) = error.downcast_ref() else {
            panic!("{error:?}");
        };
        assert!(help.contains("another port"), "{help}");
    }
}

#[wasm_bindgen_test]
async fn an_address_that_cannot_be_dialled_is_refused_without_a_dial() {
    let transport = WebSocketTransport::default();
    for addr in [
        "0.0.0.0:7000",
        "127.0.0.1:0",
        "[100::1]:7000",
        "224.0.0.1:7000",
        "255.255.255.255:7000",
    ] {
        let error = soon(transport.open(addr.parse().unwrap()))
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::NotDialable { .. }), "{addr}");
    }
}

#[wasm_bindgen_test]
async fn a_dial_of_a_port_that_accepts_and_never_answers_times_out() {
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
async fn a_handshake_that_is_never_answered_times_out() {
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
async fn dropping_a_dial_closes_its_websocket() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let stall = nodes.raw(&transport, "stall").await;
    for addr in [nodes.silent(), stall] {
        let credential = nodes.credential();
        let dial = dial(&transport, addr, &credential);
        let cancelled = rt::timeout(Duration::from_millis(200), dial).await;
        assert!(cancelled.is_err());
        assert_eq!(transport.open_sockets(), 0);
    }
}

#[wasm_bindgen_test]
async fn another_cluster_secret_is_refused_with_a_typed_error() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let other = NetCredential::generate(Trust::secret(ClusterSecret::generate()));
    let error = soon(dial(&transport, nodes.secure(), &other))
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
async fn hundreds_of_connections_leak_nothing() {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let mut settled = None;
    for round in 0..300_u32 {
        // A third of the connections end with a goodbye, a third without, and a third before the
        // handshake.
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
