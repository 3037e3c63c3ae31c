//! What is known of all members, and the Scuttlebutt reconciliation between two such views.
//!
//! After van Renesse et al., "Efficient reconciliation and flow control for anti-entropy
//! protocols" (2008), with upstream chitchat's rules of order and of resets. It knows no time but
//! its arguments and sends nothing. Invariants: digests create members, deltas never do; our own
//! state is changed by nobody but ourselves; the memory that others can make us use is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use super::node_state::{Applied, Limits, NodeState};
use super::order::{self, Members, Rank};
use crate::message::{
    ChitchatId, Delta, DeltaBuilder, Digest, NodeDigest, ProtocolVersion, Version,
};

/// Versions and heartbeats above this are not believed of ourselves: nobody gets there honestly,
/// and there must be room to go on.
const MAX_CREDIBLE: u64 = u64::MAX / 2;
/// A longer name is not taken in: a few of them could fill every message. Nobody has one.
pub(super) const MAX_NODE_ID_LEN: usize = 1024;
/// Members that were forgotten and are remembered as such, so that a peer that still speaks of
/// them does not bring them back. Upstream's number.
const FORGOTTEN_HISTORY: usize = 5_000;

#[derive(Debug)]
pub(super) struct Cluster {
    self_id: ChitchatId,
    nodes: Members<NodeState>,
    forgotten: Forgotten,
    limits: ClusterLimits,
    // Where the next digest that has no room for everyone begins.
    digest_cursor: Option<ChitchatId>,
    // Of all keys and values of the others.
    foreign_bytes: usize,
    /// Members that were heard of and not taken in, for want of room or with too long a name.
    pub(super) refused_members: u64,
    /// Times that a member's keys were not taken in, for want of room.
    pub(super) refused_keys: u64,
}

/// What others can make us remember.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterLimits {
    pub(super) max_members: usize,
    pub(super) max_bytes_per_member: usize,
    /// Of all others together.
    pub(super) max_bytes: usize,
}

/// The last heartbeats of members that were forgotten; the oldest go first.
#[derive(Debug, Default)]
struct Forgotten {
    heartbeats: Members<u64>,
    order: VecDeque<ChitchatId>,
}

impl Cluster {
    pub(super) fn new(self_id: ChitchatId, limits: ClusterLimits) -> Self {
        let mut nodes = Members::new();
        nodes.insert(self_id.clone(), NodeState::default());
        Self {
            self_id,
            nodes,
            forgotten: Forgotten::default(),
            limits,
            digest_cursor: None,
            foreign_bytes: 0,
            refused_members: 0,
            refused_keys: 0,
        }
    }

    pub(super) fn self_id(&self) -> &ChitchatId {
        &self.self_id
    }

    pub(super) fn own(&mut self) -> &mut NodeState {
        let own = self.nodes.entry(self.self_id.clone());
        own.or_default()
    }

    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = (&ChitchatId, &NodeState)> {
        self.nodes.iter()
    }

    pub(super) fn get(&self, id: &ChitchatId) -> Option<&NodeState> {
        self.nodes.get(id)
    }

