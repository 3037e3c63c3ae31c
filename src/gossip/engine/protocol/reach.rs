//! Connections that come and go, and the members to select from.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use crate::credential::is_key_address;
use crate::gossip::engine::event::{Connection, Output};
use crate::gossip::engine::order;
use crate::gossip::engine::rumours::{in_pattern, successors};
use crate::gossip::engine::selection::Candidates;
use crate::message::ChitchatId;

impl Engine {
    /// Replaces the connections. Opens exchanges with peers that were not connected before.
    pub(super) fn connections(
        &mut self,
        connections: &[Connection],
        now: Duration,
        outputs: &mut Vec<Output>,
    ) {
        self.excuse_outage(now);
        let change = self.routes.connect(connections, now);
        for addr in &change.lost {
            self.contacts.note_lost(*addr);
        }
        if !change.lost.is_empty() {
            // In one pass over the members, since all connections may be lost at once.
            let is_lost = |addr: &SocketAddr| change.lost.binary_search(addr).is_ok();
            let live = self.detector.judged_live().map(ChitchatId::addr);
            let mut live: BTreeSet<_> = live.filter(is_lost).collect();
            live.retain(|addr| self.routes.may_dial(*addr));
            live.iter().for_each(|_| self.routes.note_lost());
        }
        if !change.new.is_empty() {
            self.rumours.unpark(now);
        }
        self.note_leaves(&change, now);
        let routes = &self.routes;
        self.catch_up
            .forget_leaves(|addr| !routes.is_connected(addr));
        let own = self.id().addr();
        let mut greeted = Vec::new();
        for addr in change.new {
            // A Syn that waits for this connection needs no second one.
            let is_open = addr == own || self.contacts.may_still_answer(addr, now);
            if !is_open && self.routes.may_greet() {
                greeted.push(addr);
            }
        }
        self.ask(&greeted, now, outputs);
    }

    /// Does not count the time without any connection as silence of the members that only a
    /// connection reaches, up to a bound.
    pub(super) fn excuse_outage(&mut self, now: Duration) {
        let excused = self.routes.excuse(now);
        if !excused.is_zero() {
            let routes = &self.routes;
            let needs_one = |id: &ChitchatId| routes.needs_connection(id.addr());
            self.detector.forgive(excused, now, needs_one);
        }
    }

    /// Forgets which version the addresses read that are neither connected nor those of members.
    pub(super) fn forget_versions(&mut self) {
        if self.routes.known_v1() > self.cluster.nodes().len() {
            let addrs = self.cluster.others().map(|id| id.addr());
            let members = order::set(addrs);
            self.routes.retain(|addr| members.contains(addr));
        }
    }

    /// Returns the addresses to select from.
    pub(super) fn candidates(&self, now: Duration) -> Candidates {
        let own = self.id().addr();
        let routes = &self.routes;
        let addrs = |ids: &mut dyn Iterator<Item = &ChitchatId>| -> BTreeSet<SocketAddr> {
            let addrs = ids.map(|id| id.addr());
            order::set(addrs.filter(|addr| *addr != own))
        };
        let has_route = |id: &&ChitchatId| routes.has_route(id.addr());
        let live = addrs(&mut self.detector.judged_live().filter(has_route));
        let unreachable = |id: &&ChitchatId| !has_route(id);
        let unreachable = addrs(&mut self.detector.judged_live().filter(unreachable));
        // The earlier generation of a member that has restarted is not selected as a dead member,
        // whether it restarted at the same address or elsewhere, as a reloaded tab does.
        let mut judged_dead = self.detector.judged_dead().peekable();
        let mut dead = BTreeSet::new();
        if judged_dead.peek().is_some() {
            let cluster = &self.cluster;
            let superseded = cluster.superseded(|id| self.detector.precedence(id));
            let is_superseded = |id: &ChitchatId| {
                let position = cluster.position(id);
                position.is_some_and(|n| superseded.get(n) == Some(&true))
            };
            // Dead tabs have no route, and are by far the most.
            dead = addrs(&mut judged_dead.filter(|id| has_route(id) && !is_superseded(id)));
            dead.retain(|addr| !live.contains(addr));
        }
        // Used only while no member is live that can be reached.
        let mut known = BTreeSet::new();
        if live.is_empty() {
            known = addrs(&mut self.cluster.others());
            known.retain(|addr| routes.has_route(*addr));
        }
        let mut seeds = self.seeds.clone();
        seeds.retain(|addr| routes.has_route(*addr));
        let connected = routes.connected();
        let candidates = Candidates::new(live, seeds, &self.contacts, connected, now);
        Candidates {
            known,
            dead,
            unreachable: unreachable.len(),
            ..candidates.spare(routes.are_scarce(), connected)
        }
    }

