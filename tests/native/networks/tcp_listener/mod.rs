//! One port for raw TCP and WebSocket peers, and its defences against unauthenticated peers. Uses
//! real sockets.

pub(crate) mod client;
mod proxies;
mod refusals;
mod websocket;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use client::{ALPN, Server, config, connect, connect_from, read_to_end};
use futures::SinkExt as _;
use gossip_transport::ClusterSecret;
use gossip_transport::net::{
    CloseCode, CloseReason, NetConnection, NetIncomingRequest as _, NetListener, NetTransport,
};
use gossip_transport::secure::{FrameError, HandshakeError, PREFACE_START};
use gossip_transport::tcp::{AcceptError, TcpConfig, TcpTransport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{CloseCode as WebSocketCode, Message};

use crate::support::{ANY_PORT, member, soon};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends messages of several sizes in both directions, and checks that they arrive in order.
pub(crate) async fn converse(a: &impl NetConnection, b: &impl NetConnection) {
    let message = |i: usize| Bytes::from(vec![i as u8; [0, 1, 40, 3000, 70_000][i % 5]]);
    for (from, to) in [(true, 50), (false, 50)] {
        let mut batch: VecDeque<Bytes> = (0..to).map(message).collect();
        batch.push_back(vec![9; 1 << 18].into());
        let sending = async {
            let sent = if from {
                a.send_many(&mut batch).await
            } else {
                b.send_many(&mut batch).await
            };
            sent.unwrap();
        };
        let receiving = async {
            for i in 0..to {
                let got = if from { b.recv().await } else { a.recv().await };
                assert_eq!(got.unwrap().unwrap(), message(i));
            }
            let last = if from { b.recv().await } else { a.recv().await };
            assert_eq!(last.unwrap().unwrap(), vec![9; 1 << 18]);
        };
        soon(async { tokio::join!(sending, receiving) }).await;
    }
}

#[tokio::test]
async fn raw_and_websocket_peers_share_one_port() {
    let mut server = Server::start(TcpConfig::default()).await;
    let raw = server.dial_raw().await.unwrap();
    let raw_here = server.outcome().await.unwrap();
    let web = server.dial_websocket().await.unwrap();
    let web_here = server.outcome().await.unwrap();
    assert_eq!(web.remote_identity(), server.credential.identity());
    assert_eq!(web_here.remote_identity(), web.local_identity());
    assert_eq!(
        web.local_addr(),
        web_here.remote_addr(),
        "the dialler must learn its address from the acceptor"
    );
    converse(&raw_here, &raw).await;
    converse(&web_here, &web).await;
    soon(web.close(CloseCode(77))).await;
    assert!(soon(web_here.recv()).await.unwrap().is_none());
    let reason = soon(web_here.watch_close()).await;
    assert!(
        matches!(reason, CloseReason::Remote(CloseCode(77))),
        "{reason}"
    );
    soon(raw_here.close(CloseCode(78))).await;
    assert!(soon(raw.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_websocket_does_not_bypass_authentication() {
    let mut server = Server::start(TcpConfig::default()).await;
    let (reader, writer) = server.upgrade().await;
    let other = member(&ClusterSecret::generate());
    let theirs = server.shake_hands(reader, writer, &other).await;
    assert!(matches!(theirs, Err(HandshakeError::ClosedByPeer)));
    let ours = server.failure::<HandshakeError>().await;
    assert!(matches!(ours, HandshakeError::Decrypt), "{ours}");
}

#[tokio::test]
async fn a_request_for_a_page_is_answered_with_upgrade_required() {
    let mut server = Server::start(TcpConfig::default()).await;
    let request = b"GET /index.html HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    let mut stream = connect(server.addr, request).await;
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    assert!(head.contains("\r\nUpgrade: websocket"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::NotAnUpgrade), "{error}");
}

#[tokio::test]
async fn other_requests_are_answered_with_not_found_even_if_their_body_is_not_read() {
    let mut server = Server::start(TcpConfig::default()).await;
    let mut request = b"POST /x HTTP/1.1\r\nContent-Length: 60000\r\n\r\n".to_vec();
    request.resize(request.len() + 60_000, b'x');
    let mut stream = connect(server.addr, &request).await;
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer:?}");
    assert!(answer.contains("\r\nConnection: close"), "{answer:?}");
    drop(stream);
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::NotAnUpgrade), "{error}");
}

#[tokio::test]
async fn any_path_can_be_upgraded_even_an_invalid_one() {
    let server = Server::start(TcpConfig::default()).await;
    for path in [
        "/", "/a?b#c", "/<>", "*", "/`{|}\"^", "\\", "//", "a:b:c", "/%zz",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n");
        let mut stream = connect(server.addr, request.as_bytes()).await;
        let mut status = [0; 12];
        soon(stream.read_exact(&mut status)).await.expect(path);
        assert_eq!(status.escape_ascii().to_string(), "HTTP/1.1 101", "{path}");
    }
}

#[tokio::test]
async fn a_malformed_upgrade_is_refused() {
    let mut server = Server::start(TcpConfig::default()).await;
    let no_key = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    let bare_name = format!("{UPGRADE}no colon\r\n");
    for headers in [
        no_key,
        &bare_name,
        &UPGRADE.replace("keep-alive, Upgrade", "close"),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        let mut stream = connect(server.addr, request.as_bytes()).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{headers}");
        let error = server.failure::<AcceptError>().await;
        let expected = matches!(error, AcceptError::MalformedRequest { .. });
        assert!(expected, "{error}");
    }
}

#[tokio::test]
async fn a_request_head_without_an_end_is_refused() {
    let mut server = Server::start(TcpConfig::default()).await;
    let mut stream = connect(server.addr, b"GET / HTTP/1.1\r\n").await;
    let line = [b"X-Filler: ".to_vec(), vec![b'x'; 1000], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while stream.write_all(&line).await.is_ok() {
        sent += line.len();
        assert!(sent < 64 << 20, "the connection must be closed");
    }
    let error = server.failure::<AcceptError>().await;
    let expected = matches!(error, AcceptError::HeadTooLong { max: 16_384 });
    assert!(expected, "{error}");
    assert!(error.to_string().contains("16 KiB"), "{error}");
}

#[tokio::test]
async fn bytes_of_an_unknown_protocol_get_no_answer() {
    let mut server = Server::start(TcpConfig::default()).await;
    for garbage in [&b"\xff\xff\xff\xff"[..], b"hello\n", b"\0\x05\xA7XX", b"\0"] {
        let mut stream = connect(server.addr, garbage).await;
        stream.shutdown().await.unwrap();
        assert!(read_to_end(&mut stream).await.is_empty());
        let error = server.failure::<AcceptError>().await;
        assert!(matches!(error, AcceptError::UnknownProtocol), "{error}");
    }
}

#[tokio::test]
async fn a_tls_client_is_refused_with_its_own_error() {
    let mut server = Server::start(TcpConfig::default()).await;
    let hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 32]].concat();
    let mut stream = connect(server.addr, &hello).await;
    // The fatal alert handshake_failure.
    let answer = read_to_end(&mut stream).await;
    assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 40]);
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::TlsNotConfigured), "{error}");
}