    pub(super) fn own_ref(&self) -> Option<&NodeState> {
        self.nodes.get(&self.self_id)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &ChitchatId> {
        self.nodes.keys().filter(|id| **id != self.self_id)
    }

    /// Takes a peer's word for who is there, how far their heartbeats have come, and what it knows
    /// of ourselves.
    pub(super) fn note_heartbeats<'a>(&mut self, digest: &'a Digest) -> Beats<'a> {
        let mut beats = Beats::default();
        let (mut own, mut strangers) = (None, Vec::new());
        let self_id = &self.self_id;
        let said = digest.node_digests.iter();
        order::meet(&mut self.nodes, said, |id, known, said| match known {
            Some(_) if id == self_id => own = Some(*said),
            Some(state) => {
                if state.note_heartbeat(said.heartbeat) {
                    beats.risen.push(id);
                }
            }
            None => strangers.push((id, said.heartbeat)),
        });
        if let Some(known) = own {
            self.catch_up_with_own_past(known);
        }
        for (id, heartbeat) in strangers {
            beats.has_new |= self.note_heartbeat(id, heartbeat) == Noted::New;
        }
        beats
    }

    /// Notes the heartbeat of a member that a peer knows; true if it shows life.
    pub(super) fn note_heartbeat(&mut self, id: &ChitchatId, heartbeat: u64) -> Noted {
        if let Some(state) = self.nodes.get_mut(id) {
            return if state.note_heartbeat(heartbeat) {
                Noted::Risen
            } else {
                Noted::Nothing
            };
        }
        if self.forgotten.last_heartbeat(id) >= Some(heartbeat) {
            return Noted::Nothing;
        }
        if self.nodes.len() >= self.limits.max_members || id.node_id.len() > MAX_NODE_ID_LEN {
            self.refused_members += 1;
            return Noted::Nothing;
        }
        self.forgotten.take(id);
        let mut state = NodeState::default();
        state.note_heartbeat(heartbeat);
        self.nodes.insert(id.clone(), state);
        Noted::New
    }

    /// What a peer says of ourselves. Only after a restart under the same id and generation can it
    /// be ahead of us in anything; then our keys are made newer than all that it knows, and what it
    /// has of our earlier life is wiped, since nobody sets our keys but we.
    pub(super) fn catch_up_with_own_past(&mut self, known: NodeDigest) {
        let own = self.own();
        let floor = known.max_version.max(known.last_gc_version);
        let mut earlier_life = floor > own.max_version;
        if known.heartbeat > own.heartbeat && known.heartbeat <= MAX_CREDIBLE {
            own.heartbeat = known.heartbeat;
            // Even if we have set more keys by now than we had then: theirs are the old ones.
            earlier_life |= floor > 0;
        }
        if earlier_life && floor <= MAX_CREDIBLE {
            own.start_afresh_above(floor);
        }
    }

    /// Takes what a peer sent.
    pub(super) fn apply(&mut self, delta: Delta, now: Duration) -> Learnt {
        let mut learnt = Learnt::default();
        for node_delta in delta.node_deltas {
            if node_delta.chitchat_id == self.self_id {
                self.catch_up_with_own_past(NodeDigest {
                    heartbeat: 0,
                    last_gc_version: node_delta.last_gc_version,
                    max_version: node_delta.max_version,
                });
                continue;
            }
            let id = node_delta.chitchat_id.clone();
            let Some(state) = self.nodes.get_mut(&id) else {
                learnt.has_gap = true;
                continue;
            };
            let known = state.max_version;
            let above = node_delta.from_version_excluded.min(known);
            let claimed = node_delta.max_version;
            let of_the_others = self.foreign_bytes.saturating_sub(state.bytes());
            let limits = Limits {
                // Twice what a member may have: of several changes only the last of each key is
                // sent, and so one that grew may come before the one that made room for it.
                max_bytes: (self.limits.max_bytes_per_member.saturating_mul(2))
                    .min(self.limits.max_bytes.saturating_sub(of_the_others)),
            };
            match state.apply(node_delta, limits, now) {
                Applied::Rejected => learnt.has_gap |= claimed > known,
                Applied::Changed => {
                    learnt.changed = true;
                    learnt.news.push((id, above));
                }
                Applied::Reset => {
                    learnt.changed = true;
                    learnt.news.push((id, 0));
                }
                Applied::Truncated { changed } => {
                    self.refused_keys += 1;
                    learnt.changed |= changed;
                }
            }
            self.foreign_bytes = of_the_others + state.bytes();
        }
        learnt
    }

    /// What is known of the members in `news`, each above the version beside it, in at most `room`
    /// bytes. Nobody is told to start afresh by it who has not to.
    pub(super) fn delta_above(
        &self,
        news: &Members<Version>,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Delta {
        let mut digest = Digest::default();
        for (id, above) in news {
            let last_gc_version = self.nodes.get(id).map_or(0, |state| state.last_gc_version);
            let known = NodeDigest {
                last_gc_version,
                max_version: *above,
                ..NodeDigest::default()
            };
            digest.node_digests.insert(id.clone(), known);
        }
        let skip = |id: &ChitchatId| !news.contains_key(id) || skip(id);
        self.delta(&digest, room, skip, rng)
    }

    /// Who is known, and how far, for a message with `room` bytes for it. `skip` are members that
    /// are no longer spoken of.
    ///
    /// Where there is not room for all, the digest has ourselves and then as many others as fit,
    /// taking turns from digest to digest.
    pub(super) fn digest(
        &mut self,
        version: ProtocolVersion,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
    ) -> Digest {
        let mut digest = Digest::default();
        let nodes = self.nodes.iter().filter(|(id, _)| !skip(id));
        digest
            .node_digests
            .extend(nodes.map(|(id, state)| (id.clone(), state.digest())));
        if digest.encoded_len_bound(version) <= room {
            self.digest_cursor = None;
            return digest;
        }
        let mut all = std::mem::take(&mut digest.node_digests);
        if let Some(own) = all.remove(&self.self_id) {
            digest.node_digests.insert(self.self_id.clone(), own);
        }
        let start = self.digest_cursor.take();
        let (before, from): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(id, _)| start.as_ref().is_some_and(|start| id < start));
        let mut len = digest.encoded_len_bound(version);
        for (id, node_digest) in from.into_iter().chain(before) {
            // The bound of a block stream is not quite additive: its blocks have headers.
            let entry_len = id.digest_entry_len();
            let entry_len = entry_len + entry_len / 1024 + 4;
            if len + entry_len > room {
                if digest.node_digests.len() <= 1 {
                    // It fits into no digest: not even the next one can begin with it.
                    continue;
                }
                self.digest_cursor = Some(id);
                break;
            }
            len += entry_len;
            digest.node_digests.insert(id, node_digest);
        }
        digest
    }

    /// What a peer with `digest` lacks, in at most `room` bytes. Members that it does not know
    /// come first, the smallest before the largest; then those of whom it lacks the most. `rng`
    /// orders equals.
    pub(super) fn delta(
        &self,
        digest: &Digest,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Delta {
        // Both are in the same order: one walk instead of a search for each.
        let mut theirs = digest.node_digests.iter().peekable();
        let stale: Vec<Stale<'_>> = self
            .nodes
            .iter()
            .filter_map(|(id, state)| {
                while theirs.next_if(|(other, _)| *other < id).is_some() {}
                let known = theirs.next_if(|(other, _)| *other == id);
                let known = known.map(|(_, known)| *known).unwrap_or_default();
                let stale = Stale::of(id, state, known, rng)?;
                (!skip(id)).then_some(stale)
            })
            .collect();
        let stale = order::sorted(stale, |stale| stale.order);
        let mut builder = DeltaBuilder::new(room);
        'nodes: for stale in stale {
            let Stale {
                id, state, from, ..
            } = stale;
            let entries = state.stale_entries(from);
            // What could not go out even alone holds up its own node only. (Upstream's ends here.)
            if let Some((key, entry)) = entries.first()
                && DeltaBuilder::len_bound_alone(id, key, &entry.value) > room
            {
                continue;
            }
            if !builder.try_add_node(id, state.last_gc_version, from) {
                break;
            }
            let mut reached = from;
            for (key, entry) in entries {
                let added =
                    builder.try_add_key_value(key, &entry.value, entry.version, entry.status);
                if !added {
                    break 'nodes;
                }
                reached = entry.version;
            }
            if reached < state.max_version && !builder.try_set_max_version(state.max_version) {
                break;
            }
        }
        builder.finish()
    }

    /// Our own state as a peer takes it unasked: all of it if it fits, else the newest changes
    /// that fit, which whoever knows the older ones can apply.
    pub(super) fn own_delta(&self, room: usize) -> Delta {
        let Some(own) = self.own_ref() else {
            return Delta::default();
        };
        let above = |floor: Version| {
            let mut news = Members::new();
            news.insert(self.self_id.clone(), floor);
            self.delta_above(&news, room, |_| false, &mut fastrand::Rng::with_seed(0))
        };
        let is_whole = |delta: &Delta| {
            let reached = delta.node_deltas.first().map(|node| node.max_version);
            reached.is_none_or(|reached| reached == own.max_version)
        };
        let entries = own.stale_entries(0);
        let versions = entries.iter().map(|(_, entry)| entry.version);
        let floors: Vec<_> = std::iter::once(0).chain(versions).collect();
        let lowest = floors.partition_point(|floor| !is_whole(&above(*floor)));
        floors
            .get(lowest)
            .map_or_else(Delta::default, |floor| above(*floor))
    }

    /// Collects what has outlived its grace period; true if a visible key went.
    pub(super) fn collect_garbage(&mut self, grace: Duration, now: Duration) -> bool {
        let mut visible_went = false;
        for (_, state) in self.nodes.iter_mut() {
            visible_went |= state.collect_garbage(grace, now);
        }
        let all: usize = self.nodes.values().map(NodeState::bytes).sum();
        self.foreign_bytes = all.saturating_sub(self.own().bytes());
        visible_went
    }

    /// Forgets a member that has been dead for long.
    pub(super) fn forget(&mut self, id: &ChitchatId) {
        if *id == self.self_id {
            return;
        }
        if let Some(state) = self.nodes.remove(id) {
            self.foreign_bytes = self.foreign_bytes.saturating_sub(state.bytes());
            self.forgotten.put(id.clone(), state.heartbeat);
        }
    }

    /// Whether a member with the same name and a later generation is known.
    pub(super) fn is_superseded(&self, id: &ChitchatId) -> bool {
        // Ids are in the order of name and generation: those of the same name lie together.
        let (Ok(first) | Err(first)) = self.nodes.find_index(id);
        self.nodes
            .iter()
            .skip(first)
            .take_while(|(other, _)| other.node_id == id.node_id)
            .any(|(other, _)| other.generation_id > id.generation_id)
    }
}

