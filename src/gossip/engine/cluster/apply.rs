//! Applies what a peer sends about other members, and says what is new in it.
//!
//! Nothing is judged here by the role of the sender. Invariant: what all members have stays within the limits.

use std::time::Duration;

use super::Cluster;
use crate::gossip::engine::node_state::{Applied, Limits, NodeState};
use crate::gossip::engine::presence::Departures;
use crate::message::{ChitchatId, Delta, NodeDigest, Version};

/// The result of applying a delta.
#[derive(Debug, Default)]
pub(in crate::gossip::engine) struct Learnt {
    /// True if anything visible may have changed.
    pub(in crate::gossip::engine) changed: bool,
    /// The members with new changes, the version above which they are new, and the one that they
    /// reach.
    pub(in crate::gossip::engine) changes: Vec<(ChitchatId, Version, Version)>,
    /// The members of which the delta contained changes that are all known here, and the version
    /// that they reach.
    pub(in crate::gossip::engine) copies: Vec<(ChitchatId, Version)>,
    /// True if the delta contained changes that are missing here and could not be applied.
    pub(in crate::gossip::engine) has_gap: bool,
    pub(in crate::gossip::engine) departures: Departures,
}

impl Cluster {
    /// Applies a delta that a peer sent.
    pub(in crate::gossip::engine) fn apply(&mut self, delta: Delta, now: Duration) -> Learnt {
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
            let is_limited = self.cores.is_limited(id.addr());
            let most = self.most_bytes(is_limited);
            let Some(state) = self.nodes.get_mut(&id) else {
                learnt.has_gap = true;
                continue;
            };
            let known = state.max_version;
            let above = node_delta.from_version_excluded.min(known);
            let claimed = node_delta.max_version;
            let bytes_of_others = self.foreign_bytes.saturating_sub(state.bytes());
            let of_other_limited = self.limited_bytes.saturating_sub(state.bytes());
            let room = self.limits.max_bytes.saturating_sub(bytes_of_others);
            let room = match is_limited {
                true => room.min(most.saturating_sub(of_other_limited)),
                false => room,
            };
            let limits = Limits {
                // Twice the limit of a member: only the last change of each key is sent, so that a
                // key that grew may arrive before the one that made room for it.
                max_bytes: (self.limits.max_bytes_per_member.saturating_mul(2)).min(room),
            };
            let is_faulty = NodeState::is_faulty(&node_delta);
            let applied = state.apply(node_delta, limits, now);
            let new_above = if applied == Applied::Reset { 0 } else { known };
            self.reserved
                .note(&id, state, new_above, &mut learnt.departures);
            let is_truncated = matches!(applied, Applied::Truncated { .. });
            if is_truncated || is_faulty && applied != Applied::Rejected {
                self.refused_keys += 1;
            }
            match applied {
                Applied::Rejected if claimed > known => learnt.has_gap = true,
                Applied::Rejected => learnt.copies.push((id, claimed)),
                Applied::Changed => {
                    learnt.changed = true;
                    learnt.changes.push((id, above, claimed));
                }
                Applied::Reset => {
                    learnt.changed = true;
                    learnt.changes.push((id, 0, claimed));
                }
                Applied::Truncated { changed } => learnt.changed |= changed,
            }
            self.foreign_bytes = bytes_of_others + state.bytes();
            if is_limited {
                self.limited_bytes = of_other_limited + state.bytes();
            }
        }
        learnt
    }
}
