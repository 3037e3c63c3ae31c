//! Messages over the secure channel between a browser and a native node.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::message::Message as _;
use gossip_transport::net::{CloseCode, CloseReason, NetConnection as _};
use gossip_transport::rt;
use gossip_transport::secure::FrameError;
use gossip_transport::websocket::{WebSocketConnection, WebSocketTransport};
use wasm_bindgen_test::wasm_bindgen_test;

use super::nodes::Nodes;
use super::{dial, soon};

async fn connect() -> WebSocketConnection {
    let nodes = Nodes::fetch().await;
    let transport = WebSocketTransport::default();
    let credential = nodes.credential();
    soon(dial(&transport, nodes.secure(), &credential))
        .await
        .unwrap()
}

async fn recv(connection: &WebSocketConnection) -> Bytes {
    soon(connection.recv()).await.unwrap().unwrap()
}

#[wasm_bindgen_test]
async fn messages_are_exchanged_in_both_directions() {
    let nodes = Nodes::fetch().await;
    let connection = connect().await;
    soon(connection.send("hello".into())).await.unwrap();
    assert_eq!(recv(&connection).await, "hello");
    assert_eq!(connection.remote_addr(), nodes.secure());
    assert_eq!(*connection.alpn_negotiated(), Bytes::ALPN);
    assert_ne!(connection.remote_identity(), connection.local_identity());
    // The native node has reported the address that it sees.
    assert!(connection.local_addr().ip().is_loopback());
    assert_ne!(connection.local_addr().port(), 0);
}

#[wasm_bindgen_test]
async fn a_message_of_one_mebibyte_arrives_complete() {
    let connection = connect().await;
    let message: Bytes = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
    assert_eq!(message.len(), 1 << 20);
    let (sent, echoed) = soon(futures::future::join(
        connection.send(message.clone()),
        connection.recv(),
    ))
    .await;
    sent.unwrap();
    assert!(echoed.unwrap().unwrap() == message);
}

#[wasm_bindgen_test]
async fn thousands_of_small_messages_arrive_in_order() {
    let connection = connect().await;
    let mut batch: VecDeque<Bytes> = (0..5000_u32)
        .map(|i| Bytes::copy_from_slice(&i.to_be_bytes()))
        .collect();
    let receive = async {
        for i in 0..5000_u32 {
            let message = connection.recv().await.unwrap().unwrap();
            assert_eq!(message, i.to_be_bytes()[..]);
        }
    };
    let (sent, ()) = soon(futures::future::join(
        connection.send_many(&mut batch),
        receive,
    ))
    .await;
    sent.unwrap();
    assert!(batch.is_empty());
}

#[wasm_bindgen_test]
async fn a_lost_peer_wakes_all_waiting_calls() {
    let connection = connect().await;
    soon(connection.send("drop".into())).await.unwrap();
    let (received, reason) = soon(futures::future::join(
        connection.recv(),
        connection.watch_close(),
    ))
    .await;
    let error = received.unwrap_err();
    assert!(error.downcast_ref::<FrameError>().is_some(), "{error:?}");
    assert!(matches!(reason, CloseReason::Lost(_)), "{reason}");
    assert!(soon(connection.send("late".into())).await.is_err());
}

#[wasm_bindgen_test]
async fn the_code_of_a_goodbye_is_reported() {
    let connection = connect().await;
    soon(connection.send("close 300".into())).await.unwrap();
    assert!(soon(connection.recv()).await.unwrap().is_none());
    let reason = soon(connection.watch_close()).await;
    assert!(
        matches!(reason, CloseReason::Remote(CloseCode(300))),
        "{reason}"
    );
}

#[wasm_bindgen_test]
async fn closing_wakes_a_receiver_and_ends_the_connection() {
    let connection = connect().await;
    let receiver = connection.clone();
    let (received, ()) = soon(futures::future::join(
        receiver.recv(),
        connection.close(CloseCode::NORMAL),
    ))
    .await;
    let error = received.unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(FrameError::Closed { .. })),
        "{error:?}"
    );
    let reason = soon(connection.watch_close()).await;
    assert!(matches!(reason, CloseReason::Local(CloseCode::NORMAL)));
}

#[wasm_bindgen_test]
async fn a_peer_that_stops_reading_leaves_messages_in_the_batch() {
    let connection = connect().await;
    soon(connection.send("stall".into())).await.unwrap();
    let mut batch: VecDeque<Bytes> =
        std::iter::repeat_n(Bytes::from(vec![5; 64 << 10]), 1000).collect();
    let sending = connection.send_many(&mut batch);
    let sent = rt::timeout(Duration::from_secs(2), sending).await;
    assert!(sent.is_err(), "the peer does not read");
    assert!(batch.len() > 250, "{} of 1000 are left", batch.len());
    let began = rt::Instant::now();
    soon(connection.close(CloseCode::NORMAL)).await;
    assert!(began.elapsed() < Duration::from_secs(3));
}
