//! Sessions are not resumed: each connection sees the certificate that is in use.

use gossip_transport::tcp::TcpConfig;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;

use super::certificates::Ca;
use crate::networks::tcp_listener::client::Server;
use crate::support::soon;

#[tokio::test]
async fn a_client_that_would_resume_its_session_sees_the_certificate_again() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]).identity();
    let config = TcpConfig::default().with_tls(Some(identity.clone()));
    let mut server = Server::start(config).await;
    for version in [&TLS13, &TLS12] {
        // It remembers sessions.
        let connector = ca.connector(version, &[b"http/1.1"]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let issued = ca.issue(&["localhost"]);
            let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
            identity.replace_pem(certificate, key).unwrap();
            let stream = TcpStream::connect(server.addr).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = soon(connector.connect(name, stream)).await.unwrap();
            // What the server remembers would have arrived before its answer.
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, request)
                .await
                .unwrap();
            let mut answer = Vec::new();
            soon(tokio::io::AsyncReadExt::read_to_end(
                &mut stream,
                &mut answer,
            ))
            .await
            .unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(session.tls13_tickets_received(), 0);
            seen.push(session.peer_certificates().unwrap()[0].clone());
            drop(stream);
            server.outcome().await.unwrap_err();
        }
        seen.dedup();
        assert_eq!(seen.len(), 3);
    }
}
