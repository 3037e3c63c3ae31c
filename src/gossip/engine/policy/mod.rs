//! What a peer may change: decides for each message which of its parts are applied, by the role of its sender.
//!
//! | from | may change |
//! |---|---|
//! | core | everything |
//! | leaf | the member at its own key address. Its name begins with the prefix of the invite, is at most 256 bytes long and is not that of a core member; its generation is at most two minutes ahead; heartbeats and versions are below 2^53; there are at most six generations in a minute, of all holders of an invite six times its connections, and as many keys, bytes and changes per second as the invite allows; of the reserved keys, it may set only the one that says that it has left |
//! | unauthenticated | members that are reached over UDP only: none at a key address or at the address of a core member; no new one with the name or address of a live core member; no reserved keys; heartbeats and versions are below 2^53. Of the receiver itself, what a restart needs. A receiver that has no cluster secret and has met no peer with an identity reaches everyone over UDP |
//!
//! What is left out is counted ([`Denial`]). A digest has two uses: it says what the sender knows, which determines
//! what is sent to it, and it reports members. Only the reports are restricted, so a leaf is sent what it lacks.
//!
//! A core member is a peer that has proved to know the cluster's secret, to us or to another core member. Where one has
//! been is remembered ([`Cores`](super::cores::Cores), which has the rules for those that were not met yet) until it is found
//! dead and its address sends plain datagrams: then its next generation is reached over UDP.
//!
//! This module sends nothing, and changes no member; `rules` has the table as a pure function, `quotas` judges the
//! changes of a leaf, and `introductions` limits what members over UDP hear of leaves. Invariants: a message of a core member is neither
//! copied nor searched; whatever others send, no core member changes by it, nor what it says about itself.

mod introductions;
mod leaves;
mod quotas;
mod rules;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::Cluster;
use super::cores::{Owner, Reporter};
use super::denial::{Denial, DenialCounts};
use super::event::Connection;
use super::failure_detector::FailureDetector;
use super::node_state::NodeState;
use super::order;
use crate::credential::{Identity, InviteId, NamePrefix, Refusal, Role, is_key_address};
use crate::message::{ChitchatId, ChitchatMessage, Delta, Digest, NodeDigest, NodeId};

pub(super) use introductions::Introductions;
use leaves::Leaves;
pub(super) use leaves::most_of_leaf;
use rules::{MayLearn, Speaker, Subject};

/// The time for which a member learns from unauthenticated peers what it was before it restarted. Those that knew it
/// say so in the first exchange, a round after its start.
const RESTART: Duration = Duration::from_secs(60);
/// The time by which the clocks of honest leaves may be ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(2 * 60);

/// The sender of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    pub(super) addr: SocketAddr,
    pub(super) identity: Identity,
    pub(super) role: Role,
}

impl Sender {
    /// Returns true if the sender has an identity, so that nobody else can send from its address.
    pub(super) fn is_proved(&self) -> bool {
        self.identity != Identity::UNPROVED
    }

    pub(super) fn is_proved_core(&self) -> bool {
        self.role == Role::Core && self.is_proved()
    }

    pub(super) fn reporter(&self) -> Reporter {
        match self.role {
            Role::Core if self.is_proved() => Reporter::Core,
            Role::Unauthenticated => Reporter::OverUdp,
            _ => Reporter::Other,
        }
    }
}

/// What the receiver knows.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) detector: &'a FailureDetector,
    /// Core members that were heard, or first reported, since then may be live, whatever the detector has found.
    pub(super) recent: Duration,
    pub(super) names: &'a NameCache,
}

/// A cache of what was found out about names, for one message: thousands of members may have the same name, and a
/// message may list it a thousand times.
#[derive(Debug, Default)]
pub(super) struct NameCache(RefCell<BTreeMap<(NodeId, bool), bool>>);

/// Decides what is applied, and remembers what it needs for that.
#[derive(Debug)]
pub(super) struct Policy {
    leaves: Leaves,
    start: Duration,
    /// The time since 1970 at a time of the engine, once the driver has said it.
    clock: Option<Clock>,
    pub(super) denied: DenialCounts,
    /// See [`Policy::refusal`].
    refusal: Option<Refusal>,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    unix: Duration,
    at: Duration,
}

impl Policy {
    pub(super) fn new(start: Duration) -> Self {
        Self {
            leaves: Leaves::default(),
            start,
            clock: None,
            denied: DenialCounts::default(),
            refusal: None,
        }
    }

