//! HTTP on the gossip port: requests of a user's service, WebSockets before and after them, and hostile clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use gossip_transport::http_service::{HttpClient, HttpService};
use gossip_transport::net::{AcceptFailure, NetConnection as _, NetIncomingRequest as _};
use gossip_transport::tcp::{AcceptError, AcceptedStreams, TcpConfig, TcpIncomingRequest};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_websockets::ClientBuilder;

use crate::networks::conformance::pushed::Unheard;
use crate::networks::tcp_listener::client::{Server, connect, read_to_end, split};
use crate::support::{ANY_PORT, PATIENCE, soon};
use crate::tls::certificates::Ca;

const UPGRADE: &str = "GET /gossip HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn about(Extension(client): Extension<HttpClient>) -> String {
    format!("{} {}", client.remote_addr().ip(), client.is_encrypted())
}

async fn tls(Extension(client): Extension<HttpClient>) -> String {
    client.is_reached_by_tls().to_string()
}

fn service() -> HttpService {
    let router: Router = Router::new()
        .route("/", get(about))
        .route("/tls", get(tls))
        .route("/large", get(|| async { "x".repeat(64 << 20) }));
    HttpService::new(router)
}

async fn start(service: &HttpService) -> Server {
    Server::start(TcpConfig::default().with_http(Some(service.clone()))).await
}

/// Sends a request on a stream that stays open, and returns the response's head and body.
async fn request(stream: &mut TcpStream, request: &str) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    response(stream).await
}

async fn response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
    soon(stream.read_exact(&mut body)).await.unwrap();
    (head, body)
}

#[tokio::test]
async fn requests_are_answered_on_the_gossip_port_and_are_no_failures() {
    let service = service();
    let mut server = start(&service).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..3 {
        let (head, body) = request(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, b"127.0.0.1 false");
    }
    let error = server.outcome().await.unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(AcceptError::PlainRequest)
    ));
    assert_eq!(TcpIncomingRequest::failure(&error), None);
    // Clients that check health speak the old version.
    let mut old = connect(server.addr, b"GET / HTTP/1.0\r\n\r\n").await;
    let text = String::from_utf8(read_to_end(&mut old).await).unwrap();
    assert!(text.ends_with("127.0.0.1 false"), "{text}");
    assert_eq!(service.stats().requests, 4);
    // Members and tabs still connect.
    server.dial_raw().await.unwrap();
    server.dial_websocket().await.unwrap();
}

