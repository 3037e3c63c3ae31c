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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::task::{ArcWake, Context, noop_waker};
    use futures::{Future as _, FutureExt as _};

    use super::*;

    #[derive(Default)]
    struct Woken(Mutex<u32>);

    impl ArcWake for Woken {
        fn wake_by_ref(this: &std::sync::Arc<Self>) {
            *this.0.lock() += 1;
        }
    }

    #[test]
    fn a_change_wakes_every_waiter_and_one_in_between_is_noticed_at_once() {
        let epoch = Epoch::default();
        let seen = epoch.current();
        let woken = [(); 2].map(|()| std::sync::Arc::new(Woken::default()));
        let mut waiting = woken.clone().map(|woken| {
            let mut future = Box::pin(epoch.later_than(seen));
            let waker = futures::task::waker(woken);
            let mut cx = Context::from_waker(&waker);
            assert!(future.poll_unpin(&mut cx).is_pending());
            assert!(future.poll_unpin(&mut cx).is_pending());
            future
        });
        epoch.advance();
        assert_eq!(woken.map(|woken| *woken.0.lock()), [1, 1]);
        let noop = noop_waker();
        let mut cx = Context::from_waker(&noop);
        for future in &mut waiting {
            assert!(future.poll_unpin(&mut cx).is_ready());
        }
        assert!(pin!(epoch.later_than(seen)).poll(&mut cx).is_ready());
        let later = pin!(epoch.later_than(epoch.current()));
        assert!(later.poll(&mut cx).is_pending());
    }
}
