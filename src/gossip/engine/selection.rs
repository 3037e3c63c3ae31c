//! Selects the members to gossip with in a round.
//!
//! The selection is that of the published `chitchat` crate, which follows Cassandra: up to three
//! live members; with a probability that grows with their share one dead member, so that the end of
//! a partition is noticed; and with a similar probability one seed, so that separate groups around
//! seeds find each other. In addition, live members that do not answer us are selected as rarely as
//! dead ones; members without a route are not selected; and at least one member is selected that is
//! connected, or that answers if not all do; while connections are lost, all live members that are selected
//! are connected, if there are enough. If all members answer and connections are not known, the
//! selection is that of the published crate.
//!
//! This file knows addresses only. Invariant: the selection is a function of its arguments and the
//! state of the random generator.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::contacts::Contacts;
use super::order;

/// The number of live members that are selected in a round.
const GOSSIP_COUNT: usize = 3;
/// A seed that does not answer under its own address is selected this many times less often, if the
/// round includes a connected member. It is unreachable; or it was dialled by a URL or through a
/// proxy, is registered under the address that it advertises, and is connected already.
const QUIET_SEED: f64 = 8.0;

/// The addresses to select from, without our own and without those that have no route.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Every known member. Empty if a member is live, since it is not used then.
    pub(super) known: BTreeSet<SocketAddr>,
    /// Live members whose answer to us is not overdue.
    pub(super) live: BTreeSet<SocketAddr>,
    /// The members in `live` of which at least one is selected: those that are connected, or else
    /// those that have answered us if some do not. May be empty.
    pub(super) preferred: BTreeSet<SocketAddr>,
    /// Members that are live according to others, and do not answer us.
    pub(super) silent: BTreeSet<SocketAddr>,
    /// Dead members.
    pub(super) dead: BTreeSet<SocketAddr>,
    /// The seeds, whether they are known as members or not.
    pub(super) seeds: BTreeSet<SocketAddr>,
    /// Seeds that do not answer under this address, while a live member is connected. Not in `seeds`.
    pub(super) quiet_seeds: BTreeSet<SocketAddr>,
    /// Number of live members without a route.
    pub(super) unreachable: usize,
    /// True if only the members in `preferred` are selected among the live ones, all of which are connected.
    pub(super) stays: bool,
}

impl Candidates {
    /// Returns candidates that consist of the `live` members and the seeds, divided by whether they
    /// answer and are `connected`.
    pub(super) fn new(
        mut live: BTreeSet<SocketAddr>,
        mut seeds: BTreeSet<SocketAddr>,
        contacts: &Contacts,
        connected: &BTreeSet<SocketAddr>,
        now: Duration,
    ) -> Self {
        // Hardly any is, as a rule.
        let silent = contacts.silent(now).filter(|addr| live.contains(addr));
        let silent = order::set(silent.copied());
        for addr in &silent {
            live.remove(addr);
        }
        let mut preferred = order::set(live.intersection(connected).copied());
        let mut quiet_seeds = BTreeSet::new();
        if !preferred.is_empty() {
            let quiet = |addr: &&SocketAddr| contacts.is_silent(**addr, now);
            quiet_seeds = order::set(seeds.iter().filter(quiet).copied());
            seeds.retain(|addr| !quiet_seeds.contains(addr));
        } else if !silent.is_empty() {
            let answering = |addr: &&SocketAddr| contacts.answers(**addr, now);
            preferred = order::set(live.iter().filter(answering).copied());
        }
        Self {
            live,
            preferred,
            silent,
            seeds,
            quiet_seeds,
            ..Self::default()
        }
    }

    /// Returns the live members that can be reached as far as we know. If none answers, these are
    /// all live members.
    pub(super) fn reachable(&self) -> &BTreeSet<SocketAddr> {
        if self.live.is_empty() {
            &self.silent
        } else {
            &self.live
        }
    }

    /// Returns true if all of these are `connected`.
    pub(super) fn are_connected(&self, connected: &BTreeSet<SocketAddr>) -> bool {
        let are_all = self.preferred.len() == self.reachable().len();
        are_all && self.prefers_connected(connected)
    }

    /// Returns true if those that are preferred are so because they are `connected`, as all or none of them are.
    fn prefers_connected(&self, connected: &BTreeSet<SocketAddr>) -> bool {
        let first = self.preferred.first();
        first.is_some_and(|addr| connected.contains(addr))
    }

    /// Returns the live members to send to.
    pub(super) fn audience(&self) -> &BTreeSet<SocketAddr> {
        if self.stays {
            &self.preferred
        } else {
            self.reachable()
        }
    }

