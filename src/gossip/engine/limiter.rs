//! Limits how often each peer is answered, since an answer costs more than the message that asks for
//! it.
//!
//! It knows addresses and times only. Invariant: a bounded number of addresses is remembered, and a peer that
//! asks too often costs only its own answers; those without a proved identity take no place of others.

use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

/// The number of answers in a row.
const BURST: u32 = 16;
/// The time between two answers in the long run, if the gossip interval is not short. A member that
/// has much to catch up on asks a hundred times per second, all others about once per interval.
const SPACING: Duration = Duration::from_micros(7_800);
/// The number of answers in an interval that are always allowed.
const PER_INTERVAL: u32 = 16;
/// The number of addresses that have a limit of their own. Further ones share one.
const MOST_PEERS: usize = 8_192;
/// Largest number of tracked addresses without a proved identity, such as those that someone has forged.
const MOST_UNPROVED: usize = 4_096;
/// If there are too many, those that have asked for nothing lately are forgotten at most this often.
const FORGET_EVERY: Duration = Duration::from_millis(10);

/// Decides which messages are answered. This is the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug)]
pub(super) struct Limiter {
    spacing: Duration,
    burst: Duration,
    /// The time from which on each peer would have asked for nothing, plus the length of a burst.
    /// Peers for which it has passed are left out.
    due: LiteMap<SocketAddr, Duration>,
    due_of_others: Duration,
    /// When addresses were last forgotten.
    forgotten: Duration,
}

impl Limiter {
    /// Returns a limiter for a member with this gossip interval.
    pub(super) fn new(interval: Duration) -> Self {
        let spacing = SPACING.min(interval / PER_INTERVAL);
        Self {
            spacing,
            burst: spacing.saturating_mul(BURST - 1),
            ..Self::of_work()
        }
    }

    /// Returns a limiter of work that takes as long as it is counted.
    pub(super) fn of_work() -> Self {
        Self {
            spacing: Duration::ZERO,
            burst: Duration::ZERO,
            due: LiteMap::new(),
            due_of_others: Duration::ZERO,
            forgotten: Duration::ZERO,
        }
    }

    /// Returns true if a message of `from` may be answered now, and counts the answer.
    pub(super) fn admit(&mut self, from: SocketAddr, is_proved: bool, now: Duration) -> bool {
        let (spacing, burst) = (self.spacing, self.burst);
        self.admit_work(from, is_proved, spacing, burst, now)
    }

    /// Returns true if a message of `from` may be handled now, since its work so far ends within `burst`, and
    /// counts it as `work`.
    pub(super) fn admit_work(
        &mut self,
        from: SocketAddr,
        is_proved: bool,
        work: Duration,
        burst: Duration,
        now: Duration,
    ) -> bool {
        let due = self.due_of(from, is_proved, now);
        let next = now.max(*due);
        if next > now.saturating_add(burst) {
            return false;
        }
        *due = next.saturating_add(work);
        true
    }

    /// Counts more work of `from`.
    pub(super) fn add_work(
        &mut self,
        from: SocketAddr,
        is_proved: bool,
        work: Duration,
        now: Duration,
    ) {
        let due = self.due_of(from, is_proved, now);
        *due = now.max(*due).saturating_add(work);
    }

    fn due_of(&mut self, from: SocketAddr, is_proved: bool, now: Duration) -> &mut Duration {
        let most = if is_proved { MOST_PEERS } else { MOST_UNPROVED };
        let is_known = self.due.contains_key(&from);
        // A host has many ports, each of which asks once.
        let is_full = !is_known && self.due.len() >= most;
        if is_full && now >= self.forgotten.saturating_add(FORGET_EVERY) {
            self.forget_idle(now);
        }
        if is_known || self.due.len() < most {
            self.due.entry(from).or_default()
        } else {
            &mut self.due_of_others
        }
    }

