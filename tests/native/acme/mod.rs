//! Automatic certificates: against a certificate authority of these tests, and against pebble.

mod authority;
mod failures;
mod issued;
mod pebble;
mod restarts;
mod store;
mod validations;

use std::sync::Arc;
use std::time::Duration;

use gossip_transport::acme::{Acme, AcmeConfig, AcmeName, RunningAcme};
use gossip_transport::rt::unix_time;
use gossip_transport::tcp::TlsIdentity;

use crate::support::until;
use authority::Authority;
use store::Store;

/// A wait after failures that no test sees the end of.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// A wait after failures that is soon over.
const SOON: Duration = Duration::from_millis(40);

fn names(names: &[&str]) -> Vec<AcmeName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Returns the configuration of orders for `node.test` from `authority`.
fn config(authority: &Authority, retry: Duration) -> AcmeConfig {
    AcmeConfig::new(names(&["node.test"]))
        .with_contact(vec!["mailto:admin@node.test".to_owned()])
        .with_directory(authority.directory())
        .with_roots(authority.roots())
        .with_retry(retry)
}

async fn open(config: AcmeConfig, store: &Arc<Store>) -> (RunningAcme, TlsIdentity) {
    let store: Arc<Store> = Arc::clone(store);
    let acme = Acme::open(config, store).await.unwrap();
    let identity = acme.identity().clone();
    (acme.start(), identity)
}

async fn until_issued(acme: &RunningAcme, count: u64) {
    until("a certificate", async || acme.status().issued >= count).await;
}

/// Waits until an attempt has failed, and returns the kind of its error.
async fn until_failed(acme: &RunningAcme) -> &'static str {
    until("a failure", async || acme.status().last_error.is_some()).await;
    acme.status().last_error.unwrap().kind()
}

/// Returns the time until the next order.
fn next_order(acme: &RunningAcme) -> Duration {
    acme.status().next_order.saturating_sub(unix_time())
}
