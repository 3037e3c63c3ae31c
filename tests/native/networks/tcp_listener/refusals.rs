//! Reasons and versions over real sockets, where closing too early would discard what was sent.

use std::time::Duration;

use gossip_transport::gossip::{GossipConfig, Participant};
use gossip_transport::net::{NetConnection as _, NetTransport as _};
use gossip_transport::secure::{
    FrameBuffer, FrameEvent, FrameReader as _, FrameWriter as _, HandshakeError, Refusal,
};
use gossip_transport::tcp::{TcpConfig, TcpTransport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{ALPN, Server, connect, read_to_end};
use crate::support::{ANY_PORT, anyone, open, soon};

/// A first flight of version 1: the preface and a Noise message, each after its length.
fn flight_of_version_1() -> Vec<u8> {
    let mut flight = b"\0\x05\xA7GT\x01\0\0\x30".to_vec();
    flight.extend_from_slice(&[1; 48]);
    flight
}

#[tokio::test]
async fn every_reason_arrives_over_tcp_and_over_a_websocket() {
    for reason in [1, 2, 3, 4, 5, 6, 77].map(Refusal::from_code) {
        let config = TcpConfig::default();
        let mut server =
            Server::start_trusting(config, |trust| trust.refusing(move |_| Some(reason))).await;
        for _ in 0..5 {
            let raw = server.dial_raw().await.unwrap_err();
            let web = server.dial_websocket().await.map(|_| ()).unwrap_err();
            for error in [raw.downcast().unwrap(), web] {
                assert!(
                    matches!(error, HandshakeError::Refused { reason: r } if r == reason),
                    "{error}"
                );
                let ours = server.failure::<HandshakeError>().await;
                match reason {
                    Refusal::Key => {
                        assert!(
                            matches!(ours, HandshakeError::UntrustedPeer { .. }),
                            "{ours}"
                        );
                    }
                    _ => assert!(
                        matches!(ours, HandshakeError::PeerRefused { reason: r, .. } if r == reason),
                        "{ours}"
                    ),
                }
            }
        }
    }
}

#[tokio::test]
async fn stated_addresses_are_exchanged_over_tcp_and_over_a_websocket() {
    let mut server = Server::start(TcpConfig::default()).await;
    server.credential.state_addr(server.addr);
    let member = server.member();
    let stated = "[2001:db8::7]:7946".parse().unwrap();
    member.state_addr(stated);

    let transport = TcpTransport::default();
    let raw = soon(transport.connect(server.addr, &[ALPN], &member)).await;
    assert_eq!(raw.unwrap().stated_addr(), Some(server.addr));
    assert_eq!(server.outcome().await.unwrap().stated_addr(), Some(stated));

    let (reader, writer) = server.upgrade().await;
    let web = server.shake_hands(reader, writer, &member).await;
    assert_eq!(web.unwrap().stated_addr(), Some(server.addr));
    assert_eq!(server.outcome().await.unwrap().stated_addr(), Some(stated));
}

#[tokio::test]
async fn an_answer_to_another_version_survives_bytes_that_nobody_has_read() {
    let mut server = Server::start(TcpConfig::default()).await;
    let mut flight = flight_of_version_1();
    // Further frames, more than one read takes.
    for _ in 0..10 {
        flight.extend_from_slice(&[0x10; 2 + 0x1010]);
    }
    let mut stream = connect(server.addr, &flight).await;
    // The server has closed its end before the answer is read.
    let error = server.failure::<HandshakeError>().await;
    assert!(
        matches!(
            error,
            HandshakeError::UnsupportedVersion { theirs: 1, ours: 2 }
        ),
        "{error}"
    );
    assert_eq!(read_to_end(&mut stream).await, b"\0\x04\xA7GT\x02");
}

#[tokio::test]
async fn a_dialler_of_version_1_is_answered_inside_a_websocket_too() {
    let mut server = Server::start(TcpConfig::default()).await;
    let (mut reader, mut writer) = server.upgrade().await;
    let mut frames = FrameBuffer::default();
    frames.push(b"\xA7GT\x01\0");
    frames.push(&[1; 48]);
    writer.write_frames(&mut frames).await.unwrap();
    let answer = soon(reader.read_frame()).await.unwrap();
    let Some(FrameEvent::Frame(answer)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(answer, b"\xA7GT\x02"[..]);
    drop((reader, writer));
    let error = server.failure::<HandshakeError>().await;
    assert!(
        matches!(error, HandshakeError::UnsupportedVersion { theirs: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_dialler_reports_what_a_listener_of_another_version_lets_it_know() {
    let listener = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Version 1 closes without an answer; a later version names itself.
    for (answer, version) in [(&b""[..], None), (b"\0\x04\xA7GT\x03", Some(3))] {
        let serve = async {
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            let mut flight = [0; 7];
            stream.read_exact(&mut flight).await.unwrap();
            assert_eq!(flight[..6], *b"\0\x05\xA7GT\x02");
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
            read_to_end(&mut stream).await
        };
        let credential = anyone();
        let transport = TcpTransport::default();
        let dial = async { transport.connect(addr, &[ALPN], &credential).await };
        let (dialled, _) = soon(async { tokio::join!(dial, serve) }).await;
        let error = dialled.unwrap_err().downcast::<HandshakeError>().unwrap();
        match (version, error) {
            (None, HandshakeError::ClosedByPeer) => {}
            (Some(version), HandshakeError::UnsupportedVersion { theirs, ours: 2 }) => {
                assert_eq!(theirs, version);
            }
            (_, error) => panic!("{error}"),
        }
    }
}

/// Does what an acceptor of version 1 does with each connection: it reads the length and the preface, and
/// ends the connection without a word, because the version is not its own, whether more has arrived or not.
async fn serve_version_1(listener: &tokio::net::TcpListener) {
    loop {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 7];
        stream.read_exact(&mut preface).await.unwrap();
        let [0, 5, 0xA7, b'G', b'T', version, _] = preface else {
            panic!("{preface:?} is no preface");
        };
        assert_ne!(version, 1);
        // The message that follows the preface stays unread, so the system may reset the connection.
        stream.peek(&mut [0]).await.unwrap();
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn an_acceptor_of_version_1_is_named_as_a_cause_by_the_dialler_and_by_a_participant() {
    let listener = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let dialling = async {
        let (transport, credential) = (TcpTransport::default(), anyone());
        let dialled = transport.connect(addr, &[ALPN], &credential).await;
        let error = dialled.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("speak only version 1"), "{text}");
        let error = error.downcast::<HandshakeError>().unwrap();
        assert!(matches!(error, HandshakeError::ClosedByPeer), "{error}");

        let socket = open(transport, credential).await;
        let mut config = GossipConfig::new("cluster", "member");
        config.seeds = vec![addr.to_string()];
        let member = Participant::join(socket, config).await.unwrap();
        let error = member.connected().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.code(), "handshake-refused");
        assert!(text.contains(&addr.to_string()), "{text}");
        assert!(text.contains("speaks only version 1"), "{text}");
    };
    soon(async {
        tokio::select! {
            () = dialling => {}
            () = serve_version_1(&listener) => {}
        }
    })
    .await;
}

#[tokio::test]
async fn probes_are_answered_over_tcp_and_over_a_websocket() {
    let mut server = Server::start(TcpConfig::default()).await;
    let raw = server.dial_raw().await.unwrap();
    let raw_here = server.outcome().await.unwrap();
    let web = server.dial_websocket().await.unwrap();
    let web_here = server.outcome().await.unwrap();
    for (here, answered) in [(&raw_here, false), (&web_here, false), (&raw_here, true)] {
        assert_eq!(here.last_answer().is_some(), answered);
        let asked = tokio::time::Instant::now();
        here.probe().await.unwrap();
        let answer = async {
            while here.last_answer().is_none_or(|at| at < asked) {
                let turn = Duration::from_millis(5);
                let _ = tokio::time::timeout(turn, here.recv()).await;
            }
        };
        tokio::select! {
            () = soon(answer) => {}
            _ = async { tokio::join!(raw.recv(), web.recv()) } => panic!("an end"),
        }
    }
}
