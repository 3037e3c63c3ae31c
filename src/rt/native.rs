//! Tokio.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

pub use tokio::time::Instant;

/// [`Send`] natively, nothing in a browser.
pub trait MaybeSend: Send {}
impl<T: Send + ?Sized> MaybeSend for T {}

/// [`Sync`] natively, nothing in a browser.
pub trait MaybeSync: Sync {}
impl<T: Sync + ?Sized> MaybeSync for T {}

/// A boxed future, `Send` natively and not in a browser.
pub type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;

/// Completes after `duration`. Cancel-safe.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + MaybeSend {
    tokio::time::sleep(duration)
}

/// Time since 1970-01-01 UTC by the machine's clock; zero if that is set before 1970.
pub fn unix_time() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the module that owns the clock")]
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The addresses of `host:port`, or of an address written out.
pub(crate) async fn resolve(name: &str) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(addr) = name.parse() {
        return Ok(vec![addr]);
    }
    let addrs = tokio::net::lookup_host(name)
        .await
        .with_context(|| format!("cannot resolve {name:?} (it has to be host:port)"))?;
    Ok(addrs.collect())
}

#[expect(clippy::disallowed_methods, reason = "the module that owns spawning")]
pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
