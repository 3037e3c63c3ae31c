//! The tests that run in a window and in a dedicated worker, by `cargo xtask test`.
//!
//! They dial native nodes. The HTTP server of the test runner serves the addresses of those as
//! `target/browser-test/node.json`.

mod carrier;
mod config;
mod connection;
mod dialling;
#[expect(
    unreachable_pub,
    reason = "the text of the crate's front page, where it is public"
)]
mod front_page;
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

/// Far longer than anything here takes, and far shorter than the limit of the test runner.
const DEADLINE: Duration = Duration::from_secs(20);

/// Returns the output of `future`, or panics after [`DEADLINE`].
async fn soon<F: Future>(future: F) -> F::Output {
    rt::timeout(DEADLINE, future)
        .await
        .expect("the future should have completed by now")
}

/// Polls until `condition` is true, for conditions that cannot be awaited.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            rt::sleep(Duration::from_millis(5)).await;
        }
    };
    if rt::timeout(DEADLINE, poll).await.is_err() {
        panic!("waited too long for {what}");
    }
}

/// Dials with the protocol of the native nodes.
async fn dial(
    transport: &WebSocketTransport,
    addr: SocketAddr,
    credential: &NetCredential,
) -> anyhow::Result<WebSocketConnection> {
    transport.connect(addr, &[Bytes::ALPN], credential).await
}

/// Returns a name that no other test and no other run against the same peer uses.
fn unique() -> String {
    format!("{:x}", js_sys::Math::random().to_bits())
}
