//! The protocol itself: events in, outputs out, time as an argument.
//!
//! No runtime, no socket, no clock, no task: whoever drives it calls [`Engine::handle`] with what
//! has happened and does what the outputs say. Time is a [`Duration`] since any fixed moment; it
//! may not run backwards. Invariant: the same seed and the same calls give the same outputs.
//!
//! The rules are upstream chitchat's; where this one is stricter, it says so at the spot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::GossipConfig;
use super::cluster::{Cluster, ClusterLimits, Learnt};
use super::contacts::Contacts;
use super::failure_detector::FailureDetector;
use super::member::{Liveness, Member, MemberValue, SetError};
use super::node_state::NodeState;
use super::order;
use super::peers::{self, Candidates};
use super::rumours::Rumours;
use crate::message::{
    ChitchatId, ChitchatMessage, Delta, Digest, HEADER_LEN, NodeDelta, ProtocolVersion,
    syn_overhead,
};

/// What a SynAck's digest leaves for its delta, at least: enough for news to get through even in a
/// cluster whose digest fills the message.
const MIN_DELTA_ROOM: usize = 4 << 10;
/// A pause between two of our rounds of more than so many intervals is a sleep of ours (a frozen
/// tab, a suspended laptop) and not the others' silence.
const PAUSE_INTERVALS: u32 = 4;
/// Who has not answered within so many intervals is asked less.
const ANSWER_INTERVALS: u32 = 2;

/// A participant's protocol, without its network.
#[derive(Debug)]
pub struct Engine {
    config: GossipConfig,
    cluster: Cluster,
    detector: FailureDetector,
    contacts: Contacts,
    seeds: BTreeSet<SocketAddr>,
    rng: fastrand::Rng,
    last_round: Option<Duration>,
    rumours: Rumours,
    counts: EngineCounts,
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A round is due: [`Engine::next_round`].
    Round,
    /// News is to be told: [`Engine::next_rumours`].
    Rumours,
    /// A message has come; a reply goes to `from`.
    Message {
        /// Where it came from.
        from: SocketAddr,
        /// What it says.
        message: ChitchatMessage,
    },
    /// The addresses of the seeds are now these.
    Seeds(Vec<SocketAddr>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send {
        /// To this address.
        to: SocketAddr,
        /// The message; never longer than the configured limit.
        message: ChitchatMessage,
    },
    /// Members, their liveness or their keys have changed.
    MembershipChanged,
}

/// What an engine has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EngineCounts {
    /// Rounds.
    pub rounds: u64,
    /// Messages that told news between rounds.
    pub rumours_sent: u64,
    /// Syns of another cluster, answered with a BadCluster.
    pub foreign_syns: u64,
    /// BadClusters received: a peer says that we are of another cluster.
    pub rejections: u64,
    /// Members that were heard of and not taken in, once for each time: there were too many, or
    /// their names were longer than 1,024 bytes.
    pub refused_members: u64,
    /// Times that a member's keys were not taken in, or not all of them: its state, or the state of
    /// all members together, would have been too large.
    pub refused_keys: u64,
}

