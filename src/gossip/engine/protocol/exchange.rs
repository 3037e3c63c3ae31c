//! Syn, SynAck, Ack and BadCluster: what a message changes here, and the answer to it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use super::push::push_send;
use super::software::Software;
use crate::credential::Role;
use crate::gossip::engine::catch_up::{Claim, Source};
use crate::gossip::engine::cluster::Learnt;
use crate::gossip::engine::cores::Reporter;
use crate::gossip::engine::event::Output;
use crate::gossip::engine::load::Class;
use crate::gossip::engine::policy::{Known, NameCache, Sender};
use crate::gossip::engine::rumours;
use crate::message::{ChitchatId, ChitchatMessage, Delta, Digest, ProtocolVersion, syn_overhead};

/// The bytes that the digest of a SynAck leaves for its delta, so that changes get through even in
/// a cluster whose digest would fill the message.
const MIN_DELTA_ROOM: usize = 4 << 10;
/// A dead member is no longer listed in digests for members of this crate once it has been dead for
/// this many times the initial interval of the failure detector (5 intervals by default). Every page
/// that is closed leaves a dead member, and to list them all would be most of what members send.
pub(super) const MENTIONED_INTERVALS: u32 = 12;
/// The changes of a dead member are no longer sent to members of this crate after this many. They are
/// fewer than [`MENTIONED_INTERVALS`], so that members which find it dead at different times do not
/// send its state to those that have stopped to list it.
const TAUGHT_INTERVALS: u32 = 9;
/// The number of peers of other clusters that are remembered.
const MAX_REJECTIONS: usize = 64;

impl Engine {
    /// Sends a Syn to each of `addrs`.
    pub(super) fn ask(&mut self, addrs: &[SocketAddr], now: Duration, outputs: &mut Vec<Output>) {
        for addr in addrs {
            self.contacts.note_asked(*addr, now);
        }
        let otherwise = self.config.protocol_version;
        for (software, to) in self.by_software(addrs) {
            let version = match software {
                Software::Ours | Software::Leaf => ProtocolVersion::V1,
                Software::Unknown | Software::Udp | Software::Stranger => otherwise,
            };
            let syn = self.syn(software, version, now);
            push_send(to, syn, outputs);
        }
    }

    fn syn(
        &mut self,
        software: Software,
        version: ProtocolVersion,
        now: Duration,
    ) -> ChitchatMessage {
        let cluster_id = self.config.cluster_id.clone();
        let room = self
            .config
            .max_message_len
            .saturating_sub(syn_overhead(&cluster_id));
        let digest = self.digest(software, version, room, now);
        ChitchatMessage::Syn {
            version,
            cluster_id,
            digest,
        }
    }

