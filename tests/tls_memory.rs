//! Measures how much memory TLS adds to a connection while it is idle.
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

use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::NetTransport as _;
use gossip_transport::tcp::{TcpConfig, TcpTransport, TlsIdentity, TlsRoots};
use gossip_transport::{
    ClusterSecret, NetCredential, TransportLayerConfig, TransportLayerSocket,
    TransportLayerTransport, Trust,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const CONNECTIONS: usize = 50;
/// Bytes that a connection may take at both ends together. The number is 23.3 KiB, of which 10 KiB are there without TLS. At
/// each end, TLS adds the state of rustls, 4 KiB of it a read buffer, and what is remembered to resume the session.
const LIMIT: usize = 26 << 10;
const KEEPALIVE: Duration = Duration::from_millis(100);

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

async fn open(secret: &ClusterSecret, network: TcpTransport) -> Socket {
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let config = TransportLayerConfig::default().with_keepalive_interval(KEEPALIVE);
    TransportLayerTransport::with_config(network, credential, config)
        .open("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_inside_tls_takes_little_memory() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let identity = TlsIdentity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let secret = ClusterSecret::generate();
    let accepting = TcpTransport::new(TcpConfig::default().with_tls(Some(identity)));
    let hub = open(&secret, accepting).await;
    let roots = TlsRoots::from_pem(pem.as_bytes()).unwrap();
    let dialling = TcpTransport::new(TcpConfig::default().with_tls_roots(roots));
    let name = format!("tls://{}", hub.local_addr());
    let to = dialling.resolve(&name).await.unwrap().remove(0);
    let mut spokes = Vec::new();
    for _ in 0..=CONNECTIONS {
        spokes.push(open(&secret, dialling.clone()).await);
    }
    let exchange = async |spoke: &Socket| {
        let question = Bytes::from_static(b"question");
        spoke.send(to, question).await.unwrap();
        let (from, question) = hub.recv().await.unwrap();
        hub.send(from, question).await.unwrap();
        spoke.recv().await.unwrap();
    };
    let (warm_up, spokes) = spokes.split_first().unwrap();
    exchange(warm_up).await;
    let before = MEMORY.current_usage();
    for spoke in spokes {
        exchange(spoke).await;
    }
    // With a keepalive, a connection frees what its messages have taken.
    tokio::time::sleep(KEEPALIVE * 5).await;
    let taken = MEMORY.current_usage().saturating_sub(before) / CONNECTIONS;
    eprintln!("{taken} bytes");
    assert!(taken <= LIMIT, "{taken} bytes for each connection");
}
