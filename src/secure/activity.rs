//! The time at which the peer was last heard.
//!
//! This file only measures: the transport layer decides when a silence has lasted too long.
//! Invariant: the time never lies in the future, so a silence is never negative.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::rt::Instant;

/// The time at which the peer was last heard.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    /// Nanoseconds after `since`, which suffice for 584 years.
    last_heard: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last_heard: AtomicU64::new(0),
        }
    }

    /// Notes that the peer was heard now.
    pub(super) fn heard(&self) {
        let nanos = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_heard.store(nanos, Ordering::Relaxed);
    }

    /// Returns when the peer was last heard.
    pub(super) fn last_heard(&self) -> Instant {
        let nanos = self.last_heard.load(Ordering::Relaxed);
        let heard = self.since.checked_add(Duration::from_nanos(nanos));
        heard.unwrap_or(self.since)
    }
}
