//! Whom to gossip with in a round.
//!
//! Upstream chitchat's choice, after Cassandra's: up to three live members; with a probability
//! that grows with their share, one that is dead, so that a healed partition is noticed; and with
//! a like probability one seed, so that islands around seeds find each other. Beyond upstream's:
//! those who do not answer us are asked as the dead are, and one of those who do is among the
//! chosen then. Where everyone answers, the choice is upstream's. It knows addresses only. Invariant:
//! the choice is a function of its arguments and the generator's state.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::contacts::Contacts;
use super::order;

/// Live members a round.
pub(super) const GOSSIP_COUNT: usize = 3;

/// The addresses that there are, without our own.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Every member known.
    pub(super) known: BTreeSet<SocketAddr>,
    /// Those that live, and have not kept us waiting for an answer.
    pub(super) live: BTreeSet<SocketAddr>,
    /// Those of `live` that have answered us; empty while nobody is silent.
    pub(super) answering: BTreeSet<SocketAddr>,
    /// Those that live by others' word, and do not answer us.
    pub(super) silent: BTreeSet<SocketAddr>,
    pub(super) dead: BTreeSet<SocketAddr>,
    pub(super) seeds: BTreeSet<SocketAddr>,
}

impl Candidates {
    /// Of the members that live, by whether they answer.
    pub(super) fn of_live(
        mut live: BTreeSet<SocketAddr>,
        contacts: &Contacts,
        now: Duration,
    ) -> Self {
        let silent = live.iter().filter(|addr| contacts.is_silent(**addr, now));
        let silent = order::set(silent.copied());
        live.retain(|addr| !silent.contains(addr));
        let mut candidates = Self {
            live,
            silent,
            ..Self::default()
        };
        // Asked only where some do not answer.
        if !candidates.silent.is_empty() {
            let live = candidates.live.iter().copied();
            candidates.answering = order::set(live.filter(|addr| contacts.answers(*addr, now)));
        }
        candidates
    }

    /// The live members that can be reached, as far as we know: where nobody answers, all of them.
    pub(super) fn reachable(&self) -> &BTreeSet<SocketAddr> {
        if self.live.is_empty() {
            &self.silent
        } else {
            &self.live
        }
    }

    /// How many there are, some of them twice.
    pub(super) fn len(&self) -> usize {
        let Self {
            known,
            live,
            silent,
            dead,
            seeds,
            ..
        } = self;
        known.len() + live.len() + silent.len() + dead.len() + seeds.len()
    }

    pub(super) fn contains(&self, addr: &SocketAddr) -> bool {
        let all = [
            &self.known,
            &self.live,
            &self.silent,
            &self.dead,
            &self.seeds,
        ];
        all.iter().any(|addrs| addrs.contains(addr))
    }
}

/// The addresses of a round, each once.
pub(super) fn choose(candidates: &Candidates, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
    let Candidates {
        live,
        silent,
        dead,
        seeds,
        ..
    } = candidates;
    let mut chosen = choose_live(candidates, rng);
    let all_live = live.len() + silent.len();
    // Where nobody answers, they are the chosen already.
    let some_answer = !live.is_empty() && !silent.is_empty();
    if some_answer && share(silent.len(), all_live) > rng.f64() {
        push_one_of(&mut chosen, silent, rng);
    }
    if share(dead.len(), all_live + 1) > rng.f64() {
        push_one_of(&mut chosen, dead, rng);
    }
    let has_seed = chosen.iter().any(|addr| seeds.contains(addr));
    let wants_seed = !has_seed || all_live < seeds.len();
    if wants_seed && (all_live == 0 || rng.f64() <= share(seeds.len(), all_live + dead.len())) {
        push_one_of(&mut chosen, seeds, rng);
    }
    chosen
}

/// Live members, one that answers among them; at the start, when nobody is known to be live yet,
/// any.
pub(super) fn choose_live(candidates: &Candidates, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
    let reachable = candidates.reachable();
    let pool = if reachable.is_empty() {
        &candidates.known
    } else {
        reachable
    };
    let mut chosen = rng.choose_multiple(pool.iter().copied(), GOSSIP_COUNT);
    include_an_answering_one(&mut chosen, candidates, rng);
    chosen
}

/// Replaces one of the `chosen` where none of them is known to answer, and somebody is.
pub(super) fn include_an_answering_one(
    chosen: &mut [SocketAddr],
    candidates: &Candidates,
    rng: &mut fastrand::Rng,
) {
    let answering = &candidates.answering;
    if chosen.iter().any(|addr| answering.contains(addr)) {
        return;
    }
    if let Some(last) = chosen.last_mut()
        && let Some(addr) = rng.choice(answering.iter().copied())
    {
        *last = addr;
    }
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
    fn those_who_do_not_answer_are_asked_once_a_round_and_who_does_in_each() {
        let candidates = Candidates {
            live: addrs([0]),
            answering: addrs([0]),
            silent: addrs(1..40),
            ..Candidates::default()
        };
        let rounds = rounds(&candidates);
        assert!(rounds.iter().all(|round| round[0].port() == 0));
        assert!(rounds.iter().all(|round| round.len() <= 2));
        let share = share_with(&rounds, &candidates.silent);
        assert!((share - 39.0 / 40.0).abs() < 0.03, "{share}");
    }

    #[test]
    fn where_some_do_not_answer_one_who_does_is_in_every_round() {
        let candidates = Candidates {
            live: addrs(0..40),
            answering: addrs([7]),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            let distinct: BTreeSet<_> = round.iter().collect();
            assert_eq!((round.len(), distinct.len()), (3, 3));
            assert!(round.iter().any(|addr| addr.port() == 7));
        }
    }

    #[test]
    fn where_everyone_answers_or_may_yet_the_choice_is_upstreams() {
        let mut contacts = Contacts::new(Duration::from_secs(2));
        let at = Duration::from_secs;
        for addr in addrs(0..10) {
            contacts.note_asked(addr, at(0));
            contacts.note_heard(addr);
        }
        let candidates = Candidates::of_live(addrs(0..20), &contacts, at(9));
        assert_eq!((candidates.live.len(), candidates.answering.len()), (20, 0));
        let one: SocketAddr = ([127, 0, 0, 1], 3).into();
        contacts.note_asked(one, at(10));
        let candidates = Candidates::of_live(addrs(0..20), &contacts, at(12));
        assert_eq!(candidates.silent, BTreeSet::from([one]));
        assert_eq!((candidates.live.len(), candidates.answering.len()), (19, 9));
    }

    #[test]
    fn where_nobody_answers_all_are_asked_as_before() {
        let candidates = Candidates {
            silent: addrs(0..20),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            assert_eq!(round.len(), 3);
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
