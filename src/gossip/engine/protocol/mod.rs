//! [`Engine`]: handles events, and decides what to send and what to believe.
//!
//! It combines the other files of this folder and leaves the rules of each to them. Invariant: an
//! output never contains a message above the configured length.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::{Cluster, ClusterLimits, Learnt};
use super::config::GossipConfig;
use super::contacts::Contacts;
use super::event::{EngineCounts, Event, Output};
use super::failure_detector::FailureDetector;
use super::member::{Liveness, Member, visible_keys};
use super::order;
use super::own_keys::{self, OwnLimits};
use super::rumours::{self, Rumours};
use super::schedule::Schedule;
use super::selection::{self, Candidates};
use crate::gossip::error::{DeleteError, SetError};
use crate::message::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, HEADER_LEN, ProtocolVersion,
    Version, syn_overhead,
};

/// The bytes that the digest of a SynAck leaves for its delta, so that changes get through even in
/// a cluster whose digest would fill the message.
const MIN_DELTA_ROOM: usize = 4 << 10;
/// A member that does not answer within this many intervals is selected less often.
const ANSWER_INTERVALS: u32 = 2;

/// The protocol of one participant, without network, clock or runtime.
///
/// A driver passes in events with [`handle`](Self::handle) and performs the outputs that it
/// returns; the [module documentation](crate::gossip::engine) has a complete driver loop. Time is a
/// [`Duration`] since any fixed moment, and must not decrease from call to call.
#[derive(Debug)]
pub struct Engine {
    config: GossipConfig,
    cluster: Cluster,
    detector: FailureDetector,
    contacts: Contacts,
    seeds: BTreeSet<SocketAddr>,
    rng: fastrand::Rng,
    schedule: Schedule,
    rumours: Rumours,
    counts: EngineCounts,
}

impl Engine {
    /// Returns an engine for the member `id`, with the initial keys of `config` set. The fields of
    /// `config` that `id` is made of (`node_id`, `generation_id` and `advertise_addr`) and `seeds`
    /// are not used. The configuration is not checked; call [`GossipConfig::validate`] first.
    ///
    /// # Errors
    ///
    /// Fails if one of the initial keys cannot be set.
    pub fn new(config: GossipConfig, id: ChitchatId, now: Duration) -> Result<Self, SetError> {
        let rng = match config.rng_seed {
            Some(seed) => fastrand::Rng::with_seed(seed),
            None => fastrand::Rng::new(),
        };
        let limits = ClusterLimits {
            max_members: config.max_members.max(1),
            max_bytes_per_member: config.max_bytes_per_member,
            max_bytes: config.max_bytes,
        };
        let mut cluster = Cluster::new(id, limits);
        cluster.own().heartbeat = 1;
        let mut engine = Self {
            detector: FailureDetector::new(config.failure_detector.clone()),
            contacts: Contacts::new(config.gossip_interval.saturating_mul(ANSWER_INTERVALS)),
            cluster,
            seeds: BTreeSet::new(),
            rng,
            schedule: Schedule::default(),
            rumours: Rumours::new(config.rumours.clone()),
            counts: EngineCounts::default(),
            config,
        };
        for (key, value) in std::mem::take(&mut engine.config.initial_key_values) {
            engine.set(&key, &value, now)?;
        }
        // Initial keys are not pushed: a member that learns of this one asks for them.
        engine.rumours = Rumours::new(engine.config.rumours.clone());
        Ok(engine)
    }

    /// Returns the id of this member.
    pub fn id(&self) -> &ChitchatId {
        self.cluster.self_id()
    }

    /// Returns the time at which the driver must pass in [`Event::Round`]: an interval after the last
    /// round. The first round is due at once, and so is one when [`Event::Seeds`] names the first
    /// addresses after a round that had none to gossip with.
    pub fn next_round(&self) -> Duration {
        self.schedule.due(self.config.gossip_interval)
    }

