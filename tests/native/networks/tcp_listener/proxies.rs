//! Proxies that state the address of their client.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gossip_transport::net::{AcceptFailure, NetConnection as _};
use gossip_transport::tcp::{AcceptError, TcpConfig, TcpTransport};
use gossip_transport::transport_layer::{SocketStats, TransportLayerConfig};
use gossip_transport::{ClusterSecret, TransportLayerSocket, TransportLayerTransport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_websockets::ClientBuilder;

use super::client::{Server, config, connect, connect_from, read_to_end, split};
use crate::support::layer::until;
use crate::support::{ANY_PORT, member, soon};

/// A proxy of TCP streams.
const STREAMS: [u8; 4] = [127, 0, 0, 7];
/// A proxy of HTTP.
const HTTP: [u8; 4] = [127, 0, 0, 8];

fn behind_proxies(change: impl FnOnce(&mut TcpConfig)) -> TcpConfig {
    config(|config| {
        config.proxy_protocol_from = vec!["127.0.0.7".parse().unwrap()];
        config.forwarded_for_from = vec!["127.0.0.8/32".parse().unwrap()];
        change(config);
    })
}

/// Returns a header of the PROXY protocol.
fn header(client: &str) -> Vec<u8> {
    let SocketAddr::V4(client) = client.parse().unwrap() else {
        panic!("an IPv6 address");
    };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend(client.ip().octets());
    header.extend([10, 0, 0, 1]);
    header.extend(client.port().to_be_bytes());
    header.extend([0, 80]);
    header
}

/// Connects from `proxy`, and sends `start`.
async fn from_proxy(proxy: [u8; 4], server: &Server, start: &[u8]) -> TcpStream {
    let mut stream = connect_from(proxy, server.addr).await;
    stream.write_all(start).await.unwrap();
    stream
}

/// Dials the server over a WebSocket on `stream`, whose request has the fields `X-Forwarded-For`. Returns
/// the address that the server has for the peer, and the address that the peer has learned from it.
async fn addresses(
    server: &mut Server,
    stream: TcpStream,
    forwarded_for: Option<&'static str>,
) -> (SocketAddr, SocketAddr) {
    let uri = format!("ws://{}/", server.addr);
    let mut builder = ClientBuilder::new().uri(&uri).unwrap();
    if let Some(list) = forwarded_for {
        let name = "x-forwarded-for".parse().unwrap();
        builder = builder.add_header(name, list.parse().unwrap()).unwrap();
    }
    let (stream, _answer) = soon(builder.connect_on(stream)).await.unwrap();
    let (reader, writer) = split(stream);
    let there = server.shake_hands(reader, writer, &server.member()).await;
    let here = server.outcome().await.unwrap();
    (here.remote_addr(), there.unwrap().local_addr())
}

#[tokio::test]
async fn the_client_that_a_trusted_proxy_states_is_the_peer() {
    let mut server = Server::start(behind_proxies(|_| {})).await;
    let stream = from_proxy(STREAMS, &server, &header("192.0.2.1:4660")).await;
    let client = "192.0.2.1:4660".parse().unwrap();
    // What a client of that proxy claims is not believed.
    let claim = Some("198.51.100.9");
    assert_eq!(
        addresses(&mut server, stream, claim).await,
        (client, client)
    );

    let stream = from_proxy(HTTP, &server, b"").await;
    let list = Some("198.51.100.9, 192.0.2.2, 127.0.0.8");
    let (here, there) = addresses(&mut server, stream, list).await;
    assert_eq!(here.ip().to_string(), "192.0.2.2");
    assert_eq!(here, there);

    // Neither of them, and one that states nothing.
    let stream = from_proxy([127, 0, 0, 6], &server, b"").await;
    let (here, _) = addresses(&mut server, stream, claim).await;
    assert_eq!(here.ip().to_string(), "127.0.0.6");
    let stream = from_proxy(HTTP, &server, b"").await;
    let (here, _) = addresses(&mut server, stream, None).await;
    assert_eq!(here.ip().to_string(), "127.0.0.8");
}

#[tokio::test]
async fn a_header_of_the_proxy_protocol_is_mandatory_from_its_proxies_and_refused_from_others() {
    let mut server = Server::start(behind_proxies(|_| {})).await;
    // The server must go on while a proxy is silent.
    let mut silent = from_proxy(STREAMS, &server, b"\r\n\r\n").await;
    let mut missing = from_proxy(STREAMS, &server, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(read_to_end(&mut missing).await.is_empty());
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::ProxyHeader { .. }), "{error}");
    for other in [HTTP, [127, 0, 0, 1]] {
        let mut stream = from_proxy(other, &server, &header("192.0.2.1:1")).await;
        assert!(read_to_end(&mut stream).await.is_empty());
        let error = server.failure::<AcceptError>().await;
        assert!(matches!(error, AcceptError::ProxyNotTrusted), "{error}");
    }
    assert!(read_to_end(&mut silent).await.is_empty());
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::ProxySilent { .. }), "{error}");
}

#[tokio::test]
async fn connections_of_proxies_that_are_too_many_are_refused_and_counted_by_reason() {
    const SILENT: u64 = 20;
    let config = behind_proxies(|config| config.max_unauthenticated = 2);
    let secret = ClusterSecret::generate();
    let network = TransportLayerTransport::with_config(
        TcpTransport::new(config),
        member(&secret),
        TransportLayerConfig::default().with_max_pending_handshakes(1),
    );
    let node: TransportLayerSocket<_, Bytes> = network.open(ANY_PORT).await.unwrap();
    // They take no place of a handshake.
    let mut other = connect(node.local_addr(), b"\0\x05\xA7GT").await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let mut stream = connect_from(STREAMS, node.local_addr()).await;
        stream.write_all(b"\r\n").await.unwrap();
        silent.push(stream);
    }
    let crowded = |stats: &SocketStats| stats.accept_failures.count(AcceptFailure::Crowded);
    until(&node, |stats| crowded(stats) == SILENT - 2).await;
    for stream in &mut silent[2..] {
        assert!(read_to_end(stream).await.is_empty());
    }
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(100), other.read(&mut byte));
    assert!(read.await.is_err(), "it was closed");
}

#[tokio::test]
async fn limits_per_host_apply_to_the_clients_of_a_trusted_proxy() {
    let one = behind_proxies(|config| config.max_unauthenticated_per_ip = 1);
    let mut server = Server::start(one).await;
    let mut first = from_proxy(STREAMS, &server, &header("192.0.2.1:1")).await;
    // Clients of the same proxy.
    for n in 2..10 {
        let client = header(&format!("192.0.2.{n}:1"));
        let stream = from_proxy(STREAMS, &server, &client).await;
        addresses(&mut server, stream, None).await;
    }
    // Another connection of the first client takes its place.
    let _second = from_proxy(STREAMS, &server, &header("192.0.2.1:2")).await;
    assert!(read_to_end(&mut first).await.is_empty());
    let error = server.failure::<AcceptError>().await;
    let expected = matches!(error, AcceptError::TooManyUnauthenticated);
    assert!(expected, "{error}");
}
