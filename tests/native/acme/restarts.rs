//! What a restart finds, and what it does without it; renewals and their window.

use std::sync::Arc;
use std::time::Duration;

use gossip_transport::rt::unix_time;

use super::authority::{Authority, PENDING, answer};
use super::store::Store;
use super::{NEVER, SOON, config, names, next_order, open, until_failed, until_issued};
use crate::support::until;

#[tokio::test]
async fn a_restart_uses_the_certificate_and_the_account_that_are_there() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    let (acme, identity) = open(config(&authority, NEVER), &store).await;
    until_issued(&acme, 1).await;
    let expires = identity.expires_at();
    until("the file", async || store.find("certificate").is_some()).await;
    drop(acme);

    let (acme, identity) = open(config(&authority, NEVER), &store).await;
    assert!(identity.has_certificate() && identity.expires_at() == expires);
    // After two thirds of 90 days, or up to three days earlier.
    let days = next_order(&acme).as_secs_f64() / 86_400.0;
    assert!((56.9..60.0).contains(&days), "{days}");
    drop(acme);

    // Other names are another certificate, by the same account.
    let both = names(&["node.test", "other.test"]);
    let mut other = config(&authority, NEVER);
    other.names = both;
    let (acme, _) = open(other, &store).await;
    until_issued(&acme, 1).await;
    assert_eq!(
        authority.state(|state| (state.accounts, state.orders.len())),
        (1, 2)
    );
}

#[tokio::test]
async fn a_corrupt_certificate_is_ordered_again_after_a_pause_that_grows() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    let (acme, _) = open(config(&authority, NEVER), &store).await;
    until_issued(&acme, 1).await;
    until("the file", async || store.find("certificate").is_some()).await;
    drop(acme);
    let (_, pem) = store.find("certificate").unwrap();
    for bytes in [&pem[..pem.len() / 2], b"", b"\xff\xfe"] {
        store.damage("certificate", bytes);
        let (acme, identity) = open(config(&authority, NEVER), &store).await;
        assert!(!identity.has_certificate());
        assert!(next_order(&acme) > NEVER / 2, "{:?}", next_order(&acme));
        drop(acme);
    }
    assert_eq!(authority.orders(), 1);

    // A process that is started again and again orders ever more rarely.
    let count = |attempts: &[u8]| {
        let attempts: serde_json::Value = serde_json::from_slice(attempts).unwrap();
        attempts["failures"].as_u64().unwrap()
    };
    for orders in 2..5 {
        store.damage("certificate", b"");
        let (_, attempts) = store.find("attempts").unwrap();
        let failures = count(&attempts);
        assert_eq!(failures, orders - 1);
        let past = format!("{{\"failures\":{failures},\"not_before\":1}}");
        store.damage("attempts", past.as_bytes());
        let (acme, _) = open(config(&authority, NEVER), &store).await;
        until_issued(&acme, 1).await;
    }
    // One that is found ends that.
    until("the file", async || {
        store
            .find("certificate")
            .is_some_and(|(_, pem)| !pem.is_empty())
    })
    .await;
    let (acme, identity) = open(config(&authority, NEVER), &store).await;
    assert!(identity.has_certificate());
    assert_eq!((authority.orders(), acme.status().orders), (4, 0));
}

#[tokio::test]
async fn a_corrupt_or_forgotten_account_is_replaced() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    let order_again = async || {
        store.remove("certificate");
        store.remove("attempts");
        let (acme, _) = open(config(&authority, SOON), &store).await;
        until_issued(&acme, 1).await;
        until("the file", async || store.find("certificate").is_some()).await;
        authority.state(|state| state.accounts)
    };
    let (acme, _) = open(config(&authority, SOON), &store).await;
    until_issued(&acme, 1).await;
    until("the file", async || store.find("certificate").is_some()).await;
    drop(acme);
    assert_eq!(order_again().await, 1);
    store.damage("account", b"{\"contact\":[");
    assert_eq!(order_again().await, 2);
    // As a test authority that was started again.
    authority.state(|state| state.known_account = 0);
    assert_eq!(order_again().await, 3);
    assert_eq!(authority.orders(), 4);
}