    /// Returns the time at which the driver must pass in [`Event::Rumours`], or `None` while there
    /// are no changes to push. Any call of [`handle`](Self::handle), [`set`](Self::set),
    /// [`set_with_ttl`](Self::set_with_ttl) or [`delete`](Self::delete) may change it.
    pub fn next_rumours(&self) -> Option<Duration> {
        self.rumours.due()
    }

    /// Handles an event and returns what the driver must do, in that order. `now` must not be
    /// earlier than in any previous call.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        let changed = match event {
            Event::Round => self.round(now, &mut outputs),
            Event::Rumours => {
                self.send_rumours(now, &mut outputs);
                false
            }
            // Every sender may change everything so far, whatever its identity and role.
            Event::Message { from, message, .. } => self.message(from, message, now, &mut outputs),
            Event::Seeds(seeds) => {
                let own = self.id().gossip_advertise_addr;
                self.seeds = order::set(seeds.into_iter().filter(|addr| *addr != own));
                if !self.seeds.is_empty() {
                    self.schedule.note_seeds();
                }
                false
            }
        };
        if changed {
            outputs.push(Output::MembershipChanged);
        }
        outputs
    }

    /// Sets a key of this member. Returns false if that changes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the key or the value breaks a limit. See [`SetError`].
    pub fn set(&mut self, key: &str, value: &str, now: Duration) -> Result<bool, SetError> {
        self.set_with(key, value, DeletionStatus::Set, now)
    }

    /// Sets a key of this member that all members remove after
    /// [`marked_for_deletion_grace_period`](GossipConfig::marked_for_deletion_grace_period).
    /// Returns false if that changes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the key or the value breaks a limit. See [`SetError`].
    pub fn set_with_ttl(
        &mut self,
        key: &str,
        value: &str,
        now: Duration,
    ) -> Result<bool, SetError> {
        self.set_with(key, value, DeletionStatus::DeleteAfterTtl, now)
    }

    /// Deletes a key of this member. It becomes invisible at once; its tombstone is kept for
    /// [`marked_for_deletion_grace_period`](GossipConfig::marked_for_deletion_grace_period).
    ///
    /// # Errors
    ///
    /// Fails if there is no such key.
    pub fn delete(&mut self, key: &str, now: Duration) -> Result<(), DeleteError> {
        let above = own_keys::delete(&mut self.cluster, key, now)?;
        self.note_change(above, now);
        Ok(())
    }

    /// Returns the value of a key of this member.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.cluster.own_ref()?.get(key)
    }

    /// Returns the value of a key of `member`, or `None` if either is unknown.
    pub fn member_value(&self, member: &ChitchatId, key: &str) -> Option<&str> {
        self.cluster.get(member)?.get(key)
    }

    /// Returns a snapshot of all known members, this one included, sorted by id.
    pub fn members(&self) -> Vec<Member> {
        self.cluster
            .nodes()
            .map(|(id, state)| Member {
                id: id.clone(),
                liveness: self.liveness(id),
                superseded: self.cluster.is_superseded(id),
                heartbeat: state.heartbeat,
                max_version: state.max_version,
                key_values: visible_keys(state),
            })
            .collect()
    }

    /// Returns the silence after which `id` would be found dead, given the heartbeats so far.
    /// `None` if they are too few, and for this member itself.
    pub fn failure_detection_timeout(&self, id: &ChitchatId) -> Option<Duration> {
        self.detector.timeout(id)
    }

    /// Returns the counters.
    pub fn counts(&self) -> EngineCounts {
        EngineCounts {
            refused_members: self.cluster.refused_members,
            refused_keys: self.cluster.refused_keys,
            ..self.counts
        }
    }

    /// Returns messages that push the whole state of this member to a few live members, for a
    /// participant that leaves. If the state exceeds a message, they contain its newest changes.
    pub fn farewell(&mut self, now: Duration) -> Vec<Output> {
        let delta = self.cluster.own_delta(self.delta_room(0));
        let candidates = self.candidates(now);
        let chosen = selection::choose_live(&candidates, &mut self.rng);
        let version = self.config.protocol_version;
        let ack = ChitchatMessage::Ack { version, delta };
        chosen
            .into_iter()
            .map(|to| Output::Send {
                to,
                message: ack.clone(),
            })
            .collect()
    }

    fn set_with(
        &mut self,
        key: &str,
        value: &str,
        status: DeletionStatus,
        now: Duration,
    ) -> Result<bool, SetError> {
        let limits = OwnLimits {
            delta_room: self.delta_room(0),
            max_bytes: self.config.max_bytes_per_member,
        };
        let above = own_keys::set(&mut self.cluster, (key, value), status, limits, now)?;
        if let Some(above) = above {
            self.note_change(above, now);
        }
        Ok(above.is_some())
    }

    /// Notes a change of this member's keys above version `above`, to be pushed.
    fn note_change(&mut self, above: Version, now: Duration) {
        self.rumours.note(self.cluster.self_id(), above, now);
    }

    fn liveness(&self, id: &ChitchatId) -> Liveness {
        if id == self.id() {
            Liveness::Myself
        } else if self.detector.is_live(id) {
            Liveness::Live
        } else {
            Liveness::Dead
        }
    }

    /// Performs a round: collects garbage, sends Syns to a few members, and judges all members.
    /// Returns true if the membership has changed.
    fn round(&mut self, now: Duration, outputs: &mut Vec<Output>) -> bool {
        self.counts.rounds += 1;
        if let Some(pause) = self.schedule.begin(now, self.config.gossip_interval) {
            self.detector.forgive(pause, now);
        }
        self.beat();
        let grace = self.config.marked_for_deletion_grace_period;
        let mut changed = self.cluster.collect_garbage(grace, now);
        let syn = self.syn(now);
        let candidates = self.candidates(now);
        if self.contacts.len() > candidates.len() {
            self.contacts.retain(|addr| candidates.contains(addr));
        }
        let chosen = selection::choose(&candidates, &mut self.rng);
        self.schedule.end(chosen.len());
        for to in chosen {
            self.contacts.note_asked(to, now);
            let message = syn.clone();
            outputs.push(Output::Send { to, message });
        }
        changed |= self.detector.judge(self.cluster.others(), now);
        for id in self.detector.take_forgotten(now) {
            self.cluster.forget(&id);
            changed = true;
        }
        changed
    }

    /// Pushes pending changes to a few live members.
    fn send_rumours(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let changes = self.rumours.begin(now);
        if changes.is_empty() {
            return;
        }
        let candidates = self.candidates(now);
        let live = candidates.reachable();
        let room = self.rumours.room(now).min(self.delta_room(0));
        let detector = &self.detector;
        let skip = |id: &ChitchatId| detector.is_scheduled_for_deletion(id, now);
        let delta = self
            .cluster
            .delta_above(&changes, room, skip, &mut self.rng);
        let chosen = if delta.node_deltas.is_empty() {
            Vec::new()
        } else {
            let mut chosen = self.rumours.choose(live, &mut self.rng);
            selection::include_an_answering_one(&mut chosen, &candidates, &mut self.rng);
            chosen
        };
        let len = rumours::approximate_len(&delta);
        self.rumours.end(chosen.len(), live.len(), len);
        self.counts.rumours_sent += chosen.len() as u64;
        let version = self.config.protocol_version;
        let message = ChitchatMessage::Ack { version, delta };
        outputs.extend(chosen.into_iter().map(|to| Output::Send {
            to,
            message: message.clone(),
        }));
    }

    /// Applies a delta, and notes the new changes in it to be pushed.
    fn learn(&mut self, delta: Delta, now: Duration) -> Learnt {
        let learnt = self.cluster.apply(delta, now);
        for (id, above) in &learnt.changes {
            self.rumours.note(id, *above, now);
        }
        learnt
    }

    fn beat(&mut self) {
        let own = self.cluster.own();
        own.heartbeat = own.heartbeat.saturating_add(1);
    }

    fn candidates(&self, now: Duration) -> Candidates {
        let own = self.id().gossip_advertise_addr;
        let addrs = |ids: &mut dyn Iterator<Item = &ChitchatId>| -> BTreeSet<SocketAddr> {
            let addrs = ids.map(|id| id.gossip_advertise_addr);
            order::set(addrs.filter(|addr| *addr != own))
        };
        let live = addrs(&mut self.detector.judged_live());
        // The earlier generation of a member that has restarted is not selected as a dead member,
        // whether it restarted at the same address or elsewhere, as a reloaded tab does.
        let cluster = &self.cluster;
        let mut dead = addrs(
            &mut self
                .detector
                .judged_dead()
                .filter(|id| !cluster.is_superseded(id)),
        );
        dead.retain(|addr| !live.contains(addr));
        Candidates {
            // Used only while no member is live.
            known: if live.is_empty() {
                addrs(&mut self.cluster.others())
            } else {
                BTreeSet::new()
            },
            dead,
            seeds: self.seeds.clone(),
            ..Candidates::of_live(live, &self.contacts, now)
        }
    }

    fn syn(&mut self, now: Duration) -> ChitchatMessage {
        let version = self.config.protocol_version;
        let cluster_id = self.config.cluster_id.clone();
        let room = self
            .config
            .max_message_len
            .saturating_sub(syn_overhead(&cluster_id));
        let digest = self.digest(version, room, now);
        ChitchatMessage::Syn {
            version,
            cluster_id,
            digest,
        }
    }

    fn message(
        &mut self,
        from: SocketAddr,
        message: ChitchatMessage,
        now: Duration,
        outputs: &mut Vec<Output>,
    ) -> bool {
        self.contacts.note_heard(from);
        // With every message as well as in every round, as in the published crate.
        self.beat();
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
                let changed = self.note_heartbeats(&digest, now);
                let message = self.syn_ack(version, &digest, now);
                outputs.push(Output::Send { to: from, message });
                changed
            }
            ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            } => {
                let mut changed = self.note_heartbeats(&digest, now);
                changed |= self.learn(delta, now).changed;
                let room = self.delta_room(0);
                let delta = self.delta(&digest, room, now);
                let message = ChitchatMessage::Ack { version, delta };
                outputs.push(Output::Send { to: from, message });
                changed
            }
            ChitchatMessage::Ack { delta, .. } => {
                let learnt = self.learn(delta, now);
                if learnt.has_gap && self.rumours.may_repair(now) {
                    let message = self.syn(now);
                    outputs.push(Output::Send { to: from, message });
                }
                learnt.changed
            }
            ChitchatMessage::BadCluster { .. } => {
                self.counts.rejections += 1;
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

    /// Notes the members and heartbeats that a digest lists. Returns true if a member is new or is
    /// live that was not before.
    fn note_heartbeats(&mut self, digest: &Digest, now: Duration) -> bool {
        let noted = self.cluster.note_heartbeats(digest);
        let risen = self.detector.heartbeats(noted.risen.into_iter(), now);
        noted.has_new || risen
    }

    fn syn_ack(
        &mut self,
        version: ProtocolVersion,
        theirs: &Digest,
        now: Duration,
    ) -> ChitchatMessage {
        let room = self.delta_room(MIN_DELTA_ROOM);
        let digest = self.digest(version, room, now);
        let room = self.delta_room(digest.encoded_len_bound(version));
        let delta = self.delta(theirs, room, now);
        ChitchatMessage::SynAck {
            version,
            digest,
            delta,
        }
    }

    fn digest(&mut self, version: ProtocolVersion, room: usize, now: Duration) -> Digest {
        let detector = &self.detector;
        self.cluster.digest(version, room, |id| {
            detector.is_scheduled_for_deletion(id, now)
        })
    }

    fn delta(&mut self, theirs: &Digest, room: usize, now: Duration) -> Delta {
        let detector = &self.detector;
        let skip = |id: &ChitchatId| detector.is_scheduled_for_deletion(id, now);
        self.cluster.delta(theirs, room, skip, &mut self.rng)
    }

    /// Returns the bytes for a delta in a message with a header and `taken` further bytes.
    fn delta_room(&self, taken: usize) -> usize {
        self.config
            .max_message_len
            .saturating_sub(HEADER_LEN)
            .saturating_sub(taken)
    }
}
