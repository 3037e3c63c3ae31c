//! Peers that are slow, end too early, break the rules of TLS, or do not speak it where they must.

use std::time::Duration;

use gossip_transport::net::{AcceptFailure, NetConnection as _, NetIncomingRequest as _};
use gossip_transport::secure::{FrameError, HandshakeError, PREFACE_START};
use gossip_transport::tcp::{
    AcceptError, TcpConfig, TcpIncomingRequest, TlsAcceptError, TlsIdentity,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::certificates::Ca;
use super::{dial, dial_port};
use crate::networks::tcp_listener::client::{Server, connect, read_to_end};
use crate::networks::tcp_listener::converse;
use crate::support::{ANY_PORT, soon};

/// Returns a ClientHello of a client that names `alpn`, without its answer.
pub(super) async fn hello(ca: &Ca, alpn: &[&[u8]]) -> Vec<u8> {
    let (client, mut wire) = tokio::io::duplex(1 << 16);
    let connector = ca.connector(&TLS13, alpn);
    let connecting = connector.connect(ServerName::try_from("localhost").unwrap(), client);
    let reading = async {
        let mut header = [0; 5];
        wire.read_exact(&mut header).await.unwrap();
        let len = u16::from_be_bytes([header[3], header[4]]);
        let mut body = vec![0; len.into()];
        wire.read_exact(&mut body).await.unwrap();
        [&header[..], &body].concat()
    };
    tokio::select! {
        _ = connecting => panic!("nobody has answered"),
        hello = reading => hello,
    }
}

fn identity(ca: &Ca) -> TlsIdentity {
    ca.issue(&["localhost"]).identity()
}

#[tokio::test]
async fn a_port_for_tls_only_refuses_everything_else_and_says_so_in_http() {
    let ca = Ca::new();
    let config = TcpConfig::default().with_tls(Some(identity(&ca)));
    let mut server = Server::start(config.with_tls_only(true)).await;

    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = connect(server.addr, request).await;
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("wss://"), "no hint: {answer}");
    let mut stream = connect(server.addr, &PREFACE_START).await;
    assert!(read_to_end(&mut stream).await.is_empty());
    for _ in 0..2 {
        let error = server.outcome().await.unwrap_err();
        assert_eq!(
            TcpIncomingRequest::failure(&error),
            Some(AcceptFailure::Plain)
        );
        let error = error.downcast().unwrap();
        assert!(matches!(error, AcceptError::TlsRequired), "{error}");
    }

    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;
}

