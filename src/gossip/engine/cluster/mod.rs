//! The known states of all members, and the Scuttlebutt reconciliation between two such views.
//!
//! After van Renesse et al., "Efficient reconciliation and flow control for anti-entropy
//! protocols" (2008), with the rules of the published `chitchat` crate for the order of changes and
//! for resets. This file sends nothing and does not judge whether a member is live. Invariants:
//! digests create members, deltas never do; only this member changes its own keys; the memory that
//! other members can make us use is bounded.

mod apply;
mod contradiction;
mod owners;
mod reserved;
mod stale;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use super::config::MAX_NAME_LEN;
use super::cores::{Cores, Owner, Report, Reporter};
use super::forgotten::Forgotten;
use super::node_state::NodeState;
use super::order::{self, Members};
use super::reserved::Reserved;
use super::usage::Usage;
use crate::message::{
    ChitchatId, Delta, DeltaBuilder, Digest, NodeDigest, ProtocolVersion, Version,
};
pub(super) use apply::Learnt;
use stale::{First, Stale, room_for_few};

/// The highest version or heartbeat that we believe a peer to have seen of this member. Honest
/// counting never gets there, and there must be room above it to go on.
const MAX_CREDIBLE: u64 = u64::MAX / 2;

/// The states of all known members, the own one included.
#[derive(Debug)]
pub(super) struct Cluster {
    self_id: ChitchatId,
    nodes: Members<NodeState>,
    forgotten: Forgotten,
    limits: ClusterLimits,
    // The member with which the next digest begins if it has no room for all members.
    digest_cursor: Option<ChitchatId>,
    // The number of members in the last digest, before it was cut to its room.
    last_digest_len: usize,
    // The size of all keys and values of other members.
    foreign_bytes: usize,
    // The part of it that is of leaves, and of members over UDP in a cluster with core members.
    limited_bytes: usize,
    reserved: Reserved,
    /// What this member has collected of its own since peers last dropped what they hold of it. They may hold it still.
    pub(super) collected: Usage,
    /// Where the core members are that have sent messages.
    pub(super) cores: Cores,
    // Generations of leaves that were removed since the last call of `take_replaced`.
    replaced: Vec<ChitchatId>,
    /// Counts leaves that were refused because there is no room for more of them.
    pub(super) refused_leaves: usize,
    /// Counts members that were refused because there is no room, or because their name is too long.
    pub(super) refused_members: u64,
    /// Counts deltas of a member that were applied only in part or not at all, because there is no
    /// room.
    pub(super) refused_keys: u64,
}

