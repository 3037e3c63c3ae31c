//! What happens once an authority issues a certificate: it is fetched, and not ordered again whatever fails.

use std::sync::Arc;
use std::time::Duration;

use super::authority::{Authority, problem};
use super::store::Store;
use super::{NEVER, SOON, config, next_order, open, until_failed, until_issued};
use crate::support::log::Log;
use crate::support::until;

fn broken(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|_| "garbage\r\n\r\n".to_owned())
}

#[tokio::test]
async fn a_certificate_that_was_issued_is_fetched_again_and_not_ordered_again() {
    // It is fetched again after 1 ms, 2 ms and so on, in each attempt.
    const RETRY: Duration = Duration::from_millis(300);
    let authority = Authority::start().await;
    authority.state(|state| state.broken_certificates.extend(broken(1)));
    let (acme, identity) = open(config(&authority, RETRY), &Arc::default()).await;
    until_issued(&acme, 1).await;
    assert!(identity.has_certificate());
    assert_eq!((authority.orders(), acme.status().failed), (1, 0));

    // The next attempts go on with the order.
    authority.state(|state| state.broken_certificates.extend(broken(8)));
    let (acme, identity) = open(config(&authority, RETRY), &Arc::default()).await;
    until_issued(&acme, 1).await;
    assert!(identity.has_certificate());
    let status = acme.status();
    assert_eq!((status.orders, status.failed), (1, 3));
    assert_eq!(authority.orders(), 2);
}

#[tokio::test]
async fn a_failure_after_the_order_is_followed_by_a_pause_as_after_one_that_was_refused() {
    // What costs the authority nothing is tried again after 0.3 s.
    const RETRY: Duration = Duration::from_secs(9);
    let authority = Authority::start().await;
    authority.state(|state| state.broken_certificates.extend(broken(100)));
    let (acme, _) = open(config(&authority, RETRY), &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "unreachable");
    let wait = next_order(&acme);
    assert!(wait > RETRY / 2, "{wait:?}");
}

#[tokio::test]
async fn an_authority_that_works_on_the_order_is_left_alone_for_as_long_as_it_says() {
    let authority = Authority::start().await;
    authority.state(|state| {
        state.is_processing = true;
        state.order_headers = "Retry-After: 5\r\n";
    });
    let mut config = config(&authority, SOON);
    config.order_timeout = Duration::from_secs(4);
    let (acme, _) = open(config.clone(), &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "unavailable");
    let error = acme.status().last_error.unwrap().to_string();
    assert!(error.contains("still working on the order"), "{error}");
    authority.state(|state| state.is_processing = false);
    until_issued(&acme, 1).await;
    assert_eq!((authority.orders(), acme.status().orders), (1, 1));
    drop(acme);

    // As long as a number of 64 bits can say.
    authority.state(|state| {
        state.is_processing = true;
        state.order_headers = "Retry-After: 18446744073709551615\r\n";
    });
    let (acme, _) = open(config, &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "unavailable");
    let days = next_order(&acme).as_secs_f64() / 86_400.0;
    assert!((6.9..7.1).contains(&days), "{days}");
}

#[tokio::test]
async fn an_order_that_has_become_invalid_is_followed_by_another_one() {
    let authority = Authority::start().await;
    authority.state(|state| state.invalid = 1);
    let (acme, identity) = open(config(&authority, SOON), &Arc::default()).await;
    until_issued(&acme, 1).await;
    let status = acme.status();
    assert!(identity.has_certificate());
    assert_eq!((status.orders, status.failed), (2, 1));
    assert_eq!(status.failures["unavailable"], 1);
    assert_eq!(authority.orders(), 2);
    drop(acme);

    // It becomes invalid while it is left alone.
    let patient = config(&authority, SOON).with_order_timeout(Duration::from_secs(2));
    authority.state(|state| {
        (state.is_processing, state.order_headers) = (true, "Retry-After: 3\r\n");
    });
    let (acme, _) = open(patient, &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "unavailable");
    authority.state(|state| {
        (state.is_processing, state.order_headers) = (false, "");
        state.invalid = 3;
    });
    until_issued(&acme, 1).await;
    let status = acme.status();
    assert_eq!((status.orders, status.failed), (2, 2));
    drop(acme);

    // Not at once: the authority counts it.
    authority.state(|state| state.invalid = usize::MAX);
    let (acme, _) = open(config(&authority, NEVER), &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "unavailable");
    assert!(next_order(&acme) > NEVER / 2, "{:?}", next_order(&acme));
    assert_eq!(acme.status().orders, 1);
}

