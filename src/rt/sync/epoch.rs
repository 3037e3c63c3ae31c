//! A counter of changes that tasks can wait on.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::Mutex;

/// A counter of changes. Any number of tasks can wait for the next change.
///
/// A waiter reads the epoch, checks the state, and then waits for a later epoch. A change in
/// between ends the wait at once.
#[derive(Debug, Default)]
pub(crate) struct Epoch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    waiting: Vec<Waker>,
}

impl Epoch {
    /// Returns the number of changes so far.
    pub(crate) fn current(&self) -> u64 {
        self.0.lock().epoch
    }

    /// Counts a change and wakes every task that waits.
    pub(crate) fn advance(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.epoch += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Completes once the epoch is later than `seen`. Cancel-safe.
    pub(crate) async fn later_than(&self, seen: u64) {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.epoch != seen {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
