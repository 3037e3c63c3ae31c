//! Detects that a peer has been silent for too long.
//!
//! This is the only place where that is decided, and
//! [`silence_timeout`](crate::TransportLayerConfig::silence_timeout) is the only setting. Invariant: a
//! first late check (a frozen tab, a machine that slept, a task that was busy) never ends a connection.
//! What has arrived in the meantime gets a grace period in which it can be read. If the peer is
//! still silent at the next check, its connection is closed, however late that check is.

use std::time::Duration;

use crate::rt::Instant;

/// A check that comes this much too late says nothing about the peer.
pub(super) const LATE: Duration = Duration::from_millis(500);
/// After a late check, messages and keepalives that have arrived may take this long to be read.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Watches the silence of one connection. It asks for the silence only when it could be too long,
/// since asking reads the clock.
#[derive(Debug, Default)]
pub(super) struct SilenceCheck {
    /// The silence cannot be too long before this time.
    next_check: Option<Instant>,
    in_grace: bool,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SilenceVerdict {
    /// The peer has been silent for too long.
    Silent,
    /// Nothing is wrong. Check again at this time; `None` is never.
    CheckAgain(Option<Instant>),
}

impl SilenceCheck {
    /// Checks whether the silence exceeds `limit` at `now`. `silence` returns how long the peer has
    /// been silent.
    pub(super) fn check(
        &mut self,
        now: Instant,
        limit: Duration,
        silence: impl FnOnce() -> Duration,
    ) -> SilenceVerdict {
        if let Some(at) = self.next_check
            && now < at
        {
            return SilenceVerdict::CheckAgain(Some(at));
        }
        let left = limit.saturating_sub(silence());
        let wait = if left.is_zero() {
            let late = self
                .next_check
                .is_some_and(|at| now.saturating_duration_since(at) > LATE);
            if self.in_grace || !late {
                return SilenceVerdict::Silent;
            }
            self.in_grace = true;
            GRACE
        } else {
            self.in_grace = false;
            left
        };
        self.next_check = now.checked_add(wait);
        SilenceVerdict::CheckAgain(self.next_check)
    }

    /// Starts over: the connection was not being read, so its silence so far means nothing.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(90);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Each step: seconds since the start, the silence in seconds at that time, and the result.
    fn run(steps: &[(u64, u64, SilenceVerdict)], start: Instant) {
        let mut check = SilenceCheck::default();
        for (at, silence, expected) in steps {
            let verdict = check.check(start + secs(*at), LIMIT, || secs(*silence));
            assert_eq!(verdict, *expected, "after {at} s");
        }
    }

    fn again(start: Instant, at: u64) -> SilenceVerdict {
        SilenceVerdict::CheckAgain(Some(start + secs(at)))
    }

    #[test]
    fn a_peer_is_silent_only_if_the_check_was_on_time_or_the_grace_has_passed() {
        let start = Instant::now();
        // A dead peer, checked on time.
        run(
            &[(0, 0, again(start, 90)), (90, 90, SilenceVerdict::Silent)],
            start,
        );
        // A peer that is heard now and then is checked again when its silence could be too long.
        run(
            &[
                (0, 0, again(start, 90)),
                (40, 30, again(start, 90)),
                (90, 20, again(start, 160)),
                (160, 90, SilenceVerdict::Silent),
            ],
            start,
        );
        // This process is frozen for ten minutes; then the keepalives that have arrived are read.
        run(
            &[
                (0, 0, again(start, 90)),
                (600, 600, again(start, 602)),
                (601, 0, again(start, 602)),
                (602, 1, again(start, 691)),
                (691, 90, SilenceVerdict::Silent),
            ],
            start,
        );
        // This process is frozen for ten minutes, and nothing has arrived.
        run(
            &[
                (0, 0, again(start, 90)),
                (600, 600, again(start, 602)),
                (602, 602, SilenceVerdict::Silent),
            ],
            start,
        );
        // Frozen twice, and alive in between: the second freeze has a grace of its own.
        run(
            &[
                (0, 0, again(start, 90)),
                (600, 600, again(start, 602)),
                (602, 1, again(start, 691)),
                (1300, 700, again(start, 1302)),
                (1302, 1, again(start, 1391)),
            ],
            start,
        );
        // This process is frozen again during the grace period, which is not extended.
        run(
            &[
                (0, 0, again(start, 90)),
                (600, 600, again(start, 602)),
                (700, 700, SilenceVerdict::Silent),
            ],
            start,
        );
    }

    #[test]
    fn a_connection_that_was_not_read_starts_anew() {
        let start = Instant::now();
        let mut check = SilenceCheck::default();
        check.check(start, LIMIT, || Duration::ZERO);
        check.reset();
        let later = start + secs(500);
        let verdict = check.check(later, LIMIT, || Duration::ZERO);
        assert_eq!(verdict, SilenceVerdict::CheckAgain(Some(later + LIMIT)));
    }

    #[test]
    fn a_check_that_starts_over_does_not_wait_for_the_next_one_of_before() {
        let start = Instant::now();
        let mut check = SilenceCheck::default();
        check.check(start, LIMIT, || secs(80));
        check.reset();
        let verdict = check.check(start + secs(5), LIMIT, || secs(0));
        assert_eq!(verdict, again(start, 95));
    }
}
