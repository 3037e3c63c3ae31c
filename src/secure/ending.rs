//! How a connection ended, and whoever waits to know.
//!
//! Invariant: it is set once, the first reason stays, and setting it wakes every waiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use super::FrameError;
use crate::net::{CloseCode, CloseReason};
use crate::rt::sync::{Mutex, MutexGuard};

/// Why it ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// We said goodbye.
    Local(CloseCode),
    /// The peer said goodbye.
    Remote(CloseCode),
    /// It broke; for both kinds of caller.
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

    /// What a call gets that came too late.
    pub(super) fn error(&self) -> FrameError {
        match self {
            Self::Local(_) | Self::Remote(_) => FrameError::Closed {
                reason: self.reason(),
            },
            Self::Lost(error, _) => error.clone(),
        }
    }
}

/// Whether a connection has ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Set with the state: asked for at every message, so without the lock.
    ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    waiters: Vec<(u64, Waker)>,
    next_waiter: u64,
}

impl Ending {
    /// Ends it, unless it has ended before; gives the end that counts.
    pub(super) fn set(&self, end: End) -> End {
        let mut state = self.state();
        let end = state.end.get_or_insert(end).clone();
        self.ended.store(true, Ordering::Release);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        for (_, waker) in waiters {
            waker.wake();
        }
        end
    }

    pub(super) fn get(&self) -> Option<End> {
        if !self.ended.load(Ordering::Acquire) {
            return None;
        }
        self.state().end.clone()
    }

    pub(super) fn waiter(&self) -> Waiter<'_> {
        Waiter {
            ending: self,
            id: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// One who waits; taken off the list when dropped.
pub(super) struct Waiter<'a> {
    ending: &'a Ending,
    id: Option<u64>,
}

impl Waiter<'_> {
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut state = self.ending.state();
        if let Some(end) = &state.end {
            return Poll::Ready(end.clone());
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next_waiter = state.next_waiter.wrapping_add(1);
            state.next_waiter
        });
        match state.waiters.iter_mut().find(|(known, _)| *known == id) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.waiters.push((id, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waiters = &mut self.ending.state().waiters;
            if let Some(index) = waiters.iter().position(|(known, _)| *known == id) {
                waiters.swap_remove(index);
            }
        }
    }
}
