//! Tasks, time and name resolution on tokio.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

pub use tokio::time::Instant;

/// Requires [`Send`] natively and nothing in a browser, which has one thread.
pub trait MaybeSend: Send {}
impl<T: Send + ?Sized> MaybeSend for T {}

/// Requires [`Sync`] natively and nothing in a browser, which has one thread.
pub trait MaybeSync: Sync {}
impl<T: Sync + ?Sized> MaybeSync for T {}

/// A boxed future. It is `Send` natively and not in a browser.
pub type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;

/// Completes after `duration`. Cancel-safe.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + MaybeSend {
    tokio::time::sleep(duration)
}

/// Returns the time since 1970-01-01 UTC by the clock of the machine, or zero if that is set to an
/// earlier time.
pub fn unix_time() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the module that owns the clock")]
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Resolves `host:port` or a socket address.
///
/// # Errors
///
/// Fails if the name is malformed or cannot be resolved.
pub(crate) async fn resolve(name: &str) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(addr) = name.parse() {
        return Ok(vec![addr]);
    }
    super::check_name(name)?;
    let addrs = tokio::net::lookup_host(name)
        .await
        .with_context(|| format!("cannot resolve {name:?}"))?;
    Ok(addrs.collect())
}

/// Makes the system wait a little for an answer that can carry the acknowledgement of what `stream`
/// receives, 40 ms on Linux. Does nothing on systems without such a setting.
///
/// Linux forgets the setting when no answer was in time.
pub(crate) fn delay_acks(stream: &tokio::net::TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // If it fails, acknowledgements are packets of their own, as by default.
        let _ = socket2::SockRef::from(stream).set_tcp_quickack(false);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

/// The times at which the machine or the page wakes up. Not noticed natively, where there is no value.
#[derive(Debug)]
pub(crate) enum Wakings {}

impl Wakings {
    /// Returns `None`.
    pub(crate) fn new() -> Option<Self> {
        None
    }

    pub(crate) async fn next(&mut self) {
        match *self {}
    }
}

/// The tokio runtime in which it was created. Starts tasks there, from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Executor(tokio::runtime::Handle);

impl Executor {
    /// Returns the runtime of the caller.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub(crate) fn current() -> Self {
        Self(tokio::runtime::Handle::current())
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future);
    }
}
