//! Members whose listener takes over streams that a server of the user has accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use gossip_transport::net::{
    AcceptFailure, NetConnection as _, NetIncomingRequest as _, NetListener as _, NetTransport as _,
};
use gossip_transport::rt::Task;
use gossip_transport::tcp::{
    AcceptError, AcceptedStreams, GossipUpgrade, PushError, StreamsInUse, TcpConfig,
    TcpIncomingRequest, TcpTransport,
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::networks::conformance::pushed::{Opaque, Unheard};
use crate::networks::tcp_listener::client::{ALPN, Server, connect, read_to_end};
use crate::support::{ANY_PORT, anyone, soon};

/// Counts the requests that pass.
async fn count(State(passed): State<Arc<AtomicUsize>>, request: Request, next: Next) -> Response {
    passed.fetch_add(1, Ordering::Relaxed);
    next.run(request).await
}

async fn gossip(
    State(streams): State<AcceptedStreams>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    upgrade: GossipUpgrade,
) -> Response {
    upgrade.push_to(&streams, client)
}

/// An axum server with a route for tabs, behind a middleware of its own.
struct WebServer {
    addr: SocketAddr,
    passed: Arc<AtomicUsize>,
    _task: Task,
}

impl WebServer {
    async fn start(streams: AcceptedStreams) -> Self {
        let passed = Arc::new(AtomicUsize::new(0));
        let app: Router = Router::new()
            .route("/gossip", get(gossip))
            .route("/", get(|| async { "a page of the user" }))
            .layer(from_fn_with_state(Arc::clone(&passed), count))
            .with_state(streams);
        let listener = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = Task::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            addr,
            passed,
            _task: task,
        }
    }
}

async fn member() -> (Server, AcceptedStreams) {
    let streams = AcceptedStreams::new();
    let config = TcpConfig::default().with_accepted_streams(Some(streams.clone()));
    (Server::start(config).await, streams)
}