    /// Returns a member for a round to ask that is not connected yet, if there is one: a neighbour, or any
    /// other while connections are scarce and the round has asked connected ones only.
    pub(super) fn member_to_meet(
        &mut self,
        candidates: &Candidates,
        chosen: &[SocketAddr],
    ) -> Option<SocketAddr> {
        if !candidates.stays {
            return self.neighbour_to_meet(candidates, chosen);
        }
        if !self.routes.may_meet() {
            return None;
        }
        let neighbour = self.neighbour_to_meet(candidates, chosen);
        neighbour.or_else(|| {
            let connected = self.routes.connected();
            let all = candidates.live.union(&candidates.silent);
            let strangers = all.filter(|addr| !connected.contains(addr) && !chosen.contains(addr));
            self.rng.choose_multiple(strangers.copied(), 1).pop()
        })
    }

    /// Returns a member to which rumours pass from here, if one is not connected yet. A round that
    /// contacts it spares the next change a dial.
    pub(super) fn neighbour_to_meet(
        &self,
        candidates: &Candidates,
        chosen: &[SocketAddr],
    ) -> Option<SocketAddr> {
        let fanout = self.config.rumours.fanout;
        if fanout == 0 || !self.routes.are_known() {
            return None;
        }
        if candidates.are_connected(self.routes.connected()) {
            return None;
        }
        let own = self.id().addr();
        let pattern = self.pattern();
        let place = pattern.iter().position(|addr| *addr == own)?;
        let to_meet = |addr: &&SocketAddr| {
            **addr != own
                && !self.routes.is_connected(**addr)
                && candidates.reachable().contains(*addr)
                && !chosen.contains(*addr)
        };
        let neighbours = successors(place, pattern.len(), fanout);
        let mut neighbours = neighbours.filter_map(|n| pattern.get(n));
        neighbours.find(to_meet).copied()
    }

