//! The quotas of an invite: how many of its changes a leaf may make.
//!
//! A leaf may have as many keys and bytes as its invite allows, and with the tombstones of deleted keys twice as many.
//! A delta is judged by what the leaf has after it: only the last change of each key is sent, so a key that has grown
//! may come before the one that made room for it. Whoever has more than the quotas, because its invite was renewed by a
//! smaller one, may still make changes that add nothing.
//!
//! This file changes no member. Invariant: after what is allowed of a delta, the leaf has no more than before or than its
//! quotas.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Policy;
use super::leaves::{Pace, size};
use super::rules;
use crate::credential::Quotas;
use crate::gossip::engine::denial::Denial;
use crate::gossip::engine::entries::{Entry, entry_len};
use crate::gossip::engine::node_state::{Applied, NodeState};
use crate::gossip::engine::usage::{Excess, Holds, Usage};
use crate::message::{DeletionStatus, NodeDelta, Version};

/// Returns what a holder of an invite may have.
pub(in crate::gossip::engine) fn most_of_leaf(quotas: Quotas) -> Holds {
    let visible = Usage {
        keys: size(quotas.max_keys()),
        bytes: size(quotas.max_bytes()),
    };
    Holds {
        visible,
        // Tombstones are collected early where there are more. So a page that replaces its keys again and again collects
        // those that its peers have had for a while.
        all: visible.times(2),
    }
}

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
}

/// The part of a delta that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    /// The number of its changes, the known ones included.
    len: usize,
    /// The number of changes that are new.
    new: usize,
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
        state: Option<&NodeState>,
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
        let quotas = leaf.claims.quotas();
        let nothing = NodeState::default();
        let state = state.unwrap_or(&nothing);
        let state = match state.judge(delta) {
            // Nothing is used by it.
            Applied::Rejected => return true,
            // What it has is dropped first.
            Applied::Reset => &nothing,
            Applied::Changed | Applied::Truncated { .. } => state,
        };
        let mut most = most_of_leaf(quotas);
        if most.all.bytes > self.max_message_len {
            most = most_between_parts(most);
        }
        let changes = leaf.changes.left(Pace::of_one(quotas), now);
        let bounds = Bounds {
            most,
            most_of_all: most.times(size(quotas.max_connections())),
            others: all.holds.without(leaf.holds),
            changes: changes.min(all.changes.left(Pace::of_all(quotas), now)),
        };
        let (allowed, denial) = allowed(delta, state, bounds);
        // A version without a key, or a state that is dropped, is passed on to all members as a change is.
        let is_bare = allowed.new == 0 && denial.is_none();
        if is_bare && bounds.changes == 0 {
            self.denied.add(Denial::Rate, 1);
            return false;
        }
        let taken = allowed.new + usize::from(is_bare);
        leaf.changes.take(taken);
        all.changes.take(taken);
        all.holds = bounds.others.with(allowed.holds);
        leaf.holds = allowed.holds;
        let cut = rules::cut(delta, allowed.len);
        if let Some(denial) = denial {
            self.denied.add(denial, cut);
        }
        cut == 0 || allowed.new > 0
    }
}

/// Returns how much of `delta` is allowed to a leaf with this state, and why the rest is not.
fn allowed(delta: &NodeDelta, state: &NodeState, bounds: Bounds) -> (Allowed, Option<Denial>) {
    // The receiver follows the leaf in what it has collected.
    let collected = match delta.last_gc_version {
        floor if floor <= state.max_version => floor,
        _ => 0,
    };
    let before = Holds::of(state.entries().filter(|entry| counts(entry, collected)));
    let others = bounds.others;
    let mut allowed = Allowed {
        len: 0,
        new: 0,
        holds: before,
    };
    let (mut new, mut holds, mut denial) = (0, before, None);
    // What the entries use that this delta has changed, each of which it may change again.
    let mut changed: BTreeMap<&str, Holds> = BTreeMap::new();
    for (place, change) in delta.key_values.iter().enumerate() {
        if change.version <= state.max_version {
            allowed.len += usize::from(allowed.len == place);
            continue;
        }
        if new >= bounds.changes {
            denial = denial.or(Some(Denial::Rate));
            break;
        }
        let entry = || state.entry(&change.key).filter(|e| counts(e, collected));
        let replaced = changed.get(&*change.key).copied();
        let replaced = replaced.unwrap_or_else(|| Holds::of(entry().into_iter()));
        let put = match rules::is_free_for_leaf(&change.key, &change.value) {
            true => Holds::default(),
            false => {
                let len = entry_len(&change.key, &change.value);
                Holds::of_one(len, change.status != DeletionStatus::Deleted)
            }
        };
        changed.insert(&change.key, put);
        new += 1;
        holds = holds.without(replaced).with(put);
        let of_one = holds.excess(bounds.most, before);
        let together = || {
            let before = others.with(before);
            others.with(holds).excess(bounds.most_of_all, before)
        };
        match of_one.or_else(together) {
            None => {
                let len = place + 1;
                (allowed, denial) = (Allowed { len, new, holds }, None);
            }
            Some(Excess::Keys { .. }) => denial = denial.or(Some(Denial::Keys)),
            Some(Excess::Bytes { .. }) => denial = denial.or(Some(Denial::Bytes)),
        }
    }
    (allowed, denial)
}

/// Returns true if an entry of a leaf, which has collected what it could up to the version `collected`, uses something of
/// its quotas.
fn counts(entry: &Entry<'_>, collected: Version) -> bool {
    let is_collected = entry.is_mortal() && entry.version <= collected;
    !is_collected && !rules::is_free_for_leaf(entry.key, entry.value)
}
