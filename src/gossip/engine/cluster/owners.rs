//! What depends on the owners of members: names, room, generations and precedence.
//!
//! Invariants: a key address has at most one member, unless it is core; leaves never have more than their share of the
//! members and bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Cluster;
use crate::gossip::engine::cores::{Owner, Room};
use crate::gossip::engine::order;
use crate::message::ChitchatId;

/// The part of all members, and of their bytes, that leaves may have together: a quarter is left to core members,
/// of which a cluster has far fewer, however many pages are open.
const LEAVES_OF_FOUR: usize = 3;

impl Cluster {
    /// Returns what is known about the owner of `id`. This member itself is core once another core member is known,
    /// and so are its earlier generations.
    pub(in crate::gossip::engine) fn owner(&self, id: &ChitchatId) -> Owner {
        if id.addr() != self.self_id.addr() {
            return self.cores.owner(id.addr());
        }
        match self.cores.is_empty() {
            true => Owner::Unproved,
            false => Owner::Core,
        }
    }

    /// Notes that the member at the key address `addr` is a leaf, whatever it was before.
    pub(in crate::gossip::engine) fn note_leaf(&mut self, addr: SocketAddr) {
        if self.cores.note_leaf(addr) {
            self.keep_latest(addr);
            self.count_limited();
        }
    }

    /// Forgets all generations at the address of a leaf but the latest one: as a core member, it may have had several.
    fn keep_latest(&mut self, addr: SocketAddr) {
        let mut earlier: Vec<_> = self
            .others()
            .filter(|id| id.addr() == addr)
            .cloned()
            .collect();
        let latest = earlier.iter().map(|id| id.generation_id).max();
        let latest = earlier
            .iter()
            .position(|id| Some(id.generation_id) == latest);
        if let Some(latest) = latest {
            earlier.remove(latest);
        }
        self.replace(earlier);
    }

    /// Counts the bytes of the members that share what is not left to core members.
    pub(super) fn count_limited(&mut self) {
        let others = self.nodes.iter().filter(|(id, _)| **id != self.self_id);
        let limited = others.filter(|(id, _)| self.cores.is_limited(id.addr()));
        self.limited_bytes = limited.map(|(_, state)| state.bytes()).sum();
    }

    /// Forgets the addresses of core members that are none of members any more.
    pub(in crate::gossip::engine) fn forget_cores(&mut self) {
        if self.cores.len() > self.nodes.len() {
            let addrs = order::set(self.nodes.keys().map(ChitchatId::addr));
            self.cores.retain(&addrs);
        }
    }

    /// Returns the members named `name`.
    pub(in crate::gossip::engine) fn named(&self, name: &str) -> impl Iterator<Item = &ChitchatId> {
        let places = self.first_named(name)..self.nodes.len();
        let members = places.map_while(|place| self.nodes.get_indexed(place));
        let ids = members.map(|(id, _)| id);
        ids.take_while(move |id| *id.node_id == *name)
    }

