//! The times at which the peer was last heard, and last answered a probe.
//!
//! This file only measures: the transport layer decides when a silence has lasted too long.
//! Invariant: no time lies in the future, so a silence is never negative.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::rt::Instant;

/// The times of the peer's signs of life.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    /// Nanoseconds after `since`, which suffice for 584 years.
    last_heard: AtomicU64,
    /// Nanoseconds after `since` at the last answer, plus one, or 0 if there was none.
    last_answer: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last_heard: AtomicU64::new(0),
            last_answer: AtomicU64::new(0),
        }
    }

    /// Notes that the peer was heard now.
    pub(super) fn heard(&self) {
        self.last_heard.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Notes that the peer has answered a probe now.
    pub(super) fn answered(&self) {
        let nanos = self.elapsed().saturating_add(1);
        self.last_answer.store(nanos, Ordering::Relaxed);
    }

    /// Returns when the peer was last heard.
    pub(super) fn last_heard(&self) -> Instant {
        self.instant(self.last_heard.load(Ordering::Relaxed))
    }

    /// Returns when the peer last answered a probe.
    pub(super) fn last_answer(&self) -> Option<Instant> {
        let nanos = self.last_answer.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.instant(nanos))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn instant(&self, nanos: u64) -> Instant {
        let instant = self.since.checked_add(Duration::from_nanos(nanos));
        instant.unwrap_or(self.since)
    }
}