#[tokio::test]
async fn slow_unauthenticated_peers_delay_no_other_peer_and_time_out() {
    let limit = Duration::from_secs(1);
    let mut server = Server::start(config(|c| c.secure.handshake_timeout = limit)).await;
    let began = tokio::time::Instant::now();
    let mut slow = vec![
        connect(server.addr, b"").await,
        connect(server.addr, &PREFACE_START[..3]).await,
        connect(server.addr, &PREFACE_START).await,
        connect(server.addr, b"GET / HTTP/1.1\r\nHost:").await,
    ];
    let upgraded = server.upgrade().await;
    // Another peer is slow but never idle: it sends a byte of a header every few milliseconds.
    let mut dripping = connect(server.addr, b"GET / HTTP/1.1\r\nX: ").await;
    let drip = async move {
        while dripping.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    let member = server.dial_raw().await.unwrap();
    assert!(server.outcome().await.is_ok());
    assert!(began.elapsed() < limit, "the member had to wait");
    drop(member);

    let failing = async {
        for _ in 0..6 {
            let error = server.failure::<HandshakeError>().await;
            assert!(matches!(error, HandshakeError::Timeout { .. }), "{error}");
        }
    };
    soon(async { tokio::join!(failing, drip) }).await;
    for peer in &mut slow {
        assert!(read_to_end(peer).await.is_empty());
    }
    drop(upgraded);
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let two = config(|c| c.max_unauthenticated_per_ip = 2);
    let mut server = Server::start(two).await;
    let mut first = connect(server.addr, b"").await;
    let second = connect(server.addr, b"").await;
    let _third = connect(server.addr, b"").await;
    assert!(read_to_end(&mut first).await.is_empty());
    let error = server.failure::<AcceptError>().await;
    let expected = matches!(error, AcceptError::TooManyUnauthenticated);
    assert!(expected, "{error}");

    // Another address is counted separately.
    let mut elsewhere = connect_from([127, 0, 0, 2], server.addr).await;
    elsewhere
        .write_all(b"POST / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert!(
        read_to_end(&mut elsewhere)
            .await
            .starts_with(b"HTTP/1.1 404 ")
    );
    drop(elsewhere);
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::NotAnUpgrade), "{error}");

    // A place is free again once its connection has been closed.
    drop(second);
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::UnknownProtocol), "{error}");
    assert!(server.dial_raw().await.is_ok());
}

