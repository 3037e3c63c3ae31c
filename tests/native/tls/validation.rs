//! Connections of certificate authorities that validate names, and an identity without a certificate.

use gossip_transport::net::{AcceptFailure, NetIncomingRequest as _};
use gossip_transport::tcp::{
    AcceptError, Reloaded, TcpConfig, TcpIncomingRequest, TlsAcceptError, TlsIdentity,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::certificates::{Ca, Issued};
use super::dial;
use crate::networks::tcp_listener::client::Server;
use crate::networks::tcp_listener::converse;
use crate::support::soon;

/// Connects as an authority that validates `name` does, with these protocols.
async fn validate(
    (ca, server): (&Ca, &Server),
    name: &str,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = ca.connector(&TLS13, protocols);
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(connector.connect(name, stream)).await
}

fn answer(
    identity: &TlsIdentity,
    name: &str,
    issued: &Issued,
) -> gossip_transport::tcp::TlsValidation {
    let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
    identity.answer_validation(name, certificate, key).unwrap()
}

async fn outcome(server: &mut Server) -> (AcceptFailure, TlsAcceptError) {
    let error = server.outcome().await.unwrap_err();
    let failure = TcpIncomingRequest::failure(&error);
    match error.downcast().unwrap() {
        AcceptError::Tls(error) => (failure.unwrap(), error),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn only_names_that_are_waited_for_are_validated_and_only_meanwhile() {
    const ACME: &[u8] = b"acme-tls/1";
    let ca = Ca::new();
    let issued = ca.issue(&["localhost"]);
    let identity = issued.identity();
    let mut server = Server::start(TcpConfig::default().with_tls(Some(identity.clone()))).await;
    let refused = |(failure, error): &(AcceptFailure, TlsAcceptError)| {
        *failure == AcceptFailure::TlsHandshake && matches!(error, TlsAcceptError::NoCommonProtocol)
    };
    let error = validate((&ca, &server), "node.test", &[ACME])
        .await
        .unwrap_err();
    assert!(
        format!("{error:?}").contains("NoApplicationProtocol"),
        "{error:?}"
    );
    assert!(refused(&outcome(&mut server).await));

    let proof = ca.issue(&["node.test", "17.2.0.192.in-addr.arpa"]);
    let waiting = answer(&identity, "Node.test", &proof);
    let of_address = answer(&identity, "17.2.0.192.in-addr.arpa", &proof);
    for name in ["node.test", "NODE.test", "17.2.0.192.in-addr.arpa"] {
        let mut stream = validate((&ca, &server), name, &[ACME]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ACME));
        // It ends in order, and has no other purpose.
        assert_eq!(soon(stream.read_to_end(&mut Vec::new())).await.unwrap(), 0);
        drop(stream);
        let (failure, error) = outcome(&mut server).await;
        assert_eq!(
            (failure, failure.is_failure()),
            (AcceptFailure::Validation, false)
        );
        assert!(error.to_string().contains("no failure"), "{error}");
    }
    // Others do not see it: foreign names, and clients that offer something else as well.
    validate((&ca, &server), "foreign.test", &[ACME])
        .await
        .unwrap_err();
    assert!(refused(&outcome(&mut server).await));
    let both = validate((&ca, &server), "localhost", &[ACME, b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    drop(both);
    server.outcome().await.unwrap_err();
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;

    // A later answer for a name takes the place of the earlier one, whose end changes nothing.
    let later = answer(&identity, "node.test", &proof);
    drop(waiting);
    validate((&ca, &server), "node.test", &[ACME])
        .await
        .unwrap();
    assert_eq!(outcome(&mut server).await.0, AcceptFailure::Validation);
    drop((later, of_address));
    for name in ["node.test", "17.2.0.192.in-addr.arpa"] {
        validate((&ca, &server), name, &[ACME]).await.unwrap_err();
        assert!(refused(&outcome(&mut server).await));
    }
}

#[tokio::test]
async fn without_a_certificate_tls_is_refused_until_there_is_one() {
    let ca = Ca::new();
    let identity = TlsIdentity::without_certificate();
    assert_eq!(
        (identity.has_certificate(), identity.expires_at()),
        (false, None)
    );
    assert_eq!(identity.reload().unwrap(), Reloaded::Unchanged);
    let config = TcpConfig::default()
        .with_tls(Some(identity.clone()))
        .with_tls_only(true);
    let mut server = Server::start(config).await;
    for version in [&TLS12, &TLS13] {
        let connector = ca.connector(version, &[b"http/1.1"]);
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let error = soon(connector.connect(name, stream)).await.unwrap_err();
        assert!(
            format!("{error:?}").contains("HandshakeFailure"),
            "{error:?}"
        );
        let (failure, error) = outcome(&mut server).await;
        assert_eq!(failure, AcceptFailure::Tls);
        assert!(matches!(error, TlsAcceptError::NoCertificateYet), "{error}");
    }
    let issued = ca.issue(&["localhost"]);
    let replaced = identity.replace_pem(issued.certificate.as_bytes(), issued.key.as_bytes());
    assert_eq!(replaced.unwrap(), Reloaded::Replaced);
    let here = dial(&server, "localhost", ca.roots()).await.unwrap();
    converse(&here, &server.outcome().await.unwrap()).await;
}