    /// Returns the place of the first member whose name is not less than `name`. Ids are sorted by name first.
    fn first_named(&self, name: &str) -> usize {
        let (mut low, mut high) = (0, self.nodes.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let is_before = self
                .nodes
                .get_indexed(middle)
                .is_some_and(|(id, _)| *id.node_id < *name);
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns the room for members.
    pub(super) fn free_room(&self) -> Room {
        let all = self.limits.max_members;
        let others = self.nodes.keys().filter(|id| **id != self.self_id);
        let leaves = others.filter(|id| self.owner(id) == Owner::Leaf).count();
        Room {
            all: all.saturating_sub(self.nodes.len()),
            leaves: share_of_leaves(all).saturating_sub(leaves),
        }
    }

    /// Returns the bytes that members may have together, or those that share what is not left to core members.
    pub(super) fn most_bytes(&self, is_limited: bool) -> usize {
        let all = self.limits.max_bytes;
        match is_limited {
            true => share_of_leaves(all),
            false => all,
        }
    }

    /// Returns the newcomers that are not replaced by a later generation of the same leaf, and removes the
    /// generations that they replace.
    pub(super) fn settle<'a>(
        &mut self,
        newcomers: &[(&'a ChitchatId, u64)],
    ) -> Vec<(&'a ChitchatId, u64)> {
        let is_leaf = |id: &ChitchatId| self.owner(id) == Owner::Leaf;
        let (mut addrs, mut contested) = (BTreeSet::new(), BTreeSet::new());
        for (id, _) in newcomers.iter().filter(|(id, _)| is_leaf(id)) {
            if !addrs.insert(id.addr()) {
                contested.insert(id.addr());
            }
        }
        let others = self.nodes.keys().filter(|id| **id != self.self_id);
        let present: Vec<_> = others.filter(|id| addrs.contains(&id.addr())).collect();
        contested.extend(present.iter().map(|id| id.addr()));
        if contested.is_empty() {
            return newcomers.to_vec();
        }
        // The latest one at each address. Of two with the same generation, the one that is known stays.
        let mut latest = order::places(addrs);
        let new = newcomers.iter().map(|(id, _)| (*id, false));
        for (id, is_known) in new.chain(present.iter().map(|id| (*id, true))) {
            if let Some(best) = latest.get_mut(&id.addr()) {
                *best = (*best).max(Some((id.generation_id, is_known, id)));
            }
        }
        let is_latest = |id: &ChitchatId| {
            let best = latest.get(&id.addr()).copied().flatten();
            best.is_some_and(|(_, _, best)| best == id)
        };
        let (kept, late): (Vec<_>, Vec<_>) = newcomers
            .iter()
            .copied()
            .partition(|(id, _)| !contested.contains(&id.addr()) || is_latest(id));
        let kept_at = order::set(kept.iter().map(|(id, _)| id.addr()));
        let is_replaced = |old: &&&ChitchatId| kept_at.contains(&old.addr());
        let replaced: Vec<_> = present
            .iter()
            .filter(is_replaced)
            .map(|id| (*id).clone())
            .collect();
        for (id, _) in late {
            self.forgotten.put(id.clone(), u64::MAX);
        }
        self.replace(replaced);
        kept
    }

    /// Removes generations, sorted by id, that a later one replaces.
    fn replace(&mut self, replaced: Vec<ChitchatId>) {
        self.forget(&replaced);
        for id in &replaced {
            // Peers that have not heard of the new generation do not bring it back.
            self.forgotten.put(id.clone(), u64::MAX);
        }
        self.replaced.extend(replaced);
    }

    /// Returns and forgets the members that a later generation has replaced.
    pub(in crate::gossip::engine) fn take_replaced(&mut self) -> Vec<ChitchatId> {
        std::mem::take(&mut self.replaced)
    }

    /// Returns for each member, in the order of [`nodes`](Self::nodes), whether another one with the
    /// same name takes precedence: it has a higher `precedence`, or the same and a later generation.
    ///
    /// Both must be core, or of both nothing must be proved, as in a cluster over UDP. A leaf has one member only,
    /// and chooses its name itself: it takes no precedence over anyone.
    pub(in crate::gossip::engine) fn superseded(
        &self,
        precedence: impl Fn(&ChitchatId) -> u8,
    ) -> Vec<bool> {
        let rank = |id: &ChitchatId| {
            let is_own = *id == self.self_id;
            let precedence = if is_own { u8::MAX } else { precedence(id) };
            (precedence, id.generation_id)
        };
        let ids: Vec<_> = self.nodes.keys().collect();
        let mut superseded = Vec::with_capacity(ids.len());
        // Ids are sorted by name first: those of the same name are adjacent.
        for same_name in ids.chunk_by(|a, b| a.node_id == b.node_id) {
            if same_name.len() == 1 {
                superseded.push(false);
                continue;
            }
            let ranked: Vec<_> = same_name
                .iter()
                .map(|id| (self.owner(id), rank(id)))
                .collect();
            let highest = |of: Owner| {
                let of_owner = ranked.iter().filter(|(owner, _)| *owner == of);
                of_owner.map(|(_, rank)| *rank).max()
            };
            let (core, unproved) = (highest(Owner::Core), highest(Owner::Unproved));
            superseded.extend(ranked.iter().map(|(owner, rank)| match owner {
                Owner::Core => Some(*rank) < core,
                Owner::Unproved => Some(*rank) < unproved,
                Owner::Leaf => false,
            }));
        }
        superseded
    }
}

fn share_of_leaves(all: usize) -> usize {
    all / 4 * LEAVES_OF_FOUR + all % 4 * LEAVES_OF_FOUR / 4
}