#[tokio::test]
async fn a_slow_hello_meets_its_deadline_and_holds_up_nobody() {
    let (ca, limit) = (Ca::new(), Duration::from_secs(1));
    let config = TcpConfig::default().with_tls(Some(identity(&ca)));
    let mut server = Server::start(config.with_tls_handshake_timeout(limit)).await;
    let hello = hello(&ca, &[]).await;
    let began = Instant::now();
    let mut slow = Vec::new();
    for len in [3, 5, 40, hello.len() - 1] {
        slow.push(connect(server.addr, &hello[..len]).await);
    }
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;
    let plain = server.dial_raw().await.unwrap();
    converse(&plain, &server.outcome().await.unwrap()).await;
    for mut stream in slow {
        let error = server.failure::<AcceptError>().await;
        let AcceptError::Tls(TlsAcceptError::Timeout { after }) = error else {
            panic!("{error}");
        };
        assert_eq!(after, limit);
        assert!(read_to_end(&mut stream).await.is_empty());
    }
    // Much less than the limit of the whole handshake, of 10 s.
    assert!(began.elapsed() >= limit && began.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_peer_that_falls_silent_inside_tls_meets_the_limit_of_the_whole_handshake() {
    let (ca, limit) = (Ca::new(), Duration::from_millis(500));
    let mut config = TcpConfig::default().with_tls(Some(identity(&ca)));
    config.secure.handshake_timeout = limit;
    let mut server = Server::start(config).await;
    let mut stream = ca.connect(&server, &TLS13).await;
    stream.write_all(&PREFACE_START[..3]).await.unwrap();
    let error = server.failure::<HandshakeError>().await;
    assert!(
        matches!(error, HandshakeError::Timeout { after } if after == limit),
        "{error}"
    );
    // Nobody has said that this is the end.
    let read = soon(stream.read_to_end(&mut Vec::new())).await;
    assert!(read.is_err());
}

#[tokio::test]
async fn a_hello_that_ends_anywhere_is_a_broken_connection() {
    let ca = Ca::new();
    let mut server = Server::start(TcpConfig::default().with_tls(Some(identity(&ca)))).await;
    let hello = hello(&ca, &[b"http/1.1"]).await;
    for len in (2..hello.len()).step_by(7) {
        let mut stream = connect(server.addr, &hello[..len]).await;
        stream.shutdown().await.unwrap();
        let error = server.outcome().await.unwrap_err();
        assert_eq!(
            TcpIncomingRequest::failure(&error),
            Some(AcceptFailure::Broken),
            "{len}: {error}"
        );
    }
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_of_tls_gets_an_alert() {
    let ca = Ca::new();
    let mut server = Server::start(TcpConfig::default().with_tls(Some(identity(&ca)))).await;
    let mut garbage = hello(&ca, &[]).await;
    garbage[9..].fill(0xEE);
    let mut too_long = vec![0x16, 3, 1, 0xFF, 0xFF];
    too_long.resize(100_000, 1);
    let mut not_a_handshake = vec![0x16, 3, 3, 0, 4];
    not_a_handshake.extend_from_slice(&[14, 0, 0, 0]);
    for hello in [garbage, too_long, not_a_handshake] {
        let mut stream = connect(server.addr, &hello).await;
        let answer = read_to_end(&mut stream).await;
        assert_eq!(
            answer.first(),
            Some(&0x15),
            "no alert to {:?}: {answer:?}",
            &hello[..9]
        );
        drop(stream);
        let error = server.outcome().await.unwrap_err();
        assert_eq!(
            TcpIncomingRequest::failure(&error),
            Some(AcceptFailure::TlsHandshake)
        );
        let error = error.downcast().unwrap();
        let is_malformed = matches!(error, AcceptError::Tls(TlsAcceptError::Malformed { .. }));
        assert!(is_malformed, "{error}");
    }
    // TLS inside of TLS is not a protocol of the port.
    let mut stream = ca.connect(&server, &TLS12).await;
    stream.write_all(&[0x16, 3, 1, 0, 1]).await.unwrap();
    let error = server.failure::<AcceptError>().await;
    assert!(matches!(error, AcceptError::UnknownProtocol), "{error}");
}

#[tokio::test]
async fn a_client_that_speaks_only_http_2_is_told_so() {
    let ca = Ca::new();
    let mut server = Server::start(TcpConfig::default().with_tls(Some(identity(&ca)))).await;
    for version in [&TLS13, &TLS12] {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = ca.connector(version, &[b"h2"]).connect(name, stream);
        let alert = soon(async {
            // A client of TLS 1.3 may learn it only when it reads.
            let mut stream = connecting.await?;
            stream.read_to_end(&mut Vec::new()).await
        });
        let alert = alert.await.unwrap_err().to_string();
        assert!(alert.contains("NoApplicationProtocol"), "{alert}");
        let error = server.failure::<AcceptError>().await;
        let is_told = matches!(error, AcceptError::Tls(TlsAcceptError::NoCommonProtocol));
        assert!(is_told, "{error}");
    }
}

/// Passes bytes on until it is told to cut both directions, which it ends in order.
async fn relay(listener: TcpListener, to: std::net::SocketAddr, cut: oneshot::Receiver<()>) {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(to).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => panic!("nobody ends it"),
        _ = cut => {}
    }
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    // Until both have noticed, so that nothing is reset.
    let _ = client.read_to_end(&mut Vec::new()).await;
    let _ = server.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_off_is_an_error_on_both_sides() {
    let ca = Ca::new();
    let mut server = Server::start(TcpConfig::default().with_tls(Some(identity(&ca)))).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cut, is_cut) = oneshot::channel();
    let relaying = tokio::spawn(relay(listener, server.addr, is_cut));
    let here = dial_port(&server, "localhost", port, ca.roots())
        .await
        .unwrap();
    let there = server.outcome().await.unwrap();
    converse(&here, &there).await;
    cut.send(()).unwrap();
    for conn in [&here, &there] {
        let error = soon(conn.recv()).await.unwrap_err().downcast().unwrap();
        assert!(matches!(error, FrameError::Truncated), "{error}");
    }
    drop((here, there));
    soon(relaying).await.unwrap();
}
