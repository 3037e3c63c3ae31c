//! Each kind of bad input at the port of a member, or at that of a peer that it dials: one error of a type, one count, one log
//! line, and a friend that notices nothing.

use std::time::Duration;

use bytes::Bytes;
use gossip_transport::ClusterSecret;
use gossip_transport::net::{AcceptFailure, NetTransport as _};
use gossip_transport::secure::PREFACE_START;
use gossip_transport::tcp::{TcpConfig, TcpTransport, TlsIdentity};
use gossip_transport::transport_layer::{
    TransportLayerConfig, TransportLayerSocket, TransportLayerTransport,
};
use rcgen::date_time_ymd;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::certificates::{Ca, Issued};
use super::hostile::hello;
use super::renegotiation::renegotiate;
use crate::networks::tcp_listener::client::{connect, read_to_end};
use crate::support::layer::{secs, until};
use crate::support::log::Log;
use crate::support::{ANY_PORT, member, open, soon};

type Socket = TransportLayerSocket<TcpTransport, Bytes>;

/// A member at whose port strangers misbehave, and a friend that is connected with it inside TLS.
struct Scene {
    ca: Ca,
    identity: TlsIdentity,
    hub: Socket,
    friend: Socket,
    log: Log,
}

impl Scene {
    async fn new(adapt: impl FnOnce(TcpConfig) -> TcpConfig) -> Self {
        let (ca, secret) = (Ca::new(), ClusterSecret::generate());
        let identity = ca.issue(&["localhost"]).identity();
        let config = TcpConfig::default().with_tls(Some(identity.clone()));
        let hub: Socket = open(TcpTransport::new(adapt(config)), member(&secret)).await;
        let network = TcpTransport::new(TcpConfig::default().with_tls_roots(ca.roots()));
        let name = format!("tls://localhost:{}", hub.local_addr().port());
        let to = network.resolve(&name).await.unwrap()[0];
        let friend: Socket = open(network, member(&secret)).await;
        friend.send(to, Bytes::from_static(b"hello")).await.unwrap();
        let scene = Self {
            ca,
            identity,
            hub,
            friend,
            log: Log::collect("gossip_transport=info"),
        };
        let (from, _) = soon(scene.hub.recv()).await.unwrap();
        scene.hub.send(from, Bytes::new()).await.unwrap();
        soon(scene.friend.recv()).await.unwrap();
        scene.log.take();
        scene
    }

    /// Shows a certificate that others refuse from now on.
    fn show(&self, issued: &Issued) {
        let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
        self.identity.replace_pem(certificate, key).unwrap();
        self.log.take();
    }

