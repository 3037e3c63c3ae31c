//! A certificate that is replaced while connections are open.

use gossip_transport::tcp::{Reloaded, TcpConfig, TlsIdentity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::TLS13;

use super::certificates::{Ca, Issued};
use super::dial;
use crate::networks::tcp_listener::client::Server;
use crate::networks::tcp_listener::converse;

/// Returns the certificate that a new connection to `server` sees.
async fn presented(ca: &Ca, server: &mut Server) -> CertificateDer<'static> {
    let stream = ca.connect(server, &TLS13).await;
    let certificates = stream.get_ref().1.peer_certificates().unwrap();
    let first = certificates[0].clone();
    drop(stream);
    server.outcome().await.unwrap_err();
    first
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
}

#[tokio::test]
async fn open_connections_stay_and_new_ones_see_the_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let write = |certificate_of: &Issued, key_of: &Issued| {
        std::fs::write(&certificate, &certificate_of.certificate).unwrap();
        std::fs::write(&key, &key_of.key).unwrap();
    };
    let ca = Ca::new();
    let (old, new) = (ca.issue(&["localhost"]), ca.issue(&["localhost"]));
    write(&old, &old);
    let identity = TlsIdentity::from_files(&certificate, &key).unwrap();
    let config = TcpConfig::default().with_tls(Some(identity.clone()));
    let mut server = Server::start(config).await;
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    let there = server.outcome().await.unwrap();
    assert_eq!(presented(&ca, &mut server).await, der(&old));
    assert_eq!(identity.reload().unwrap(), Reloaded::Unchanged);

    // Only one of the two files has been replaced so far.
    write(&new, &old);
    identity.reload().unwrap_err();
    assert_eq!(presented(&ca, &mut server).await, der(&old));
    std::fs::remove_file(&key).unwrap();
    identity.reload().unwrap_err();
    assert_eq!(presented(&ca, &mut server).await, der(&old));

    write(&new, &new);
    assert_eq!(identity.reload().unwrap(), Reloaded::Replaced);
    assert_eq!(presented(&ca, &mut server).await, der(&new));
    converse(&here, &there).await;
}
