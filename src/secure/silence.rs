//! When the peer was last heard.
//!
//! It only measures: the transport layer decides when a silence has lasted too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::rt::Instant;

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
