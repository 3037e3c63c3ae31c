//! Tasks and time with one interface on every target.
//!
//! This is the only module that depends on the target: tokio or a browser. Its children `crypto` and
//! `compress` choose the ciphers and the compressor, and `sync` has the locks. It has no sockets and no
//! queues. Invariant: dropping a [`Task`] drops its future before `drop` returns, so that what the
//! future owns (a bound port, say) is free on the next line.

mod compress;
pub(crate) mod crypto;
mod error;
#[cfg(not(target_family = "wasm"))]
mod native;
pub(crate) mod sync;
#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
#[cfg(target_family = "wasm")]
mod web;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(not(target_family = "wasm"))]
use native as target;
#[cfg(target_family = "wasm")]
use web as target;

use sync::Mutex;

pub(crate) use compress::compress;
pub use error::Elapsed;
#[cfg(target_family = "wasm")]
pub use target::next_turn;
pub use target::{BoxFuture, Instant, MaybeSend, MaybeSync, sleep, unix_time};
#[cfg(target_family = "wasm")]
pub(crate) use target::{EventLoopTurns, SHARED_MEMORY};
pub(crate) use target::{Executor, Wakings};
#[cfg(not(target_family = "wasm"))]
pub(crate) use target::{delay_acks, resolve};

/// Checks that `name` has a form in which native networks resolve names: a socket address, or `host:port`.
///
/// # Errors
///
/// Fails if it has neither form.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let port = |addr: SocketAddr| addr.port();
    let port = match (name.parse().map(port), name.rsplit_once(':')) {
        (Ok(port), _) => Some(port),
        (_, Some((host, port))) if is_host(host) => port.parse().ok(),
        _ => None,
    };
    let is_valid = port.is_some_and(|port| port != 0);
    anyhow::ensure!(
        is_valid,
        "{name:?} must be host:port, such as 192.0.2.1:7946 or node.example.com:7946"
    );
    Ok(())
}

/// Returns whether `host` may be the name of a host. The system decides what each of its labels may be.
pub(crate) fn is_host(host: &str) -> bool {
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || "/:[]@?#".contains(c);
    !host.is_empty() && !host.contains(is_foreign)
}

/// Runs `future` for at most `limit`, and drops it after that. Cancel-safe if `future` is.
///
/// # Errors
///
/// Fails with [`Elapsed`] if `future` is not ready in time.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = std::pin::pin!(future);
    // Created only when it is needed, so that a future that is ready at once costs no timer.
    let mut clock = std::pin::pin!(None);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if clock.is_none() {
            clock.set(Some(sleep(limit)));
        }
        match clock.as_mut().as_pin_mut() {
            Some(clock) => clock.poll(cx).map(|()| Err(Elapsed(limit))),
            None => Poll::Pending,
        }
    })
    .await
}

/// A background task that ends, at the latest, when this handle is dropped.
///
/// The future is dropped inside `drop` of the handle, not some time later: on a thread pool `drop`
/// waits for the poll that may be running. A task that drops the handle of itself ends at the end
/// of the poll it is in.
#[must_use = "the task stops when its handle is dropped"]
pub struct Task {
    slot: Arc<Slot>,
}

struct Slot {
    state: Mutex<State>,
    cancelled: AtomicBool,
    /// The thread that holds `state` for a poll. A drop on the same thread must not wait for it.
    polled_by: AtomicUsize,
}

struct State {
    /// `None` once the task has ended.
    future: Option<BoxFuture<'static, ()>>,
    /// The executor's waker, so that the executor releases a dropped task at once.
    waker: Option<Waker>,
}

struct Run(Arc<Slot>);

/// A task that was not started yet. Dropping this drops the task's future.
pub(crate) struct Unstarted(Run);

impl Unstarted {
    /// Starts the task on `executor`, from any thread. If the executor was shut down, the future is dropped
    /// before this returns, so no lock may be held that a drop of the future takes.
    pub(crate) fn start_on(self, executor: &Executor) {
        executor.spawn(self.0);
    }
}

impl Task {
    /// Starts `future` on the executor of the target: tokio natively, the event loop in a browser.
    ///
    /// # Panics
    ///
    /// Panics natively outside of a tokio runtime, as `tokio::spawn` does.
    pub fn spawn(future: impl Future<Output = ()> + MaybeSend + 'static) -> Self {
        let (task, unstarted) = Self::new(future);
        unstarted.start_on(&Executor::current());
        task
    }

    /// Returns a task for `future` that still has to be started.
    pub(crate) fn new(future: impl Future<Output = ()> + MaybeSend + 'static) -> (Self, Unstarted) {
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "not `Send` in a browser, which has one thread"
        )]
        let slot = Arc::new(Slot {
            state: Mutex::new(State {
                future: Some(Box::pin(future)),
                waker: None,
            }),
            cancelled: AtomicBool::new(false),
            polled_by: AtomicUsize::new(NOBODY),
        });
        let unstarted = Unstarted(Run(Arc::clone(&slot)));
        (Self { slot }, unstarted)
    }

    /// Returns whether the future has ended by itself.
    pub fn is_finished(&self) -> bool {
        let state = &self.slot.state;
        let ended = |state: crate::rt::sync::MutexGuard<'_, State>| state.future.is_none();
        state.is_poisoned() || state.try_lock().is_some_and(ended)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.slot.cancelled.store(true, Ordering::Release);
        // The value is exact for this thread: no other thread stores this thread's number.
        if self.slot.polled_by.load(Ordering::Relaxed) == this_thread() {
            return;
        }
        let (future, waker) = {
            let mut state = self.slot.state.lock();
            (state.future.take(), state.waker.take())
        };
        drop(future);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("finished", &self.is_finished())
            .finish()
    }
}

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let slot = &self.0;
        let mut state = slot.state.lock();
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        let Some(future) = state.future.as_mut() else {
            return Poll::Ready(());
        };
        slot.polled_by.store(this_thread(), Ordering::Relaxed);
        let poll = future.as_mut().poll(cx);
        let ended = poll.is_ready() || slot.cancelled.load(Ordering::Acquire);
        if ended {
            // Still marked as polled by this thread: what the future drops may hold the task's handle.
            state.future = None;
        }
        slot.polled_by.store(NOBODY, Ordering::Relaxed);
        if ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Run {
    /// Drops the future of a task that has panicked, or whose executor was shut down, so that what it owns
    /// does not wait for the handle.
    fn drop(&mut self) {
        let future = self.0.state.lock().future.take();
        drop(future);
    }
}

const NOBODY: usize = 0;

/// Returns a number that no other thread has while this one lives.
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}
