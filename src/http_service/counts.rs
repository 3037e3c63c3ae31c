//! The counts of a service.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of an [`HttpService`](super::HttpService).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpStats {
    /// Open connections.
    pub connections: u64,
    /// Requests for which a response was made.
    pub requests: u64,
    /// Connections that ended because there were too many, or because they held the memory that another
    /// response needed and their clients did not read.
    pub evicted: u64,
    /// Connections that ended because nothing was read or written for too long, or a response was not taken
    /// in time.
    pub timed_out: u64,
    /// Times at which no connection could be accepted because the system was short of resources.
    pub shortages: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) shortages: AtomicU64,
}

impl Counts {
    /// Adds `more` to a count, and returns the sum.
    pub(super) fn add(&self, count: impl FnOnce(&Self) -> &AtomicU64, more: u64) -> u64 {
        count(self).fetch_add(more, Ordering::Relaxed) + more
    }

    pub(super) fn stats(&self) -> HttpStats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpStats {
            connections: load(&self.connections),
            requests: load(&self.requests),
            evicted: load(&self.evicted),
            timed_out: load(&self.timed_out),
            shortages: load(&self.shortages),
        }
    }
}
