//! Measures how much memory TLS adds to a connection while it is idle, also after it has carried large messages.
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
/// Bytes that a connection inside TLS may take at both ends together. The number is 23.6 KiB, of which 9.8 KiB are there without
/// TLS. At each end, TLS adds the state of rustls, 4 KiB of it a read buffer.
const LIMIT: usize = 26 << 10;
/// Bytes of it that TLS may add.
const ADDED: usize = 16 << 10;
/// A message that takes many of the longest records of TLS, and makes the reads long.
const LARGE: usize = 1 << 20;
/// With such a keepalive, a connection frees soon what its messages have taken.
const SHORT: Duration = Duration::from_millis(100);
/// A keepalive that does not come.
const LONG: Duration = Duration::from_secs(80);

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

/// The bytes that a connection takes after each of two messages.
struct Taken {
    after_small: usize,
    after_large: usize,
}

async fn open(secret: &ClusterSecret, network: TcpTransport, keepalive: Duration) -> Socket {
    let credential = NetCredential::generate(Trust::secret(secret.clone()));
    let config = TransportLayerConfig::default().with_keepalive_interval(keepalive);
    TransportLayerTransport::with_config(network, credential, config)
        .open("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap()
}

async fn measure(scheme: &str, keepalive: Duration) -> Taken {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let identity = TlsIdentity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let secret = ClusterSecret::generate();
    let accepting = TcpTransport::new(TcpConfig::default().with_tls(Some(identity)));
    let hub = open(&secret, accepting, keepalive).await;
    let roots = TlsRoots::from_pem(pem.as_bytes()).unwrap();
    let dialling = TcpTransport::new(TcpConfig::default().with_tls_roots(roots));
    let name = format!("{scheme}{}", hub.local_addr());
    let to = dialling.resolve(&name).await.unwrap().remove(0);
    let mut spokes = Vec::new();
    for _ in 0..=CONNECTIONS {
        spokes.push(open(&secret, dialling.clone(), keepalive).await);
    }
    let exchange = async |spoke: &Socket, message: &Bytes| {
        spoke.send(to, message.clone()).await.unwrap();
        let (from, question) = hub.recv().await.unwrap();
        hub.send(from, question).await.unwrap();
        spoke.recv().await.unwrap();
    };
    let (warm_up, spokes) = spokes.split_first().unwrap();
    let (small, large) = (Bytes::from_static(b"question"), Bytes::from(vec![7; LARGE]));
    exchange(warm_up, &small).await;
    tokio::time::sleep(SHORT * 5).await;
    let before = MEMORY.current_usage();
    let after = async |message: &Bytes| {
        for spoke in spokes {
            exchange(spoke, message).await;
        }
        tokio::time::sleep(SHORT * 5).await;
        let taken = MEMORY.current_usage().saturating_sub(before) / CONNECTIONS;
        eprintln!("{scheme} {keepalive:?}, {} bytes: {taken}", message.len());
        taken
    };
    Taken {
        after_small: after(&small).await,
        after_large: after(&large).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_inside_tls_takes_little_memory_also_after_large_messages() {
    let inside = measure("tls://", SHORT).await;
    let (small, large) = (inside.after_small, inside.after_large);
    assert!(small <= LIMIT, "{small} bytes for each connection");
    assert!(large <= LIMIT, "{large} bytes after large messages");
    // What else a connection keeps until a keepalive is sent is not about TLS.
    let (inside, outside) = (measure("tls://", LONG).await, measure("", LONG).await);
    let added = inside.after_large.saturating_sub(outside.after_large);
    assert!(
        added <= ADDED,
        "TLS adds {added} bytes after large messages"
    );
}
