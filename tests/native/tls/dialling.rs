//! Dials of names that begin with `tls://`, and the errors of those that fail.

use std::time::Duration;

use gossip_transport::either::EitherTransport;
use gossip_transport::net::{ConnectError, NetConnection as _, NetTransport as _};
use gossip_transport::secure::PREFACE_START;
use gossip_transport::tcp::{AcceptError, TcpConfig, TcpTransport, TlsAcceptError, TlsDialError};
use gossip_transport::udp::PlaintextUdpTransport;
use rcgen::date_time_ymd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::certificates::{Ca, Issued};
use super::{dial, dial_port};
use crate::networks::tcp_listener::client::{ALPN, Server};
use crate::networks::tcp_listener::converse;
use crate::support::{ANY_PORT, soon};

/// Dials a server that has `issued`, and returns the error of the dial and that of the server.
async fn refused(issued: &Issued, host: &str, ca: &Ca) -> (TlsDialError, TlsAcceptError) {
    let mut server = Server::start(issued.config()).await;
    let error = dial(&server, host, ca.roots()).await.unwrap_err();
    let theirs = server.failure::<AcceptError>().await;
    let AcceptError::Tls(theirs) = theirs else {
        panic!("{theirs}");
    };
    (error.downcast().unwrap(), theirs)
}

