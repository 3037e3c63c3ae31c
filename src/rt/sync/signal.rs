//! A flag that wakes one task.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::Timer;
use crate::rt::Instant;

/// Wakes one task to check its state again. A signal that is raised while the task is busy is kept
/// until its next check.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(crate) fn raise(&self) {
        // A signal that is still raised has woken its task, which has not checked yet.
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Clears the signal. Returns `Ready` if it was raised. Only one task may wait.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.raised.swap(false, Ordering::AcqRel) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits until the signal is raised or `deadline` has passed. Returns whether other tasks could run
    /// meanwhile, which is not so if the signal was up already. Cancel-safe.
    pub(crate) async fn wait(&self, timer: &mut Timer, deadline: Option<Instant>) -> bool {
        let mut waited = false;
        poll_fn(|cx| {
            if self.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let poll = match deadline {
                Some(deadline) => timer.poll(deadline, cx),
                None => Poll::Pending,
            };
            waited |= poll.is_pending();
            poll
        })
        .await;
        waited
    }
}

/// Lets other tasks run once.
///
/// A task whose work never ends must call this from time to time. Otherwise a poll that always
/// finds more to do keeps the executor for itself.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
