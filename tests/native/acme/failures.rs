//! An authority that is down, limits its clients, refuses, or answers something else.

use std::sync::Arc;
use std::time::Duration;

use gossip_transport::acme::AcmeError;

use super::authority::{Authority, answer, problem};
use super::store::Store;
use super::{NEVER, SOON, config, next_order, open, until_failed, until_issued};
use crate::support::log::Log;
use crate::support::until;

#[tokio::test]
async fn an_authority_that_is_down_at_the_start_is_asked_until_it_is_back() {
    let mut authority = Authority::start().await;
    authority.stop();
    let log = Log::collect("gossip_transport::acme=info");
    let store = Arc::default();
    let (acme, identity) = open(config(&authority, SOON), &store).await;
    until("some failures", async || acme.status().failed >= 3).await;
    assert_eq!(until_failed(&acme).await, "unreachable");
    assert!(!identity.has_certificate());
    authority.restart().await;
    until_issued(&acme, 1).await;
    assert!(identity.has_certificate() && acme.status().last_error.is_none());
    // One line says so, with the cause and the remedy.
    let log = log.take();
    assert_eq!(
        log.matches("cannot reach the certificate authority")
            .count(),
        1,
        "{log}"
    );
    assert!(log.contains("cannot connect to localhost:") && log.contains("check the network"));
}

#[tokio::test]
async fn an_authority_that_limits_orders_is_left_alone_for_as_long_as_it_says() {
    const ASKED: Duration = Duration::from_secs(100_000);
    for refusal in [
        problem(429, "Retry-After: 100000\r\n", "rateLimited"),
        // As a proxy in front of an authority answers.
        answer(429, "Retry-After: 100000\r\n", "text/html", "<h1>no</h1>"),
        answer(503, "Retry-After: 100000\r\n", "text/html", "<h1>no</h1>"),
    ] {
        let authority = Authority::start().await;
        authority.state(|state| state.refusals.push_back(refusal));
        let store = Arc::default();
        let (acme, identity) = open(config(&authority, SOON), &store).await;
        let kind = until_failed(&acme).await;
        assert!(["rate_limited", "unavailable"].contains(&kind), "{kind}");
        let wait = next_order(&acme);
        assert!(
            wait > ASKED - Duration::from_secs(90) && wait < ASKED * 5 / 4,
            "{wait:?}"
        );
        drop(acme);
        // So does the next process.
        let (acme, _) = open(config(&authority, SOON), &store).await;
        assert!(next_order(&acme) > ASKED - Duration::from_secs(90));
        assert_eq!(authority.orders(), 1);
        assert!(!identity.has_certificate());
    }
}