impl Engine {
    /// A participant `id` at time `now`, with the configuration's keys set.
    ///
    /// # Errors
    ///
    /// One of the keys cannot be set.
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
            last_round: None,
            rumours: Rumours::new(config.rumours.clone()),
            counts: EngineCounts::default(),
            config,
        };
        for (key, value) in std::mem::take(&mut engine.config.initial_key_values) {
            engine.set(&key, &value, now)?;
        }
        // What is there from the beginning is no news: whoever hears of us asks for it.
        engine.rumours = Rumours::new(engine.config.rumours.clone());
        Ok(engine)
    }

    /// Who we are.
    pub fn id(&self) -> &ChitchatId {
        self.cluster.self_id()
    }

    /// When the next round is due.
    pub fn next_round(&self) -> Duration {
        self.last_round
            .map_or(Duration::ZERO, |last| last + self.config.gossip_interval)
    }

    /// When news is to be told; `None` while there is none.
    pub fn next_rumours(&self) -> Option<Duration> {
        self.rumours.due()
    }

    /// Takes what has happened and says what to do.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        let changed = match event {
            Event::Round => self.round(now, &mut outputs),
            Event::Rumours => {
                self.tell_rumours(now, &mut outputs);
                false
            }
            Event::Message { from, message } => self.message(from, message, now, &mut outputs),
            Event::Seeds(seeds) => {
                let own = self.id().gossip_advertise_addr;
                self.seeds = order::set(seeds.into_iter().filter(|addr| *addr != own));
                false
            }
        };
        if changed {
            outputs.push(Output::MembershipChanged);
        }
        outputs
    }

    /// A key of `member`, without a copy of everyone's; `None` if either is not known.
    pub fn member_value(&self, member: &ChitchatId, key: &str) -> Option<&str> {
        self.cluster.get(member)?.get(key)
    }

    /// Every member known, ourselves included, in the order of their ids.
    pub fn members(&self) -> Vec<Member> {
        self.cluster
            .nodes()
            .map(|(id, state)| Member {
                id: id.clone(),
                liveness: self.liveness(id),
                superseded: self.cluster.is_superseded(id),
                heartbeat: state.heartbeat,
                max_version: state.max_version,
                key_values: visible(state),
            })
            .collect()
    }

    /// The silence after which `id` would be found dead, as things stand; `None` if that cannot be
    /// told yet, and for ourselves.
    pub fn failure_detection_timeout(&self, id: &ChitchatId) -> Option<Duration> {
        self.detector.timeout(id)
    }

    /// What has been counted.
    pub fn counts(&self) -> EngineCounts {
        EngineCounts {
            refused_members: self.cluster.refused_members,
            refused_keys: self.cluster.refused_keys,
            ..self.counts
        }
    }

    /// Tells a few live peers all of our own state, unasked: for a participant that leaves. Where
    /// that takes more than a message, its newest part.
    pub fn farewell(&mut self, now: Duration) -> Vec<Output> {
        let delta = self.cluster.own_delta(self.delta_room(0));
        let candidates = self.candidates(now);
        let chosen = peers::choose_live(&candidates, &mut self.rng);
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

    fn liveness(&self, id: &ChitchatId) -> Liveness {
        if id == self.id() {
            Liveness::Myself
        } else if self.detector.is_live(id) {
            Liveness::Live
        } else {
            Liveness::Dead
        }
    }

    /// One round: gossip with a few, collect garbage, judge everyone.
    fn round(&mut self, now: Duration, outputs: &mut Vec<Output>) -> bool {
        self.counts.rounds += 1;
        self.forgive_own_pause(now);
        self.last_round = Some(now);
        self.beat();
        let grace = self.config.marked_for_deletion_grace_period;
        let mut changed = self.cluster.collect_garbage(grace, now);
        let syn = self.syn(now);
        let candidates = self.candidates(now);
        if self.contacts.len() > candidates.len() {
            self.contacts.retain(|addr| candidates.contains(addr));
        }
        for to in peers::choose(&candidates, &mut self.rng) {
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

    /// Tells a few live members what is new, unasked.
    fn tell_rumours(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let news = self.rumours.begin(now);
        if news.is_empty() {
            return;
        }
        let candidates = self.candidates(now);
        let live = candidates.reachable();
        let room = self.rumours.room(now).min(self.delta_room(0));
        let detector = &self.detector;
        let skip = |id: &ChitchatId| detector.is_scheduled_for_deletion(id, now);
        let delta = self.cluster.delta_above(&news, room, skip, &mut self.rng);
        let chosen = if delta.node_deltas.is_empty() {
            Vec::new()
        } else {
            let mut chosen = self.rumours.choose(live, &mut self.rng);
            peers::include_an_answering_one(&mut chosen, &candidates, &mut self.rng);
            chosen
        };
        let len = approximate_len(&delta);
        self.rumours.end(chosen.len(), live.len(), len);
        self.counts.rumours_sent += chosen.len() as u64;
        let version = self.config.protocol_version;
        let message = ChitchatMessage::Ack { version, delta };
        outputs.extend(chosen.into_iter().map(|to| Output::Send {
            to,
            message: message.clone(),
        }));
    }

    /// Takes a delta, and passes on what is new in it.
    fn learn(&mut self, delta: Delta, now: Duration) -> Learnt {
        let learnt = self.cluster.apply(delta, now);
        for (id, above) in &learnt.news {
            self.rumours.note(id, *above, now);
        }
        learnt
    }

    fn forgive_own_pause(&mut self, now: Duration) {
        let Some(last) = self.last_round else {
            return;
        };
        let interval = self.config.gossip_interval;
        let gap = now.saturating_sub(last);
        if gap > interval.saturating_mul(PAUSE_INTERVALS) {
            self.detector.forgive(gap - interval, now);
        }
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
        let live = addrs(&mut self.detector.live());
        // A member that has restarted where it was before is not asked as a dead one, too.
        // Nor is one that is known to have become another: a tab that was reloaded, say.
        let cluster = &self.cluster;
        let mut dead = addrs(&mut self.detector.dead().filter(|id| !cluster.is_superseded(id)));
        dead.retain(|addr| !live.contains(addr));
        Candidates {
            // Asked only while nobody lives.
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
        // At every message as well as in every round, as upstream does.
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
                        "a peer says that it is of another cluster"
                    );
                }
                false
            }
        }
    }

    /// Takes a digest's word for who is there and who lives; true if there is anyone new.
    fn note_heartbeats(&mut self, digest: &Digest, now: Duration) -> bool {
        let noted = self.cluster.note_heartbeats(digest);
        self.detector.heartbeats(noted.risen.into_iter(), now);
        noted.has_new
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

    /// Bytes for a delta in a message that has `taken` bytes beside it and its header.
    fn delta_room(&self, taken: usize) -> usize {
        self.config
            .max_message_len
            .saturating_sub(HEADER_LEN)
            .saturating_sub(taken)
    }
}

/// The keys of a member as users see them.
fn visible(state: &NodeState) -> BTreeMap<String, MemberValue> {
    let entries = state.entries().filter(|(_, entry)| entry.is_visible());
    let mut visible = BTreeMap::new();
    visible.extend(entries.map(|(key, entry)| {
        let value = MemberValue {
            value: entry.value.clone(),
            version: entry.version,
            status: entry.status,
        };
        (key.to_owned(), value)
    }));
    visible
}

/// What `delta` takes before compression, roughly.
fn approximate_len(delta: &Delta) -> usize {
    let of_node = |node: &NodeDelta| {
        let keys = node
            .key_values
            .iter()
            .map(|kv| kv.key.len() + kv.value.len() + 16);
        keys.sum::<usize>() + node.chitchat_id.node_id.len() + 64
    };
    delta.node_deltas.iter().map(of_node).sum()
}

mod own_keys;
#[cfg(test)]
mod tests;
