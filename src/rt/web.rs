//! The browser's event loop, in a window and in a worker alike.

use std::future::Future;
use std::time::Duration;

pub use web_time::Instant;

/// [`Send`] natively, nothing in a browser.
pub trait MaybeSend {}
impl<T: ?Sized> MaybeSend for T {}

/// [`Sync`] natively, nothing in a browser.
pub trait MaybeSync {}
impl<T: ?Sized> MaybeSync for T {}

/// A boxed future, `Send` natively and not in a browser.
pub type BoxFuture<'a, T> = futures::future::LocalBoxFuture<'a, T>;

/// Completes after `duration`. Cancel-safe. A hidden tab's timers may fire as rarely as once a
/// minute.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + MaybeSend {
    gloo_timers::future::sleep(duration)
}

/// Time since 1970-01-01 UTC by the machine's clock; zero if that is set before 1970.
pub fn unix_time() -> Duration {
    web_time::SystemTime::now()
        .duration_since(web_time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the module that owns spawning")]
pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    wasm_bindgen_futures::spawn_local(future);
}
