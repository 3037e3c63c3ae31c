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
    last_heard_millis: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last_heard_millis: AtomicU64::new(0),
        }
    }

    /// Notes that the peer was heard now.
    pub(super) fn heard(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_heard_millis.store(millis, Ordering::Relaxed);
    }

    /// Returns the time since the peer was last heard.
    pub(super) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.last_heard_millis.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(heard)
    }
}
