//! What is answered to an authority that validates names, and for how long.

use std::sync::Arc;

use gossip_transport::tcp::TcpConfig;
use rustls::version::TLS13;
use serde_json::json;
use tokio::net::TcpStream;

use super::authority::Authority;
use super::{NEVER, config, open, until_failed};
use crate::networks::tcp_listener::client::Server;
use crate::support::{soon, until};
use crate::tls::certificates::Ca;

/// What a client says that is shown a proof, since nobody has signed it.
const PROOF: &str = "InvalidCertificate";
/// What it says if nothing is validated.
const REFUSED: &str = "NoApplicationProtocol";

/// Returns the error of a TLS handshake by which `name` is validated.
async fn validate(server: &Server, name: &'static str) -> String {
    let connector = Ca::new().connector(&TLS13, &[b"acme-tls/1"]);
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let connecting = connector.connect(name.try_into().unwrap(), stream);
    format!("{:?}", soon(connecting).await.unwrap_err())
}

#[tokio::test]
async fn a_name_is_answered_for_only_while_its_order_lasts() {
    let authority = Authority::start().await;
    let pending = authority.authorization("node.test", "tls-alpn-01");
    authority.state(|state| state.authorization = Some(pending.clone()));
    let (acme, identity) = open(config(&authority, NEVER), &Arc::default()).await;
    let server = Server::start(TcpConfig::default().with_tls(Some(identity))).await;
    until("the proof", async || {
        let answer = validate(&server, "node.test").await;
        answer.contains(PROOF)
    })
    .await;
    let other = validate(&server, "other.test").await;
    assert!(other.contains(REFUSED), "{other}");

    let mut failed = pending;
    failed["status"] = "invalid".into();
    failed["challenges"][0]["status"] = "invalid".into();
    failed["challenges"][0]["error"] = json!({
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "nobody answers",
    });
    authority.state(|state| state.authorization = Some(failed));
    assert_eq!(until_failed(&acme).await, "validation");
    let error = acme.status().last_error.unwrap().to_string();
    assert!(
        error.contains("could not validate node.test (connection: nobody answers)"),
        "{error}"
    );
    let after = validate(&server, "node.test").await;
    assert!(after.contains(REFUSED), "{after}");
}

#[tokio::test]
async fn a_name_is_not_answered_for_any_more_once_the_task_has_ended() {
    let authority = Authority::start().await;
    let pending = authority.authorization("node.test", "tls-alpn-01");
    authority.state(|state| state.authorization = Some(pending));
    let (acme, identity) = open(config(&authority, NEVER), &Arc::default()).await;
    let server = Server::start(TcpConfig::default().with_tls(Some(identity))).await;
    let answer = async |expected| {
        until(expected, async || {
            let answer = validate(&server, "node.test").await;
            answer.contains(expected)
        })
        .await;
    };
    answer(PROOF).await;
    drop(acme);
    answer(REFUSED).await;
}

#[tokio::test]
async fn nothing_is_answered_for_a_name_that_was_not_ordered_or_in_another_way() {
    for (name, challenge, kind, reason) in [
        (
            "other.test",
            "tls-alpn-01",
            "malformed",
            "a name that was not ordered",
        ),
        (
            "node.test",
            "http-01",
            "no_challenge",
            "does not validate node.test by TLS-ALPN-01",
        ),
    ] {
        let authority = Authority::start().await;
        let authorization = authority.authorization(name, challenge);
        authority.state(|state| state.authorization = Some(authorization));
        let (acme, identity) = open(config(&authority, NEVER), &Arc::default()).await;
        let server = Server::start(TcpConfig::default().with_tls(Some(identity))).await;
        assert_eq!(until_failed(&acme).await, kind);
        let error = acme.status().last_error.unwrap().to_string();
        assert!(error.contains(reason), "{error}");
        for name in ["node.test", "other.test"] {
            let answer = validate(&server, name).await;
            assert!(answer.contains(REFUSED), "{name}: {answer}");
        }
    }
}
