//! The time within which the failure detector finds a stopped member dead.
//!
//! The formula is restated here rather than taken from the library, since the demo's check judges
//! the library by it.

use std::time::Duration;

use crate::demo::cluster::GOSSIP_INTERVAL;

/// Returns the longest time until a stopped member is found dead, by the formula of the phi-accrual
/// detector. `age` is how long the member has been seen, `members` the size of the cluster.
///
/// A member is dead once its silence exceeds `threshold` times the mean interval between its
/// heartbeats. The mean starts from a prior of 5 intervals of 5 rounds each (upstream's constants,
/// which nodes scale with the gossip interval): with `n` intervals seen in the time `age`, it is
/// `(5 * prior + age) / (5 + n)`. A heartbeat arrives about once a round; half of that is assumed
/// here, for a busy machine. Added are the rounds in which the last heartbeat still travels, a
/// logarithm of the members, and two rounds for reading and displaying.
pub(crate) fn limit(age: Duration, members: usize) -> Duration {
    const THRESHOLD: f64 = 8.0;
    const PRIOR_WEIGHT: f64 = 5.0;
    const PRIOR_ROUNDS: f64 = 5.0;
    let round = GOSSIP_INTERVAL.as_secs_f64();
    let prior = PRIOR_ROUNDS * round;
    let age = age.as_secs_f64();
    let intervals = age / (2.0 * round);
    let mean = PRIOR_WEIGHT.mul_add(prior, age) / (PRIOR_WEIGHT + intervals);
    let travel = GOSSIP_INTERVAL * (2 + members.max(1).ilog2());
    Duration::from_secs_f64(THRESHOLD * mean) + travel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_was_seen_for_longer_is_found_dead_sooner() {
        let young = limit(Duration::ZERO, 5);
        let old = limit(Duration::from_secs(3600), 5);
        // Young: a mean interval of 5 rounds, times 8, and 4 rounds of travel. Old: a mean of 2
        // rounds.
        assert_eq!(young, GOSSIP_INTERVAL * 44);
        assert!(old > GOSSIP_INTERVAL * 20 && old < GOSSIP_INTERVAL * 21);
    }
}
