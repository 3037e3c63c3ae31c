//! "Something has changed": many wait, nobody misses it.
//!
//! Read the epoch, look at the state, and wait for a later epoch: a change in between is not lost.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    waiting: Vec<Waker>,
}

impl Signal {
    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    pub(crate) fn notify(&self) {
        let waiting = {
            let mut state = self.lock();
            state.epoch += 1;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Completes once the epoch is later than `seen`. Cancel-safe.
    pub(crate) async fn changed(&self, seen: u64) {
        poll_fn(|cx| {
            let mut state = self.lock();
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
