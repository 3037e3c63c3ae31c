//! Tokio.

use std::future::Future;
use std::time::Duration;

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

#[expect(clippy::disallowed_methods, reason = "the module that owns spawning")]
pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
