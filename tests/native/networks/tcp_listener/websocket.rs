//! Upgrades as browsers and proxies send them, and WebSockets whose peers break the rules of RFC 6455.

use std::io::ErrorKind;

use bytes::Bytes;
use gossip_transport::secure::HandshakeError;
use gossip_transport::tcp::{AcceptError, TcpConfig, TcpTransport, WebSocketError};
use gossip_transport::transport_layer::TransportLayerSocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Server, connect, read_to_end};
use crate::support::layer::until;
use crate::support::log::Log;
use crate::support::{anyone, open, soon};

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn request(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}{KEY}\r\n")
}

/// Returns the head of a response.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Opens a WebSocket by hand.
async fn upgraded(server: &Server) -> TcpStream {
    let request = request("Upgrade: websocket\r\nConnection: Upgrade\r\n");
    let mut stream = connect(server.addr, request.as_bytes()).await;
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Returns a frame of a client with the first byte `first`. Its mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len @ ..=65_535 => {
            frame.push(0xFE);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xFF);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn close(code: u16) -> Vec<u8> {
    [&[0x88, 2][..], &code.to_be_bytes()].concat()
}

#[tokio::test]
async fn upgrades_are_accepted_as_browsers_and_proxies_send_them() {
    let server = Server::start(TcpConfig::default()).await;
    let many: String = (0..60).map(|n| format!("X-Header-{n}: {n}\r\n")).collect();
    let long = format!("Cookie: {}\r\n", "c".repeat(12_000));
    let usual = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for fields in [
        usual,
        "Upgrade: websocket\r\nConnection: Upgrade\r\nConnection: keep-alive\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket, h2c\r\nConnection: keep-alive, upgrade\r\n",
        "Upgrade: h2c\r\nUpgrade: WebSocket\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        &format!("{many}{usual}"),
        &format!("{usual}{long}"),
    ] {
        let mut stream = connect(server.addr, request(fields).as_bytes()).await;
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{fields}{head}");
        let accept = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(head.contains(accept), "{fields}{head}");
    }
    // Byte by byte.
    let mut stream = connect(server.addr, b"").await;
    stream.set_nodelay(true).unwrap();
    for byte in request(&format!("{usual}{long}")).bytes() {
        stream.write_all(&[byte]).await.unwrap();
    }
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[tokio::test]
async fn frames_may_follow_the_request_at_once() {
    let server = Server::start(TcpConfig::default()).await;
    let mut bytes = request("Upgrade: websocket\r\nConnection: Upgrade\r\n").into_bytes();
    bytes.extend(frame(0x89, b"are you there"));
    let mut stream = connect(server.addr, &bytes).await;
    head(&mut stream).await;
    let mut pong = [0; 15];
    soon(stream.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong, b"\x8a\x0dare you there");
}

#[tokio::test]
async fn another_version_of_the_protocol_is_told_which_one_is_spoken() {
    let mut server = Server::start(TcpConfig::default()).await;
    let old = request("Upgrade: websocket\r\nConnection: Upgrade\r\n").replace("13", "8");
    let mut stream = connect(server.addr, old.as_bytes()).await;
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(
        answer.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{answer}"
    );
    let error = server.failure::<AcceptError>().await;
    assert!(
        matches!(error, AcceptError::OtherWebSocketVersion),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_over_http_1_0_is_told_which_setting_of_nginx_to_change_and_logged_once() {
    let mut server = Server::start(TcpConfig::default()).await;
    let usual = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let starts = [
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n",
        &format!("GET / HTTP/1.0\r\nHost: a\r\n{usual}{KEY}\r\n"),
        "POST / HTTP/1.0\r\n\r\n",
    ];
    for start in starts {
        let mut stream = connect(server.addr, start.as_bytes()).await;
        let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("proxy_http_version 1.1"), "{body}");
        let error = server.failure::<AcceptError>().await;
        assert!(matches!(error, AcceptError::Http10), "{error}");
    }
    let log = Log::collect("gossip_transport=info");
    let socket: TransportLayerSocket<_, Bytes> = open(TcpTransport::default(), anyone()).await;
    let mut stream = connect(socket.local_addr(), starts[0].as_bytes()).await;
    read_to_end(&mut stream).await;
    drop(stream);
    until(&socket, |stats| stats.accept_failed == 1).await;
    let log = log.take();
    let mut lines = log.lines().filter(|line| line.contains("HTTP/1.0"));
    let line = lines.next().unwrap();
    assert!(
        line.contains("INFO") && line.contains("proxy_http_version 1.1"),
        "{log}"
    );
    assert_eq!(lines.next(), None, "{log}");
}

#[tokio::test]
async fn a_violation_is_answered_with_a_close_frame_with_its_code() {
    let mut server = Server::start(TcpConfig::default()).await;
    let long = vec![0; 65_535];
    let cases = [
        (frame(0xC2, b""), 1002, "reserved bits"),
        (frame(0x83, b""), 1002, "an unknown opcode"),
        (vec![0x82, 1, 0], 1002, "no mask"),
        (vec![0x82, 0xFE, 0, 125], 1002, "a length that is too long"),
        (frame(0x89, &[0; 126]), 1002, "a long ping"),
        (frame(0x09, b""), 1002, "a fragment of a ping"),
        (frame(0x80, b""), 1002, "a continuation of nothing"),
        (
            [frame(0x02, b""), frame(0x82, b"")].concat(),
            1002,
            "a message in a message",
        ),
        (frame(0x88, b"\x03"), 1002, "half of a code"),
        (
            frame(0x88, &1005_u16.to_be_bytes()),
            1002,
            "a code for no code",
        ),
        (
            frame(0x88, b"\x03\xe8\xff"),
            1007,
            "a reason that is no text",
        ),
        (frame(0x81, b"hello"), 1003, "text"),
        (
            frame(0x82, &[0; 65_536]),
            1009,
            "a message that is too long",
        ),
        (
            [frame(0x02, &long), frame(0x80, b"a")].concat(),
            1009,
            "too long in parts",
        ),
        (frame(0x89, b"").repeat(200), 1008, "too many pings"),
    ];
    for (bytes, code, what) in cases {
        let mut stream = upgraded(&server).await;
        // What the peer has sent after its violation does not destroy the answer.
        let bytes = [bytes, frame(0x82, &[0; 50_000])].concat();
        stream.write_all(&bytes).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        // Pongs may come before.
        assert!(answer.ends_with(&close(code)), "{what}: {answer:?}");
        drop(stream);
        let error = server.failure::<HandshakeError>().await;
        let HandshakeError::Carrier(error) = error else {
            panic!("{what}: {error}");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}");
        let violation = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<WebSocketError>());
        assert_eq!(violation.map(|v| v.close_code()), Some(code), "{what}");
    }
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_code_and_the_stream_ends() {
    let mut server = Server::start(TcpConfig::default()).await;
    for (payload, answer) in [
        (&b""[..], &[0x88, 0][..]),
        (b"\x03\xe9", b"\x88\x02\x03\xe9"),
        (b"\x0f\xa0a reason", b"\x88\x02\x0f\xa0"),
    ] {
        let mut stream = upgraded(&server).await;
        let bytes = [frame(0x88, payload), frame(0x89, b"after the end")].concat();
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, answer);
        drop(stream);
        let error = server.failure::<HandshakeError>().await;
        assert!(matches!(error, HandshakeError::ClosedByPeer), "{error}");
    }
}