    /// Returns the time from which on each peer would have asked for nothing.
    pub(super) fn dues(&self) -> impl Iterator<Item = Duration> + Clone {
        let dues = self.due.values().copied();
        dues.chain([self.due_of_others])
    }

    /// Replaces the time from which on each peer would have asked for nothing.
    pub(super) fn adjust(&mut self, new: impl Fn(Duration) -> Duration) {
        let dues = self.due.iter_mut().map(|(_, due)| due);
        dues.chain([&mut self.due_of_others])
            .for_each(|due| *due = new(*due));
    }

    /// Returns the time from which on `from` would have asked for nothing.
    pub(super) fn due(&self, from: SocketAddr) -> Duration {
        self.due.get(&from).copied().unwrap_or_default()
    }

    /// Forgets the peers that have asked for nothing lately.
    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.forgotten = now;
        self.due.retain(|_, due| *due > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addr(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn admitted(limiter: &mut Limiter, from: u16, times: usize, now: Duration) -> usize {
        let admitted = (0..times).filter(|_| limiter.admit(addr(from), true, now));
        admitted.count()
    }

    #[test]
    fn a_peer_that_asks_too_often_is_answered_at_a_steady_rate_and_limits_no_other() {
        let mut limiter = Limiter::new(SECOND);
        assert_eq!(admitted(&mut limiter, 1, 1_000, Duration::ZERO), 16);
        assert_eq!(admitted(&mut limiter, 2, 1_000, Duration::ZERO), 16);
        let mut in_a_second = 0;
        for millis in 1..=1_000 {
            let now = Duration::from_millis(millis);
            in_a_second += admitted(&mut limiter, 1, 10, now);
        }
        assert!((127..130).contains(&in_a_second), "{in_a_second}");
        assert_eq!(admitted(&mut limiter, 1, 1_000, SECOND * 9), 16);
    }

    #[test]
    fn someone_who_asks_once_from_each_of_many_addresses_keeps_no_other_from_being_answered() {
        let mut limiter = Limiter::new(SECOND);
        let (mut refused, mut others) = (0, (0..60_000).cycle());
        for millis in 0..3_000 {
            let now = Duration::from_millis(millis);
            for _ in 0..20 {
                let from = ([10, 0, 0, 1], others.next().unwrap()).into();
                limiter.admit(from, false, now);
            }
            if millis % 100 == 0 {
                let from = ([10, 0, 0, 2], 7_000 + millis as u16).into();
                refused += u32::from(!limiter.admit(from, false, now));
            }
        }
        assert_eq!(refused, 0);
    }

    #[test]
    fn members_with_a_short_interval_are_answered_as_often_as_they_have_rounds() {
        let interval = Duration::from_millis(1);
        let mut limiter = Limiter::new(interval);
        let admitted = (0..1_000).filter(|n| limiter.admit(addr(1), true, interval * *n));
        assert_eq!(admitted.count(), 1_000);
    }

    #[test]
    fn a_bounded_number_of_peers_is_remembered_and_the_idle_ones_are_forgotten() {
        let mut limiter = Limiter::new(SECOND);
        for n in 0..60_000 {
            limiter.admit(addr(n), false, SECOND);
        }
        assert_eq!(limiter.due.len(), MOST_UNPROVED);
        // A peer with an identity still has a limit of its own.
        assert!(!limiter.admit(addr(60_001), false, SECOND));
        assert_eq!(admitted(&mut limiter, 60_002, 1_000, SECOND), 16);
        for n in 0..60_000 {
            limiter.admit(addr(n), true, SECOND);
        }
        assert_eq!(limiter.due.len(), MOST_PEERS);
        limiter.forget_idle(SECOND);
        assert_eq!(limiter.due.len(), MOST_PEERS);
        limiter.forget_idle(SECOND * 2);
        assert!(limiter.due.is_empty());
        assert!(limiter.admit(addr(60_000), false, SECOND * 2));
    }
}
