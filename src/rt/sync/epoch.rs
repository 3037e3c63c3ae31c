//! A counter of changes that tasks can wait on.

use std::future::poll_fn;
use std::task::Poll;

use super::{Mutex, Ticket, WaitList};

/// A counter of changes. Any number of tasks can wait for the next change.
///
/// A waiter reads the epoch, checks the state, and then waits for a later epoch. A change in
/// between ends the wait at once. A wait that is dropped leaves nothing behind.
#[derive(Debug, Default)]
pub(crate) struct Epoch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    waiting: WaitList,
}

/// A wait for a later epoch. Dropping it gives up its place in line.
struct Wait<'a> {
    epoch: &'a Epoch,
    ticket: Ticket,
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
            state.waiting.take_all()
        };
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Completes once the epoch is later than `seen`. Cancel-safe.
    pub(crate) async fn later_than(&self, seen: u64) {
        let mut wait = Wait {
            epoch: self,
            ticket: None,
        };
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.epoch != seen {
                return Poll::Ready(());
            }
            state.waiting.join(&mut wait.ticket, cx.waker());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.epoch.0.lock().waiting.leave(&mut self.ticket);
        }
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
        assert!(epoch.0.lock().waiting.is_empty());
        let noop = noop_waker();
        let mut cx = Context::from_waker(&noop);
        for future in &mut waiting {
            assert!(future.poll_unpin(&mut cx).is_ready());
        }
        assert!(pin!(epoch.later_than(seen)).poll(&mut cx).is_ready());
        let later = pin!(epoch.later_than(epoch.current()));
        assert!(later.poll(&mut cx).is_pending());
    }

    #[test]
    fn a_wait_that_was_woken_and_is_dropped_takes_the_place_of_no_later_one() {
        let epoch = Epoch::default();
        let woken = std::sync::Arc::new(Woken::default());
        let waker = futures::task::waker(std::sync::Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut earlier = Box::pin(epoch.later_than(0));
        assert!(earlier.poll_unpin(&mut cx).is_pending());
        epoch.advance();
        let mut later = Box::pin(epoch.later_than(1));
        assert!(later.poll_unpin(&mut cx).is_pending());
        drop(earlier);
        epoch.advance();
        assert_eq!(*woken.0.lock(), 2);
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let epoch = Epoch::default();
        for _ in 0..100 {
            let waker = futures::task::waker(std::sync::Arc::new(Woken::default()));
            let mut wait = Box::pin(epoch.later_than(0));
            let mut cx = Context::from_waker(&waker);
            assert!(wait.poll_unpin(&mut cx).is_pending());
            assert_eq!(epoch.0.lock().waiting.len(), 1);
        }
        assert!(epoch.0.lock().waiting.is_empty());
    }
}