#[tokio::test]
async fn a_connection_over_the_limit_ends_an_older_one_which_is_counted() {
    let one = config(|c| c.max_unauthenticated = 1);
    let credential = member(&ClusterSecret::generate());
    let listener = TcpTransport::new(one)
        .create_listener(ANY_PORT, &[ALPN], &credential)
        .await
        .unwrap();
    let mut waiting = connect(listener.local_addr(), b"").await;
    let request = soon(listener.accept()).await.unwrap();
    assert_eq!(listener.refused(), 0);
    let _newcomer = connect(listener.local_addr(), b"").await;
    let _accepted = soon(listener.accept()).await.unwrap();
    // It is closed although nobody has read it yet.
    assert!(read_to_end(&mut waiting).await.is_empty());
    assert_eq!(listener.refused(), 1);
    let error = soon(request.accept()).await.unwrap_err();
    let error = error.downcast::<AcceptError>().unwrap();
    let expected = matches!(error, AcceptError::TooManyUnauthenticated);
    assert!(expected, "{error}");
}

#[tokio::test]
async fn an_authenticated_peer_takes_no_place() {
    let one = config(|c| c.max_unauthenticated = 1);
    let mut server = Server::start(one).await;
    let mut peers = Vec::new();
    for _ in 0..5 {
        peers.push(server.dial_raw().await.unwrap());
        peers.push(server.outcome().await.unwrap());
    }
}

#[tokio::test]
async fn a_text_message_ends_the_connection() {
    let mut server = Server::start(TcpConfig::default()).await;
    let (_reader, mut writer) = server.upgrade().await;
    writer.0.send(Message::text("hello")).await.unwrap();
    let error = server.failure::<HandshakeError>().await;
    assert!(
        matches!(&error, HandshakeError::Carrier(e) if e.to_string().contains("text message")),
        "{error}"
    );
}

#[tokio::test]
async fn a_websocket_message_longer_than_a_frame_is_refused_before_it_is_read() {
    let mut server = Server::start(TcpConfig::default()).await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n");
    // The header announces 2^40 bytes. None of them is sent.
    let header = [0x82, 0xFF, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let _stream = connect(server.addr, &[request.as_bytes(), &header].concat()).await;
    let error = server.failure::<HandshakeError>().await;
    assert!(
        matches!(&error, HandshakeError::Carrier(e) if e.kind() == std::io::ErrorKind::InvalidData),
        "{error}"
    );
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let mut server = Server::start(TcpConfig::default()).await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n");
    let mut stream = connect(server.addr, request.as_bytes()).await;
    // Empty, masked pings. Their answers are never read.
    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1000);
    let mut sent = 0;
    while stream.write_all(&pings).await.is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the connection must be closed");
    }
    let error = server.failure::<HandshakeError>().await;
    assert!(
        matches!(&error, HandshakeError::Carrier(e) if e.kind() == std::io::ErrorKind::InvalidData),
        "{error}"
    );
}

