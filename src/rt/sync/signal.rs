//! A flag that wakes one task.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::Timer;
use crate::rt::Instant;

/// Tells one task to look at its state again. A signal that is raised while the task is busy is
/// kept for its next look.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(crate) fn raise(&self) {
        // A signal that is up already has woken its task, which has not looked yet.
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Takes the signal down. Ready if it was up. Only one task may wait.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.raised.swap(false, Ordering::AcqRel) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits until the signal is raised or `deadline` has passed. Cancel-safe.
    pub(crate) async fn wait(&self, timer: &mut Timer, deadline: Option<Instant>) {
        poll_fn(|cx| {
            if self.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match deadline {
                Some(deadline) => timer.poll(deadline, cx),
                None => Poll::Pending,
            }
        })
        .await;
    }
}

/// Lets other tasks run once.
///
/// A task whose work never ends must call this from time to time: a poll that always finds more to
/// do would keep the executor for itself.
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