    /// Runs a handshake of a client that is not ours, which fails, and returns its error.
    async fn refuse(&self, ca: &Ca, name: &str, alpn: &[&[u8]]) -> String {
        let stream = TcpStream::connect(self.hub.local_addr()).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let shaking = async {
            // A client of TLS 1.3 may learn it only when it reads.
            let mut stream = ca.connector(&TLS13, alpn).connect(name, stream).await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        soon(shaking).await.unwrap_err().to_string()
    }

    /// Checks that there was one failure, which was counted and logged once, and that the friend is still connected.
    async fn saw(self, reason: AcceptFailure, text: &str) {
        let stats = until(&self.hub, |stats| stats.accept_failed > 0).await;
        assert_eq!(
            stats.accept_failures.count(reason),
            1,
            "{:?}",
            stats.accept_failures
        );
        let log = self.log.take();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("refused an incoming connection"), "{log}");
        assert!(lines[0].contains(text), "{text:?} is not in {log}");

        let (from, to) = (Bytes::from_static(b"still"), self.hub.local_addr());
        self.friend.send(to, from.clone()).await.unwrap();
        assert_eq!(soon(self.hub.recv()).await.unwrap().1, from);
        let stats = self.hub.stats();
        assert_eq!((stats.accepted, stats.accept_failed), (1, 1));
        assert_eq!(stats.connections.len(), 1);
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate() {
    let scene = Scene::new(|config| config).await;
    scene.refuse(&Ca::named("another"), "localhost", &[]).await;
    scene.saw(AcceptFailure::TlsRefused, "UnknownCA").await;
}

#[tokio::test]
async fn a_client_that_expects_another_name() {
    let scene = Scene::new(|config| config).await;
    scene.refuse(&scene.ca, "node.example", &[]).await;
    scene
        .saw(AcceptFailure::TlsRefused, "refused the TLS handshake")
        .await;
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let scene = Scene::new(|config| config).await;
    scene.show(&scene.ca.issue_expired(&["localhost"]));
    scene.refuse(&scene.ca, "localhost", &[]).await;
    scene
        .saw(AcceptFailure::TlsRefused, "CertificateExpired")
        .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet() {
    let scene = Scene::new(|config| config).await;
    scene.show(&scene.ca.issue_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    }));
    scene.refuse(&scene.ca, "localhost", &[]).await;
    scene
        .saw(AcceptFailure::TlsRefused, "refused the TLS handshake")
        .await;
}

#[tokio::test]
async fn a_client_of_http_2_only() {
    let scene = Scene::new(|config| config).await;
    let error = scene.refuse(&scene.ca, "localhost", &[b"h2"]).await;
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    scene.saw(AcceptFailure::TlsHandshake, "HTTP/2").await;
}

#[tokio::test]
async fn a_client_of_tls_1_0_only() {
    let scene = Scene::new(|config| config).await;
    let mut hello = vec![1, 0, 0, 41, 3, 1];
    hello.extend_from_slice(&[7; 32]);
    // No session, one cipher, no compression.
    hello.extend_from_slice(&[0, 0, 2, 0, 0x2F, 1, 0]);
    let record = [&[0x16, 3, 1, 0, 45][..], &hello].concat();
    let mut stream = connect(scene.hub.local_addr(), &record).await;
    assert_eq!(
        read_to_end(&mut stream).await.first(),
        Some(&0x15),
        "no alert"
    );
    scene
        .saw(AcceptFailure::TlsHandshake, "no version or cipher")
        .await;
}

#[tokio::test]
async fn plain_http_where_tls_is_required() {
    let scene = Scene::new(|config| config.with_tls_only(true)).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = connect(scene.hub.local_addr(), request).await;
    let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("wss://"), "no hint: {answer}");
    drop(stream);
    scene
        .saw(AcceptFailure::Plain, "dial tls:// or wss://")
        .await;
}

#[tokio::test]
async fn plain_frames_where_tls_is_required() {
    let scene = Scene::new(|config| config.with_tls_only(true)).await;
    let mut stream = connect(scene.hub.local_addr(), &PREFACE_START).await;
    assert!(read_to_end(&mut stream).await.is_empty());
    scene
        .saw(AcceptFailure::Plain, "dial tls:// or wss://")
        .await;
}

#[tokio::test]
async fn a_hello_that_is_garbage() {
    let scene = Scene::new(|config| config).await;
    let mut garbage = hello(&scene.ca, &[]).await;
    garbage[9..].fill(0xEE);
    let mut stream = connect(scene.hub.local_addr(), &garbage).await;
    assert_eq!(
        read_to_end(&mut stream).await.first(),
        Some(&0x15),
        "no alert"
    );
    drop(stream);
    scene
        .saw(AcceptFailure::TlsHandshake, "broke the rules of TLS")
        .await;
}

#[tokio::test]
async fn a_hello_that_ends_too_early() {
    let scene = Scene::new(|config| config).await;
    let hello = hello(&scene.ca, &[]).await;
    drop(connect(scene.hub.local_addr(), &hello[..hello.len() / 2]).await);
    scene
        .saw(AcceptFailure::Broken, "broke during the TLS handshake")
        .await;
}

#[tokio::test]
async fn a_hello_that_never_ends() {
    let limit = Duration::from_secs(2);
    let scene = Scene::new(|config| config.with_tls_handshake_timeout(limit)).await;
    let hello = hello(&scene.ca, &[]).await;
    let mut stream = connect(scene.hub.local_addr(), &hello[..5]).await;
    // A byte now and then would take ten minutes.
    let dripping = async {
        for byte in &hello[5..] {
            tokio::io::AsyncWriteExt::write_all(&mut stream, &[*byte]).await?;
            tokio::time::sleep(limit / 8).await;
        }
        std::io::Result::Ok(())
    };
    soon(dripping).await.unwrap_err();
    scene
        .saw(AcceptFailure::Timeout, "did not complete the TLS handshake")
        .await;
}

