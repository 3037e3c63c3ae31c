//! Whether the client of a connection reads and writes.
//!
//! It notes times and bytes, and ends nothing. Invariant: while responses are in memory, only bytes that
//! the client takes count as progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::rt::Instant;

/// The time after which a connection ends on which nothing is read or written.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
/// The bytes of a response that a client must take in a second, on average. A connection of 1 Mbit/s takes
/// twice as many.
const SLOWEST: u64 = 64 << 10;

/// The progress of a connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    since: Instant,
    noted: Arc<Noted>,
}

/// What was noted. Times are milliseconds since the connection was accepted.
#[derive(Debug, Default)]
struct Noted {
    read: AtomicU64,
    written: AtomicU64,
    /// When the responses in memory must have been taken.
    due: AtomicU64,
    /// The bytes of these.
    held: AtomicUsize,
}

/// A response of which a part is in memory. Drop it when nothing is left of it.
#[derive(Debug)]
pub struct Holding {
    noted: Arc<Noted>,
    len: usize,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            noted: Arc::default(),
        }
    }

    /// Notes that bytes were read.
    pub(super) fn note_read(&self) {
        self.noted.read.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that bytes were written.
    pub(super) fn note_written(&self) {
        self.noted.written.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that a response of `len` bytes is in memory until the returned value is dropped.
    pub(super) fn hold(&self, len: usize) -> Holding {
        self.noted.hold(len, self.now());
        let noted = Arc::clone(&self.noted);
        Holding { noted, len }
    }

    /// Returns the bytes of the responses in memory.
    pub(super) fn held(&self) -> usize {
        self.noted.held()
    }

    /// Returns the time without progress.
    pub(super) fn pause(&self) -> Duration {
        self.noted.pause(self.now())
    }

    /// Returns the time after which the connection ends unless there is progress until then.
    pub(super) fn left(&self) -> Duration {
        self.noted.left(self.now())
    }

    fn now(&self) -> u64 {
        millis(self.since.elapsed())
    }
}

impl Noted {
    fn hold(&self, len: usize, now: u64) {
        if self.held.fetch_add(len, Ordering::Relaxed) == 0 {
            self.written.store(now, Ordering::Relaxed);
            self.due.store(now, Ordering::Relaxed);
        }
        let transfer = (len as u64).saturating_mul(1_000) / SLOWEST;
        let limit = millis(PAUSE_LIMIT).saturating_add(transfer);
        self.due.fetch_add(limit, Ordering::Relaxed);
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn pause(&self, now: u64) -> Duration {
        let written = self.written.load(Ordering::Relaxed);
        let last = if self.held() > 0 {
            written
        } else {
            written.max(self.read.load(Ordering::Relaxed))
        };
        Duration::from_millis(now.saturating_sub(last))
    }

    fn left(&self, now: u64) -> Duration {
        let left = PAUSE_LIMIT.saturating_sub(self.pause(now));
        if self.held() == 0 {
            return left;
        }
        let due = self.due.load(Ordering::Relaxed);
        left.min(Duration::from_millis(due.saturating_sub(now)))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.noted.held.fetch_sub(self.len, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_no_progress_while_it_takes_nothing_of_its_response() {
        let noted = Noted::default();
        noted.read.store(9_000, Ordering::Relaxed);
        assert_eq!(noted.pause(9_500), Duration::from_millis(500));
        noted.hold(5, 9_500);
        noted.read.store(13_000, Ordering::Relaxed);
        assert_eq!(noted.pause(13_500), Duration::from_secs(4));
        assert_eq!(noted.left(13_500), Duration::from_secs(6));
        assert_eq!(noted.left(19_500), Duration::ZERO);
        noted.held.store(0, Ordering::Relaxed);
        assert_eq!(noted.left(13_500), Duration::from_millis(9_500));
    }

    #[test]
    fn a_response_must_be_taken_in_time_even_if_there_is_always_some_progress() {
        let noted = Noted::default();
        let progress = Progress::new();
        noted.hold(640 << 10, 1_000);
        for second in 2..21 {
            noted.written.store(second * 1_000, Ordering::Relaxed);
            assert!(noted.left(second * 1_000) > Duration::ZERO, "{second}");
        }
        noted.written.store(21_000, Ordering::Relaxed);
        assert_eq!(noted.left(21_000), Duration::ZERO);
        let holding = progress.hold(7);
        assert_eq!(progress.held(), 7);
        drop(holding);
        assert_eq!(progress.held(), 0);
    }
}
