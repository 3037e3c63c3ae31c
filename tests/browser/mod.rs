//! Tests that a window and a dedicated worker share; `cargo xtask test` runs them.
//!
//! They dial native nodes whose addresses stand in `target/browser-test/node.json`, which the test
//! runner's HTTP server serves.

mod carrier;
mod connection;
mod dialling;
mod gossip;
mod layer;
mod names;
mod nodes;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::message::Message as _;
use gossip_transport::net::NetTransport as _;
use gossip_transport::websocket::{WebSocketConnection, WebSocketTransport};
use gossip_transport::{NetCredential, rt};

/// Far longer than anything here takes, far shorter than the runner's own limit.
const DEADLINE: Duration = Duration::from_secs(20);

/// What `future` gives; a test does not wait for ever.
async fn soon<F: Future>(future: F) -> F::Output {
    rt::timeout(DEADLINE, future)
        .await
        .expect("it should have happened by now")
}

/// Waits until `condition` holds, which nothing announces.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            rt::sleep(Duration::from_millis(5)).await;
        }
    };
    if rt::timeout(DEADLINE, poll).await.is_err() {
        panic!("{what}: not by now");
    }
}

/// Dials, with the protocol that the nodes speak.
async fn dial(
    transport: &WebSocketTransport,
    addr: SocketAddr,
    credential: &NetCredential,
) -> anyhow::Result<WebSocketConnection> {
    transport.connect(addr, &[Bytes::ALPN], credential).await
}

/// A name that no other test, and no other run against the same peer, uses.
fn unique() -> String {
    format!("{:x}", js_sys::Math::random().to_bits())
}
