//! The growing wait between dials to a peer that cannot be reached.
//!
//! It neither dials nor waits. Invariant: a wait is never longer than the longest one allowed.

use std::time::Duration;

use crate::rt::Instant;

/// The shortest wait of a dial for which there is no room: the search for room takes time in proportion to
/// the number of peers.
const SHORTEST_POSTPONEMENT: Duration = Duration::from_millis(10);

/// The number of failed dials to one peer in a row, and the time at which the next one is due.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// Waits in a row, of which some may have followed no dial.
    waits: u32,
    until: Option<Instant>,
    /// The last connection was refused after it had been established.
    is_refused: bool,
}

impl Backoff {
    /// Counts one more failure. Returns the wait before the next dial.
    pub(super) fn fail(&mut self, now: Instant, min: Duration, max: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.wait(now, Duration::ZERO, (min, max))
    }

    /// Counts a connection that was established and then refused. Messages that the peer has sent before it said so are no
    /// success, or else it would be dialled again and again without a wait.
    pub(super) fn refuse(&mut self, now: Instant, min: Duration, max: Duration) {
        self.fail(now, min, max);
        self.is_refused = true;
    }

    /// Returns true if the last connection was refused, since when nothing was a success.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Puts a dial off for which there is no room. It does not count as a failure, and the next wait is
    /// longer as after one.
    pub(super) fn postpone(&mut self, now: Instant, min: Duration, max: Duration) {
        self.wait(now, SHORTEST_POSTPONEMENT, (min, max));
    }

    fn wait(
        &mut self,
        now: Instant,
        shortest: Duration,
        (min, max): (Duration, Duration),
    ) -> Duration {
        let whole = ceiling(self.waits, min, max);
        self.waits = self.waits.saturating_add(1);
        let wait = whole.mul_f64(0.5 + fastrand::f64() / 2.0).max(shortest);
        self.until = now.checked_add(wait);
        wait
    }

    /// Resets the count of failures after a success.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns when the next dial is due, or `None` if it is due now.
    pub(super) fn pending(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

/// Returns the longest wait after `waits` earlier ones.
fn ceiling(waits: u32, min: Duration, max: Duration) -> Duration {
    // 2^31 times any wait is longer than every sensible maximum.
    min.checked_mul(1 << waits.min(31))
        .map_or(max, |whole| whole.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_the_least_to_the_most_and_stays_in_its_upper_half() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(30));
        let now = Instant::now();
        for _ in 0..50 {
            let mut backoff = Backoff::default();
            let growing = [200, 400, 800, 1600, 3200, 6400, 12800, 25600];
            for (failures, whole) in (1..).zip(growing.into_iter().chain([30_000; 100])) {
                let wait = backoff.fail(now, min, max);
                let whole = Duration::from_millis(whole);
                assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
                assert_eq!(backoff.failures(), failures);
                assert_eq!(backoff.pending(now), Some(now + wait));
                assert_eq!(backoff.pending(now + wait), None);
            }
        }
    }

    #[test]
    fn the_waits_of_different_peers_differ() {
        let now = Instant::now();
        let waits: std::collections::BTreeSet<_> = (0..20)
            .map(|_| Backoff::default().fail(now, Duration::from_secs(1), Duration::from_secs(1)))
            .collect();
        assert!(waits.len() > 10, "{waits:?}");
    }

    #[test]
    fn a_dial_that_is_put_off_is_no_failure_and_never_due_at_once() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(30));
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.postpone(now, Duration::ZERO, Duration::ZERO);
        assert!(backoff.pending(now).is_some());
        for _ in 0..7 {
            backoff.postpone(now, min, max);
        }
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.fail(now, min, max) >= max / 2);
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn a_reset_peer_starts_again_with_the_least_wait() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(30));
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.fail(now, min, max);
        }
        backoff.reset();
        assert_eq!(backoff.pending(now), None);
        assert!(backoff.fail(now, min, max) <= min);
    }
}