    /// Returns these candidates, of which only connected ones are selected among the live members if
    /// `are_scarce` and they suffice for a round.
    pub(super) fn spare(mut self, are_scarce: bool, connected: &BTreeSet<SocketAddr>) -> Self {
        let suffice = self.preferred.len() >= GOSSIP_COUNT;
        self.stays = are_scarce && suffice && self.prefers_connected(connected);
        self
    }

    /// Returns the number of candidates. A member that is both live and a seed counts twice.
    pub(super) fn len(&self) -> usize {
        let Self {
            known,
            live,
            silent,
            dead,
            seeds,
            quiet_seeds,
            ..
        } = self;
        let seeds = seeds.len() + quiet_seeds.len();
        known.len() + live.len() + silent.len() + dead.len() + seeds
    }

    pub(super) fn contains(&self, addr: &SocketAddr) -> bool {
        let all = [
            &self.known,
            &self.live,
            &self.silent,
            &self.dead,
            &self.seeds,
            &self.quiet_seeds,
        ];
        all.iter().any(|addrs| addrs.contains(addr))
    }
}

/// Returns the addresses to gossip with in a round, each of them once.
pub(super) fn choose(candidates: &Candidates, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
    let Candidates {
        live,
        silent,
        dead,
        seeds,
        quiet_seeds,
        unreachable,
        ..
    } = candidates;
    let mut chosen = choose_live(candidates, rng);
    let routed = live.len() + silent.len();
    let all_live = routed + unreachable;
    // If none answers, silent members were selected already.
    let some_answer = !live.is_empty() && !silent.is_empty() && !candidates.stays;
    if some_answer && share(silent.len(), routed) > rng.f64() {
        push_one_of(&mut chosen, silent, rng);
    }
    if share(dead.len(), all_live + 1) > rng.f64() {
        push_one_of(&mut chosen, dead, rng);
    }
    let has_seed = chosen.iter().any(|addr| seeds.contains(addr));
    let wants_seed = !has_seed || all_live < seeds.len();
    if wants_seed && (routed == 0 || rng.f64() <= share(seeds.len(), all_live + dead.len())) {
        push_one_of(&mut chosen, seeds, rng);
    }
    let quiet = share(quiet_seeds.len(), all_live + dead.len()).min(1.0) / QUIET_SEED;
    if quiet > 0.0 && rng.f64() <= quiet {
        push_one_of(&mut chosen, quiet_seeds, rng);
    }
    chosen
}

