//! The generation of this member: it must be above those of its earlier lives.
//!
//! A generation is the time of a start by default, and a clock can be set back. The rule for others is
//! in the states of members: a live generation takes precedence. Invariant: a member raises its
//! generation at most once in [`SPACING_INTERVALS`].

use std::time::Duration;

use super::Engine;
use crate::credential::is_key_address;
use crate::gossip::engine::rumours::Rumours;
use crate::message::{ChitchatId, ChitchatMessage};

/// The number of intervals between two generations. Two members that were given the same name would
/// otherwise outbid each other for ever: within this time, each finds the other live.
const SPACING_INTERVALS: u32 = 10;

impl Engine {
    /// Raises the generation of this member above those of its earlier lives that `message` lists, if
    /// they are higher. Returns true if it did.
    pub(super) fn outlive_own_past(&mut self, message: &ChitchatMessage, now: Duration) -> bool {
        let digest = match message {
            ChitchatMessage::Syn {
                cluster_id, digest, ..
            } if *cluster_id == self.config.cluster_id => digest,
            ChitchatMessage::SynAck { digest, .. } => digest,
            _ => return false,
        };
        let own_addr = self.id().addr();
        let detector = &self.detector;
        // A leaf may have any name. Its own earlier lives are at its key address, and those of others are elsewhere.
        let is_apart = |id: &ChitchatId| is_key_address(own_addr) || is_key_address(id.addr());
        let is_other =
            |id: &ChitchatId| id.addr() != own_addr && (is_apart(id) || detector.is_live(id));
        let Some(latest) = self.cluster.later_generation(digest, is_other) else {
            return false;
        };
        let spacing = self
            .config
            .gossip_interval
            .saturating_mul(SPACING_INTERVALS);
        let next = self.raised.map(|raised| raised.saturating_add(spacing));
        if next.is_some_and(|next| now < next) {
            return false;
        }
        tracing::info!(
            generation = latest,
            "an earlier life of this member, or another member with its name, has a later generation, so \
             this one gets the next"
        );
        self.raised = Some(now);
        let generation = latest.saturating_add(1);
        self.cluster.begin_generation(generation);
        self.detector
            .forget(std::slice::from_ref(self.cluster.self_id()));
        // Changes that were to be pushed are those of another id. Members ask for all of them.
        self.rumours = Rumours::new(self.config.rumours.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::{Identity, Role};
    use crate::gossip::engine::event::{Event, Output};
    use crate::gossip::engine::protocol::tests::{
        SECOND, addr, beat, digest, engine, id, received, syn,
    };
    use crate::message::{Delta, ProtocolVersion};

    fn own(generation: u64) -> ChitchatId {
        ChitchatId {
            generation_id: generation,
            ..id(1)
        }
    }

    /// Passes in a Syn of an authenticated peer that lists `listed`.
    fn hear(us: &mut Engine, listed: &ChitchatId, now: Duration) -> Vec<Output> {
        let listed = digest(&[(listed.clone(), 7)]);
        hear_message(us, syn("cluster", ProtocolVersion::V0, listed), now)
    }

    /// Passes in a message of an authenticated peer.
    fn hear_message(us: &mut Engine, message: ChitchatMessage, now: Duration) -> Vec<Output> {
        let event = Event::Message {
            from: addr(999),
            identity: Identity::from_bytes([1; 32]),
            role: Role::Core,
            message,
        };
        us.handle(event, now)
    }

    #[test]
    fn a_member_that_hears_of_a_later_generation_of_its_own_takes_the_next_and_keeps_its_keys() {
        let mut us = engine(1);
        us.set("k", "v", SECOND).unwrap();
        hear(&mut us, &own(50), SECOND);
        assert_eq!(*us.id(), own(51));
        assert_eq!(us.get("k"), Some("v"));
        hear(&mut us, &own(50), SECOND);
        hear(&mut us, &own(1), SECOND);
        assert_eq!(*us.id(), own(51));
        let current: Vec<_> = us.members().into_iter().filter(|m| !m.superseded).collect();
        assert_eq!(current.len(), 1);
        assert_eq!(current[0].id, own(51));
    }

    #[test]
    fn a_stranger_cannot_raise_the_generation_and_nobody_can_beyond_what_is_credible() {
        let mut us = engine(1);
        let message = syn("cluster", ProtocolVersion::V0, digest(&[(own(50), 7)]));
        us.handle(received(addr(999), message), SECOND);
        hear(&mut us, &own(u64::MAX), SECOND);
        let of_another = ChitchatId {
            generation_id: 50,
            ..id(2)
        };
        hear(&mut us, &of_another, SECOND);
        let foreign = syn("other", ProtocolVersion::V0, digest(&[(own(50), 7)]));
        hear_message(&mut us, foreign, SECOND);
        assert_eq!(*us.id(), own(1));
    }

    #[test]
    fn a_member_of_which_others_know_the_present_generation_keeps_it() {
        let mut us = engine(1);
        hear(&mut us, &own(1), SECOND);
        assert_eq!(*us.id(), own(1));
    }

    #[test]
    fn an_earlier_life_at_the_own_address_is_outlived_although_it_counts_as_live() {
        let mut us = engine(1);
        beat(&mut us, &own(50), 1, 5);
        hear(&mut us, &own(50), SECOND * 5);
        assert_eq!(*us.id(), own(51));
    }

    #[test]
    fn a_later_generation_counts_in_an_answer_too_and_the_change_is_reported() {
        let mut us = engine(1);
        hear(&mut us, &own(50), SECOND);
        let next = SECOND + us.config.gossip_interval * SPACING_INTERVALS;
        hear(&mut us, &own(60), next - Duration::from_millis(1));
        assert_eq!(*us.id(), own(51), "too soon");
        // The answer lists nothing else that is new.
        let answer = ChitchatMessage::SynAck {
            version: ProtocolVersion::V0,
            digest: digest(&[(own(60), 7)]),
            delta: Delta::default(),
        };
        let outputs = hear_message(&mut us, answer, next);
        assert_eq!(*us.id(), own(61));
        assert!(outputs.contains(&Output::MembershipChanged));
    }

    #[test]
    fn members_that_were_given_the_same_name_do_not_outbid_each_other() {
        let other = |generation| ChitchatId {
            generation_id: generation,
            gossip_advertise_addr: addr(77),
            ..id(1)
        };
        let mut us = engine(1);
        hear(&mut us, &other(50), SECOND);
        assert_eq!(us.id().generation_id, 51);
        hear(&mut us, &other(60), SECOND * 2);
        assert_eq!(us.id().generation_id, 51, "too soon");
        beat(&mut us, &other(60), 3, 12);
        hear(&mut us, &other(60), SECOND * 12);
        assert_eq!(us.id().generation_id, 51, "the other one is live");
    }
}
