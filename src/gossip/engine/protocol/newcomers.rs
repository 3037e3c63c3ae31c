//! Members that are heard of and for which there is no room: which others they replace.
//!
//! Invariants: a leaf replaces leaves only; a member that may be live is replaced only if it is a leaf or reached over UDP,
//! and the newcomer a core member that has come itself.

use std::time::Duration;

use super::Engine;
use crate::credential::Role;
use crate::gossip::engine::cores::Owner;
use crate::gossip::engine::order;
use crate::gossip::engine::policy::Sender;
use crate::message::ChitchatId;

/// A member with its heartbeat.
type Newcomer<'a> = (&'a ChitchatId, u64);

impl Engine {
    /// Adds members that are alive and for which there is no room, in place of those that have been
    /// dead the longest. Returns true if one of them was added.
    pub(super) fn replace_dead(&mut self, sender: Sender, newcomers: &[Newcomer<'_>]) -> bool {
        if newcomers.is_empty() {
            return false;
        }
        let is_core = sender.role == Role::Core;
        let is_leaf = |id: &ChitchatId| self.cluster.owner(id) == Owner::Leaf;
        let is_own = |id: &ChitchatId| is_core && id.addr() == sender.addr && !is_leaf(id);
        let own = newcomers.iter().filter(|(id, _)| is_own(id));
        let own = own.max_by_key(|(id, _)| id.generation_id).copied();
        let others = newcomers.iter().copied();
        let others = others.filter(|(id, _)| own.is_none_or(|(own, _)| own != *id));
        let (leaves, natives): (Vec<_>, Vec<_>) = others.partition(|(id, _)| is_leaf(id));
        if let Some(own) = own {
            let may_be_any = |_| true;
            if self.evict_dead(1, &may_be_any) == 0 {
                self.evict_quietest();
            }
            self.cluster.add(&[own]);
        }
        // Nobody over UDP costs a core member its place, even while that is dead.
        self.evict_dead(natives.len(), &|owner| is_core || owner != Owner::Core);
        self.cluster.add(&natives);
        self.evict_dead(leaves.len(), &|owner| owner == Owner::Leaf);
        self.cluster.add(&leaves);
        let mut ids = newcomers.iter().map(|(id, _)| *id);
        ids.any(|id| self.cluster.get(id).is_some())
    }

    /// Removes up to `most` members that have been dead the longest. Returns their number.
    fn evict_dead(&mut self, most: usize, may: &dyn Fn(Owner) -> bool) -> usize {
        let cluster = &self.cluster;
        let dead = self
            .detector
            .longest_dead(most, |id| may(cluster.owner(id)));
        self.detector.forget(&dead);
        self.cluster.forget(&dead);
        dead.len()
    }

    /// Removes the leaf that was heard the longest ago, or else the member of which only peers over UDP have told, if there
    /// is one.
    fn evict_quietest(&mut self) {
        let cluster = &self.cluster;
        let quietest_of = |may: &dyn Fn(&ChitchatId) -> bool| {
            let members = cluster.others().filter(|id| may(id));
            members.min_by_key(|id| self.detector.last_heartbeat(id))
        };
        let leaf = quietest_of(&|id| cluster.owner(id) == Owner::Leaf);
        let quietest = leaf.or_else(|| quietest_of(&|id| cluster.cores.is_over_udp(id.addr())));
        if let Some(quietest) = quietest.cloned() {
            self.detector.forget(std::slice::from_ref(&quietest));
            self.cluster.forget(std::slice::from_ref(&quietest));
        }
    }

    /// Puts the later generations of leaves everywhere else in the place of those that they have replaced.
    pub(super) fn forget_replaced(&mut self, now: Duration) {
        let replaced = self.cluster.take_replaced();
        if replaced.is_empty() {
            return;
        }
        let mut olds = order::places(order::set(replaced.iter().map(ChitchatId::addr)));
        for old in &replaced {
            if let Some(known) = olds.get_mut(&old.addr()) {
                // A later one was never heard of otherwise, and has no record.
                known.get_or_insert(old);
            }
        }
        let others = self.cluster.others();
        let pairs = others.filter_map(|new| Some(((*olds.get(&new.addr())?)?, new)));
        self.detector.succeed(&pairs.collect::<Vec<_>>(), now);
        // Those for whose successor there was no room.
        let gone: Vec<_> = order::set(replaced).into_iter().collect();
        self.detector.forget(&gone);
    }
}
