//! How many bytes each host may take in a second of those that a port has for all.
//!
//! Hosts share them as [`Takers`] says. Invariant: [`Share::Half`] and [`Share::All`] are counted apart, so that
//! forged addresses take nothing from the same hosts where they have shown who they are.
//!
//! This file decides; it reads no clock.

use std::time::Duration;

use crate::host::{Host, Takers};
use crate::rt::Instant;

/// How much of a [`Budget`] may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// The other half is left to what is worth more.
    Half,
    All,
}

/// A limit of bytes in each second, which hosts share.
#[derive(Debug)]
pub(super) struct Budget {
    start: Instant,
    all: Part,
    half: Part,
}

/// Bytes that are filled up steadily, and what hosts have taken of them.
#[derive(Debug)]
struct Part {
    rate: f64,
    room: f64,
    filled: f64,
    at: Duration,
    takers: Takers,
}

impl Budget {
    /// Returns a full budget of `rate` bytes in each second, of which those of one second can be taken at once.
    /// Unless `rate` is zero, it has room for at least `longest` bytes.
    pub(super) fn new(rate: usize, longest: usize, now: Instant) -> Self {
        let room = if rate == 0 { 0 } else { rate.max(longest) };
        let (rate, room) = (rate as f64, room as f64);
        Self {
            start: now,
            all: Part::new(rate, room),
            half: Part::new(rate / 2.0, room / 2.0),
        }
    }

    /// Takes `bytes` for `host`, if there are as many and it has not taken more lately than what is left then.
    pub(super) fn take(&mut self, host: Host, bytes: usize, share: Share, now: Instant) -> bool {
        if bytes == 0 {
            return true;
        }
        let now = self.fill(now);
        let left = self.left(share) - bytes as f64;
        if left < 0.0 || self.part(share).takers.taken(host, now) > left {
            return false;
        }
        self.remove(host, bytes as f64, share, now);
        true
    }

    /// Takes `bytes` for `host`, or what there is.
    pub(super) fn take_up_to(&mut self, host: Host, bytes: usize, share: Share, now: Instant) {
        let now = self.fill(now);
        let bytes = self.left(share).min(bytes as f64);
        self.remove(host, bytes, share, now);
    }

    /// Returns the time since the beginning.
    fn fill(&mut self, now: Instant) -> Duration {
        let now = now.saturating_duration_since(self.start);
        self.all.fill(now);
        self.half.fill(now);
        now
    }

    fn left(&self, share: Share) -> f64 {
        match share {
            Share::Half => self.all.filled.min(self.half.filled),
            Share::All => self.all.filled,
        }
    }

    fn part(&mut self, share: Share) -> &mut Part {
        match share {
            Share::Half => &mut self.half,
            Share::All => &mut self.all,
        }
    }

    fn remove(&mut self, host: Host, bytes: f64, share: Share, now: Duration) {
        self.part(share).takers.add(host, bytes, now);
        self.all.filled -= bytes;
        if share == Share::Half {
            self.half.filled -= bytes;
        }
    }
}

impl Part {
    fn new(rate: f64, room: f64) -> Self {
        let lasts = Duration::try_from_secs_f64(room / rate).unwrap_or_default();
        Self {
            rate,
            room,
            filled: room,
            at: Duration::ZERO,
            takers: Takers::new(room, lasts),
        }
    }

