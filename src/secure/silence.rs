//! When the peer was last heard, and when its silence has lasted too long.
//!
//! Invariant: a timer that fires late (a throttled tab, a machine that slept, a caller that did
//! not read) never ends a connection by itself: what arrived in the meantime gets a moment to be
//! read first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::rt::{self, BoxFuture, Instant};

/// A timer that is late by more than this says nothing about the peer.
const LATE: Duration = Duration::from_millis(500);
/// How long what has arrived may take to be read then.
const GRACE: Duration = Duration::from_secs(2);

/// When the peer was last heard.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    last_heard_millis: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last_heard_millis: AtomicU64::new(0),
        }
    }

    pub(super) fn heard(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_heard_millis.store(millis, Ordering::Relaxed);
    }

    pub(super) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.last_heard_millis.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(heard)
    }
}

/// Watches for too long a silence. It keeps its timer from one wait to the next: one timer for
/// each silence, not one for each frame.
pub(super) struct SilenceWatch {
    limit: Duration,
    timer: Option<Timer>,
    in_grace: bool,
}

struct Timer {
    due: Instant,
    sleep: BoxFuture<'static, ()>,
}

impl SilenceWatch {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            in_grace: false,
        }
    }

    /// Ready once the peer has been silent for the limit. Poll it after the reader.
    pub(super) fn poll_silent(&mut self, cx: &mut Context<'_>, heard: &Activity) -> Poll<()> {
        loop {
            let Some(timer) = &mut self.timer else {
                let left = self.limit.saturating_sub(heard.silence());
                self.in_grace = left.is_zero();
                self.arm(if self.in_grace { GRACE } else { left });
                continue;
            };
            ready!(timer.sleep.as_mut().poll(cx));
            let late = Instant::now().saturating_duration_since(timer.due) > LATE;
            self.timer = None;
            if heard.silence() < self.limit {
                continue;
            }
            if self.in_grace || !late {
                return Poll::Ready(());
            }
            self.in_grace = true;
            self.arm(GRACE);
        }
    }

    fn arm(&mut self, after: Duration) {
        // A browser's timers count in milliseconds and may fire a fraction early.
        let after = after.saturating_add(Duration::from_millis(1));
        self.timer = Some(Timer {
            due: Instant::now() + after,
            sleep: Box::pin(rt::sleep(after)),
        });
    }
}