    /// Notes the time since 1970.
    pub(super) fn set_clock(&mut self, unix: Duration, now: Duration) {
        self.clock = Some(Clock { unix, at: now });
    }

    /// Notes the connections, some of which may be of leaves.
    pub(super) fn connect(&mut self, connections: &[Connection], now: Duration) {
        self.leaves.connect(connections, now);
    }

    /// Returns the invite of the leaf at `addr`, if it is connected or was a short time ago.
    pub(super) fn invite_of(&self, addr: SocketAddr) -> Option<InviteId> {
        self.leaves.invite_of(addr)
    }

    /// Takes out of the delta of `message` what its sender may not change. Returns the part of its digest
    /// that may be applied, or `None` if that is all of it.
    pub(super) fn restrict(
        &mut self,
        sender: Sender,
        message: &mut ChitchatMessage,
        known: Known<'_>,
        now: Duration,
    ) -> Option<Digest> {
        self.refusal = None;
        if sender.role == Role::Core {
            return None;
        }
        let (digest, delta) = match message {
            ChitchatMessage::Syn { digest, .. } => (Some(digest), None),
            ChitchatMessage::SynAck { digest, delta, .. } => (Some(digest), Some(delta)),
            ChitchatMessage::Ack { delta, .. } => (None, Some(delta)),
            ChitchatMessage::BadCluster { .. } => (None, None),
        };
        match sender.role {
            Role::Leaf => self.restrict_leaf(sender, digest, delta, known, now),
            _ => self.restrict_unauthenticated(digest, delta, known, now),
        }
    }

