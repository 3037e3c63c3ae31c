//! Whom to gossip with in a round.
//!
//! Upstream chitchat's choice, after Cassandra's: up to three live members; with a probability
//! that grows with their share, one that is dead, so that a healed partition is noticed; and with
//! a like probability one seed, so that islands around seeds find each other. It knows addresses
//! only. Invariant: the choice is a function of its arguments and the generator's state.

use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Live members a round.
pub(super) const GOSSIP_COUNT: usize = 3;

/// The addresses that there are, without our own.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Every member known.
    pub(super) known: BTreeSet<SocketAddr>,
    pub(super) live: BTreeSet<SocketAddr>,
    pub(super) dead: BTreeSet<SocketAddr>,
    pub(super) seeds: BTreeSet<SocketAddr>,
}

/// The addresses of a round, each once.
pub(super) fn choose(candidates: &Candidates, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
    let Candidates {
        known,
        live,
        dead,
        seeds,
    } = candidates;
    // At the start nobody is known to be live yet.
    let pool = if live.is_empty() { known } else { live };
    let mut chosen = rng.choose_multiple(pool.iter().copied(), GOSSIP_COUNT);

    if share(dead.len(), live.len() + 1) > rng.f64() {
        push_one_of(&mut chosen, dead, rng);
    }
    let has_seed = chosen.iter().any(|addr| seeds.contains(addr));
    let wants_seed = !has_seed || live.len() < seeds.len();
    if wants_seed && (live.is_empty() || rng.f64() <= share(seeds.len(), live.len() + dead.len())) {
        push_one_of(&mut chosen, seeds, rng);
    }
    chosen
}

fn push_one_of(chosen: &mut Vec<SocketAddr>, from: &BTreeSet<SocketAddr>, rng: &mut fastrand::Rng) {
    if let Some(addr) = rng.choice(from.iter().copied())
        && !chosen.contains(&addr)
    {
        chosen.push(addr);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a probability, of small numbers"
)]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(ports: impl IntoIterator<Item = u16>) -> BTreeSet<SocketAddr> {
        ports
            .into_iter()
            .map(|port| ([127, 0, 0, 1], port).into())
            .collect()
    }

    fn rounds(candidates: &Candidates) -> Vec<Vec<SocketAddr>> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..2000).map(|_| choose(candidates, &mut rng)).collect()
    }

    fn share_with(rounds: &[Vec<SocketAddr>], addrs: &BTreeSet<SocketAddr>) -> f64 {
        let hits = rounds
            .iter()
            .filter(|r| r.iter().any(|a| addrs.contains(a)));
        hits.count() as f64 / rounds.len() as f64
    }

    #[test]
    fn three_live_members_a_round_and_nobody_twice() {
        let candidates = Candidates {
            known: addrs(0..20),
            live: addrs(0..20),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            let distinct: BTreeSet<_> = round.iter().collect();
            assert_eq!((round.len(), distinct.len()), (3, 3));
        }
    }

    #[test]
    fn at_the_start_a_seed_is_asked_in_every_round() {
        let candidates = Candidates {
            seeds: addrs([1, 2]),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            assert_eq!(round.len(), 1);
        }
    }

    #[test]
    fn the_dead_are_asked_by_their_share() {
        let candidates = Candidates {
            known: addrs(0..12),
            live: addrs(0..9),
            dead: addrs(9..12),
            ..Candidates::default()
        };
        let share = share_with(&rounds(&candidates), &candidates.dead);
        assert!((share - 3.0 / 10.0).abs() < 0.05, "{share}");
    }

    #[test]
    fn a_seed_is_asked_by_its_share_where_no_live_one_was_chosen() {
        let candidates = Candidates {
            known: addrs(0..10),
            live: addrs(0..10),
            seeds: addrs([100]),
            ..Candidates::default()
        };
        let share = share_with(&rounds(&candidates), &candidates.seeds);
        assert!((share - 1.0 / 10.0).abs() < 0.03, "{share}");
    }
}