#[tokio::test]
async fn a_tab_joins_through_a_route_of_an_axum_server_with_a_middleware() {
    let (mut server, streams) = member().await;
    let web = WebServer::start(streams).await;
    let (reader, writer) = server.upgrade_at(web.addr, "/gossip").await;
    let credential = server.member();
    let tab = server
        .shake_hands(reader, writer, &credential)
        .await
        .unwrap();
    let accepted = server.outcome().await.unwrap();
    assert_eq!(accepted.remote_addr().ip(), web.addr.ip());
    // So it is known to be a TCP stream.
    assert_eq!(accepted.local_addr(), web.addr);
    tab.send(Bytes::from_static(b"from a tab")).await.unwrap();
    assert_eq!(accepted.recv().await.unwrap().unwrap(), "from a tab");
    accepted.send(vec![7; 300_000].into()).await.unwrap();
    assert_eq!(tab.recv().await.unwrap().unwrap(), vec![7; 300_000]);
    assert_eq!(web.passed.load(Ordering::Relaxed), 1);
    // The user's own routes are untouched.
    let mut page = connect(web.addr, b"GET / HTTP/1.0\r\n\r\n").await;
    let page = String::from_utf8(read_to_end(&mut page).await).unwrap();
    assert!(page.ends_with("a page of the user"), "{page}");
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_or_has_no_listener_is_refused_with_the_reason() {
    let (server, streams) = member().await;
    let web = WebServer::start(streams).await;
    let ask = async |fields: &str| {
        let request =
            format!("GET /gossip HTTP/1.1\r\nHost: a\r\nConnection: close{fields}\r\n\r\n");
        let mut stream = connect(web.addr, request.as_bytes()).await;
        String::from_utf8(read_to_end(&mut stream).await).unwrap()
    };
    let upgrade = ", Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: ";
    let answers = [
        ("", "HTTP/1.1 426 "),
        (&format!("{upgrade}12"), "HTTP/1.1 426 "),
        (
            ", Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
            "HTTP/1.1 400 ",
        ),
    ];
    for (fields, expected) in answers {
        let answer = ask(fields).await;
        assert!(answer.starts_with(expected), "{fields}: {answer}");
    }
    drop(server);
    let answer = ask(&format!("{upgrade}13")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

const UPGRADE: &[u8] =
    b"GET /gossip HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn websockets_for_which_a_listener_has_no_room_are_counted_by_it() {
    const MORE_THAN_WAIT: usize = 70;
    let streams = AcceptedStreams::new();
    let config = TcpConfig::default().with_accepted_streams(Some(streams.clone()));
    let transport = TcpTransport::new(config);
    let (alpn, credential) = ([ALPN], anyone());
    let listener = transport.create_listener(ANY_PORT, &alpn, &credential);
    let listener = listener.await.unwrap();
    let web = WebServer::start(streams).await;
    let mut clients = Vec::new();
    for _ in 0..MORE_THAN_WAIT {
        let mut client = connect(web.addr, UPGRADE).await;
        // The response is there, whatever it is.
        let mut status = [0; 12];
        soon(client.read_exact(&mut status)).await.unwrap();
        clients.push((client, status));
    }
    let is_refused = |(_, status): &&(TcpStream, [u8; 12])| status == b"HTTP/1.1 503";
    let refused = clients.iter().filter(is_refused).count();
    let (mut waiting, mut counted) = (0, 0);
    while waiting + counted < MORE_THAN_WAIT {
        let request = soon(listener.accept()).await.unwrap();
        if request.needs_handshake() {
            waiting += 1;
            continue;
        }
        let error = request.accept().await.unwrap_err();
        let failure = TcpIncomingRequest::failure(&error);
        assert_eq!(failure, Some(AcceptFailure::Crowded), "{error:#}");
        counted += 1;
    }
    assert!(counted >= refused && refused > 0, "{counted} {refused}");
}

#[tokio::test]
async fn a_client_of_a_hyper_server_that_has_gone_when_its_websocket_is_answered_is_counted() {
    let (mut server, streams) = member().await;
    let port = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let client = connect(port.local_addr().unwrap(), UPGRADE).await;
    let (stream, remote) = port.accept().await.unwrap();
    let takes_nothing = Arc::new(AtomicBool::new(true));
    let stream = Unheard {
        stream,
        takes_nothing,
    };
    let answer = service_fn(|mut request: hyper::Request<Incoming>| {
        let upgrade = GossipUpgrade::from_request(&mut request).unwrap();
        let response: hyper::Response<Full<Bytes>> = upgrade.push_to(&streams, remote);
        async { anyhow::Ok(response) }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    soon(serving.with_upgrades()).await.unwrap_err();
    let error = server.outcome().await.unwrap_err();
    let expected = matches!(error.downcast_ref(), Some(AcceptError::NotUpgraded));
    assert!(expected, "{error:#}");
    drop(client);
}

#[tokio::test]
async fn a_websocket_that_another_server_has_answered_can_be_pushed_whatever_its_type() {
    let (mut server, streams) = member().await;
    let port = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = port.local_addr().unwrap();
    let serving = Task::spawn(async move {
        let (stream, remote) = port.accept().await.unwrap();
        let (request, stream) = tokio_websockets::ServerBuilder::new()
            .accept(Opaque(stream))
            .await
            .unwrap();
        assert_eq!(request.uri().path(), "/any");
        streams
            .push_websocket(stream.into_inner(), b"", remote)
            .unwrap();
    });
    let (reader, writer) = server.upgrade_at(addr, "/any").await;
    let tab = server
        .shake_hands(reader, writer, &server.member())
        .await
        .unwrap();
    let accepted = server.outcome().await.unwrap();
    for n in 0..100_u8 {
        tab.send(vec![n; 3_000].into()).await.unwrap();
        assert_eq!(accepted.recv().await.unwrap().unwrap(), vec![n; 3_000]);
        accepted.send(vec![n; 3_000].into()).await.unwrap();
        assert_eq!(tab.recv().await.unwrap().unwrap(), vec![n; 3_000]);
    }
    drop(serving);
}

#[tokio::test]
async fn one_listener_takes_the_streams_and_without_one_they_are_refused() {
    let streams = AcceptedStreams::new();
    let pair = async || {
        let port = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
        let (client, server) = tokio::join!(
            TcpStream::connect(port.local_addr().unwrap()),
            port.accept()
        );
        (client.unwrap(), server.unwrap().0)
    };
    let remote = ([127, 0, 0, 1], 9).into();
    let (mut client, stream) = pair().await;
    assert_eq!(streams.push_tcp(stream, remote), Err(PushError::NoListener));
    assert!(read_to_end(&mut client).await.is_empty(), "it is closed");

    let config = TcpConfig::default().with_accepted_streams(Some(streams.clone()));
    let transport = TcpTransport::new(config);
    let credential = anyone();
    let listen = async || {
        transport
            .create_listener(ANY_PORT, &[ALPN], &credential)
            .await
    };
    let listener = listen().await.unwrap();
    let error = listen().await.unwrap_err();
    assert!(error.downcast_ref::<StreamsInUse>().is_some(), "{error:#}");
    // What nobody takes waits up to a limit, and is closed with the listener.
    let mut clients = Vec::new();
    let crowded = loop {
        let (client, stream) = pair().await;
        clients.push(client);
        if let Err(error) = streams.push_tcp(stream, remote) {
            break error;
        }
    };
    assert_eq!(
        crowded,
        PushError::Crowded {
            max: clients.len() - 1
        }
    );
    let request = listener.accept().await.unwrap();
    drop((request, listener));
    for client in &mut clients {
        assert!(read_to_end(client).await.is_empty());
    }
    assert!(listen().await.is_ok(), "the streams are free again");
}