#[tokio::test]
async fn a_certificate_is_renewed_when_the_authority_wants_and_replaces_the_former_one() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    // Not in this test.
    authority.state(|state| state.window = Some((86_400, 86_500)));
    let (acme, identity) = open(config(&authority, SOON), &store).await;
    until_issued(&acme, 1).await;
    until("the window", async || {
        next_order(&acme) < Duration::from_secs(86_600)
    })
    .await;
    let from = identity.valid_from().unwrap();
    drop(acme);
    // It was revoked meanwhile. The one after that was not.
    authority.state(|state| state.window = Some((-200, -100)));
    while unix_time() < from + Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (acme, identity) = open(config(&authority, Duration::from_secs(60)), &store).await;
    until_issued(&acme, 1).await;
    assert!(identity.valid_from().unwrap() > from);
    let orders = authority.state(|state| state.orders.clone());
    assert!(orders[0].get("replaces").is_none());
    let replaces = orders[1]["replaces"].as_str().unwrap();
    assert!(replaces.contains('.'), "{replaces}");
}

#[tokio::test]
async fn an_ip_address_gets_a_short_lived_certificate_unless_another_profile_is_named() {
    for (name, profile, expected) in [
        ("node.test", None, None),
        ("192.0.2.1", None, Some("shortlived")),
        ("192.0.2.1", Some("classic"), Some("classic")),
        ("2001:db8::1", None, Some("shortlived")),
    ] {
        let authority = Authority::start().await;
        let mut config = config(&authority, NEVER);
        config.names = names(&[name]);
        config.profile = profile.map(str::to_owned);
        let (acme, identity) = open(config, &Arc::default()).await;
        until_issued(&acme, 1).await;
        assert!(identity.has_certificate());
        let order = authority.state(|state| state.orders[0].clone());
        assert_eq!(
            order.get("profile").and_then(|it| it.as_str()),
            expected,
            "{name}"
        );
    }
    // A name and an address in one certificate.
    let authority = Authority::start().await;
    let mut config = config(&authority, NEVER);
    config.names = names(&["node.test", "::1", "127.0.0.1"]);
    let (acme, _) = open(config, &Arc::default()).await;
    until_issued(&acme, 1).await;
    let order = authority.state(|state| state.orders[0].clone());
    assert_eq!(order["identifiers"][1]["type"], "ip");
    assert!(acme.status().last_error.is_none());
}

#[tokio::test]
async fn an_order_that_hangs_ends_with_its_time_limit() {
    let authority = Authority::start().await;
    // It never becomes ready.
    let location = format!("Location: {}\r\n", authority.url("/pending"));
    let pending = answer(201, &location, "application/json", PENDING);
    authority.state(|state| state.refusals.push_back(pending));
    let mut config = config(&authority, NEVER);
    config.order_timeout = Duration::from_millis(700);
    let (acme, _) = open(config, &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "timeout");
}

#[tokio::test]
async fn an_authority_that_wants_each_certificate_to_be_renewed_at_once_gets_ever_rarer_orders() {
    let authority = Authority::start().await;
    authority.state(|state| state.window = Some((-200, -100)));
    let store: Arc<Store> = Arc::default();
    let attempts = || {
        let (_, attempts) = store.find("attempts").unwrap();
        let attempts: serde_json::Value = serde_json::from_slice(&attempts).unwrap();
        attempts["failures"].as_u64().unwrap()
    };
    let (acme, _) = open(config(&authority, SOON), &store).await;
    until_issued(&acme, 4).await;
    assert!(attempts() >= 4, "{}", attempts());
    drop(acme);
    // Also by a process that is started again.
    let before = attempts();
    let (acme, identity) = open(config(&authority, SOON), &store).await;
    assert!(identity.has_certificate());
    until_issued(&acme, 1).await;
    assert!(attempts() > before, "{} {before}", attempts());
}
