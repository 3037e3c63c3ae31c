//! Helpers that several tests share: waiting with a deadline, credentials, sockets.

pub(crate) mod layer;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod proxy;
pub(crate) mod tab;
pub(crate) mod upstream;
#[cfg(feature = "axum")]
pub(crate) mod web_tab;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gossip_transport::credential::{Claims, Invite, InviteId};
use gossip_transport::rt::unix_time;
use gossip_transport::{ClusterSecret, NetCredential, Trust};
use tokio::time::Instant;

pub(crate) use layer::open;

/// The time limit of every wait of a test.
///
/// It is long enough for a machine that is busy with something else, and shorter than the 90 s of
/// silence after which a connection is closed, so that no test passes merely because of that. It
/// costs nothing on a paused clock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(80);

/// Returns a name for the cluster of the running test. Call it on the thread of the test.
///
/// Tests run at the same time, and members that speak UDP accept everyone who names their cluster: a port that a member of
/// one test has left may become that of another test's, and their clusters would be one.
pub(crate) fn own_cluster() -> String {
    let test = std::thread::current();
    let test = test.name().filter(|name| name.contains("::"));
    test.expect("this is not the thread of a test").to_owned()
}

/// Any free port on loopback.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Returns the output of `future`. Panics if that takes longer than [`PATIENCE`].
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("waited too long at {caller}"),
        }
    }
}

/// Checks `condition` every 25 ms until it holds. Panics after [`PATIENCE`].
///
/// For conditions that cannot be waited on, such as the state of an upstream node.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Returns a new credential of a member of the cluster that has `secret`.
pub(crate) fn member(secret: &ClusterSecret) -> NetCredential {
    NetCredential::generate(Trust::secret(secret.clone()))
}

/// Returns the trust of those that hold a new invite to `cluster`, with which names must begin with `prefix`.
pub(crate) fn guests(secret: &ClusterSecret, prefix: &str) -> Trust {
    holders(secret, |claims| {
        claims.with_name_prefix(prefix.parse().unwrap())
    })
}

/// Returns the trust of those that hold a new invite to `cluster`, whose claims are changed by `change`.
pub(crate) fn holders(secret: &ClusterSecret, change: impl FnOnce(Claims) -> Claims) -> Trust {
    let id = InviteId::generate(unix_time(), Duration::from_secs(3600)).unwrap();
    let claims = change(Claims::new(id));
    Trust::invite(Invite::issue(secret, claims, "cluster".to_owned(), Vec::new()).unwrap())
}

/// Returns a new credential that trusts every identity.
pub(crate) fn anyone() -> NetCredential {
    NetCredential::generate(Trust::dangerously_anyone())
}
