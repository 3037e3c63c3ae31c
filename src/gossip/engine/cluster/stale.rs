//! What a peer lacks of a member, and the order in which that is sent.
//!
//! It chooses no members: the file above does. Invariant: what is added to a delta begins where the peer's
//! knowledge ends and has no gap.

use super::NodeState;
use crate::gossip::engine::entries::Entry;
use crate::gossip::engine::order::Rank;
use crate::message::{ChitchatId, DeltaBuilder, NodeDigest, Version};

/// The part of a delta that is left to members of which the receiver lacks few changes: 4 KB of a full message.
const ROOM_FOR_FEW: usize = 16;

/// The members that come first in a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// Those that the receiver does not know, and then those of which it lacks the most changes.
    Unknown,
    /// Those with the fewest changes.
    Fewest,
}

/// A member of which a peer lacks changes.
pub(super) struct Stale<'a> {
    id: &'a ChitchatId,
    state: &'a NodeState,
    from: Version,
    /// The position in the delta, ascending.
    pub(super) order: Rank,
}

/// Returns the bytes of `room` that a delta of `stale`, of which the receiver lacks the most changes, leaves to those of
/// which it lacks few: their changes would otherwise wait until everything else has been sent. None if there is
/// no such member, or if the first change needs them.
pub(super) fn room_for_few(first: First, stale: &[Stale<'_>], room: usize) -> usize {
    let kept = room / ROOM_FOR_FEW;
    let [most, .., few] = stale else {
        return 0;
    };
    let is_known = few.from > 0;
    let needed = most
        .state
        .stale_entries(most.from)
        .next()
        .map_or(0, |entry| {
            DeltaBuilder::len_bound_alone(most.id, entry.key, entry.value)
        });
    if first == First::Unknown && is_known && needed <= room - kept {
        kept
    } else {
        0
    }
}

impl<'a> Stale<'a> {
    /// Adds the changes. Returns false if not all of them fit.
    pub(super) fn add_to(&self, builder: &mut DeltaBuilder, room: usize) -> bool {
        let Self {
            id, state, from, ..
        } = *self;
        let mut entries = state.stale_entries(from).peekable();
        // A change that does not fit even alone holds up its own member only. (The published
        // crate ends the delta here.)
        if let Some(entry) = entries.peek()
            && DeltaBuilder::len_bound_alone(id, entry.key, entry.value) > room
        {
            return true;
        }
        if !builder.try_add_node(id, state.last_gc_version, from) {
            return false;
        }
        let mut reached = from;
        for Entry {
            key,
            value,
            version,
            status,
        } in entries
        {
            if !builder.try_add_key_value(key, value, version, status) {
                return false;
            }
            reached = version;
        }
        reached >= state.max_version || builder.try_set_max_version(state.max_version)
    }

    pub(super) fn of(
        first: First,
        id: &'a ChitchatId,
        state: &'a NodeState,
        known: NodeDigest,
        rng: &mut fastrand::Rng,
    ) -> Option<Self> {
        if state.max_version <= known.max_version {
            return None;
        }
        // Tombstones that the peer has not seen are collected here: it must start afresh.
        let afresh = known.last_gc_version < state.last_gc_version
            && known.max_version < state.last_gc_version;
        let from = if afresh { 0 } else { known.max_version };
        let is_known = from > 0;
        let count = state.stale_count(from) as u64;
        let (is_last, rank) = match first {
            First::Fewest => (false, count),
            First::Unknown if is_known => (true, u64::MAX - count),
            First::Unknown => (false, state.max_version),
        };
        Some(Self {
            id,
            state,
            from,
            order: (is_last, rank, rng.u64(..)),
        })
    }
}