#[tokio::test]
async fn a_proxy_may_request_a_websocket_on_a_stream_that_has_had_other_requests() {
    let service = service();
    let mut server = start(&service).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let (head, _) = request(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    server.outcome().await.unwrap_err();
    let (head, _) = request(&mut stream, UPGRADE).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    // A frame that is text ends it, which only the WebSocket's side knows.
    stream.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await.unwrap();
    let close = soon(stream.read_u8()).await.unwrap();
    assert_eq!(close, 0x88);
    server.outcome().await.unwrap_err();
}

#[tokio::test]
async fn a_request_for_a_websocket_without_its_upgrade_is_told_so_and_not_answered_by_the_service()
{
    let service = service();
    let mut server = start(&service).await;
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for version in ["1.0", "1.1"] {
        let request = format!("GET / HTTP/{version}\r\nHost: a\r\n{key}\r\n");
        let mut stream = connect(server.addr, request.as_bytes()).await;
        let text = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert!(text.starts_with("HTTP/1.1 426 "), "{text}");
        let error = server.outcome().await.unwrap_err();
        assert_eq!(
            TcpIncomingRequest::failure(&error),
            Some(match version {
                "1.0" => AcceptFailure::Http10,
                _ => AcceptFailure::Http,
            })
        );
    }
    // After another request, too.
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    request(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let again = format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n");
    let (head, _) = request(&mut stream, &again).await;
    assert!(head.starts_with("http/1.1 426 "), "{head}");
    assert_eq!(service.stats().requests, 2);
    for expected in [None, Some(AcceptFailure::Http)] {
        let error = server.outcome().await.unwrap_err();
        assert_eq!(TcpIncomingRequest::failure(&error), expected, "{error:#}");
    }
}

#[tokio::test]
async fn a_client_that_has_gone_when_its_websocket_is_answered_is_counted() {
    let streams = AcceptedStreams::new();
    let config = TcpConfig::default().with_http(Some(service()));
    let mut server = Server::start(config.with_accepted_streams(Some(streams.clone()))).await;
    let port = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let mut client = TcpStream::connect(port.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, remote) = port.accept().await.unwrap();
    let is_gone = Arc::new(AtomicBool::new(false));
    let takes_nothing = Arc::clone(&is_gone);
    let stream = Unheard {
        stream,
        takes_nothing,
    };
    streams.push(stream, remote).unwrap();
    request(&mut client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let error = server.outcome().await.unwrap_err();
    assert_eq!(TcpIncomingRequest::failure(&error), None);
    is_gone.store(true, Ordering::Relaxed);
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let error = server.outcome().await.unwrap_err();
    let expected = matches!(error.downcast_ref(), Some(AcceptError::NotUpgraded));
    assert!(expected, "{error:#}");
    let failure = TcpIncomingRequest::failure(&error);
    assert_eq!(failure, Some(AcceptFailure::Broken));
}

/// Returns a request whose head has so many bytes.
fn long(len: usize) -> String {
    let rest = "GET / HTTP/1.1\r\nHost: a\r\nCookie: \r\n\r\n".len();
    let cookie = "c".repeat(len - rest);
    format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")
}

#[tokio::test]
async fn a_head_may_have_16_kib_on_each_port_and_in_each_request() {
    const MOST: usize = 16 << 10;
    let service = service();
    let server = start(&service).await;
    let own = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let own_addr = own.local_addr().unwrap();
    let serving = service.serve(own);
    for addr in [server.addr, own_addr] {
        for len in [MOST, MOST + 1] {
            for before in [0, 1] {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                for _ in 0..before {
                    request(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                }
                let (head, _) = request(&mut stream, &long(len)).await;
                let expected = if len == MOST { "200" } else { "431" };
                let is_expected = head.starts_with(&format!("http/1.1 {expected} "));
                assert!(is_expected, "{addr} {len} after {before}: {head}");
            }
        }
    }
    drop(serving);
}

/// Opens `count` connections that send the start of a request and then nothing.
async fn idle(addr: SocketAddr, count: usize, start: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(connect(addr, start).await);
    }
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_slow_clients_keep_neither_members_nor_other_clients_waiting() {
    let service = service().with_max_connections(32);
    let mut server = start(&service).await;
    // Those that have had an answer and wait, those that do not read theirs, and those that are not done asking.
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        request(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        held.push(stream);
        server.outcome().await.unwrap_err();
        let large = connect(server.addr, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        held.push(large);
        server.outcome().await.unwrap_err();
    }
    held.extend(idle(server.addr, 50, b"GET / HT").await);
    let begin = Instant::now();
    let connection = server.dial_raw().await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let begin = Instant::now();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let (head, _) = request(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let stats = service.stats();
    assert!(stats.connections <= 32, "{stats:?}");
    assert!(stats.evicted >= 150, "{stats:?}");
    drop((connection, held));
}

#[tokio::test]
async fn a_client_that_makes_no_progress_is_disconnected() {
    let service = service();
    let server = start(&service).await;
    let mut waiting = TcpStream::connect(server.addr).await.unwrap();
    request(&mut waiting, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let begin = Instant::now();
    let left = tokio::time::timeout(PATIENCE, read_to_end(&mut waiting)).await;
    assert!(left.unwrap().is_empty());
    assert!(
        begin.elapsed() >= Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    while service.stats().connections > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(service.stats().evicted, 0);
}

fn behind_a_proxy(config: TcpConfig) -> TcpConfig {
    let proxy = "127.0.0.0/8".parse().unwrap();
    config
        .with_http(Some(service()))
        .with_forwarded_for_from(vec![proxy])
}

#[tokio::test]
async fn each_request_of_a_trusted_proxy_has_the_client_that_it_states() {
    let ask =
        |client: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
    let server = Server::start(behind_a_proxy(TcpConfig::default())).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for client in ["203.0.113.1", "203.0.113.2", "203.0.113.1"] {
        let (_, body) = request(&mut stream, &ask(client)).await;
        assert_eq!(body, format!("{client} false").as_bytes());
    }
    // It also states whether the client has used TLS. What was on the left may come from the client.
    for (stated, expected) in [
        ("https", "true"),
        ("http, HTTPS", "true"),
        ("https, http", "false"),
    ] {
        let ask = format!("GET /tls HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: {stated}\r\n\r\n");
        let (_, body) = request(&mut stream, &ask).await;
        assert_eq!(body, expected.as_bytes(), "{stated}");
    }
    // One that is not trusted states nothing.
    let server = start(&service()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let ask_tls = "GET /tls HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(request(&mut stream, ask_tls).await.1, b"false");
    let (_, body) = request(&mut stream, &ask("203.0.113.1")).await;
    assert_eq!(body, b"127.0.0.1 false");
}

#[tokio::test]
async fn a_trusted_proxy_states_the_client_of_a_request_and_of_a_websocket_inside_tls() {
    let ca = Ca::new();
    let config = behind_a_proxy(ca.issue(&["localhost"]).config()).with_tls_only(true);
    let mut server = Server::start(config).await;
    let mut stream = ca.connect(&server, &TLS13).await;
    let ask =
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("203.0.113.1 true"), "{answer}");
    server.outcome().await.unwrap_err();

    let stream = ca.connect(&server, &TLS13).await;
    let builder = ClientBuilder::new().uri("wss://localhost/").unwrap();
    let builder = builder
        .add_header(
            "X-Forwarded-For".parse().unwrap(),
            "203.0.113.2".parse().unwrap(),
        )
        .unwrap();
    let (stream, _answer) = soon(builder.connect_on(stream)).await.unwrap();
    let (reader, writer) = split(stream);
    let tab = server.shake_hands(reader, writer, &server.member()).await;
    let accepted = server.outcome().await.unwrap();
    assert_eq!(accepted.remote_addr().ip().to_string(), "203.0.113.2");
    drop(tab);
}

#[tokio::test]
async fn a_client_that_reads_slowly_inside_tls_makes_progress() {
    let ca = Ca::new();
    let service = service();
    let config = ca.issue(&["localhost"]).config();
    let server = Server::start(config.with_http(Some(service.clone()))).await;
    let mut stream = ca.connect(&server, &TLS13).await;
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    // What waits in the buffers of both systems must be read first.
    let mut chunk = vec![0; 64 << 10];
    let end = Instant::now() + Duration::from_secs(15);
    let mut read = 0;
    while Instant::now() < end {
        read += stream.read(&mut chunk).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(read > 1 << 20, "{read}");
    assert_eq!(service.stats().timed_out, 0);
    assert_eq!(service.stats().connections, 1);
}
