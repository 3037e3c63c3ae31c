//! How tasks of this layer wait for each other.
//!
//! No queue of messages is here, and no lock: who waits in a [`WaitList`] is guarded by the lock of
//! what he waits for. Invariant: a waiter that is dropped hands its turn to the next, so a wake-up
//! is never lost with it.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::task::AtomicWaker;

use crate::rt::{self, Instant};

/// Browsers refuse timers of more than 24.8 days; whoever wakes early looks again.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Tasks that wait for the same thing, in the order in which they came.
///
/// An entry stays until its owner takes it out: the first one is always responsible for looking
/// again, so waking it twice is harmless and forgetting it impossible.
#[derive(Debug, Default)]
pub(super) struct WaitList {
    next: u64,
    waiting: Vec<(u64, Waker)>,
}

/// A place in a [`WaitList`].
pub(super) type Ticket = Option<u64>;

impl WaitList {
    /// Takes a place at the end, or keeps the one that `ticket` names.
    pub(super) fn join(&mut self, ticket: &mut Ticket, waker: &Waker) {
        if let Some(place) = *ticket
            && let Some((_, known)) = self.waiting.iter_mut().find(|(id, _)| *id == place)
        {
            known.clone_from(waker);
            return;
        }
        self.next += 1;
        *ticket = Some(self.next);
        self.waiting.push((self.next, waker.clone()));
    }

    /// Gives up the place, and says whether it was the first.
    pub(super) fn leave(&mut self, ticket: &mut Ticket) -> bool {
        let Some(place) = ticket.take() else {
            return false;
        };
        let found = self.waiting.iter().position(|(id, _)| *id == place);
        if let Some(index) = found {
            self.waiting.remove(index);
        }
        found == Some(0)
    }

    /// Whether the holder of `ticket` may go ahead: nobody came before.
    pub(super) fn may_pass(&self, ticket: Ticket) -> bool {
        self.waiting
            .first()
            .is_none_or(|(first, _)| Some(*first) == ticket)
    }

    /// To be woken once the lock is released.
    pub(super) fn first(&self) -> Option<Waker> {
        self.waiting.first().map(|(_, waker)| waker.clone())
    }

    /// To be woken once the lock is released.
    pub(super) fn all(&self) -> impl Iterator<Item = Waker> + '_ {
        self.waiting.iter().map(|(_, waker)| waker.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Tells one task to look again. Raised before anyone waits, it is kept.
#[derive(Debug, Default)]
pub(super) struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready once raised since the last time it was ready. One task only.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.raised.swap(false, Ordering::AcqRel) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits for the signal, until `deadline` at the latest.
    pub(super) async fn wait(&self, timer: &mut Timer, deadline: Option<Instant>) {
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

/// A timer that is kept from one wait to the next. Most deadlines are moved before they come: so a
/// timer that is armed for an earlier time stays, fires for nothing now and then, and is not set
/// anew for each message.
#[derive(Default)]
pub(super) struct Timer {
    armed: Option<(Instant, rt::BoxFuture<'static, ()>)>,
}

impl Timer {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.armed {
                Some((at, sleep)) if *at <= deadline => {
                    ready!(sleep.as_mut().poll(cx));
                    self.armed = None;
                }
                _ => {
                    // It may have passed since the caller looked. What is armed then was armed for
                    // later than the deadline, and would be again, without end.
                    let now = Instant::now();
                    let wait = deadline.saturating_duration_since(now);
                    if wait.is_zero() {
                        return Poll::Ready(());
                    }
                    let wait = wait.min(LONGEST_SLEEP);
                    let at = now.checked_add(wait).unwrap_or(deadline);
                    self.armed = Some((at, Box::pin(rt::sleep(wait))));
                }
            }
        }
    }
}

/// Lets other tasks run: a peer that is always ready must not keep the executor to itself.
pub(super) async fn yield_now() {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A task that finds its deadline, and is held up before it waits.
    #[test]
    fn a_deadline_that_passes_before_it_is_waited_for_is_over_at_once() {
        let passed = Instant::now();
        while Instant::now() <= passed {}
        let mut cx = Context::from_waker(Waker::noop());
        // To set a timer would need a runtime, and there is none here.
        assert!(Timer::default().poll(passed, &mut cx).is_ready());
    }
}
