//! Measures how much memory a connection takes while it is idle.
//!
//! The test has a process of its own, since the allocator counts the allocations of all threads.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::tcp::TcpTransport;
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const CONNECTIONS: usize = 100;
/// Bytes that a connection may take at both ends together, besides the 2.3 KiB of expanded keys that
/// C code allocates. The number is 9.8 KiB with this crate's layouts and those of tokio 1.54.
const LIMIT: usize = 10 << 10;
const KEEPALIVE: Duration = Duration::from_millis(100);

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

async fn bind(secret: &ClusterSecret) -> Socket {
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let config = TransportLayerConfig::default().with_keepalive_interval(KEEPALIVE);
    TransportLayerTransport::with_config(TcpTransport::default(), credential, config)
        .open("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap()
}

/// Sends a message each way.
async fn exchange(spoke: &Socket, hub: &Socket, to: SocketAddr) {
    spoke
        .send(to, Bytes::from_static(b"question"))
        .await
        .unwrap();
    let (from, question) = hub.recv().await.unwrap();
    hub.send(from, question).await.unwrap();
    spoke.recv().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_takes_little_memory() {
    let secret = ClusterSecret::generate();
    let (hub, mut spokes) = (bind(&secret).await, Vec::new());
    for _ in 0..=CONNECTIONS {
        spokes.push(bind(&secret).await);
    }
    let to = hub.local_addr();
    let (warm_up, spokes) = spokes.split_first().unwrap();
    exchange(warm_up, &hub, to).await;
    let before = MEMORY.current_usage();
    for spoke in spokes {
        exchange(spoke, &hub, to).await;
    }
    // With a keepalive, a connection frees what its messages have taken.
    tokio::time::sleep(KEEPALIVE * 5).await;
    let taken = MEMORY.current_usage().saturating_sub(before) / CONNECTIONS;
    eprintln!("{taken} bytes");
    assert!(taken <= LIMIT, "{taken} bytes for each connection");
}