    /// Returns why the leaf which has sent the last message cannot be a member, if that is so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    fn restrict_unauthenticated(
        &mut self,
        digest: Option<&mut Digest>,
        delta: Option<&mut Delta>,
        known: Known<'_>,
        now: Duration,
    ) -> Option<Digest> {
        let has_met = !known.cluster.cores.is_empty() || !self.leaves.is_empty();
        let is_alone = !has_met && !known.cluster.has_secrets();
        let past = match is_alone || now < self.start.saturating_add(RESTART) {
            true => MayLearn::Yes,
            false => MayLearn::No,
        };
        let speaker = Speaker::Unauthenticated { past };
        let denied = &mut self.denied;
        // A member that expects no peer with an identity reaches everyone over UDP only, those behind bridges too.
        let subject_of = |id: &ChitchatId, is_known: bool| match known.subject(id, is_known) {
            Subject::Known(_) if is_alone => Subject::Known(Owner::Unproved),
            Subject::Unknown { is_taken, .. } if is_alone => Subject::Unknown {
                owner: Owner::Unproved,
                is_taken,
            },
            subject => subject,
        };
        let digest = digest.map(|digest| {
            select(digest, known, denied, |id, state, listed| {
                let subject = subject_of(id, state.is_some());
                let denial = rules::denial(speaker, id, subject);
                // Any version was accepted by members of clusters without identities, and still is.
                denial.or_else(|| {
                    let is_faulty = !is_alone && !rules::is_credible(listed);
                    is_faulty.then_some(of_numbers(subject))
                })
            })
        });
        let delta = delta.map(|delta| &mut delta.node_deltas);
        if let Some(deltas) = delta {
            deltas.retain_mut(|delta| {
                let id = &delta.chitchat_id;
                let subject = subject_of(id, known.cluster.get(id).is_some());
                if rules::denial(speaker, id, subject).is_some() {
                    denied.add(of_changes(subject), 1);
                    return false;
                }
                if !is_alone && !rules::are_credible(delta) {
                    denied.add(of_numbers(subject), 1);
                    return false;
                }
                // Another peer may have the key for sure, and must not find it known already.
                let place = delta.key_values.iter().position(rules::is_reserved);
                let cut = rules::cut(delta, place.unwrap_or(usize::MAX));
                denied.add(Denial::ReservedKey, cut);
                cut == 0 || !delta.key_values.is_empty()
            });
        }
        digest
    }

    fn restrict_leaf(
        &mut self,
        sender: Sender,
        digest: Option<&mut Digest>,
        delta: Option<&mut Delta>,
        known: Known<'_>,
        now: Duration,
    ) -> Option<Digest> {
        let own = sender.identity.address();
        let latest = self.latest_generation(now);
        let leaf = self.leaves.get_mut(own, now);
        let is_settled = leaf.as_ref().is_some_and(|(leaf, _)| leaf.is_settled(now));
        let claims = leaf.map(|(leaf, _)| leaf.claims.clone());
        let prefix = claims.as_ref().map(|claims| claims.name_prefix());
        // Nobody proves the placeholder.
        let prefix: Option<&NamePrefix> = prefix.filter(|_| sender.is_proved());
        let speaker = Speaker::Leaf {
            own,
            prefix,
            latest,
        };
        let (mut is_allowed, mut refusal) = (false, None);
        let digest = digest.map(|digest| {
            let mut current = None;
            let (leaves, mut generations) = (&mut self.leaves, DenialCounts::default());
            let selected = select(digest, known, &mut self.denied, |id, state, listed| {
                let subject = known.subject(id, state.is_some());
                let denial = rules::denial(speaker, id, subject);
                let denial = denial.or_else(|| known.denial_of_leaf(id));
                if id.addr() == own {
                    match denial {
                        // What it has sent by its former invite may arrive after it has come with another one.
                        Some(Denial::Name) if !is_settled => {}
                        Some(Denial::Name) => refusal = Some(Refusal::Name),
                        Some(Denial::Generation) => refusal = Some(Refusal::Clock),
                        _ => is_allowed = true,
                    }
                }
                if denial.is_some() {
                    return denial;
                }
                if !rules::is_credible(listed) {
                    return Some(Denial::Version);
                }
                if state.is_some() {
                    return None;
                }
                // The generation that it had before may still be listed as well, which is no lie.
                let current = current.get_or_insert_with(|| known.generation_at(own));
                if current.is_some_and(|current| id.generation_id <= current) {
                    return Some(Denial::Heartbeat);
                }
                let leaf = leaves.get_mut(own, now);
                let may_begin = leaf.is_some_and(|(leaf, invite)| {
                    leaf.may_begin(now) && invite.may_begin(leaf.claims.quotas(), now)
                });
                if may_begin {
                    *current = Some(id.generation_id);
                    return None;
                }
                generations.add(Denial::Generation, 1);
                Some(Denial::Heartbeat)
            });
            self.denied
                .add(Denial::Generation, size(generations.total()));
            selected
        });
        // What it was before, perhaps by another invite, may still be listed as well.
        self.refusal = refusal.filter(|_| !is_allowed);
        if let Some(delta) = delta {
            let mut kept = std::mem::take(&mut delta.node_deltas);
            let begins = |id: &ChitchatId| {
                digest
                    .as_ref()
                    .is_some_and(|d| d.node_digests.contains_key(id))
            };
            let nothing = NodeState::default();
            // Of several generations, only the latest stays.
            let of_own = kept
                .iter()
                .map(|delta| &delta.chitchat_id)
                .filter(|id| id.addr() == own);
            let latest = of_own.max_by_key(|id| id.generation_id).cloned();
            kept.retain_mut(|delta| {
                let id = &delta.chitchat_id;
                if id.addr() == own && Some(id) != latest.as_ref() {
                    self.denied.add(Denial::Changes, 1);
                    return false;
                }
                let state = known.cluster.get(id);
                let subject = known.subject(id, state.is_some());
                let denial = rules::denial(speaker, id, subject);
                if let Some(denial) = denial.or_else(|| known.denial_of_leaf(id)) {
                    let denial = match id.addr() == own {
                        true => denial,
                        false => of_changes(subject),
                    };
                    self.denied.add(denial, 1);
                    return false;
                }
                if !rules::are_credible(delta) {
                    self.denied.add(Denial::Version, 1);
                    return false;
                }
                // The digest of the same message makes it known, before the delta is applied. Otherwise, nothing is.
                let state = state.or_else(|| begins(id).then_some(&nothing));
                state.is_none_or(|state| self.limit_by_quotas(own, delta, state, now))
            });
            delta.node_deltas = kept;
        }
        digest
    }

    /// Returns the highest generation that a leaf may have: the time in two minutes, in microseconds since 1970.
    fn latest_generation(&self, now: Duration) -> u64 {
        let Some(clock) = self.clock else {
            return rules::END_OF_VERSIONS - 1;
        };
        let passed = now.saturating_sub(clock.at);
        let latest = clock.unix.saturating_add(passed).saturating_add(CLOCK_SKEW);
        u64::try_from(latest.as_micros()).unwrap_or(u64::MAX)
    }

    /// Forgets leaves that have been gone for long.
    pub(super) fn forget_gone(&mut self, now: Duration) {
        self.leaves.forget_gone(now);
    }
}