    /// Handles a message. Returns true if the membership has changed.
    pub(super) fn message(
        &mut self,
        sender: Sender,
        mut message: ChitchatMessage,
        now: Duration,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let from = sender.addr;
        let class = Class::of(sender, |addr| self.policy.invite_of(addr));
        self.contacts.note_heard(from);
        if !self.may_handle(from, class, &message, now) {
            self.counts.limited += 1;
            return false;
        }
        // With every message as well as in every round, as in the published crate; but not with
        // dozens of them in a second. A member that measures short intervals for a while would find
        // this one dead too soon afterwards.
        let is_more = matches!(message, ChitchatMessage::SynAck { .. });
        let is_more = is_more && self.catch_up.is_answer(from);
        if !is_more {
            self.beat();
        }
        let forgot = self.note_sender(sender, &message, now);
        // Whatever the message does below, it does with what its sender may say.
        let names = NameCache::default();
        let known = Known {
            names: &names,
            cluster: &self.cluster,
            detector: &self.detector,
            recent: now.saturating_sub(self.patience_with_reports()),
        };
        let reported = self.policy.restrict(sender, &mut message, known, now);
        if let Some(reason) = self.policy.refusal() {
            outputs.push(Output::Refuse { to: from, reason });
            return forgot;
        }
        match message {
            ChitchatMessage::Syn {
                version,
                cluster_id,
                digest,
            } => {
                if cluster_id != self.config.cluster_id {
                    self.counts.foreign_syns += 1;
                    outputs.push(Output::Send {
                        to: from,
                        message: ChitchatMessage::BadCluster { version },
                    });
                    return false;
                }
                self.note_heard(from);
                let reported = reported.as_ref().unwrap_or(&digest);
                self.note_software(from, now);
                let changed = self.note_digest(sender, &digest, reported, false, now) || forgot;
                let missing = self.missing(from, reported);
                self.catch_up.note_claim(missing, sender.role == Role::Leaf);
                let (message, len) = self.syn_ack(from, version, &digest, now);
                self.load.note_answer(from, class, len, now);
                outputs.push(Output::Send { to: from, message });
                changed
            }
            ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            } => {
                self.note_heard(from);
                let reported = reported.as_ref().unwrap_or(&digest);
                self.note_software(from, now);
                let mut changed = self.note_digest(sender, &digest, reported, is_more, now);
                changed |= forgot;
                let len = rumours::approximate_len(&delta);
                let learnt = self.cluster.apply(delta, now);
                self.note_departures(&learnt.departures, now);
                let missing = self.missing(from, reported);
                // What was missing for long is no news to others.
                if !is_more && missing.is_none() {
                    self.spread(from, &learnt, now);
                }
                if let Some(missing) = missing
                    && (learnt.changed || is_more)
                {
                    let len = if learnt.changed { len } else { 0 };
                    self.note_progress(sender, missing, len, now);
                } else {
                    self.catch_up.note_end(from);
                }
                changed |= learnt.changed;
                let room = self.delta_room(0);
                let delta = self.delta(self.software(from), &digest, room, now);
                let len = rumours::approximate_len(&delta);
                self.load.note_answer(from, class, len, now);
                let message = ChitchatMessage::Ack { version, delta };
                outputs.push(Output::Send { to: from, message });
                self.ask_for_more(now, outputs);
                changed
            }
            ChitchatMessage::Ack { delta, .. } => {
                self.note_heard(from);
                let len = rumours::approximate_len(&delta);
                let learnt = self.cluster.apply(delta, now);
                self.note_departures(&learnt.departures, now);
                let missing = self.catch_up.take_claim(from).filter(|claim| {
                    let state = self.cluster.get(&claim.id);
                    state.is_some_and(|state| state.max_version < claim.version)
                });
                if let Some(missing) = missing
                    && learnt.changed
                    && self.routes.has_route(from)
                {
                    // The answer to a question that is on its way goes on with the exchange.
                    if !self.catch_up.is_going_on(from, now) {
                        self.note_progress(sender, missing, len, now);
                    }
                } else {
                    self.spread(from, &learnt, now);
                }
                self.ask_for_more(now, outputs);
                let may_ask = learnt.has_gap && self.routes.has_route(from);
                if may_ask && self.rumours.may_repair(now) {
                    self.ask(&[from], now, outputs);
                }
                learnt.changed
            }
            // A leaf has no say in which cluster this is.
            ChitchatMessage::BadCluster { .. } if sender.role == Role::Leaf => false,
            ChitchatMessage::BadCluster { .. } => {
                self.counts.rejections += 1;
                // Anyone may have forged it otherwise. So a node with a secret, all of whose seeds are upstream nodes of
                // another cluster, is told by its log only.
                let is_credible = sender.is_proved() || !self.cluster.has_secrets();
                if is_credible && self.rejected_by.len() < MAX_REJECTIONS {
                    self.rejected_by.insert(from);
                }
                if self.counts.rejections.is_power_of_two() {
                    tracing::warn!(
                        %from,
                        rejections = self.counts.rejections,
                        "a peer belongs to another cluster"
                    );
                }
                false
            }
        }
    }

    /// Returns true unless `message` causes too much work, or its answer would be one too many, and counts
    /// both.
    fn may_handle(
        &mut self,
        from: SocketAddr,
        class: Class,
        message: &ChitchatMessage,
        now: Duration,
    ) -> bool {
        let is_proved = class != Class::Unproved;
        let may_answer = match message {
            ChitchatMessage::Syn { .. } => self.syns.admit(from, is_proved, now),
            ChitchatMessage::SynAck { .. } => self.syn_acks.admit(from, is_proved, now),
            ChitchatMessage::Ack { .. } | ChitchatMessage::BadCluster { .. } => true,
        };
        may_answer && self.load.admit(from, class, message, now)
    }

    /// Notes that a member of this cluster has sent a message.
    fn note_heard(&mut self, from: SocketAddr) {
        self.counts.heard += u64::from(from != self.id().addr());
        self.rejected_by.remove(&from);
    }

    /// Notes the members, heartbeats and versions that the digest of a peer lists, of which only those in
    /// `reported` are believed. Returns true if a member is new or is live that was not before.
    ///
    /// If the digest is one of many in a second (`is_more`), it is no measure of how often the
    /// heartbeat of the peer itself rises, since it rises with each message.
    fn note_digest(
        &mut self,
        sender: Sender,
        digest: &Digest,
        reported: &Digest,
        is_more: bool,
        now: Duration,
    ) -> bool {
        let from = sender.addr;
        let listed = &digest.node_digests;
        self.note_listed(sender, digest, now);
        let version = |id: &ChitchatId| listed.get(id).map(|node| node.max_version);
        self.rumours.note_digest(from, version);
        let by = sender.reporter();
        let forgotten = by == Reporter::Core && self.compare_with_core(reported, now);
        let noted = self.cluster.note_heartbeats(reported, from, by, now);
        let counts = |id: &&ChitchatId| !(is_more && id.addr() == from);
        let risen = noted.risen.into_iter().filter(counts);
        let risen = self.detector.heartbeats(risen, now);
        let replaced = self.replace_dead(sender, &noted.without_room);
        let forgotten = (by == Reporter::Core && self.confirm(reported, now)) || forgotten;
        self.forget_replaced(now);
        if noted.has_new || replaced {
            self.presence.note_new();
        }
        noted.has_new || risen || replaced || forgotten
    }

    /// Notes the new changes of a delta from `from` to be pushed.
    fn spread(&mut self, from: SocketAddr, learnt: &Learnt, now: Duration) {
        for (id, above, reached) in &learnt.changes {
            self.rumours.note_copy(id, from, *reached, *reached);
            self.rumours.note(id, *above, Some((from, *reached)), now);
        }
        for (id, reached) in &learnt.copies {
            let known = self.cluster.get(id).map_or(0, |state| state.max_version);
            self.rumours.note_copy(id, from, *reached, known);
        }
    }

    /// Returns a change that the peer at `from` lists and that is missing here, if there is one.
    fn missing(&self, from: SocketAddr, digest: &Digest) -> Option<Claim> {
        let (id, version) = self.cluster.missing(digest)?;
        Some(Claim {
            from,
            id: id.clone(),
            version,
        })
    }

    /// Notes that a peer has sent new changes of `len` bytes, and has one more that is missing here.
    fn note_progress(&mut self, sender: Sender, missing: Claim, len: usize, now: Duration) {
        let from = missing.from;
        let source = match sender.role {
            Role::Leaf => Source::Leaf,
            _ if self.routes.is_ours(from) => Source::Ours,
            _ => Source::Other,
        };
        self.catch_up.note_progress(missing, len, source, now);
        self.catch_up.postpone(from, self.load.idle_from(from));
    }

    /// Asks the peer that has more than it could send, if that is due.
    pub(super) fn ask_for_more(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        if let Some(peer) = self.catch_up.ask(now) {
            self.ask(&[peer], now, outputs);
        }
    }

    /// Returns the answer to a Syn, and its approximate length.
    fn syn_ack(
        &mut self,
        to: SocketAddr,
        version: ProtocolVersion,
        theirs: &Digest,
        now: Duration,
    ) -> (ChitchatMessage, usize) {
        let software = self.software(to);
        let room = self.delta_room(MIN_DELTA_ROOM);
        let digest = self.digest(software, version, room, now);
        let digest_len = digest.encoded_len_bound(version);
        let room = self.delta_room(digest_len);
        let delta = self.delta(software, theirs, room, now);
        let len = digest_len.saturating_add(rumours::approximate_len(&delta));
        let message = ChitchatMessage::SynAck {
            version,
            digest,
            delta,
        };
        (message, len)
    }

    pub(super) fn digest(
        &mut self,
        software: Software,
        version: ProtocolVersion,
        room: usize,
        now: Duration,
    ) -> Digest {
        self.introduce(software, now);
        let hidden = self.hidden_from(software);
        let silence = self.mentioned_for(software, MENTIONED_INTERVALS);
        let omitted = self.detector.omission(silence, now);
        let skip = |id: &ChitchatId| hidden.contains(id) || omitted(id);
        let of = software
            .may_be_over_udp()
            .then(|| self.introductions.told());
        self.cluster.digest(of, version, room, skip)
    }

    pub(super) fn delta(
        &mut self,
        software: Software,
        theirs: &Digest,
        room: usize,
        now: Duration,
    ) -> Delta {
        self.introduce(software, now);
        let hidden = self.hidden_from(software);
        let silence = self.mentioned_for(software, TAUGHT_INTERVALS);
        let omitted = self.detector.omission(silence, now);
        let skip = |id: &ChitchatId| hidden.contains(id) || omitted(id);
        let of = software
            .may_be_over_udp()
            .then(|| self.introductions.told());
        self.cluster.delta(of, theirs, room, skip, &mut self.rng)
    }

    /// Returns the silence after which a dead member is omitted from messages to members
    /// with `software`, if it is `intervals` for those of this crate.
    pub(super) fn mentioned_for(&self, software: Software, intervals: u32) -> Option<Duration> {
        let initial = self.config.failure_detector.initial_interval;
        match software {
            Software::Ours | Software::Leaf => Some(initial.saturating_mul(intervals)),
            Software::Unknown | Software::Udp | Software::Stranger => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::engine::config::GossipConfig;
    use crate::gossip::engine::event::{Event, Output};
    use crate::gossip::engine::protocol::tests::{
        SECOND, addr, digest, engine, id, received, reply,
    };
    use crate::message::{DeletionStatus, KeyValueMutation, NodeDelta, NodeDigest, Version};

    const VERSION: ProtocolVersion = ProtocolVersion::V1;

    /// Returns a digest that lists changes of member 2 up to `max_version`.
    fn listed(max_version: Version) -> Digest {
        let node = NodeDigest {
            heartbeat: 1,
            max_version,
            ..NodeDigest::default()
        };
        Digest {
            node_digests: [(id(2), node)].into(),
        }
    }

    /// Returns the changes of member 2 up to `max_version`, in long values.
    fn changes(max_version: Version) -> Delta {
        let change = |version| KeyValueMutation {
            key: format!("k{version}"),
            value: "v".repeat(100),
            version,
            status: DeletionStatus::Set,
        };
        Delta {
            node_deltas: vec![NodeDelta {
                chitchat_id: id(2),
                last_gc_version: 0,
                from_version_excluded: 0,
                key_values: (1..=max_version).map(change).collect(),
                max_version,
            }],
        }
    }

    fn syn(digest: Digest) -> ChitchatMessage {
        ChitchatMessage::Syn {
            version: VERSION,
            cluster_id: "cluster".to_owned(),
            digest,
        }
    }

    #[test]
    fn an_exchange_goes_on_while_its_peer_has_more_and_what_is_new_is_passed_on_afterwards() {
        for (reached, goes_on) in [(50, true), (100, false)] {
            let (version, delta) = (VERSION, changes(reached));
            let digest = listed(100);
            let opened_by_peer = vec![
                syn(digest.clone()),
                ChitchatMessage::Ack {
                    version,
                    delta: delta.clone(),
                },
            ];
            let opened_here = vec![ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            }];
            for messages in [opened_by_peer, opened_here] {
                let mut us = engine(1);
                for message in messages {
                    us.handle(received(addr(2), message), SECOND);
                }
                // Once the work that the peer has caused is done.
                let due = us.catch_up.due();
                assert_eq!(due, goes_on.then(|| us.load.idle_from(addr(2))));
                assert_eq!(us.rumours.due().is_some(), !goes_on);
            }
        }
    }

    #[test]
    fn a_message_that_is_one_too_many_is_counted_and_not_answered() {
        let mut us = engine(1);
        for n in 1..=17 {
            let answer = us.handle(received(addr(2), syn(Digest::default())), SECOND);
            assert_eq!(
                (answer.len(), us.counts().limited),
                if n <= 16 { (1, 0) } else { (0, 1) }
            );
        }
    }

    #[test]
    fn a_bounded_number_of_peers_of_other_clusters_is_remembered() {
        let mut us = engine(1);
        for port in 0..2 * MAX_REJECTIONS {
            let from = addr(u16::try_from(port).unwrap());
            let version = VERSION;
            us.handle(
                received(from, ChitchatMessage::BadCluster { version }),
                SECOND,
            );
        }
        assert_eq!(us.rejected_by.len(), MAX_REJECTIONS);
    }

    #[test]
    fn one_exchange_shows_each_side_the_keys_of_the_other() {
        let (mut us, mut peer) = (engine(1), engine(2));
        us.set("k", "ours", SECOND).unwrap();
        peer.set("k", "theirs", SECOND).unwrap();
        us.handle(Event::Seeds(vec![addr(2)]), SECOND);
        let mut sent = us.handle(Event::Round, SECOND);
        for hop in 0..3 {
            let (from, to) = if hop % 2 == 0 {
                (addr(1), &mut peer)
            } else {
                (addr(2), &mut us)
            };
            let message = reply(&sent).1.clone();
            sent = to.handle(received(from, message), SECOND);
            sent.retain(|output| *output != Output::MembershipChanged);
        }
        assert!(sent.is_empty());
        assert_eq!(peer.member_value(&id(1), "k"), Some("ours"));
        assert_eq!(us.member_value(&id(2), "k"), Some("theirs"));
    }

    #[test]
    fn a_syn_ack_has_room_for_changes_however_many_members_it_could_list() {
        let config = GossipConfig {
            max_message_len: 8 << 10,
            ..engine(1).config
        };
        let mut us = Engine::new(config, id(1), Duration::ZERO).unwrap();
        us.set("k", &"v".repeat(2_000), SECOND).unwrap();
        let members: Vec<_> = (2..1_000).map(|n| (id(n), 1)).collect();
        let outputs = us.handle(received(addr(2), syn(digest(&members))), SECOND);
        let ChitchatMessage::SynAck { digest, delta, .. } = reply(&outputs).1 else {
            panic!("not an answer to a Syn");
        };
        assert!((2..999).contains(&digest.node_digests.len()), "{digest:?}");
        assert_eq!(delta.node_deltas.len(), 1);
    }

    #[test]
    fn an_answer_with_changes_of_members_that_are_known_changes_the_membership() {
        let mut us = engine(1);
        us.handle(received(addr(2), syn(listed(0))), SECOND);
        let answer = |delta| ChitchatMessage::SynAck {
            version: VERSION,
            digest: listed(1),
            delta,
        };
        for (delta, changes) in [(changes(1), true), (Delta::default(), false)] {
            let outputs = us.handle(received(addr(2), answer(delta)), SECOND);
            assert_eq!(outputs.contains(&Output::MembershipChanged), changes);
        }
    }

    #[test]
    fn in_a_continued_exchange_the_heartbeats_of_all_but_the_peer_are_measured() {
        let mut us = engine(1);
        let beat = |heartbeat| digest(&[(id(2), heartbeat), (id(3), heartbeat)]);
        let measured = |us: &Engine| [2, 3].map(|n| us.failure_detection_timeout(&id(n)).is_some());
        for at in 1..=2 {
            us.handle(received(addr(2), syn(beat(at.into()))), SECOND * at);
        }
        let missing = us.missing(addr(2), &listed(9)).unwrap();
        us.catch_up
            .note_progress(missing, 60_000, Source::Ours, SECOND * 2);
        us.handle(Event::Rumours, SECOND * 2);
        let answer = ChitchatMessage::SynAck {
            version: VERSION,
            digest: beat(3),
            delta: Delta::default(),
        };
        us.handle(received(addr(2), answer), SECOND * 3);
        assert_eq!(measured(&us), [false, true]);
        us.handle(received(addr(2), syn(beat(4))), SECOND * 4);
        assert_eq!(measured(&us), [true, true]);
    }
}
