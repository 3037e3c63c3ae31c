//! When the rounds of this member are due.
//!
//! Knows times only, and starts no round. Invariant: while no seeds arrive, two rounds are an
//! interval apart.

use std::time::Duration;

/// A pause between two rounds of more than this many intervals means that this process was
/// suspended (a frozen tab, a sleeping laptop), and not that the other members were silent.
const PAUSE_INTERVALS: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    last: Option<Duration>,
    /// Whether the last round found no address to gossip with.
    was_alone: bool,
    /// Whether the next round does not wait for the interval.
    is_owed: bool,
}

impl Schedule {
    /// Returns the time of the next round; zero if it is due at once.
    pub(super) fn due(&self, interval: Duration) -> Duration {
        match self.last {
            Some(last) if !self.is_owed => last + interval,
            _ => Duration::ZERO,
        }
    }

    /// Notes the start of a round. Returns how long this process was suspended before it, if it was.
    pub(super) fn begin(&mut self, now: Duration, interval: Duration) -> Option<Duration> {
        self.is_owed = false;
        let gap = now.saturating_sub(self.last.replace(now)?);
        let is_pause = gap > interval.saturating_mul(PAUSE_INTERVALS);
        is_pause.then(|| gap.saturating_sub(interval))
    }

    /// Notes how many addresses the round has found to gossip with.
    pub(super) fn end(&mut self, chosen: usize) {
        self.was_alone = chosen == 0;
    }

    /// Notes that seeds are known. After a round that found no address, the next one is due at once:
    /// the names of the seeds are resolved while the first round is due, so that a member would
    /// otherwise join only an interval later.
    pub(super) fn note_seeds(&mut self) {
        self.is_owed |= std::mem::take(&mut self.was_alone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn rounds_are_an_interval_apart_from_the_first_on() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(SECOND), Duration::ZERO);
        for at in 3..9 {
            assert_eq!(schedule.begin(SECOND * at, SECOND), None);
            schedule.end(1);
            schedule.note_seeds();
            assert_eq!(schedule.due(SECOND), SECOND * (at + 1));
        }
    }

    #[test]
    fn the_first_seeds_after_a_round_without_addresses_are_asked_at_once() {
        let mut schedule = Schedule::default();
        schedule.begin(SECOND, SECOND);
        schedule.end(0);
        assert_eq!(schedule.due(SECOND), SECOND * 2);
        schedule.note_seeds();
        assert_eq!(schedule.due(SECOND), Duration::ZERO);
        // Once, even if the round finds no address again.
        schedule.begin(SECOND, SECOND);
        assert_eq!(schedule.due(SECOND), SECOND * 2);
    }

    #[test]
    fn a_gap_of_more_than_four_intervals_was_a_pause_of_this_process() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.begin(SECOND * 100, SECOND), None);
        assert_eq!(schedule.begin(SECOND * 104, SECOND), None);
        assert_eq!(schedule.begin(SECOND * 109, SECOND), Some(SECOND * 4));
    }
}