    /// Returns the live members that others can dial, this one included, in the order in which
    /// rumours pass; or nothing if others cannot dial this one.
    pub(super) fn pattern(&self) -> Vec<SocketAddr> {
        let own = self.id().addr();
        let are_known = self.routes.are_known();
        let can_be_dialled = |addr: &SocketAddr| !(are_known && is_key_address(*addr));
        if !can_be_dialled(&own) {
            return Vec::new();
        }
        let live = self.detector.judged_live();
        let addrs = live.map(|id| id.addr());
        in_pattern(order::set(addrs.filter(can_be_dialled).chain([own])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::engine::catch_up::{Claim, Source};
    use crate::gossip::engine::config::{DialPolicy, GossipConfig};
    use crate::gossip::engine::event::Event;
    use crate::gossip::engine::protocol::tests::{
        SECOND, addr, beat, digest, engine, id, received, reply, sends, syn,
    };
    use crate::gossip::engine::routes::Routes;
    use crate::message::{ChitchatMessage, ProtocolVersion};

    /// Reports connections to the members `to`.
    fn connect(us: &mut Engine, to: &[u16], now: Duration) -> Vec<Output> {
        let connections = to.iter().map(|n| Connection {
            addr: addr(*n),
            reads_v1: false,
            invite: None,
        });
        us.handle(Event::Connections(connections.collect()), now)
    }

    /// Passes in five heartbeats of all of `members`, one each second, and a round after each.
    fn beat_all(us: &mut Engine, members: &[ChitchatId]) {
        for at in 1..=5 {
            let beats: Vec<_> = members.iter().map(|id| (id.clone(), at.into())).collect();
            let heard = syn("cluster", ProtocolVersion::V0, digest(&beats));
            us.handle(received(addr(999), heard), SECOND * at);
            us.handle(Event::Round, SECOND * at);
        }
    }

    #[test]
    fn a_new_connection_opens_an_exchange_at_once_and_many_do_not() {
        let mut us = engine(1);
        connect(&mut us, &[], SECOND);
        let outputs = connect(&mut us, &[2], SECOND);
        let (to, message) = reply(&outputs);
        assert_eq!(to, addr(2));
        assert!(matches!(message, ChitchatMessage::Syn { .. }));
        // It is the same connection, and then one whose Syn may still be answered.
        assert!(connect(&mut us, &[2], SECOND).is_empty());
        us.handle(Event::Seeds(vec![addr(3)]), SECOND);
        us.handle(Event::Round, SECOND);
        assert!(connect(&mut us, &[2, 3], SECOND).is_empty());
        assert_eq!(sends(&connect(&mut us, &[4, 5, 6, 7, 8], SECOND)).len(), 3);
        // A Syn that was lost with its connection is repeated.
        us.handle(Event::Round, SECOND * 2);
        connect(&mut us, &[], SECOND * 2);
        assert_eq!(reply(&connect(&mut us, &[4], SECOND * 2)).0, addr(4));
    }

    #[test]
    fn a_change_that_could_be_sent_to_nobody_is_pushed_over_a_new_connection() {
        let mut us = engine(1);
        connect(&mut us, &[], SECOND);
        us.set("k", "v", SECOND).unwrap();
        us.handle(Event::Rumours, SECOND);
        assert_eq!(us.next_rumours(), None);
        connect(&mut us, &[2], SECOND * 5);
        assert_eq!(us.next_rumours(), Some(SECOND * 5));
    }

    #[test]
    fn a_connected_member_that_a_round_selects_is_dialled_if_it_may_be_also_while_an_exchange_goes_on()
     {
        for policy in [DialPolicy::Anyone, DialPolicy::SeedsOnly] {
            let mut us = engine(1);
            us.routes = Routes::new(policy, SECOND);
            let members = [id(2)];
            beat_all(&mut us, &members);
            connect(&mut us, &[2], SECOND * 6);
            us.take_selected();
            let claim = Claim {
                from: addr(2),
                id: id(2),
                version: 7,
            };
            us.catch_up
                .note_progress(claim, 60_000, Source::Other, SECOND * 6);
            let asked = us.handle(Event::Round, SECOND * 6);
            assert!(sends(&asked).is_empty(), "the exchange goes on");
            let dialled = us.take_selected();
            match policy {
                DialPolicy::Anyone => assert_eq!(dialled, [addr(2)]),
                DialPolicy::SeedsOnly => assert!(dialled.is_empty()),
            }
            assert!(us.take_selected().is_empty(), "once");
        }
    }

    #[test]
    fn rounds_select_dead_members_but_no_earlier_generation_of_a_live_one() {
        let mut us = engine(1);
        // The member has restarted elsewhere.
        let later = ChitchatId::new(id(2).node_id, 2, addr(3));
        beat(&mut us, &id(2), 1, 5);
        beat(&mut us, &id(4), 6, 10);
        let mut selected = BTreeSet::new();
        for at in 11..100_u32 {
            let beats = digest(&[(later.clone(), at.into())]);
            let heard = syn("cluster", ProtocolVersion::V0, beats);
            us.handle(received(addr(3), heard), SECOND * at);
            let round = us.handle(Event::Round, SECOND * at);
            // By now, the others are dead.
            if at >= 50 {
                selected.extend(sends(&round).iter().map(|(to, _)| *to));
            }
        }
        assert_eq!(selected, BTreeSet::from([addr(3), addr(4)]));
    }

    #[test]
    fn rounds_soon_connect_the_members_to_which_rumours_pass() {
        let mut us = engine(1);
        connect(&mut us, &[], SECOND);
        let mut connected = BTreeSet::new();
        for at in 1..=9 {
            let now = SECOND * at;
            let beats: Vec<_> = (2..40).map(|n| (id(n), at.into())).collect();
            let heard = syn("cluster", ProtocolVersion::V0, digest(&beats));
            us.handle(received(addr(999), heard.clone()), now);
            let round = us.handle(Event::Round, now);
            let asked: Vec<_> = sends(&round).iter().map(|(to, _)| to.port()).collect();
            for member in &asked {
                us.handle(received(addr(*member), heard.clone()), now);
            }
            connected.extend(asked);
            let all: Vec<_> = connected.iter().copied().collect();
            connect(&mut us, &all, now);
        }
        us.set("k", "v", SECOND * 10).unwrap();
        let pushed = us.handle(Event::Rumours, SECOND * 10);
        let pushed: Vec<_> = sends(&pushed).iter().map(|(to, _)| to.port()).collect();
        assert_eq!(pushed.len(), 4);
        let dials = pushed.iter().filter(|to| !connected.contains(to)).count();
        assert_eq!(dials, 0, "no dial delays the change");
    }

    #[test]
    fn a_round_meets_a_neighbour_only_if_it_is_known_who_is_connected() {
        let mut us = engine(1);
        beat(&mut us, &id(2), 1, 5);
        let neighbour = |us: &Engine| {
            let candidates = us.candidates(SECOND * 5);
            us.neighbour_to_meet(&candidates, &[])
        };
        assert_eq!(neighbour(&us), None);
        connect(&mut us, &[], SECOND * 5);
        assert_eq!(neighbour(&us), Some(addr(2)));
        connect(&mut us, &[2], SECOND * 5);
        assert_eq!(neighbour(&us), None);
    }

    #[test]
    fn the_versions_that_strangers_read_are_not_remembered_for_long() {
        let mut us = engine(1);
        let strangers = (100..120).map(|port| Connection {
            addr: addr(port),
            reads_v1: true,
            invite: None,
        });
        us.handle(Event::Connections(strangers.collect()), SECOND);
        connect(&mut us, &[], SECOND);
        assert_eq!(us.routes.known_v1(), 20);
        us.handle(Event::Round, SECOND);
        assert_eq!(us.routes.known_v1(), 0);
    }

    #[test]
    fn the_answers_of_addresses_that_are_not_selected_from_any_more_are_not_remembered() {
        let mut us = engine(1);
        us.handle(Event::Seeds((10..30).map(addr).collect()), SECOND);
        for at in 1..100 {
            us.handle(Event::Round, SECOND * at);
        }
        assert_eq!(us.contacts.len(), 20);
        us.handle(Event::Seeds(vec![addr(10)]), SECOND * 100);
        us.handle(Event::Round, SECOND * 100);
        assert_eq!(us.contacts.len(), 1);
    }

    #[test]
    fn members_that_cannot_be_reached_are_counted_among_the_live_ones() {
        let tab = ChitchatId::new(
            "tab",
            1,
            crate::credential::Identity::from_bytes([1; 32]).address(),
        );
        let mut us = engine(1);
        connect(&mut us, &[], SECOND);
        beat_all(&mut us, &[id(2), tab]);
        let candidates = us.candidates(SECOND * 5);
        assert_eq!((candidates.unreachable, candidates.len()), (1, 1));
    }

    #[test]
    fn time_without_any_connection_is_no_silence_of_a_member_that_only_a_connection_reaches() {
        for (dial, is_live) in [(DialPolicy::SeedsOnly, true), (DialPolicy::Anyone, false)] {
            let config = GossipConfig {
                dial,
                ..engine(1).config
            };
            let mut us = Engine::new(config, id(1), Duration::ZERO).unwrap();
            beat_all(&mut us, &[id(2)]);
            connect(&mut us, &[2], SECOND * 5);
            connect(&mut us, &[], SECOND * 5);
            for at in 6..=45 {
                us.handle(Event::Round, SECOND * at);
            }
            assert_eq!(us.detector.is_live(&id(2)), is_live, "{dial:?}");
        }
    }

    #[test]
    fn while_connections_to_live_members_are_lost_rounds_and_rumours_use_those_that_exist() {
        let mut us = engine(1);
        let members: Vec<_> = (2..=30).map(id).collect();
        beat_all(&mut us, &members);
        let mut met = Vec::new();
        for at in 6..=176_u16 {
            let now = SECOND * at.into();
            // Each second, one connection is lost and there is another one. From the 90th on, all stay.
            let first = at.min(90);
            let connected: Vec<_> = (first..first + 10).map(|n| 2 + n % 29).collect();
            connect(&mut us, &connected, now);
            let beats: Vec<_> = members.iter().map(|id| (id.clone(), at.into())).collect();
            let heard = syn("cluster", ProtocolVersion::V0, digest(&beats));
            let round = us.handle(Event::Round, now);
            let asked: Vec<_> = sends(&round).iter().map(|(to, _)| to.port()).collect();
            assert!(asked.len() >= 3, "{asked:?}");
            for member in &asked {
                us.handle(received(addr(*member), heard.clone()), now);
            }
            let strangers = asked.iter().filter(|to| !connected.contains(to)).count();
            met.push((at, strangers));
            if at == 90 {
                us.set("k", "v", now).unwrap();
                let pushed = us.handle(Event::Rumours, now);
                let pushed: Vec<_> = sends(&pushed).iter().map(|(to, _)| to.port()).collect();
                assert!(pushed.len() >= 4 && pushed.iter().all(|to| connected.contains(to)));
            }
        }
        let met_in = |from: u16, to: u16| {
            let of_time = met.iter().filter(|(at, _)| (from..to).contains(at));
            of_time.map(|(_, strangers)| strangers).sum::<usize>()
        };
        assert!((3..=5).contains(&met_in(20, 88)), "{met:?}");
        assert!(met_in(110, 176) > 66, "{met:?}");
    }

    #[test]
    fn an_outage_or_the_loss_of_a_member_that_nobody_can_dial_makes_connections_not_scarce() {
        let of_tab = crate::credential::Identity::from_bytes([1; 32]).address();
        let of = |addrs: &[SocketAddr]| {
            let reads = |addr: &SocketAddr| Connection {
                addr: *addr,
                reads_v1: false,
                invite: None,
            };
            Event::Connections(addrs.iter().map(reads).collect())
        };
        for (before, after, are_scarce) in [
            (&[addr(2), addr(3)][..], &[addr(2)][..], true),
            (&[addr(2), addr(3)], &[], false),
            (&[addr(2), of_tab], &[addr(2)], false),
            (&[addr(2), addr(9)], &[addr(2)], false),
        ] {
            let mut us = engine(1);
            let tab = ChitchatId::new("tab", 1, of_tab);
            beat_all(&mut us, &[id(2), id(3), tab]);
            us.handle(of(before), SECOND * 5);
            us.handle(of(after), SECOND * 5);
            us.handle(Event::Round, SECOND * 6);
            assert_eq!(us.routes.are_scarce(), are_scarce, "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_pattern_has_the_live_members_that_others_can_dial() {
        let of_tab = crate::credential::Identity::from_bytes([1; 32]).address();
        let tab = ChitchatId::new("tab", 1, of_tab);
        let mut us = engine(1);
        beat_all(&mut us, &[id(2), id(3), tab.clone()]);
        connect(&mut us, &[2], SECOND * 5);
        let in_order = |addrs: &[SocketAddr]| in_pattern(order::set(addrs.iter().copied()));
        assert_eq!(us.pattern(), in_order(&[addr(1), addr(2), addr(3)]));
        let mut us = Engine::new(us.config.clone(), tab, SECOND).unwrap();
        connect(&mut us, &[2], SECOND);
        assert_eq!(us.pattern(), []);
    }

    #[test]
    fn a_rumour_is_sent_to_each_member_in_the_version_that_it_reads() {
        let mut us = engine(1);
        beat_all(&mut us, &[id(2), id(3)]);
        let connections = [(2, true), (3, false)].map(|(n, reads_v1)| Connection {
            addr: addr(n),
            reads_v1,
            invite: None,
        });
        us.handle(Event::Connections(connections.into()), SECOND * 5);
        us.set("k", "v", SECOND * 5).unwrap();
        let outputs = us.handle(Event::Rumours, SECOND * 5);
        let mut versions: Vec<_> = sends(&outputs)
            .into_iter()
            .map(|(to, message)| match message {
                ChitchatMessage::Ack { version, .. } => (to, *version),
                other => panic!("not a rumour: {other:?}"),
            })
            .collect();
        versions.sort_by_key(|(to, _)| *to);
        let expected = [
            (addr(2), ProtocolVersion::V1),
            (addr(3), ProtocolVersion::V0),
        ];
        assert_eq!(versions, expected);
    }
}
