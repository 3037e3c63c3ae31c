//! The quotas of an invite: how many of its changes a leaf may make.
//!
//! A leaf may have as many keys and bytes as its invite allows, and twice as many with deleted and expired ones. It
//! starts afresh before there are more. A delta is judged by what the leaf has after it: only the last change of each key
//! is sent, so a key that has grown may come before the one that made room for it. Whoever has more than the quotas,
//! because its invite was renewed by a smaller one, may still delete and shorten what it has.
//!
//! This file changes no member. Invariant: after what is allowed of a delta, the leaf is within its quotas, or nothing of
//! what it has is new or longer. While a state arrives in parts, because it exceeds a message or may not be sent at once,
//! it may be twice as large.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Policy;
use super::leaves::{Pace, most_of_leaf, size};
use super::rules;
use crate::gossip::engine::denial::Denial;
use crate::gossip::engine::entries::{Entry, entry_len};
use crate::gossip::engine::node_state::{Applied, NodeState};
use crate::gossip::engine::usage::{Excess, Holds, Usage};
use crate::message::{DeletionStatus, KeyValueMutation, MAX_DATAGRAM_LEN, NodeDelta, Version};

/// Returns what a holder may have while it receives a state that is sent in parts: each part may have what the state had
/// before, and what it has now.
fn most_between_parts(most: Holds) -> Holds {
    Holds {
        visible: most.visible.times(2),
        all: Usage {
            keys: most.all.keys,
            bytes: most.all.bytes.saturating_add(most.visible.bytes),
        },
    }
}

/// What a leaf and all holders of its invite may have, and what limits its changes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    most: Holds,
    most_of_all: Holds,
    /// What the other holders have.
    others: Holds,
    /// The number of changes that it may make now.
    changes: usize,
    /// The number of entries that it may send again.
    repeats: usize,
}

/// The part of a delta that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    /// The number of its changes, the known ones included.
    len: usize,
    /// The number of changes that are new.
    new: usize,
    /// The number of entries that are sent again after a start afresh.
    repeated: usize,
    /// What the leaf has afterwards.
    holds: Holds,
}

impl Policy {
    /// Takes out of `delta`, which a leaf has sent about itself, what exceeds the quotas of its invite. Returns false
    /// if nothing is left.
    pub(super) fn limit_by_quotas(
        &mut self,
        own: SocketAddr,
        delta: &mut NodeDelta,
        state: &NodeState,
        now: Duration,
    ) -> bool {
        let reserved = delta.key_values.len();
        delta
            .key_values
            .retain(|change| !rules::is_denied_to_leaf(change));
        let reserved = reserved - delta.key_values.len();
        self.denied.add(Denial::ReservedKey, reserved);
        let Some((leaf, all)) = self.leaves.get_mut(own, now) else {
            return false;
        };
        let is_afresh = match state.judge(delta) {
            // Nothing is used by it.
            Applied::Rejected => return true,
            Applied::Reset => true,
            Applied::Changed | Applied::Truncated { .. } => false,
        };
        let quotas = leaf.claims.quotas();
        let pace = Pace::of_one(quotas);
        let sent = delta.key_values.len();
        let most_of_one = most_of_leaf(quotas);
        let is_in_parts =
            most_of_one.all.bytes > MAX_DATAGRAM_LEN || most_of_one.all.keys > pace.at_once();
        let most = match is_in_parts {
            true => most_between_parts(most_of_one),
            false => most_of_one,
        };
        let changes = leaf.changes.left(pace, now);
        let bounds = Bounds {
            most,
            most_of_all: most.times(size(quotas.max_connections())),
            others: all.holds.without(leaf.holds.min(most_of_one)),
            changes: changes.min(all.changes.left(Pace::of_all(quotas), now)),
            repeats: leaf.repeats,
        };
        let (allowed, denial) = allowed(delta, state, is_afresh, bounds);
        // What it had would be dropped, and be missing until the rest may be sent, which is soon.
        let is_premature = is_afresh && denial == Some(Denial::Rate) && sent <= pace.at_once();
        // A version without a key, or a state that is dropped, is passed on to all members as a change is.
        let is_bare = allowed.new + allowed.repeated == 0 && denial.is_none();
        if is_premature || is_bare && bounds.changes == 0 {
            self.denied.add(Denial::Rate, sent.max(1));
            return false;
        }
        let taken = allowed.new + usize::from(is_bare);
        leaf.changes.take(taken);
        all.changes.take(taken);
        leaf.repeats = (leaf.repeats - allowed.repeated + taken).min(most_of_one.all.keys);
        // A generation that begins may still be refused, and leave what the one before has.
        leaf.holds = match state.max_version {
            0 => allowed.holds.max(leaf.holds),
            _ => allowed.holds,
        };
        all.holds = bounds.others.with(leaf.holds.min(most_of_one));
        let cut = rules::cut(delta, allowed.len);
        if let Some(denial) = denial {
            self.denied.add(denial, cut);
        }
        cut == 0 || allowed.new + allowed.repeated > 0
    }
}

