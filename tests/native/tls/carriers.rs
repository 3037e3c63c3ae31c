//! What works outside of TLS works inside, too, on the same port.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gossip_transport::ClusterSecret;
use gossip_transport::gossip::{ConnectedError, GossipConfig, Participant};
use gossip_transport::net::{CloseCode, NetConnection};
use gossip_transport::secure::{
    Endpoints, FrameBuffer, FrameEvent, FrameReader, FrameWriter, MAX_FRAME_LEN,
};
use gossip_transport::tcp::{AcceptError, TcpConfig, TcpTransport};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_websockets::ClientBuilder;

use super::certificates::Ca;
use super::dial;
use crate::networks::tcp_listener::client::{ALPN, Server, split};
use crate::networks::tcp_listener::converse;
use crate::support::layer::dial_over;
use crate::support::{ANY_PORT, open, soon, until};

/// Frames inside of a TLS stream that is not ours.
pub(super) struct TlsReader(pub(super) ReadHalf<TlsStream<TcpStream>>);
pub(super) struct TlsWriter(pub(super) WriteHalf<TlsStream<TcpStream>>);

impl FrameReader for TlsReader {
    /// Not cancel-safe, which only matters for long frames of a test that gives up.
    async fn read_frame(&mut self) -> io::Result<Option<FrameEvent>> {
        let Ok(len) = self.0.read_u16().await else {
            return Ok(None);
        };
        let mut frame = BytesMut::zeroed(len.into());
        self.0.read_exact(&mut frame).await?;
        Ok(Some(FrameEvent::Frame(frame)))
    }
}

impl FrameWriter for TlsWriter {
    async fn write_frames(&mut self, frames: &mut FrameBuffer) -> io::Result<()> {
        self.0.write_all_buf(frames.bytes_mut()).await?;
        self.0.flush().await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

#[tokio::test]
async fn frames_and_websockets_work_inside_both_versions_of_tls_and_beside_it() {
    let ca = Ca::new();
    let mut server = Server::start(ca.issue(&["localhost"]).config()).await;
    for version in [&TLS13, &TLS12] {
        let stream = ca.connect(&server, version).await;
        let builder = ClientBuilder::new().uri("wss://localhost/any").unwrap();
        let (stream, _answer) = soon(builder.connect_on(stream)).await.unwrap();
        let (reader, writer) = split(stream);
        let web = server.shake_hands(reader, writer, &server.member()).await;
        let (web, web_here) = (web.unwrap(), server.outcome().await.unwrap());
        converse(&web_here, &web).await;

        let (reader, writer) = tokio::io::split(ca.connect(&server, version).await);
        let endpoints = Endpoints {
            local: ANY_PORT,
            remote: server.addr,
        };
        let carrier = (TlsReader(reader), TlsWriter(writer));
        let raw = dial_over(carrier, endpoints, ALPN, &server.member()).await;
        let (raw, raw_here) = (raw.unwrap(), server.outcome().await.unwrap());
        converse(&raw_here, &raw).await;

        // Each end is noticed as one, in either direction.
        soon(web.close(CloseCode(77))).await;
        assert!(soon(web_here.recv()).await.unwrap().is_none());
        soon(raw_here.close(CloseCode(78))).await;
        assert!(soon(raw.recv()).await.unwrap().is_none());
    }
    let raw = server.dial_raw().await.unwrap();
    converse(&server.outcome().await.unwrap(), &raw).await;
    let web = server.dial_websocket().await.unwrap();
    converse(&server.outcome().await.unwrap(), &web).await;
}

#[tokio::test]
async fn a_request_for_a_page_inside_tls_is_answered_and_the_stream_ended_in_order() {
    let ca = Ca::new();
    let mut server = Server::start(ca.issue(&["localhost"]).config()).await;
    for version in [&TLS13, &TLS12] {
        let mut stream = ca.connect(&server, version).await;
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        // Fails if the stream ends without a close_notify.
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
        drop(stream);
        let error = server.failure::<AcceptError>().await;
        assert!(matches!(error, AcceptError::NotAnUpgrade), "{error}");
    }
}

/// A message whose bytes depend on its number and on who sends it.
fn message(of: u32, n: u32) -> Bytes {
    let len = [0, 1, 64, 1000, 5000, MAX_FRAME_LEN, 200_000][(n % 7) as usize];
    let seed = of.wrapping_mul(31).wrapping_add(n);
    let byte = |i: u32| (seed.wrapping_mul(2_654_435_761).wrapping_add(i) >> 3) as u8;
    (0..len as u32).map(byte).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_in_both_directions_at_once_arrives_whole_and_in_order() {
    const MESSAGES: u32 = 700;
    let ca = Ca::new();
    let mut server = Server::start(ca.issue(&["localhost"]).config()).await;
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    let there = server.outcome().await.unwrap();
    let run = async |conn: &gossip_transport::tcp::TcpConnection, own: u32, other: u32| {
        let sending = async {
            let mut batch = VecDeque::new();
            for n in 0..MESSAGES {
                batch.push_back(message(own, n));
                if n % 20 == 19 {
                    conn.send_many(&mut batch).await.unwrap();
                }
            }
        };
        let receiving = async {
            for n in 0..MESSAGES {
                let got = conn.recv().await.unwrap().unwrap();
                assert!(got == message(other, n), "message {n} differs");
            }
        };
        tokio::join!(sending, receiving);
    };
    soon(async { tokio::join!(run(&here, 1, 2), run(&there, 2, 1)) }).await;
}

#[tokio::test]
async fn a_member_that_does_not_know_the_authority_of_its_seed_is_told_so() {
    let (ca, other) = (Ca::new(), Ca::named("another CA"));
    let server = Server::start(ca.issue(&["localhost"]).config()).await;
    let config = TcpConfig::default().with_tls_roots(other.roots());
    let socket = open(TcpTransport::new(config), server.member()).await;
    let seed = format!("tls://localhost:{}", server.addr.port());
    let config = GossipConfig::new("cluster", "bob").with_seeds(vec![seed.clone()]);
    let bob = Participant::join(socket, config).await.unwrap();
    let error = soon(bob.connected()).await.unwrap_err();
    let ConnectedError::NotPermitted { seed: of, help } = &error else {
        panic!("{error}");
    };
    assert_eq!(*of, seed);
    assert!(help.contains("unknown authority"), "{help}");
}

#[tokio::test]
async fn a_member_joins_through_a_seed_that_it_dials_with_tls() {
    let (ca, secret) = (Ca::new(), ClusterSecret::generate());
    let config = ca.issue(&["localhost"]).config();
    let config = config.with_tls_roots(ca.roots());
    let join = async |name: &str, seeds: Vec<String>, config: TcpConfig| {
        let socket = open(TcpTransport::new(config), crate::support::member(&secret)).await;
        let config = GossipConfig::new("cluster", name)
            .with_seeds(seeds)
            .with_interval(Duration::from_millis(100));
        Participant::join(socket, config).await.unwrap()
    };
    let ada = join("ada", Vec::new(), config).await;
    let seed = format!("tls://localhost:{}", ada.id().gossip_advertise_addr.port());
    let roots = TcpConfig::default().with_tls_roots(ca.roots());
    let bob = join("bob", vec![seed], roots).await;
    soon(bob.connected()).await.unwrap();
    bob.set("role", "indexer").unwrap();
    until("the change to arrive", async || {
        ada.member_value(&bob.id(), "role").as_deref() == Some("indexer")
    })
    .await;
}