impl Known<'_> {
    fn subject(&self, id: &ChitchatId, is_known: bool) -> Subject {
        let cluster = self.cluster;
        if *id == *cluster.self_id() {
            return Subject::Receiver;
        }
        let mut owner = cluster.owner(id);
        // A generation that has proved it stays core, whoever sends datagrams from its address afterwards.
        let may_be_core = || cluster.cores.is_reported(id.addr()) || cluster.has_proved(id);
        if owner == Owner::Unproved && may_be_core() {
            owner = Owner::Core;
        }
        if is_known {
            return Subject::Known(owner);
        }
        let expects_core = !cluster.cores.is_empty() || cluster.has_secrets();
        let is_taken = expects_core
            && (id.addr() == cluster.self_id().addr() || self.is_name_of_core(id, true));
        Subject::Unknown { owner, is_taken }
    }

    /// Returns true if a core member has the name of `id`, or this one.
    pub(super) fn is_name_of_core(&self, id: &ChitchatId, is_live: bool) -> bool {
        let mut names = self.names.0.borrow_mut();
        let name = names.entry((id.node_id.clone(), is_live));
        *name.or_insert_with(|| self.find_name_of_core(id, is_live))
    }

    fn find_name_of_core(&self, id: &ChitchatId, is_live: bool) -> bool {
        let cores = &self.cluster.cores;
        let mut same_name = self.cluster.named(&id.node_id);
        same_name.any(|other| {
            if *other == *self.cluster.self_id() {
                return true;
            }
            let is_core = self.cluster.owner(other) == Owner::Core;
            if !is_live {
                return is_core && self.has_name(other);
            }
            let may_be_core = is_core || cores.is_reported(other.addr());
            let is_new = || cores.is_recent(other.addr(), self.recent);
            may_be_core && (self.detector.is_live(other) || is_new())
        })
    }

    /// Returns true if the core member at the address of `id` may have its name. Peers over UDP may have told of others
    /// there before it came, and the one that it has proves that it is its own in a cluster with secrets.
    fn has_name(&self, id: &ChitchatId) -> bool {
        let cluster = self.cluster;
        is_key_address(id.addr()) || !cluster.has_secrets() || cluster.has_proved(id)
    }

    fn denial_of_leaf(&self, id: &ChitchatId) -> Option<Denial> {
        let is_taken = self.cluster.owner(id) != Owner::Core && self.is_name_of_core(id, false);
        is_taken.then_some(Denial::Name)
    }

    /// Returns the highest generation of the members at `addr`.
    fn generation_at(&self, addr: SocketAddr) -> Option<u64> {
        let members = self.cluster.others().filter(|id| id.addr() == addr);
        members.map(|id| id.generation_id).max()
    }
}

/// Returns the members of `digest` that `denial` denies nothing. Counts the others if they would have changed anything.
fn select(
    digest: &Digest,
    known: Known<'_>,
    denied: &mut DenialCounts,
    mut denial: impl FnMut(&ChitchatId, Option<&NodeState>, &NodeDigest) -> Option<Denial>,
) -> Digest {
    let mut selected = Digest::default();
    // Both are sorted by id: they are walked once, without a search for each.
    let mut members = known.cluster.nodes().peekable();
    for (id, listed) in digest.node_digests.iter() {
        let state = order::advance(&mut members, id);
        match denial(id, state, listed) {
            None => {
                selected.node_digests.insert(id.clone(), *listed);
            }
            Some(Denial::Heartbeat) => {
                let is_later = state.is_some_and(|state| listed.heartbeat > state.heartbeat);
                denied.add(Denial::Heartbeat, usize::from(is_later));
            }
            Some(Denial::Receiver) => {
                let is_later = state.is_none_or(|state| {
                    let floor = listed.max_version.max(listed.last_gc_version);
                    listed.heartbeat > state.heartbeat || floor > state.max_version
                });
                denied.add(Denial::Receiver, usize::from(is_later));
            }
            Some(other) => denied.add(other, 1),
        }
    }
    selected
}

/// Returns what is counted if a delta is about a member that the sender may not change.
fn of_changes(subject: Subject) -> Denial {
    match subject {
        Subject::Receiver => Denial::Receiver,
        Subject::Known(_) | Subject::Unknown { .. } => Denial::Changes,
    }
}

/// Returns what is counted if a number that a peer over UDP states is not credible.
fn of_numbers(subject: Subject) -> Denial {
    match subject {
        Subject::Receiver => Denial::Receiver,
        Subject::Known(_) | Subject::Unknown { .. } => Denial::Version,
    }
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
