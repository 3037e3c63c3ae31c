//! What each host, or holder of something else, has taken lately of what there is for all, so that one which takes all it
//! can leaves room to others.
//!
//! A host may take more if it has taken no more lately than what is left, as in the sharing of buffers with
//! dynamic thresholds (Choudhury and Hahne, 1998). So one that takes all it can gets all that is filled up, and
//! leaves half of the room free at first and more later; `n` of them get an equal part each, and leave as much as
//! one gets. Invariant: a bounded number of hosts is remembered.
//!
//! This file only adds up what was taken: the limit for all belongs to its user. It reads no clock.

use std::time::Duration;

use litemap::LiteMap;

use super::Host;

/// The number of hosts that are counted by themselves. Further ones count as one: a part of the room for each of so
/// many is hardly worth a message.
const MOST_HOSTS: usize = 1024;
/// The steps in which what was taken loses its weight in the time in which the room is filled.
const STEPS: u32 = 8;
/// The weight that is left after a step. After all of them it is a third.
const KEPT: f64 = 0.88;

/// What hosts have taken, or others that are told apart by a `K`.
#[derive(Debug)]
pub(crate) struct Takers<K = Host> {
    room: f64,
    step: Duration,
    hosts: LiteMap<K, Taken>,
    /// All hosts for which there is no place.
    others: Taken,
    /// When hosts were last forgotten.
    forgotten: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    amount: f64,
    at: Duration,
}

impl<K: Ord> Takers<K> {
    /// Returns a value for what has this much room, which is filled within `lasts`.
    pub(crate) fn new(room: f64, lasts: Duration) -> Self {
        Self {
            room,
            step: (lasts / STEPS).max(Duration::from_micros(1)),
            hosts: LiteMap::new(),
            others: Taken::default(),
            forgotten: Duration::ZERO,
        }
    }

    /// Returns what a host has taken. What was taken long ago counts less.
    pub(crate) fn taken(&self, host: K, now: Duration) -> f64 {
        let taken = match self.hosts.get(&host) {
            Some(own) => *own,
            None if self.hosts.len() < MOST_HOSTS => Taken::default(),
            None => self.others,
        };
        taken.until(now, self.step).amount
    }

    /// Adds what a host takes.
    pub(crate) fn add(&mut self, host: K, amount: f64, now: Duration) {
        let is_known = self.hosts.contains_key(&host);
        if !is_known && self.hosts.len() >= MOST_HOSTS {
            self.forget(now);
        }
        let taken = if is_known || self.hosts.len() < MOST_HOSTS {
            let new = Taken {
                amount: 0.0,
                at: now,
            };
            self.hosts.entry(host).or_insert(new)
        } else {
            &mut self.others
        };
        *taken = taken.until(now, self.step);
        taken.amount += amount;
    }

    /// Forgets the hosts that have taken less lately than as many could have each, not too often.
    fn forget(&mut self, now: Duration) {
        if now < self.forgotten.saturating_add(self.step) {
            return;
        }
        self.forgotten = now;
        let (least, step) = (self.room / MOST_HOSTS as f64, self.step);
        self.hosts
            .retain(|_, taken| taken.until(now, step).amount > least);
    }
}

impl Taken {
    /// Returns what is left of it.
    fn until(self, now: Duration, step: Duration) -> Self {
        let passed = now.saturating_sub(self.at).as_nanos() / step.as_nanos().max(1);
        let steps = u32::try_from(passed).unwrap_or(u32::MAX);
        // Nothing that matters is left after so many.
        let kept = KEPT.powi(steps.min(1_000).cast_signed());
        Self {
            amount: self.amount * kept,
            at: self.at.saturating_add(step.saturating_mul(steps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn host(n: u16) -> Host {
        Host::of([10, 0, (n >> 8) as u8, n as u8].into())
    }

    #[test]
    fn what_was_taken_counts_less_and_less_however_often_it_is_looked_at() {
        let mut rare = Takers::new(100.0, SECOND);
        let mut often = Takers::new(100.0, SECOND);
        for takers in [&mut rare, &mut often] {
            takers.add(host(1), 90.0, Duration::ZERO);
        }
        for millis in 0..1_000 {
            often.add(host(1), 0.0, Duration::from_millis(millis));
        }
        for takers in [&rare, &often] {
            let left = takers.taken(host(1), SECOND);
            assert!((30.0..35.0).contains(&left), "{left}");
            assert!(takers.taken(host(1), SECOND * 1_000) < 0.001);
            assert!(takers.taken(host(2), SECOND) < 0.001);
        }
    }

    #[test]
    fn hosts_without_a_place_count_as_one_until_others_have_taken_little_for_a_while() {
        let mut takers = Takers::new(100.0, SECOND);
        let most = u16::try_from(MOST_HOSTS).unwrap();
        for n in 0..most + 10 {
            takers.add(host(n), 1.0, SECOND / 100);
        }
        assert_eq!(takers.hosts.len(), MOST_HOSTS);
        assert!(takers.taken(host(most + 99), SECOND / 100) > 9.0);
        takers.add(host(most), 1.0, SECOND * 9);
        assert_eq!(takers.hosts.len(), 1);
        assert!(takers.taken(host(most + 99), SECOND * 9) < 0.001);
    }
}
