//! The end of a connection, and the tasks that wait for it.
//!
//! Nothing is closed here. Invariant: the end is set once, the first reason stays, and setting it
//! wakes every waiter.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures::FutureExt as _;

use super::error::FrameError;
use crate::net::{CloseCode, CloseReason};
use crate::rt::sync::{Mutex, MutexGuard, Ticket, WaitList};

/// The end of a connection: which side caused it, and the reason.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// We said goodbye.
    Local(CloseCode),
    /// The peer said goodbye.
    Remote(CloseCode),
    /// The connection broke. The error is kept twice: as itself for calls of this module, and
    /// shared for [`CloseReason::Lost`].
    Lost(FrameError, Arc<anyhow::Error>),
}

impl End {
    pub(super) fn lost(error: FrameError) -> Self {
        let shared = Arc::new(anyhow::Error::new(error.clone()));
        Self::Lost(error, shared)
    }

    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::Local(code) => CloseReason::Local(*code),
            Self::Remote(code) => CloseReason::Remote(*code),
            Self::Lost(_, error) => CloseReason::Lost(Arc::clone(error)),
        }
    }

    /// Returns the error of calls that are made after this end.
    pub(super) fn error(&self) -> FrameError {
        match self {
            Self::Local(_) | Self::Remote(_) => FrameError::Closed {
                reason: self.reason(),
            },
            Self::Lost(error, _) => error.clone(),
        }
    }
}

/// Whether and how a connection has ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Set together with the state. It is read for every message, so without the lock.
    ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    waiting: WaitList,
}

impl Ending {
    /// Ends the connection, unless it has ended before. Returns the end that counts, which is the
    /// first one.
    pub(super) fn set(&self, end: End) -> End {
        let mut state = self.state();
        let end = state.end.get_or_insert(end).clone();
        self.ended.store(true, Ordering::Release);
        let waiting: Vec<Waker> = state.waiting.all().collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        end
    }

    pub(super) fn get(&self) -> Option<End> {
        if !self.ended.load(Ordering::Acquire) {
            return None;
        }
        self.state().end.clone()
    }

    /// Fails with the error of the end if the connection has ended.
    pub(super) fn check_open(&self) -> Result<(), FrameError> {
        match self.get() {
            Some(end) => Err(end.error()),
            None => Ok(()),
        }
    }

    pub(super) fn waiter(&self) -> Waiter<'_> {
        Waiter {
            ending: self,
            ticket: None,
        }
    }

    /// Waits for `future`, or fails with the error of the end if that comes first. Cancel-safe if `future` is. Not an
    /// async function, which would keep what it is passed twice.
    pub(super) fn unless_ended<F>(
        &self,
        mut future: F,
    ) -> impl Future<Output = Result<F::Output, FrameError>>
    where
        F: Future + Unpin,
    {
        let mut waiter = None;
        poll_fn(move |cx| {
            let waiter = match &mut waiter {
                Some(waiter) => waiter,
                None => {
                    self.check_open()?;
                    waiter.insert(self.waiter())
                }
            };
            if let Poll::Ready(output) = future.poll_unpin(cx) {
                return Poll::Ready(Ok(output));
            }
            waiter.poll_end(cx).map(|end| Err(end.error()))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A wait for the end of a connection. Dropping it ends the wait.
pub(super) struct Waiter<'a> {
    ending: &'a Ending,
    ticket: Ticket,
}

impl Waiter<'_> {
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut state = self.ending.state();
        if let Some(end) = &state.end {
            return Poll::Ready(end.clone());
        }
        state.waiting.join(&mut self.ticket, cx.waker());
        Poll::Pending
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Most waits end before they have taken a place, and then need no lock.
        if self.ticket.is_some() {
            self.ending.state().waiting.leave(&mut self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let ending = Ending::default();
        let mut cx = Context::from_waker(Waker::noop());
        let waiting = || ending.state().waiting.all().count();
        let mut first = ending.waiter();
        let mut second = ending.waiter();
        for _ in 0..2 {
            assert!(first.poll_end(&mut cx).is_pending());
            assert!(second.poll_end(&mut cx).is_pending());
            assert_eq!(waiting(), 2);
        }
        drop(first);
        assert_eq!(waiting(), 1);
        drop(second);
        assert_eq!(waiting(), 0);
    }
}