#[tokio::test]
async fn names_and_ip_addresses_are_dialled_and_verified() {
    let ca = Ca::new();
    let issued = ca.issue(&["localhost", "127.0.0.1"]);
    let mut server = Server::start(issued.config()).await;
    for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
        let here = dial(&server, host, ca.roots()).await.unwrap();
        let there = server.outcome().await.unwrap();
        converse(&here, &there).await;
        // So the peer may state a loopback address.
        assert!(here.is_local() && !here.remote_addr().ip().is_loopback());
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_and_the_error_says_which() {
    let ca = Ca::new();
    let (error, theirs) = refused(&ca.issue(&["node.example"]), "localhost", &ca).await;
    let TlsDialError::WrongName { name, presented } = &error else {
        panic!("{error}");
    };
    assert!(name.starts_with("localhost:"), "{name}");
    assert!(
        presented.iter().any(|p| p.contains("node.example")),
        "{presented:?}"
    );
    assert!(matches!(theirs, TlsAcceptError::Refused { .. }), "{theirs}");
    // A name is no IP address, even if it leads there.
    let (error, _) = refused(&ca.issue(&["localhost"]), "127.0.0.1", &ca).await;
    assert!(matches!(error, TlsDialError::WrongName { .. }), "{error}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let ca = Ca::new();
    // Also one that was created again, with the same name.
    for other in [Ca::named("another CA"), Ca::new()] {
        let (error, theirs) = refused(&other.issue(&["localhost"]), "localhost", &ca).await;
        assert!(
            matches!(error, TlsDialError::UnknownIssuer { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("tls_roots"),
            "no remedy: {error}"
        );
        assert!(matches!(theirs, TlsAcceptError::Refused { .. }), "{theirs}");
    }
}

#[tokio::test]
async fn a_certificate_outside_of_its_time_is_refused() {
    let ca = Ca::new();
    let (error, _) = refused(&ca.issue_expired(&["localhost"]), "localhost", &ca).await;
    assert!(matches!(error, TlsDialError::Expired { .. }), "{error}");
    let early = ca.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let (error, _) = refused(&early, "localhost", &ca).await;
    assert!(matches!(error, TlsDialError::NotValidYet { .. }), "{error}");
}

#[tokio::test]
async fn a_node_without_a_certificate_refuses_tls_with_an_alert() {
    let mut server = Server::start(TcpConfig::default()).await;
    let error = dial(&server, "localhost", Ca::new().roots())
        .await
        .unwrap_err();
    let error = error.downcast().unwrap();
    assert!(matches!(error, TlsDialError::Refused { .. }), "{error}");
    let theirs = server.failure::<AcceptError>().await;
    assert!(matches!(theirs, AcceptError::TlsNotConfigured), "{theirs}");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_or_does_not_answer_is_recognised() {
    let server = Server::start(TcpConfig::default()).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for answer in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ] {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            // Until the dialler has ended it, so that nothing is reset before.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let dialling = dial_port(&server, "localhost", port, Ca::new().roots());
        let (dialled, ()) = soon(async { tokio::join!(dialling, serve) }).await;
        let error = dialled.unwrap_err().downcast().unwrap();
        match answer {
            b"" => assert!(matches!(error, TlsDialError::Unanswered { .. }), "{error}"),
            _ => assert!(matches!(error, TlsDialError::NotTls { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_hello_costs_the_time_limit() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let limit = Duration::from_millis(50);
    let config = TcpConfig::default()
        .with_tls_roots(Ca::new().roots())
        .with_tls_handshake_timeout(limit);
    let transport = TcpTransport::new(config);
    let addrs = transport.resolve(&format!("tls://127.0.0.1:{port}")).await;
    let credential = crate::support::anyone();
    let addr = addrs.unwrap()[0];
    let dialled = soon(async { transport.connect(addr, &[ALPN], &credential).await }).await;
    let error = dialled.unwrap_err().downcast().unwrap();
    let TlsDialError::Timeout { after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(after, limit);
}

#[tokio::test]
async fn beside_a_plaintext_network_a_name_is_dialled_with_tls_or_not_at_all() {
    let (ca, listener) = (Ca::new(), TcpListener::bind(ANY_PORT).await.unwrap());
    let silent = listener.local_addr().unwrap().port();
    let mut server = Server::start(ca.issue(&["localhost"]).config()).await;
    // More than the head start of the first network.
    let limit = Duration::from_millis(600);
    let config = TcpConfig::default()
        .with_tls_roots(ca.roots())
        .with_tls_handshake_timeout(limit);
    let udp = PlaintextUdpTransport::default();
    let transport = EitherTransport::new(TcpTransport::new(config), udp);
    let dial = async |name: &str, port: u16| {
        let addrs = transport.resolve(&format!("tls://{name}:{port}")).await?;
        let credential = server.member();
        soon(async { transport.connect(addrs[0], &[ALPN], &credential).await }).await
    };
    let error = dial("localhost", silent).await.err().unwrap();
    let error = error.downcast().unwrap();
    assert!(matches!(error, TlsDialError::Timeout { .. }), "{error}");
    let error = dial("127.0.0.1", server.addr.port()).await.err().unwrap();
    let error = error.downcast().unwrap();
    assert!(matches!(error, TlsDialError::WrongName { .. }), "{error}");
    let here = dial("localhost", server.addr.port()).await.unwrap();
    server.failure::<AcceptError>().await;
    converse(&here, &server.outcome().await.unwrap()).await;
    assert!(here.is_local());
}

#[tokio::test]
async fn a_member_that_requires_tls_dials_addresses_with_tls_and_those_without_it_as_well() {
    let ca = Ca::new();
    let required = || ca.issue(&["node.example"]).config().with_tls_only(true);
    let credential = |server: &Server| crate::support::member(&server.secret);
    let here = TcpTransport::new(required());
    // The certificate is for a name that nobody knows here.
    let mut server = Server::start(required()).await;
    let dialled = soon(here.connect(server.addr, &[ALPN], &credential(&server))).await;
    converse(&dialled.unwrap(), &server.outcome().await.unwrap()).await;
    // One that does not require it is refused there.
    let plain = TcpTransport::default();
    let dialled = soon(plain.connect(server.addr, &[ALPN], &credential(&server))).await;
    assert!(dialled.is_err());
    let theirs = server.failure::<AcceptError>().await;
    assert!(matches!(theirs, AcceptError::TlsRequired), "{theirs}");
    let mut server = Server::start(TcpConfig::default()).await;
    let dialled = soon(here.connect(server.addr, &[ALPN], &credential(&server))).await;
    server.failure::<AcceptError>().await;
    converse(&dialled.unwrap(), &server.outcome().await.unwrap()).await;
    // Whoever else answers in the place of the peer has no key of the cluster.
    let stranger = Server::start(required()).await;
    let dialled = soon(here.connect(stranger.addr, &[ALPN], &credential(&server))).await;
    assert!(dialled.is_err());
}

#[tokio::test]
async fn malformed_names_are_refused_at_once_and_other_addresses_stand_for_none() {
    let transport = TcpTransport::default();
    for name in [
        "tls://node.example",
        "tls://node.example:443/path",
        "tls://:443",
    ] {
        assert!(transport.check_name(name).is_err(), "{name}");
        assert!(transport.resolve(name).await.is_err(), "{name}");
    }
    transport.check_name("tls://node.example:443").unwrap();
    let addrs = transport.resolve("tls://node.example:443").await.unwrap();
    // Another transport does not know the name.
    let credential = crate::support::anyone();
    let other = TcpTransport::default();
    let dialled = soon(async { other.connect(addrs[0], &[ALPN], &credential).await }).await;
    let error = dialled.unwrap_err().downcast().unwrap();
    assert!(matches!(error, ConnectError::NotDialable { .. }), "{error}");
}

#[tokio::test]
async fn nothing_listening_is_an_error_of_the_address() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = Server::start(TcpConfig::default()).await;
    let dialled = dial_port(&server, "127.0.0.1", port, Ca::new().roots()).await;
    let error = dialled.unwrap_err().downcast().unwrap();
    assert!(matches!(error, ConnectError::Io { .. }), "{error}");
}

/// What a listener that does not speak TLS in the end does with the connections of a member that requires TLS: it reads the
/// hello, answers with `answer`, and ends the stream. Returns the error of the dial, and the first bytes of a second connection.
async fn dialled_again(answer: &[u8]) -> (anyhow::Error, Option<[u8; 2]>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = Ca::new().issue(&["node.example"]).config();
    let here = TcpTransport::new(config.with_tls_only(true));
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut header = [0; 5];
        stream.read_exact(&mut header).await.unwrap();
        let mut hello = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(answer).await.unwrap();
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 2];
        stream.read_exact(&mut first).await.unwrap();
        first
    };
    let (alpn, credential) = ([ALPN], crate::support::anyone());
    let mut serving = std::pin::pin!(serve);
    let dialling = soon(here.connect(addr, &alpn, &credential));
    let mut second = None;
    let error = tokio::select! {
        dialled = dialling => dialled.unwrap_err(),
        first = &mut serving => {
            second = Some(first);
            anyhow::anyhow!("dialled again")
        }
    };
    (error, second)
}

#[tokio::test]
async fn only_a_peer_that_says_that_it_speaks_no_tls_is_dialled_without_it() {
    // One that is crowded or restarts ends the stream, before or after its first answer.
    let begun = [0x16, 3, 3, 0, 100, 2, 0];
    for (answer, is_unanswered) in [(&[][..], true), (&begun, false)] {
        let (error, second) = dialled_again(answer).await;
        assert_eq!(second, None, "{answer:?}");
        let error: TlsDialError = error.downcast().unwrap();
        match error {
            TlsDialError::Unanswered { .. } => assert!(is_unanswered, "{error}"),
            TlsDialError::Io { .. } => assert!(!is_unanswered, "{error}"),
            _ => panic!("{error}"),
        }
    }
    // Another alert than that of a node without a certificate: internal_error.
    let (error, second) = dialled_again(&[0x15, 3, 3, 0, 2, 2, 80]).await;
    assert_eq!(second, None, "{error}");
    for answer in [&[0x15, 3, 3, 0, 2, 2, 40][..], b"SSH-2.0-x\r\n"] {
        let (error, second) = dialled_again(answer).await;
        let second = second.unwrap_or_else(|| panic!("not dialled again: {error}"));
        assert_eq!(second, PREFACE_START[..2]);
    }
}

#[tokio::test]
async fn an_ipv6_address_is_dialled_and_verified() {
    let Ok(probe) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    drop(probe);
    let ca = Ca::new();
    let config = ca.issue(&["::1"]).config();
    let mut server = Server::start_at("[::1]:0".parse().unwrap(), config).await;
    let here = dial(&server, "[::1]", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;
    let config = ca.issue(&["localhost"]).config();
    let server = Server::start_at("[::1]:0".parse().unwrap(), config).await;
    let error = dial(&server, "[::1]", ca.roots()).await.unwrap_err();
    let error = error.downcast().unwrap();
    assert!(matches!(error, TlsDialError::WrongName { .. }), "{error}");
}