/// Selects live members, a preferred one among them. At the start, when no member is known to be
/// live yet, it selects from all known members.
pub(super) fn choose_live(candidates: &Candidates, rng: &mut fastrand::Rng) -> Vec<SocketAddr> {
    let audience = candidates.audience();
    let pool = if audience.is_empty() {
        &candidates.known
    } else {
        audience
    };
    let mut chosen = rng.choose_multiple(pool.iter().copied(), GOSSIP_COUNT);
    let preferred = &candidates.preferred;
    if !chosen.iter().any(|addr| preferred.contains(addr))
        && let Some(last) = chosen.last_mut()
        && let Some(addr) = rng.choice(preferred.iter().copied())
    {
        *last = addr;
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
    reason = "a probability, computed from small numbers"
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
    fn a_round_selects_three_different_live_members() {
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
    fn a_round_selects_the_member_that_answers_and_at_most_one_that_is_silent() {
        let candidates = Candidates {
            live: addrs([0]),
            preferred: addrs([0]),
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
    fn every_round_selects_a_preferred_member() {
        let candidates = Candidates {
            live: addrs(0..40),
            preferred: addrs([7]),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            let distinct: BTreeSet<_> = round.iter().collect();
            assert_eq!((round.len(), distinct.len()), (3, 3));
            assert!(round.iter().any(|addr| addr.port() == 7));
        }
    }

    #[test]
    fn only_members_whose_answer_is_overdue_change_the_selection() {
        let mut contacts = Contacts::new(Duration::from_secs(2));
        let at = Duration::from_secs;
        for addr in addrs(0..10) {
            contacts.note_asked(addr, at(0));
            contacts.note_heard(addr);
        }
        let of_live = |contacts: &Contacts, now| {
            Candidates::new(addrs(0..20), addrs([50]), contacts, &addrs([]), now)
        };
        let candidates = of_live(&contacts, at(9));
        assert_eq!((candidates.live.len(), candidates.preferred.len()), (20, 0));
        let one: SocketAddr = ([127, 0, 0, 1], 3).into();
        contacts.note_asked(one, at(10));
        let candidates = of_live(&contacts, at(12));
        assert_eq!(candidates.silent, BTreeSet::from([one]));
        assert_eq!((candidates.live.len(), candidates.preferred.len()), (19, 9));
        assert_eq!(
            (candidates.seeds.len(), candidates.quiet_seeds.len()),
            (1, 0)
        );
    }

    #[test]
    fn connected_members_are_preferred_unless_they_do_not_answer() {
        let mut contacts = Contacts::new(Duration::from_secs(2));
        let at = Duration::from_secs;
        for addr in addrs([1, 50]) {
            contacts.note_asked(addr, at(0));
        }
        let of_live = |connected: &BTreeSet<_>| {
            Candidates::new(addrs(0..20), addrs([50, 51]), &contacts, connected, at(9))
        };
        let candidates = of_live(&addrs([1, 2, 99]));
        assert_eq!(candidates.preferred, addrs([2]));
        assert_eq!(candidates.seeds, addrs([51]));
        assert_eq!(candidates.quiet_seeds, addrs([50]));
        let candidates = of_live(&addrs([1]));
        assert!(candidates.preferred.is_empty() && candidates.quiet_seeds.is_empty());
    }

    #[test]
    fn a_seed_that_is_connected_under_another_name_costs_few_exchanges() {
        let candidates = Candidates {
            live: addrs([0]),
            preferred: addrs([0]),
            quiet_seeds: addrs([100]),
            ..Candidates::default()
        };
        let rounds = rounds(&candidates);
        assert!(rounds.iter().all(|round| round[0].port() == 0));
        let share = share_with(&rounds, &candidates.quiet_seeds);
        assert!(share > 0.05 && share < 0.2, "{share}");
    }

    #[test]
    fn without_a_routed_member_every_round_selects_a_seed() {
        let candidates = Candidates {
            unreachable: 50,
            seeds: addrs([100]),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            assert_eq!(round.len(), 1);
        }
    }

    #[test]
    fn if_no_member_answers_all_are_selected_from() {
        let candidates = Candidates {
            silent: addrs(0..20),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            assert_eq!(round.len(), 3);
        }
    }

    #[test]
    fn at_the_start_every_round_selects_a_seed() {
        let candidates = Candidates {
            seeds: addrs([1, 2]),
            ..Candidates::default()
        };
        for round in rounds(&candidates) {
            assert_eq!(round.len(), 1);
        }
    }

    #[test]
    fn a_dead_member_is_selected_in_proportion_to_the_dead() {
        let candidates = Candidates {
            known: addrs(0..12),
            live: addrs(0..9),
            dead: addrs(9..12),
            ..Candidates::default()
        };
        let share = share_with(&rounds(&candidates), &candidates.dead);
        assert!((share - 3.0 / 10.0).abs() < 0.05, "{share}");
        let few = Candidates {
            live: addrs([0]),
            dead: addrs([1]),
            ..Candidates::default()
        };
        let share = share_with(&rounds(&few), &few.dead);
        assert!((share - 1.0 / 2.0).abs() < 0.05, "{share}");
    }

    #[test]
    fn dead_members_make_seeds_less_likely_to_be_selected() {
        for (quiet, selected) in [(false, 1.0 / 3.0), (true, 1.0 / 3.0 / QUIET_SEED)] {
            let mut candidates = Candidates {
                live: addrs([0]),
                dead: addrs([1, 2]),
                ..Candidates::default()
            };
            if quiet {
                candidates.quiet_seeds = addrs([100]);
            } else {
                candidates.seeds = addrs([100]);
            }
            let share = share_with(&rounds(&candidates), &addrs([100]));
            assert!((share - selected).abs() < 0.015, "{share} for {selected}");
        }
    }

    #[test]
    fn all_candidates_are_counted() {
        let candidates = Candidates {
            known: addrs(0..1),
            live: addrs(1..3),
            silent: addrs(3..6),
            dead: addrs(6..10),
            seeds: addrs(10..15),
            quiet_seeds: addrs(15..21),
            ..Candidates::default()
        };
        assert_eq!(candidates.len(), 21);
    }

    #[test]
    fn a_seed_is_selected_in_proportion_to_the_seeds() {
        let candidates = Candidates {
            known: addrs(0..10),
            live: addrs(0..10),
            seeds: addrs([100]),
            ..Candidates::default()
        };
        let share = share_with(&rounds(&candidates), &candidates.seeds);
        assert!((share - 1.0 / 10.0).abs() < 0.03, "{share}");
    }

    #[test]
    fn a_second_seed_is_selected_only_while_fewer_members_are_live_than_there_are_seeds() {
        for (live, seeds, selected) in [
            (addrs(0..1), addrs([0, 100]), 1.0 / 2.0),
            (addrs(0..2), addrs([0, 100]), 0.0),
            (addrs(0..3), addrs([0, 100]), 0.0),
        ] {
            let candidates = Candidates {
                live,
                seeds,
                ..Candidates::default()
            };
            let share = share_with(&rounds(&candidates), &addrs([100]));
            assert!((share - selected).abs() < 0.05, "{share}");
        }
    }
}