#[tokio::test]
async fn a_certificate_in_use_stays_while_the_authority_refuses_to_renew_it() {
    let authority = Authority::start().await;
    // It has been valid for more than two thirds of its lifetime.
    let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    authority.state(|state| state.lifetime = (hour, minute));
    let store = Arc::default();
    let log = Log::collect("gossip_transport::acme=info");
    let (acme, identity) = open(config(&authority, NEVER), &store).await;
    until_issued(&acme, 1).await;
    // That is not ordered for ever.
    assert_eq!(until_failed(&acme).await, "already_due");
    assert!(next_order(&acme) > NEVER / 2 && identity.has_certificate());
    let first = identity.expires_at();
    drop(acme);
    assert!(log.take().contains("check the clock"));

    store.remove("attempts");
    authority.state(|state| {
        state.lifetime = (Duration::ZERO, hour);
        let refusals = (0..3).map(|_| problem(403, "", "rejectedIdentifier"));
        state.refusals.extend(refusals);
    });
    let (acme, identity) = open(config(&authority, SOON), &store).await;
    until("three refusals", async || {
        acme.status().failed == 3 || acme.status().issued > 0
    })
    .await;
    assert_eq!(identity.expires_at(), first);
    until_issued(&acme, 1).await;
    assert!(identity.expires_at() > first);
    let log = log.take();
    assert_eq!(
        log.matches("refuses the order (rejectedIdentifier").count(),
        1,
        "{log}"
    );
    assert!(log.contains("the one in use stays"), "{log}");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_reported_and_followed_by_a_pause() {
    for (refusal, kind) in [
        (answer(201, "", "application/json", "{}"), "malformed"),
        (answer(201, "", "application/json", "not JSON"), "malformed"),
        (answer(404, "", "text/html", "<h1>no</h1>"), "malformed"),
        (
            problem(400, "", "externalAccountRequired"),
            "external_account_required",
        ),
        (problem(500, "", "serverInternal"), "unavailable"),
        (
            "HTTP/1.1 201 X\r\nContent-Length: 9000000\r\n\r\n".to_owned() + &" ".repeat(2 << 20),
            "unreachable",
        ),
        ("garbage\r\n\r\n".to_owned(), "unreachable"),
    ] {
        let authority = Authority::start().await;
        authority.state(|state| state.refusals.push_back(refusal.clone()));
        let store = Arc::default();
        let (acme, _) = open(config(&authority, NEVER), &store).await;
        let text = refusal.chars().take(60).collect::<String>();
        assert_eq!(until_failed(&acme).await, kind, "{text}");
        assert!(next_order(&acme) > NEVER / 60, "{text}");
    }
}

#[tokio::test]
async fn an_authority_whose_own_certificate_is_not_trusted_is_told_apart() {
    let (authority, other) = (Authority::start().await, Authority::start().await);
    let config = config(&authority, NEVER).with_roots(other.roots());
    let (acme, _) = open(config, &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "untrusted");
    let error = acme.status().last_error.unwrap().to_string();
    assert!(error.contains("--acme-ca"), "{error}");
    assert_eq!(authority.orders(), 0);
}

#[tokio::test]
async fn a_certificate_for_other_names_is_not_used() {
    let authority = Authority::start().await;
    authority.state(|state| state.names = Some(vec!["other.test".to_owned()]));
    let store: Arc<Store> = Arc::default();
    let (acme, identity) = open(config(&authority, NEVER), &store).await;
    assert_eq!(until_failed(&acme).await, "wrong_names");
    assert!(!identity.has_certificate() && store.find("certificate").is_none());
}

#[tokio::test]
async fn nothing_is_ordered_while_nothing_can_be_written() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    store.set_full(true);
    let (acme, _) = open(config(&authority, SOON), &store).await;
    until("some failures", async || acme.status().failed >= 3).await;
    assert_eq!(until_failed(&acme).await, "store");
    assert_eq!(
        authority.state(|state| (state.accounts, state.orders.len())),
        (0, 0)
    );
    store.set_full(false);
    until_issued(&acme, 1).await;
}

#[tokio::test]
async fn no_account_is_created_for_a_file_that_cannot_be_read_and_few_for_one_that_cannot_be_written()
 {
    let authority = Authority::start().await;
    let accounts = || authority.state(|state| state.accounts);
    let store: Arc<Store> = Arc::default();
    store.set_unreadable(Some("account"));
    let (acme, _) = open(config(&authority, SOON), &store).await;
    until("some failures", async || acme.status().failed >= 3).await;
    assert_eq!((until_failed(&acme).await, accounts()), ("store", 0));
    store.set_unreadable(None);
    until_issued(&acme, 1).await;

    let store: Arc<Store> = Arc::default();
    store.set_unwritable(Some("account"));
    let (acme, _) = open(config(&authority, NEVER), &store).await;
    assert_eq!((until_failed(&acme).await, accounts()), ("store", 2));
    // As after any other request that the authority counts.
    assert!(next_order(&acme) > NEVER / 2, "{:?}", next_order(&acme));
}

#[tokio::test]
async fn failures_are_counted_by_their_kind() {
    let authority = Authority::start().await;
    let refusals = [
        problem(403, "", "rejectedIdentifier"),
        problem(500, "", "serverInternal"),
        problem(403, "", "rejectedIdentifier"),
    ];
    authority.state(|state| state.refusals.extend(refusals));
    let (acme, _) = open(config(&authority, SOON), &Arc::default()).await;
    until_issued(&acme, 1).await;
    let status = acme.status();
    let counted: Vec<_> = status
        .failures
        .iter()
        .filter(|(_, count)| **count > 0)
        .collect();
    assert_eq!(counted, [(&"refused", &2), (&"unavailable", &1)]);
    assert_eq!((status.failed, status.orders), (3, 4));
    // All are there from the beginning.
    assert_eq!(status.failures.len(), AcmeError::KINDS.len());
}