/// Bounds of the memory that other members can make us use.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterLimits {
    pub(super) max_members: usize,
    pub(super) max_bytes_per_member: usize,
    /// The size of all other members' keys and values together.
    pub(super) max_bytes: usize,
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
            last_digest_len: 0,
            foreign_bytes: 0,
            reserved: Reserved::default(),
            collected: Usage::default(),
            limited_bytes: 0,
            cores: Cores::default(),
            replaced: Vec::new(),
            refused_leaves: 0,
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

    /// Records the members and heartbeats that the digest of the peer at `from`, which is `by`, lists. Also makes the
    /// own keys newer than those that the digest lists for this member, if they are from before a
    /// restart.
    pub(super) fn note_heartbeats<'a>(
        &mut self,
        digest: &'a Digest,
        from: SocketAddr,
        by: Reporter,
        now: Duration,
    ) -> Beats<'a> {
        let mut beats = Beats {
            risen: Vec::with_capacity(digest.node_digests.len()),
            ..Beats::default()
        };
        let (mut own, mut unknown) = (None, Vec::new());
        let self_id = &self.self_id;
        let listed = digest.node_digests.iter();
        order::meet(&mut self.nodes, listed, |id, known, listed| match known {
            Some(_) if id == self_id => own = Some(*listed),
            Some(state) => {
                if state.note_heartbeat(listed.heartbeat) {
                    beats.risen.push(id);
                }
            }
            None => unknown.push((id, listed.heartbeat)),
        });
        if let Some(known) = own {
            self.catch_up_with_own_past(known);
        }
        let mut added = Vec::new();
        let mut room = None;
        for (id, heartbeat) in unknown {
            let judged = self.judge_newcomer(id, heartbeat, from);
            if matches!(judged, Newcomer::Refused) {
                continue;
            }
            let owner = self.owner(id);
            if room.get_or_insert_with(|| self.free_room()).take(owner) {
                added.push((id, heartbeat));
            } else if matches!(judged, Newcomer::Alive) {
                beats.without_room.push((id, heartbeat));
            } else {
                self.note_refused(owner);
                self.forgotten.put(id.clone(), heartbeat);
            }
        }
        beats.has_new = !added.is_empty();
        for (id, _) in added.iter().chain(&beats.without_room) {
            if id.addr() != self.self_id.addr() {
                let report = Report::of(digest, id, now);
                self.cores.note_first_report(id.addr(), by, report);
            }
        }
        self.add(&added);
        beats
    }

    fn judge_newcomer(&mut self, id: &ChitchatId, heartbeat: u64, from: SocketAddr) -> Newcomer {
        if id.node_id.len() > MAX_NAME_LEN {
            self.refused_members += 1;
            return Newcomer::Refused;
        }
        match self.forgotten.last_heartbeat(id) {
            Some(last) if last >= heartbeat => Newcomer::Refused,
            Some(_) => Newcomer::Alive,
            None if from == id.addr() => Newcomer::Alive,
            None => Newcomer::Unproved,
        }
    }

    fn note_refused(&mut self, owner: Owner) {
        self.refused_members += 1;
        self.refused_leaves += usize::from(owner == Owner::Leaf);
    }

    /// Adds members with their heartbeats, which must be sorted by id and unknown. If there is no room
    /// for all, adds the first of them and counts the others. A later generation of a leaf takes the place of
    /// the one before.
    pub(super) fn add(&mut self, newcomers: &[(&ChitchatId, u64)]) {
        if newcomers.is_empty() {
            return;
        }
        let settled;
        let mut newcomers = newcomers;
        if newcomers
            .iter()
            .any(|(id, _)| self.owner(id) == Owner::Leaf)
        {
            settled = self.settle(newcomers);
            newcomers = &settled;
        }
        let mut room = self.free_room();
        let mut new = Vec::with_capacity(newcomers.len());
        for (id, heartbeat) in newcomers {
            let owner = self.owner(id);
            if !room.take(owner) {
                self.note_refused(owner);
                continue;
            }
            self.forgotten.take(id);
            let mut state = NodeState::default();
            state.note_heartbeat(*heartbeat);
            new.push(((*id).clone(), state));
        }
        order::insert_all(&mut self.nodes, new);
    }

    /// Compares what a peer knows of this member with our own state. The peer can be ahead only if
    /// this member has restarted under the same id and generation. Then our keys are made newer
    /// than all that the peer knows, so that it drops what it holds from before the restart.
    pub(super) fn catch_up_with_own_past(&mut self, known: NodeDigest) {
        let own = self.own();
        let floor = known.max_version.max(known.last_gc_version);
        let mut earlier_life = floor > own.max_version;
        if known.heartbeat > own.heartbeat && known.heartbeat <= MAX_CREDIBLE {
            own.heartbeat = known.heartbeat;
            // Even if our version is higher by now: the keys that the peer holds are the old ones.
            earlier_life |= floor > 0;
        }
        if earlier_life && floor <= MAX_CREDIBLE {
            own.start_afresh_above(floor);
            self.collected = Usage::default();
            self.renew_reserved();
        }
    }

    /// Returns the member of which a peer with `digest` has the most changes that are missing here, and
    /// the version that it has.
    pub(super) fn missing<'a>(&self, digest: &'a Digest) -> Option<(&'a ChitchatId, Version)> {
        let (mut most, mut found) = (0, None);
        let mut known = self.nodes.iter().peekable();
        for (id, theirs) in digest.node_digests.iter() {
            while known.next_if(|(member, _)| *member < id).is_some() {}
            let ours = known.next_if(|(member, _)| *member == id);
            let missing = ours.map_or(0, |(_, ours)| {
                theirs.max_version.saturating_sub(ours.max_version)
            });
            if missing > most && *id != self.self_id {
                (most, found) = (missing, Some((id, theirs.max_version)));
            }
        }
        found
    }

    /// Returns a delta of at most `room` bytes with the changes of the members in `floors`: for
    /// each member, those above the given version. A receiver that has the state up to that version
    /// applies the delta without dropping any of its keys. Members with few changes come first, so that
    /// one with many, which take several messages, delays no other.
    pub(super) fn delta_above(
        &self,
        floors: &Members<Version>,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Delta {
        let mut digest = Digest::default();
        for (id, above) in floors {
            let last_gc_version = self.nodes.get(id).map_or(0, |state| state.last_gc_version);
            let known = NodeDigest {
                last_gc_version,
                max_version: *above,
                ..NodeDigest::default()
            };
            digest.node_digests.insert(id.clone(), known);
        }
        let skip = |id: &ChitchatId| !floors.contains_key(id) || skip(id);
        self.delta_of((First::Fewest, None), &digest, room, skip, rng)
    }

    /// Returns the members in `of`, which must be sorted by id, or all.
    fn listed<'a>(
        &'a self,
        of: Option<&'a [ChitchatId]>,
    ) -> impl Iterator<Item = (&'a ChitchatId, &'a NodeState)> {
        let all = of.is_none().then(|| self.nodes.iter());
        let some = of.into_iter().flatten();
        let some = some.filter_map(|id| Some((id, self.nodes.get(id)?)));
        all.into_iter().flatten().chain(some)
    }

    /// Returns a digest of the known members that are in `of`, if it is given, of at most `room` bytes. Members for
    /// which `skip` returns true are left out.
    ///
    /// If there is no room for all members, the digest contains this member and as many others as
    /// fit. The next digest continues with those that did not.
    pub(super) fn digest(
        &mut self,
        of: Option<&[ChitchatId]>,
        version: ProtocolVersion,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
    ) -> Digest {
        let nodes = self.listed(of).filter(|(id, _)| !skip(id));
        // No room is made for all members: most of them may be dead, and skipped.
        let mut entries = Vec::with_capacity(self.last_digest_len);
        entries.extend(nodes.map(|(id, state)| (id.clone(), state.digest())));
        self.last_digest_len = entries.len();
        let mut digest = Digest::from(entries);
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
        let mut len = 0;
        for id in digest.node_digests.keys() {
            len += id.digest_entry_len();
        }
        for (id, node_digest) in from.into_iter().chain(before) {
            let longer = len + id.digest_entry_len();
            if version.digest_len_bound(longer) > room {
                if digest.node_digests.len() <= 1 {
                    // It fits into no digest, so the next one must not begin with it either.
                    continue;
                }
                self.digest_cursor = Some(id);
                break;
            }
            len = longer;
            digest.node_digests.insert(id, node_digest);
        }
        digest
    }

    /// Returns a delta of at most `room` bytes with the changes that a peer with `digest` lacks, of the members in `of`,
    /// if it is given. Members that the peer does not know come first, those with the lowest version before others;
    /// then the members of which it lacks the most changes. Some room is left to those of which it lacks the
    /// fewest. `rng` decides between equals.
    pub(super) fn delta(
        &self,
        of: Option<&[ChitchatId]>,
        digest: &Digest,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Delta {
        self.delta_of((First::Unknown, of), digest, room, skip, rng)
    }

    fn delta_of(
        &self,
        (first, of): (First, Option<&[ChitchatId]>),
        digest: &Digest,
        room: usize,
        skip: impl Fn(&ChitchatId) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Delta {
        // Both are sorted by id: they are walked once, without a search for each.
        let mut theirs = digest.node_digests.iter().peekable();
        let stale: Vec<Stale<'_>> = self
            .listed(of)
            .filter_map(|(id, state)| {
                let known = order::advance(&mut theirs, id).copied().unwrap_or_default();
                let stale = Stale::of(first, id, state, known, rng)?;
                (!skip(id)).then_some(stale)
            })
            .collect();
        let stale = order::sorted(stale, |stale| stale.order);
        let kept = room_for_few(first, &stale, room);
        let mut builder = DeltaBuilder::new(room - kept);
        let mut stale = stale.iter();
        let is_cut_off = stale
            .by_ref()
            .any(|stale| !stale.add_to(&mut builder, room));
        if is_cut_off && kept > 0 {
            builder.extend_to(room);
            let _ = stale.rev().all(|stale| stale.add_to(&mut builder, room));
        }
        builder.finish()
    }

    /// Returns a delta with our own state, of at most `room` bytes, for peers that did not ask: the
    /// whole state if it fits, otherwise the newest changes that fit. A peer that has the older
    /// changes can apply those.
    pub(super) fn own_delta(&self, room: usize) -> Delta {
        let Some(own) = self.own_ref() else {
            return Delta::default();
        };
        let above = |floor: Version| {
            let mut floors = Members::new();
            floors.insert(self.self_id.clone(), floor);
            self.delta_above(&floors, room, |_| false, &mut fastrand::Rng::with_seed(0))
        };
        let is_whole = |delta: &Delta| {
            let reached = delta.node_deltas.first().map(|node| node.max_version);
            reached.is_none_or(|reached| reached == own.max_version)
        };
        let versions = own.stale_entries(0).map(|entry| entry.version);
        let floors: Vec<_> = std::iter::once(0).chain(versions).collect();
        let lowest = floors.partition_point(|floor| !is_whole(&above(*floor)));
        floors
            .get(lowest)
            .map_or_else(Delta::default, |floor| above(*floor))
    }

    /// Removes tombstones and keys with a TTL that are older than `grace`. Returns true if one of
    /// them was visible.
    pub(super) fn collect_garbage(&mut self, grace: Duration, now: Duration) -> bool {
        let mut removed_visible = false;
        let before = self.own().usage();
        for (_, state) in self.nodes.iter_mut() {
            removed_visible |= state.collect_garbage(grace, now);
        }
        let collected = before.without(self.own().usage());
        self.collected = self.collected.with(collected);
        let all: usize = self.nodes.values().map(NodeState::bytes).sum();
        self.foreign_bytes = all.saturating_sub(self.own().bytes());
        self.count_limited();
        removed_visible
    }

    /// Forgets members, which must be sorted. One of them is not added again until its heartbeat is
    /// higher than now.
    pub(super) fn forget(&mut self, ids: &[ChitchatId]) {
        if ids.is_empty() {
            return;
        }
        let self_id = &self.self_id;
        let (forgotten, bytes) = (&mut self.forgotten, &mut self.foreign_bytes);
        let (cores, limited_bytes) = (&self.cores, &mut self.limited_bytes);
        self.nodes.retain(|id, state| {
            if id == self_id || ids.binary_search(id).is_err() {
                return true;
            }
            *bytes = bytes.saturating_sub(state.bytes());
            if cores.is_limited(id.addr()) {
                *limited_bytes = limited_bytes.saturating_sub(state.bytes());
            }
            forgotten.put(id.clone(), state.heartbeat.max(state.left_at));
            false
        });
        self.reserved.forget(ids);
    }

    /// Notes that another member has left with this heartbeat. Returns true unless a later one is known.
    pub(super) fn note_left(&mut self, id: &ChitchatId, heartbeat: u64) -> bool {
        let state = self.nodes.get_mut(id);
        state.is_some_and(|state| state.note_left(heartbeat))
    }

    /// Returns the highest generation above ours that a digest lists for a member with our name. Those
    /// for which `is_other` returns true are other members.
    pub(super) fn later_generation(
        &self,
        digest: &Digest,
        is_other: impl Fn(&ChitchatId) -> bool,
    ) -> Option<u64> {
        let own = &self.self_id;
        let later = digest.node_digests.keys().filter(|id| {
            let is_later = id.generation_id > own.generation_id;
            is_later && id.node_id == own.node_id && id.generation_id <= MAX_CREDIBLE
        });
        let later = later.filter(|id| !is_other(id));
        later.map(|id| id.generation_id).max()
    }

    /// Changes the generation of this member. It keeps its keys and its heartbeat.
    pub(super) fn begin_generation(&mut self, generation_id: u64) {
        let id = ChitchatId {
            generation_id,
            ..self.self_id.clone()
        };
        let own = self.nodes.remove(&self.self_id).unwrap_or_default();
        let before = std::mem::replace(&mut self.self_id, id);
        // It is not a member that others could bring back.
        self.forgotten.put(before, MAX_CREDIBLE);
        self.nodes.insert(self.self_id.clone(), own);
        self.renew_reserved();
    }

    /// Returns the position of a member in the order of [`nodes`](Self::nodes).
    pub(super) fn position(&self, id: &ChitchatId) -> Option<usize> {
        self.nodes.find_index(id).ok()
    }
}

/// The result of noting all heartbeats of a digest.
#[derive(Debug, Default)]
pub(super) struct Beats<'a> {
    /// True if a member was added.
    pub(super) has_new: bool,
    /// The members whose heartbeat has risen, sorted by id.
    pub(super) risen: Vec<&'a ChitchatId>,
    /// Unknown members that are alive and for which there is no room, each with its heartbeat, sorted
    /// by id.
    pub(super) without_room: Vec<(&'a ChitchatId, u64)>,
}

/// What is known of an unknown member that a peer lists.
enum Newcomer {
    /// It is dead, as far as the peer knows, or its name is too long.
    Refused,
    /// It is listed for the first time. It may have died long ago.
    Unproved,
    /// It is the peer itself, or its heartbeat has risen.
    Alive,
}