#[tokio::test]
async fn a_websocket_that_ends_without_a_goodbye_is_an_error() {
    let mut server = Server::start(TcpConfig::default()).await;
    let (reader, writer) = server.upgrade().await;
    drop((reader, writer));
    assert!(
        server
            .failure::<HandshakeError>()
            .await
            .to_string()
            .contains("closed")
    );

    let there = server.dial_websocket().await.unwrap();
    let here = server.outcome().await.unwrap();
    drop(there);
    let error = soon(here.recv()).await.expect_err("no goodbye was sent");
    assert!(error.downcast_ref::<FrameError>().is_some(), "{error:#}");

    let (reader, mut writer) = server.upgrade().await;
    let close = Message::close(Some(WebSocketCode::NORMAL_CLOSURE), "");
    writer.0.send(close).await.unwrap();
    let error = server.failure::<HandshakeError>().await;
    assert!(matches!(error, HandshakeError::ClosedByPeer), "{error}");
    drop(reader);
}

#[tokio::test]
async fn an_answered_ping_ends_the_silence() {
    let mut server = Server::start(TcpConfig::default()).await;
    let there = server.dial_websocket().await.unwrap();
    let here = server.outcome().await.unwrap();
    let quiet = Duration::from_millis(50);
    // The peer sends nothing by itself. Its WebSocket answers pings while it is being read.
    let reading = async {
        let _ = tokio::join!(there.recv(), here.recv());
    };
    let pinging = async {
        while here.silence() < quiet {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let asked = tokio::time::Instant::now();
        here.keepalive().await.unwrap();
        // Once the answer has arrived, the silence is shorter than the time since the ping, and
        // stays so on any machine. Silence is measured in milliseconds.
        while here.silence() > asked.elapsed() + Duration::from_millis(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let both = async {
        tokio::select! {
            () = reading => panic!("no message was sent"),
            () = pinging => {}
        }
    };
    soon(both).await;
}

#[tokio::test]
async fn a_port_can_be_bound_again_immediately_while_its_connections_are_open() {
    let credential = member(&ClusterSecret::generate());
    let transport = TcpTransport::default();
    let mut addr = ANY_PORT;
    let mut connections = Vec::new();
    for cycle in 0..2000 {
        let listener = transport
            .create_listener(addr, &[ALPN], &credential)
            .await
            .unwrap();
        addr = listener.local_addr();
        if cycle % 100 == 0 {
            let stream = TcpStream::connect(addr).await.unwrap();
            let request = soon(listener.accept()).await.unwrap();
            if cycle % 200 == 0 {
                connections.push((stream, request));
            }
        }
    }
    assert_eq!(connections.len(), 10);
}

#[tokio::test]
async fn names_are_resolved_and_invalid_names_are_errors() {
    let transport = TcpTransport::default();
    for name in ["127.0.0.1:7000", "[::1]:7000"] {
        assert_eq!(
            transport.resolve(name).await.unwrap(),
            [name.parse().unwrap()]
        );
    }
    let local = transport.resolve("localhost:7000").await.unwrap();
    assert!(
        local
            .iter()
            .all(|addr| addr.ip().is_loopback() && addr.port() == 7000)
    );
    assert!(!local.is_empty());
    for name in [
        "",
        "localhost",
        "localhost:",
        "localhost:70000",
        "127.0.0.1",
    ] {
        let error = transport.resolve(name).await.expect_err(name);
        assert!(format!("{error:#}").contains("host:port"), "{error:#}");
    }
}
