//! A group of peers that share a clock, as in fair queueing: the more of them have work left, the slower it is.
//!
//! Pure functions of times that are passed in. Invariant: no more work is done than there may be, and each peer that has
//! work left gets an equal share of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::gossip::engine::limiter::Limiter;

/// The time for which a peer may have caused work at once: a digest of the most members, several times.
pub(super) const BURST: Duration = Duration::from_millis(250);
/// Shortest burst, used while very many peers have work left: longer ones would exhaust the machine for a while.
const SMALLEST_BURST: Duration = Duration::from_millis(20);
/// In this many times the time, a burst becomes longer.
const REGAINED: u32 = 32;
/// The steps in which the advance of a clock is found, each of which halves the error.
const STEPS: usize = 16;

/// Peers that share a clock.
#[derive(Debug)]
pub(super) struct Group {
    peers: Limiter,
    clock: Clock,
}

/// A clock that is slower than the time by the factor by which peers have to share.
#[derive(Debug)]
struct Clock {
    time: Duration,
    /// Real time at which `time` was computed.
    at: Duration,
    /// The peers that had work left then, those without a proved identity counting as one.
    busy: u32,
    /// The time for which a peer may have caused work at once.
    burst: Duration,
    /// The number of peers that may cause as much work as if they were alone.
    shares: u32,
}

/// How much shorter the burst of each peer has become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shortening {
    lost: Duration,
    /// The time of the clock with a burst of the new length.
    end: Duration,
}

impl Shortening {
    /// Returns when the work of a peer ends now. One that has had a longer burst would wait for very long now that the
    /// clock is slow.
    pub(super) fn forgiven(self, end: Duration) -> Duration {
        end.saturating_sub(self.lost).max(end.min(self.end))
    }
}

impl Group {
    /// Returns a group of peers that may together cause at most so many times the work of one.
    pub(super) fn new(shares: u32) -> Self {
        Self {
            peers: Limiter::of_work(),
            clock: Clock {
                time: Duration::ZERO,
                at: Duration::ZERO,
                busy: 0,
                burst: BURST,
                shares,
            },
        }
    }

    /// Returns true if a message of `from` may be handled now, and counts its work.
    pub(super) fn admit(&mut self, from: SocketAddr, work: Duration) -> bool {
        let (time, burst) = (self.clock.time, self.clock.burst);
        self.peers.admit_work(from, true, work, burst, time)
    }

    /// Counts more work of `from`.
    pub(super) fn add(&mut self, from: SocketAddr, work: Duration) {
        self.peers.add_work(from, true, work, self.clock.time);
    }

    /// Returns the time of the clock.
    pub(super) fn time(&self) -> Duration {
        self.clock.time
    }

    /// Returns the real time at which that was computed.
    pub(super) fn at(&self) -> Duration {
        self.clock.at
    }

    /// Returns the time for which a peer may have caused work at once.
    pub(super) fn burst(&self) -> Duration {
        self.clock.burst
    }

    /// Returns when the work of `from` ends, as a time of the clock.
    pub(super) fn due(&self, from: SocketAddr) -> Duration {
        self.peers.due(from)
    }

    /// Returns when the clock will have this time if peers cause as much work as they do now, or zero if it has passed.
    pub(super) fn when(&self, time: Duration) -> Duration {
        self.clock.when(time)
    }

    /// Forgets the peers that have caused no work lately.
    pub(super) fn forget_idle(&mut self) {
        self.peers.forget_idle(self.clock.time);
    }

    /// Advances the clock to `now`. The work of the peers that have no entry of their own ends at
    /// `of_others`. Returns the work that is done, and whether bursts are shorter now.
    pub(super) fn advance(
        &mut self,
        now: Duration,
        of_others: Duration,
    ) -> (Duration, Option<Shortening>) {
        let before = self.clock.burst;
        let done = {
            let ends = self.peers.dues().chain([of_others]);
            self.clock.advance(now, || ends.clone())
        };
        let after = self.clock.burst;
        let lost = before.saturating_sub(after);
        let shortening = (!lost.is_zero()).then(|| Shortening {
            lost,
            end: self.clock.time.saturating_add(after),
        });
        if let Some(shortening) = shortening {
            self.peers.adjust(|end| shortening.forgiven(end));
        }
        (done, shortening)
    }
}

impl Clock {
    /// Advances to `now`. `ends` are the times at which the work of each peer ends. Returns the work that is
    /// done.
    fn advance<I: Iterator<Item = Duration>>(
        &mut self,
        now: Duration,
        ends: impl Fn() -> I,
    ) -> Duration {
        let passed = now.saturating_sub(self.at);
        let time = self.time;
        let rests = || ends().map(|end| end.saturating_sub(time));
        let done_by = |advance: Duration| {
            let done = rests().map(|rest| rest.min(advance));
            done.fold(Duration::ZERO, Duration::saturating_add)
        };
        let most = passed.saturating_mul(self.shares);
        // The most by which it may advance, so that no more work ends than there may be.
        let mut advance = passed;
        if done_by(passed) > most {
            advance = Duration::ZERO;
            let mut step = passed;
            for _ in 0..STEPS {
                step /= 2;
                if done_by(advance.saturating_add(step)) <= most {
                    advance = advance.saturating_add(step);
                }
            }
        }
        let busy = rests().filter(|rest| *rest > advance).count();
        self.busy = u32::try_from(busy).unwrap_or(u32::MAX);
        self.adapt_burst(passed);
        let done = done_by(advance);
        self.time = time.saturating_add(advance);
        self.at = now;
        done
    }

    /// Returns when the clock will have this time, or zero if it has passed.
    fn when(&self, time: Duration) -> Duration {
        let rest = time.saturating_sub(self.time);
        if rest.is_zero() {
            return Duration::ZERO;
        }
        let rest = rest.saturating_mul(self.busy.max(self.shares)) / self.shares;
        self.at.saturating_add(rest)
    }

    /// Adapts the burst to the number of peers that have work left. It becomes longer slowly, since those that have used a
    /// longer one are forgiven some of it each time that it becomes shorter.
    fn adapt_burst(&mut self, passed: Duration) {
        let share = BURST.saturating_mul(self.shares) / self.busy.max(self.shares);
        let longest = self.burst.saturating_add(passed / REGAINED);
        self.burst = share.max(SMALLEST_BURST).min(longest);
    }
}
