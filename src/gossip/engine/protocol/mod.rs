//! [`Engine`]: handles events, and decides what to send and what to believe.
//!
//! It combines the other files of this folder and leaves the rules of each to them. Its parts are
//! the answers to messages (`exchange`), our generation (`generation`), members for which there is no room
//! (`newcomers`), the pushing of changes (`push`), connections (`reach`), members that leave (`presence`), the keys
//! that only this crate sets (`reserved`), and what peers over UDP are told (`udp`).
//! Invariant: an output never contains a message above the configured length.

mod exchange;
mod generation;
mod newcomers;
mod presence;
mod push;
mod reach;
mod reserved;
mod software;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::catch_up::CatchUp;
use super::cluster::{Cluster, ClusterLimits};
use super::config::GossipConfig;
use super::contacts::Contacts;
use super::denial::Denial;
use super::event::{EngineCounts, Event, Output};
use super::failure_detector::FailureDetector;
use super::limiter::Limiter;
use super::load::Load;
use super::member::{Liveness, Member, visible_keys};
#[cfg(test)]
use super::node_state::NodeState;
use super::order;
use super::own_keys::{self, OwnLimits};
use super::policy::{Introductions, Policy, Sender, most_of_leaf};
use super::presence::Presence;
use super::reserved::is_reserved;
use super::routes::Routes;
use super::rumours::Rumours;
use super::schedule::Schedule;
use super::selection;
use crate::credential::Quotas;
use crate::gossip::error::{DeleteError, SetError};
use crate::message::{
    ChitchatId, DeletionStatus, HEADER_LEN, MAX_DATAGRAM_LEN, Version, canonical,
};

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
    routes: Routes,
    seeds: BTreeSet<SocketAddr>,
    /// Peers that consider this member part of another cluster.
    rejected_by: BTreeSet<SocketAddr>,
    rng: fastrand::Rng,
    schedule: Schedule,
    /// The quotas of the invite that this member holds, if it holds one.
    quotas: Option<Quotas>,
    /// The addresses that the last round has selected, that are connected and may be dialled.
    selected: Vec<SocketAddr>,
    rumours: Rumours,
    catch_up: CatchUp,
    presence: Presence,
    /// When this member last raised its generation.
    raised: Option<Duration>,
    /// Limits of the answers to Syns, and of those to SynAcks.
    syns: Limiter,
    syn_acks: Limiter,
    load: Load,
    policy: Policy,
    introductions: Introductions,
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
        cluster.cores.note_digest(now);
        let patience = config.gossip_interval.saturating_mul(ANSWER_INTERVALS);
        let mut engine = Self {
            detector: FailureDetector::new(config.failure_detector.clone()),
            contacts: Contacts::new(patience),
            catch_up: CatchUp::new(patience),
            presence: Presence::default(),
            raised: None,
            cluster,
            routes: Routes::new(config.dial, config.gossip_interval),
            seeds: BTreeSet::new(),
            rejected_by: BTreeSet::new(),
            rng,
            schedule: Schedule::default(),
            quotas: None,
            selected: Vec::new(),
            rumours: Rumours::new(config.rumours.clone()),
            syns: Limiter::new(config.gossip_interval),
            syn_acks: Limiter::new(config.gossip_interval),
            load: Load::new(),
            policy: Policy::new(now),
            introductions: Introductions::new(config.max_udp_members),
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

    /// Returns the id of this member. Its generation rises if an authenticated peer lists a later one,
    /// for example because this member has restarted after its clock was set back.
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
    /// are no changes to push and no peer is to be asked for more. Any call of [`handle`](Self::handle), [`set`](Self::set),
    /// [`set_with_ttl`](Self::set_with_ttl) or [`delete`](Self::delete) may change it.
    pub fn next_rumours(&self) -> Option<Duration> {
        let dues = [self.rumours.due(), self.catch_up.due()];
        dues.into_iter().flatten().min()
    }

    /// Handles an event and returns what the driver must do, in that order. `now` must not be
    /// earlier than in any previous call.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        let changed = match event {
            Event::Round => self.round(now, &mut outputs),
            Event::Rumours => {
                self.send_rumours(now, &mut outputs);
                self.ask_for_more(now, &mut outputs);
                false
            }
            Event::Message {
                from,
                identity,
                role,
                message,
            } => {
                let sender = Sender {
                    addr: canonical(from),
                    identity,
                    role,
                };
                let raised = sender.is_proved_core() && self.outlive_own_past(&message, now);
                self.message(sender, message, now, &mut outputs) || raised
            }
            Event::Seeds(seeds) => {
                let own = self.id().addr();
                self.seeds =
                    order::set(seeds.into_iter().map(canonical).filter(|addr| *addr != own));
                self.routes.set_seeds(self.seeds.clone());
                if !self.seeds.is_empty() {
                    self.schedule.note_seeds();
                }
                false
            }
            Event::Connections(mut connections) => {
                for connection in &mut connections {
                    connection.addr = canonical(connection.addr);
                }
                self.policy.connect(&connections, now);
                self.connections(&connections, now, &mut outputs);
                false
            }
            Event::UnixTime(unix) => {
                self.policy.set_clock(unix, now);
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
    /// Fails if there is no such key, or if it is reserved.
    pub fn delete(&mut self, key: &str, now: Duration) -> Result<(), DeleteError> {
        if is_reserved(key) {
            return Err(DeleteError::Reserved {
                key: key.to_owned(),
            });
        }
        let above = own_keys::delete(&mut self.cluster, key, now)?;
        let limits = self.own_limits();
        let is_afresh = own_keys::settle(&mut self.cluster, limits).unwrap_or(false);
        self.note_change(if is_afresh { 0 } else { above }, now);
        Ok(())
    }

    /// Returns the value of a key of this member.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.member_value(self.id(), key)
    }

    /// Returns the value of a key of `member`, or `None` if either is unknown.
    pub fn member_value(&self, member: &ChitchatId, key: &str) -> Option<&str> {
        self.cluster
            .get(member)?
            .get(key)
            .filter(|_| !is_reserved(key))
    }

    /// Returns a snapshot of all known members, this one included, sorted by id.
    pub fn members(&self) -> Vec<Member> {
        self.members_after(None, usize::MAX)
    }

    /// Returns a snapshot of the members that follow `after` in the order of ids, or of the first ones:
    /// one, and further ones as long as the keys and values of all those before are fewer than
    /// `max_bytes`. Empty at the end. Whoever goes through all members this way holds few at a time.
    pub fn members_after(&self, after: Option<&ChitchatId>, max_bytes: usize) -> Vec<Member> {
        self.snapshot(|id| after.is_none_or(|after| id > after), max_bytes)
    }

    /// Returns a snapshot of the members with this name, sorted by id: more than one if it has been
    /// restarted a short time ago, or if several use the name.
    pub fn members_named(&self, name: &str) -> Vec<Member> {
        self.snapshot(|id| id.node_id == name, usize::MAX)
    }

    /// Returns the members that are `wanted`, as long as the keys and values of those before are fewer
    /// than `max_bytes`.
    fn snapshot(&self, wanted: impl Fn(&ChitchatId) -> bool, max_bytes: usize) -> Vec<Member> {
        let superseded = self.cluster.superseded(|id| self.detector.precedence(id));
        let nodes = self.cluster.nodes().zip(superseded);
        let mut bytes = 0_usize;
        let mut members = Vec::new();
        for ((id, state), superseded) in nodes.filter(|((id, _), _)| wanted(id)) {
            if bytes >= max_bytes && !members.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(state.bytes());
            members.push(Member {
                id: id.clone(),
                liveness: self.liveness(id),
                superseded,
                heartbeat: state.heartbeat,
                max_version: state.max_version,
                key_values: visible_keys(state),
            });
        }
        members
    }

    /// Returns the ids of all known members, this one included, and whether each is live, sorted by id.
    /// Costs much less than [`members`](Self::members), which copies all keys.
    pub fn liveness_of_members(&self) -> Vec<(ChitchatId, Liveness)> {
        let nodes = self.cluster.nodes();
        nodes
            .map(|(id, _)| (id.clone(), self.liveness(id)))
            .collect()
    }

    /// Returns the addresses of the other members that are live.
    pub(crate) fn live_addrs(&self) -> BTreeSet<SocketAddr> {
        let live = self.cluster.others().filter(|id| self.detector.is_live(id));
        live.map(|id| id.addr()).collect()
    }

    /// Returns the addresses that have not answered for so long that the connection to them may be lost
    /// without a sign, each once for every Syn that it was sent, and the time for which they were silent.
    pub(crate) fn take_overdue(&mut self, now: Duration) -> (Vec<SocketAddr>, Duration) {
        (
            self.contacts.take_overdue(now),
            self.contacts.overdue_after(),
        )
    }

    /// Returns the addresses that the last round has selected, that are connected and may be dialled. If a connection
    /// proves nothing, the address should be dialled all the same. Each is returned once.
    pub(crate) fn take_selected(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.selected)
    }

    /// Returns true if another member is live.
    pub(crate) fn has_live_members(&self) -> bool {
        let mut others = self.cluster.others();
        others.any(|id| self.detector.is_live(id))
    }

    /// Returns the silence after which `id` would be found dead, given the heartbeats so far.
    /// `None` if they are too few, and for this member itself.
    pub fn failure_detection_timeout(&self, id: &ChitchatId) -> Option<Duration> {
        self.detector.timeout(id)
    }

    /// Returns the name of the cluster.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.config.cluster_id
    }

    /// Returns true if all connected peers consider this member part of another cluster, and have
    /// said so at least `times` in all.
    pub(crate) fn is_rejected_by(&self, times: usize) -> bool {
        let connected = self.routes.connected();
        let are_foreign = !connected.is_empty() && connected.is_subset(&self.rejected_by);
        are_foreign && self.counts.rejections >= times as u64
    }

    /// Returns the counters.
    pub fn counts(&self) -> EngineCounts {
        let mut denied = self.policy.denied;
        denied.add(Denial::Room, self.cluster.refused_leaves);
        EngineCounts {
            denied,
            refused_members: self.cluster.refused_members,
            refused_keys: self.cluster.refused_keys,
            refused_reserved_keys: self.cluster.refused_reserved(),
            ..self.counts
        }
    }

    /// Returns all that is known of a member, for tests of other files.
    #[cfg(test)]
    pub(super) fn state_of(&self, id: &ChitchatId) -> Option<&NodeState> {
        self.cluster.get(id)
    }

    fn set_with(
        &mut self,
        key: &str,
        value: &str,
        status: DeletionStatus,
        now: Duration,
    ) -> Result<bool, SetError> {
        if is_reserved(key) {
            return Err(SetError::Reserved {
                key: key.to_owned(),
            });
        }
        let limits = self.own_limits();
        let above = own_keys::set(&mut self.cluster, (key, value), status, limits, now)?;
        if let Some(above) = above {
            self.note_change(above, now);
        }
        Ok(above.is_some())
    }

    /// Limits this member's keys by the quotas of the invite that it holds, or no longer if it holds none: others refuse
    /// what exceeds them. Returns true if there is something to be sent because of that.
    ///
    /// # Errors
    ///
    /// Fails if the quotas are new, and there are more keys, or longer ones, than they allow. Until there are fewer, keys
    /// can be deleted and shortened only.
    pub fn set_quotas(&mut self, quotas: Option<Quotas>, now: Duration) -> Result<bool, SetError> {
        if self.quotas == quotas {
            return Ok(false);
        }
        self.quotas = quotas;
        let limits = self.own_limits();
        let is_afresh = own_keys::settle(&mut self.cluster, limits)?;
        if is_afresh {
            self.note_change(0, now);
        }
        Ok(is_afresh)
    }

    fn own_limits(&self) -> OwnLimits {
        let delta_room = self.delta_room(0);
        // Others expect a state that fits into a message of the usual length to arrive at once.
        let of_leaf = self.quotas.map(most_of_leaf).map(|mut most| {
            if most.all.bytes <= MAX_DATAGRAM_LEN {
                most.visible.bytes = most.visible.bytes.min(delta_room / 4 * 3);
                most.all.bytes = most.all.bytes.min(delta_room);
            }
            most
        });
        OwnLimits {
            delta_room,
            max_bytes: self.config.max_bytes_per_member,
            of_leaf,
        }
    }

    /// Notes a change of this member's keys above version `above`, to be pushed.
    fn note_change(&mut self, above: Version, now: Duration) {
        self.rumours.note(self.cluster.self_id(), above, None, now);
    }

    /// Returns whether a member is live; one that is unknown is dead.
    pub(crate) fn liveness(&self, id: &ChitchatId) -> Liveness {
        if id == self.id() {
            Liveness::Myself
        } else if self.detector.is_live(id) {
            Liveness::Live
        } else if self.detector.has_left(id) {
            Liveness::Left
        } else {
            Liveness::Dead
        }
    }

    /// Performs a round: collects garbage, sends Syns to a few members, and judges all members.
    /// Returns true if the membership has changed.
    fn round(&mut self, now: Duration, outputs: &mut Vec<Output>) -> bool {
        self.counts.rounds += 1;
        if let Some(pause) = self.schedule.begin(now, self.config.gossip_interval) {
            self.detector.forgive(pause, now, |_| true);
        }
        self.excuse_outage(now);
        self.forget_versions();
        self.cluster.forget_cores();
        self.note_silence(now);
        self.judge_reported(now);
        self.policy.forget_gone(now);
        self.routes.begin_interval();
        self.syns.forget_idle(now);
        self.syn_acks.forget_idle(now);
        self.load.forget_idle(now);
        self.beat();
        let grace = self.config.marked_for_deletion_grace_period;
        let mut changed = self.cluster.collect_garbage(grace, now);
        let candidates = self.candidates(now);
        if self.contacts.len() > candidates.len() {
            self.contacts.retain(|addr| candidates.contains(addr));
        }
        let mut chosen = selection::choose(&candidates, &mut self.rng);
        chosen.extend(self.member_to_meet(&candidates, &chosen));
        self.schedule.end(chosen.len());
        let routes = &self.routes;
        let connected = |addr: &SocketAddr| routes.is_connected(*addr) && routes.may_dial(*addr);
        self.selected = chosen.iter().copied().filter(connected).collect();
        let catch_up = &self.catch_up;
        chosen.retain(|addr| !catch_up.is_going_on(*addr, now));
        self.ask(&chosen, now, outputs);
        changed |= self.detector.judge(self.cluster.others(), now);
        changed |= self.watch_leaves(now);
        let forgotten = self.detector.take_forgotten(self.left_for(now), now);
        changed |= !forgotten.is_empty();
        self.cluster.forget(&forgotten);
        changed
    }

    fn beat(&mut self) {
        let own = self.cluster.own();
        own.heartbeat = own.heartbeat.saturating_add(1);
    }

    /// Returns the bytes for a delta in a message with a header and `taken` further bytes.
    fn delta_room(&self, taken: usize) -> usize {
        self.config
            .max_message_len
            .saturating_sub(HEADER_LEN)
            .saturating_sub(taken)
    }
}