#[tokio::test]
async fn an_order_on_which_the_authority_works_for_ever_is_given_up_after_some_attempts() {
    let authority = Authority::start().await;
    authority.state(|state| {
        (state.is_processing, state.order_headers) = (true, "Retry-After: 3\r\n");
    });
    let config = config(&authority, SOON).with_order_timeout(Duration::from_secs(2));
    let (acme, _) = open(config, &Arc::default()).await;
    until("another order", async || authority.orders() >= 2).await;
    // The order, and three attempts to go on with it.
    assert!(acme.status().failed >= 4, "{:?}", acme.status());
    // That one is gone on with as well.
    authority.state(|state| state.is_processing = false);
    until_issued(&acme, 1).await;
    assert_eq!((authority.orders(), acme.status().orders), (2, 2));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_written_is_used_and_reported_once() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    store.set_unwritable(Some("certificate"));
    let log = Log::collect("gossip_transport::acme=info");
    let (acme, identity) = open(config(&authority, SOON), &store).await;
    assert_eq!(until_failed(&acme).await, "store");
    let status = acme.status();
    assert!(identity.has_certificate() && store.find("certificate").is_none());
    assert_eq!(
        (status.issued, status.failed, status.failures["store"]),
        (1, 0, 1)
    );
    // It is tried again, with nothing but that.
    let tried = store.refused();
    until("more writes", async || store.refused() >= tried + 3).await;
    store.set_unwritable(None);
    until("the file", async || store.find("certificate").is_some()).await;
    until("the end of the error", async || {
        acme.status().last_error.is_none()
    })
    .await;
    assert_eq!((acme.status().orders, authority.orders()), (1, 1));
    let log = log.take();
    assert_eq!(
        log.matches("a restart will have to order").count(),
        1,
        "{log}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_worse_than_the_one_in_use_does_not_take_its_place() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    let (acme, identity) = open(config(&authority, SOON), &store).await;
    until_issued(&acme, 1).await;
    let expires = identity.expires_at();
    until("the file", async || store.find("certificate").is_some()).await;
    let (_, written) = store.find("certificate").unwrap();
    drop(acme);
    // It wants that one to be renewed, and then issues one that will soon expire.
    authority.state(|state| {
        state.window = Some((-200, -100));
        state.lifetime = (Duration::from_secs(3600), Duration::from_secs(60));
    });
    let (acme, identity) = open(config(&authority, NEVER), &store).await;
    assert_eq!(until_failed(&acme).await, "already_due");
    assert_eq!(identity.expires_at(), expires);
    assert_eq!((acme.status().issued, authority.orders()), (0, 2));
    assert_eq!(store.find("certificate").unwrap().1, written);
}

#[tokio::test]
async fn the_authority_is_told_another_contact_once() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    for (contact, told) in [("a@node.test", 0), ("b@node.test", 1), ("b@node.test", 1)] {
        let contact = format!("mailto:{contact}");
        let config = config(&authority, SOON).with_contact(vec![contact.clone()]);
        let (acme, _) = open(config, &store).await;
        until_issued(&acme, 1).await;
        until("the file", async || store.find("certificate").is_some()).await;
        let all = authority.state(|state| state.told.clone());
        assert_eq!(all.len(), told, "{all:?}");
        if let Some(last) = all.last() {
            assert_eq!(last["contact"][0], contact);
        }
        drop(acme);
        store.remove("certificate");
        store.remove("attempts");
    }
    assert_eq!(authority.state(|state| state.accounts), 1);
}

#[tokio::test]
async fn an_account_that_may_not_order_any_more_is_named_with_its_file() {
    let authority = Authority::start().await;
    let store: Arc<Store> = Arc::default();
    let (acme, _) = open(config(&authority, SOON), &store).await;
    until_issued(&acme, 1).await;
    until("the file", async || store.find("certificate").is_some()).await;
    drop(acme);
    store.remove("certificate");
    store.remove("attempts");
    let refusal = problem(403, "", "unauthorized");
    authority.state(|state| state.refusals.push_back(refusal));
    let (acme, _) = open(config(&authority, NEVER), &store).await;
    assert_eq!(until_failed(&acme).await, "account_refused");
    let error = acme.status().last_error.unwrap().to_string();
    let (account, _) = store.find("account").unwrap();
    assert!(error.contains(&account), "{error}");
    // Another one is created only by who knows why.
    assert_eq!(authority.state(|state| state.accounts), 1);
}