    fn fill(&mut self, now: Duration) {
        let more = self.rate * now.saturating_sub(self.at).as_secs_f64();
        self.filled = (self.filled + more).min(self.room);
        self.at = now.max(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100_000;

    fn host(n: u16) -> Host {
        Host::of([10, 0, (n >> 8) as u8, n as u8].into())
    }

    /// Takes for a host that has taken nothing so far, each time another one.
    fn take_new(budget: &mut Budget, bytes: usize, share: Share, now: Instant) -> bool {
        let new = Host::of([10, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(..)].into());
        budget.take(new, bytes, share, now)
    }

    /// Returns the bytes that the first of `hosts` hosts gets in 10 s while all take what they can, 100 bytes at a
    /// time, and how much is left at the end.
    fn shared(hosts: u16, share: Share) -> (usize, f64) {
        let start = Instant::now();
        let mut budget = Budget::new(ROOM, 1000, start);
        let mut taken = 0;
        let mut now = start;
        for millis in 0..15_000 {
            now = start + Duration::from_millis(millis);
            for n in 0..hosts {
                while budget.take(host(n), 100, share, now) {
                    taken += usize::from(n == 0 && millis >= 5_000) * 100;
                }
            }
        }
        budget.fill(now);
        (taken, budget.left(share))
    }

    #[test]
    fn a_budget_gives_its_rate_and_at_most_one_second_of_it_at_once() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(ROOM, 65_507, start);
        assert!(take_new(&mut budget, 100_000, Share::All, start));
        assert!(!take_new(&mut budget, 1, Share::All, start));
        assert!(take_new(&mut budget, 50_000, Share::All, after(500)));
        assert!(!take_new(&mut budget, 1, Share::All, after(500)));
        assert!(!take_new(&mut budget, 100_001, Share::All, after(60_000)));
        assert!(take_new(&mut budget, 100_000, Share::All, after(60_000)));
        // Room for one datagram, and none for a rate of zero.
        let mut budget = Budget::new(1, 65_507, start);
        assert!(take_new(&mut budget, 65_507, Share::All, start));
        let mut budget = Budget::new(0, 65_507, start);
        assert!(!take_new(&mut budget, 1, Share::All, after(60_000)));
        assert!(take_new(&mut budget, 0, Share::All, after(60_000)));
    }

    #[test]
    fn one_half_is_left_to_what_is_worth_more() {
        let start = Instant::now();
        let mut budget = Budget::new(ROOM, 65_507, start);
        assert!(take_new(&mut budget, 50_000, Share::Half, start));
        assert!(!take_new(&mut budget, 1, Share::Half, start));
        assert!(take_new(&mut budget, 50_000, Share::All, start));
        // What is worth more takes all of the other half only.
        let later = start + Duration::from_secs(10);
        assert!(take_new(&mut budget, 40_000, Share::All, later));
        assert!(take_new(&mut budget, 50_000, Share::Half, later));
    }

    #[test]
    fn a_budget_that_is_asked_often_fills_as_fast() {
        let start = Instant::now();
        let mut budget = Budget::new(1000, 65_507, start);
        assert!(take_new(&mut budget, 65_507, Share::All, start));
        let mut taken = 0;
        for us in 0..1_000_000_u64 {
            let now = start + Duration::from_micros(us);
            if us % 100 == 0 && take_new(&mut budget, 1, Share::All, now) {
                taken += 1;
            }
        }
        assert!((990..=1000).contains(&taken), "{taken}");
    }

    #[test]
    fn hosts_that_take_all_they_can_get_equal_parts_and_leave_one_to_the_next() {
        for (share, rate) in [(Share::All, ROOM), (Share::Half, ROOM / 2)] {
            for hosts in [1, 3, 10] {
                let (taken, left) = shared(hosts, share);
                let fair = rate * 10 / usize::from(hosts);
                assert!(taken.abs_diff(fair) <= fair / 10, "{hosts}: {taken}");
                let next = rate as f64 / f64::from(hosts + 1);
                assert!(left >= next, "{hosts}: {left}");
            }
        }
    }

    #[test]
    fn forged_hosts_take_nothing_from_a_host_that_has_shown_who_it_is() {
        // Many of them, or only the honest one.
        let forged: [fn(u16) -> u16; 2] = [|n| n, |_| 1];
        for forged in forged {
            let start = Instant::now();
            let mut budget = Budget::new(ROOM, 1000, start);
            for n in 0..60_000_u16 {
                let now = start + Duration::from_micros(u64::from(n) * 100);
                while budget.take(host(forged(n)), 1000, Share::Half, now) {}
                // Another one takes all that it can, too.
                while budget.take(host(2), 1000, Share::All, now) {}
                if n % 1000 == 0 {
                    assert!(budget.take(host(1), 1000, Share::All, now), "{n}");
                }
            }
        }
    }
}