#[tokio::test]
async fn a_client_that_falls_silent_after_its_hello() {
    let limit = Duration::from_secs(2);
    let scene = Scene::new(|config| config.with_tls_handshake_timeout(limit)).await;
    let hello = hello(&scene.ca, &[]).await;
    let mut stream = connect(scene.hub.local_addr(), &hello).await;
    assert!(!read_to_end(&mut stream).await.is_empty());
    scene
        .saw(AcceptFailure::Timeout, "did not complete the TLS handshake")
        .await;
}

#[tokio::test]
async fn a_client_that_renegotiates() {
    let scene = Scene::new(|config| config).await;
    let alerts = renegotiate(&scene.ca, scene.hub.local_addr(), 2).await;
    // The warning no_renegotiation, and the end.
    assert_eq!(alerts, [Some([1, 100]), None]);
    scene
        .saw(AcceptFailure::Broken, "TooManyRenegotiationRequests")
        .await;
}

#[tokio::test]
async fn a_flood_of_one_kind_hides_no_other() {
    let scene = Scene::new(|config| config).await;
    for n in 1..=5 {
        drop(connect(scene.hub.local_addr(), b"\0\0\0\0").await);
        until(&scene.hub, |stats| stats.accept_failed == n).await;
    }
    // As the third, this one is not logged.
    let log = scene.log.take();
    assert_eq!(
        log.matches("refused an incoming connection").count(),
        3,
        "{log}"
    );
    scene.refuse(&Ca::named("another"), "localhost", &[]).await;
    until(&scene.hub, |stats| stats.accept_failed == 6).await;
    assert!(scene.log.take().contains("UnknownCA"));
}

/// Lets a member dial a server with a certificate that is refused, and checks the error: its count, and its line in the log.
async fn dialled(issue: impl FnOnce(&Ca) -> Issued, text: &str) {
    let (ca, secret) = (Ca::new(), ClusterSecret::generate());
    let good: Socket = open(
        TcpTransport::new(ca.issue(&["localhost"]).config()),
        member(&secret),
    )
    .await;
    let config = issue(&ca).config();
    let bad: Socket = open(TcpTransport::new(config), member(&secret)).await;
    let network = TcpTransport::new(TcpConfig::default().with_tls_roots(ca.roots()));
    let addr = async |socket: &Socket| {
        let name = format!("tls://localhost:{}", socket.local_addr().port());
        network.resolve(&name).await.unwrap()[0]
    };
    let (to_good, to_bad) = (addr(&good).await, addr(&bad).await);
    // Not again before the end of the test.
    let config = TransportLayerConfig::default()
        .with_backoff_min(secs(60))
        .with_backoff_max(secs(60));
    let dialler: Socket = TransportLayerTransport::with_config(network, member(&secret), config)
        .open(ANY_PORT)
        .await
        .unwrap();
    let log = Log::collect("gossip_transport=info");
    dialler
        .send(to_bad, Bytes::from_static(b"lost"))
        .await
        .unwrap();
    until(&dialler, |stats| stats.dials_failed == 1).await;
    // Of the two ends, this one.
    let log = log.take();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("dial failed"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(text), "{text:?} is not in {log}");
    dialler
        .send(to_good, Bytes::from_static(b"kept"))
        .await
        .unwrap();
    assert_eq!(soon(good.recv()).await.unwrap().1, "kept");
    assert_eq!(dialler.stats().dials_failed, 1);
}

#[tokio::test]
async fn each_certificate_that_is_refused_is_counted_and_logged_once_where_it_was_dialled() {
    let expired = |ca: &Ca| ca.issue_expired(&["localhost"]);
    dialled(expired, "has expired").await;
    let early = |ca: &Ca| {
        ca.issue_with(&["localhost"], |params| {
            params.not_before = date_time_ymd(4000, 1, 1);
        })
    };
    dialled(early, "is not valid yet").await;
    let other_name = |ca: &Ca| ca.issue(&["node.example"]);
    dialled(other_name, "is for another name").await;
    let other_ca = |_: &Ca| Ca::named("another").issue(&["localhost"]);
    dialled(other_ca, "unknown authority").await;
}

#[tokio::test]
async fn a_client_may_renegotiate_in_vain_once() {
    let scene = Scene::new(|config| config).await;
    let alerts = renegotiate(&scene.ca, scene.hub.local_addr(), 1).await;
    assert_eq!(alerts, [Some([1, 100])]);
    assert_eq!(scene.hub.stats().accept_failed, 0);
}