/// Returns how much of `delta` is allowed to a leaf with this state, which is dropped first if it starts afresh, and why
/// the rest is not.
fn allowed(
    delta: &NodeDelta,
    known: &NodeState,
    is_afresh: bool,
    bounds: Bounds,
) -> (Allowed, Option<Denial>) {
    let nothing = NodeState::default();
    let (state, collected) = match is_afresh {
        true => (&nothing, delta.last_gc_version),
        false => (known, known.last_gc_version),
    };
    let used = |entry| used_by_entry(&entry, delta.last_gc_version);
    let mut sum = Allowed {
        len: 0,
        new: 0,
        repeated: 0,
        holds: state
            .entries()
            .map(&used)
            .fold(Holds::default(), Holds::with),
    };
    let (mut allowed, mut denial) = (sum, None);
    // What the entries use that this delta has changed, each of which it may change again, and whether that is more.
    let mut changed: BTreeMap<&str, (Holds, bool)> = BTreeMap::new();
    let mut grown = 0_usize;
    for (place, change) in delta.key_values.iter().enumerate() {
        sum.len = place + 1;
        if change.version <= state.max_version {
            allowed.len += usize::from(allowed.len == place);
            continue;
        }
        let is_repeated = is_afresh
            && sum.repeated < bounds.repeats
            && known.has(&change.key, &change.value, change.status);
        if is_repeated {
            sum.repeated += 1;
        } else if sum.new >= bounds.changes {
            denial = denial.or(Some(Denial::Rate));
            break;
        } else {
            sum.new += 1;
        }
        if !is_skipped(change, collected) {
            let before = state.entry(&change.key).map_or(Holds::default(), &used);
            let replaced = changed.get(&*change.key).copied();
            let (replaced, was_grown) = replaced.unwrap_or((before, false));
            let put = used_by_change(change);
            let is_grown =
                put.all.bytes > before.all.bytes || put.visible.keys > before.visible.keys;
            grown = grown + usize::from(is_grown) - usize::from(was_grown);
            changed.insert(&change.key, (put, is_grown));
            sum.holds = sum.holds.without(replaced).with(put);
        }
        let excess = || {
            let of_one = sum.holds.excess(bounds.most);
            of_one.or_else(|| bounds.others.with(sum.holds).excess(bounds.most_of_all))
        };
        match if grown == 0 { None } else { excess() } {
            None => (allowed, denial) = (sum, None),
            Some(Excess::Keys { .. }) => denial = denial.or(Some(Denial::Keys)),
            Some(Excess::Bytes { .. }) => denial = denial.or(Some(Denial::Bytes)),
        }
    }
    (allowed, denial)
}

/// Returns true if a change is not applied because a state has collected it, as
/// [`NodeState::apply`] decides.
fn is_skipped(change: &KeyValueMutation, collected: Version) -> bool {
    change.status != DeletionStatus::Set && change.version <= collected
}

/// Returns what an entry of a leaf uses of its quotas after `change`.
fn used_by_change(change: &KeyValueMutation) -> Holds {
    if rules::is_free_for_leaf(&change.key, &change.value) {
        return Holds::default();
    }
    let len = entry_len(&change.key, &change.value);
    Holds::of_one(len, change.status != DeletionStatus::Deleted)
}

/// Returns what an entry of a leaf uses of its quotas. A key with a TTL counts as a tombstone once the leaf has collected
/// it, as it says: here, it may stay for longer.
fn used_by_entry(entry: &Entry<'_>, collected: Version) -> Holds {
    if rules::is_free_for_leaf(entry.key, entry.value) {
        return Holds::default();
    }
    let is_collected = entry.is_mortal() && entry.version <= collected;
    Holds::of_one(entry.len(), entry.is_visible() && !is_collected)
}