/// What a delta has brought.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Whether anything visible may have changed.
    pub(super) changed: bool,
    /// Of whom something was new, above which version.
    pub(super) news: Vec<(ChitchatId, Version)>,
    /// Whether it spoke of something that we lack and could not take.
    pub(super) has_gap: bool,
}

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Nothing,
    /// A member that was not known.
    New,
    /// A sign of life.
    Risen,
}

/// What a digest has said of everyone.
#[derive(Debug, Default)]
pub(super) struct Beats<'a> {
    /// Whether a member is new.
    pub(super) has_new: bool,
    /// Members that have shown life, in their order.
    pub(super) risen: Vec<&'a ChitchatId>,
}

/// A member of whom a peer lacks something.
struct Stale<'a> {
    id: &'a ChitchatId,
    state: &'a NodeState,
    from: Version,
    /// Ascending: who comes first.
    order: Rank,
}

impl<'a> Stale<'a> {
    fn of(
        id: &'a ChitchatId,
        state: &'a NodeState,
        known: NodeDigest,
        rng: &mut fastrand::Rng,
    ) -> Option<Self> {
        if state.max_version <= known.max_version {
            return None;
        }
        // Tombstones that the peer has not seen are gone here: it has to start afresh.
        let afresh = known.last_gc_version < state.last_gc_version
            && known.max_version < state.last_gc_version;
        let from = if afresh { 0 } else { known.max_version };
        let is_known = from > 0;
        let rank = if is_known {
            u64::MAX - state.stale_count(from) as u64
        } else {
            state.max_version
        };
        Some(Self {
            id,
            state,
            from,
            order: (is_known, rank, rng.u64(..)),
        })
    }
}

impl Forgotten {
    fn last_heartbeat(&self, id: &ChitchatId) -> Option<u64> {
        self.heartbeats.get(id).copied()
    }

    fn take(&mut self, id: &ChitchatId) {
        if self.heartbeats.remove(id).is_some() {
            self.order.retain(|other| other != id);
        }
    }

    fn put(&mut self, id: ChitchatId, heartbeat: u64) {
        if self.heartbeats.insert(id.clone(), heartbeat).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > FORGOTTEN_HISTORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.heartbeats.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
