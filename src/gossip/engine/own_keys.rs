//! Setting and deleting keys of this member.
//!
//! Refuses keys that no peer would accept. It does not handle keys of other members. Invariants: a key that was set fits
//! into a message; keys and tombstones stay within their limits, or what exceeds them was there before the limits were
//! lowered. Tombstones that would exceed theirs are collected before their time.

use std::time::Duration;

use super::cluster::Cluster;
use super::entries::entry_len;
use super::node_state::NodeState;
use super::reserved::{OWN_ROOM, PREFIX, is_reserved, split};
use super::usage::{Excess, Holds, Usage};
use crate::gossip::error::{DeleteError, SetError};
use crate::message::{DeletionStatus, DeltaBuilder, Version, is_harmless_key};

/// A member without an invite starts afresh if its tombstones take this part of its bytes. Otherwise its peers might take
/// its whole state, which may be large, with every change.
const WORTH_STARTING_AFRESH: usize = 4;

/// Bounds of the keys that this member may set.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnLimits {
    /// The bytes that a message has for a delta.
    pub(super) delta_room: usize,
    /// The size of all entries, as [`entry_len`] counts it.
    pub(super) max_bytes: usize,
    /// What a holder of an invite may have beside that. Its peers count what they may still hold of it.
    pub(super) of_leaf: Option<Holds>,
}

/// Sets a key of this member. Returns the version above which it has changed, or `None` if the key
/// has that value and status already.
pub(super) fn set(
    cluster: &mut Cluster,
    (key, value): (&str, &str),
    status: DeletionStatus,
    limits: OwnLimits,
    now: Duration,
) -> Result<Option<Version>, SetError> {
    if !is_harmless_key(key) {
        return Err(SetError::KeyNotAscii {
            key: key.to_owned(),
        });
    }
    let len = DeltaBuilder::len_bound_alone(cluster.self_id(), key, value);
    let max = limits.delta_room;
    if len > max || key.len() > usize::from(u16::MAX) || value.len() > usize::from(u16::MAX) {
        return Err(SetError::TooLong { len, max });
    }
    if cluster.own().has(key, value, status) {
        return Ok(None);
    }
    if is_reserved(key) {
        check_reserved(cluster.own(), (key, value), limits)?;
    } else if !has_room(cluster, (key, value), limits)? {
        cluster.drop_own_tombstones();
        cluster.own().set(key, value, status, now);
        // Peers drop what they hold, so this change alone would tell them nothing.
        return Ok(Some(0));
    }
    let own = cluster.own();
    let above = own.max_version;
    own.set(key, value, status, now);
    Ok(Some(above))
}

fn check_reserved(
    own: &NodeState,
    (key, value): (&str, &str),
    limits: OwnLimits,
) -> Result<(), SetError> {
    let replaced = own.entry(key).map_or(0, |entry| entry.len());
    let len = own.bytes().saturating_sub(replaced) + entry_len(key, value);
    let max = limits.max_bytes.saturating_add(OWN_ROOM);
    match len > max {
        true => Err(SetError::StateTooLarge { len, max }),
        false => Ok(()),
    }
}

/// Returns true if there is room for `key` with `value`, and false if there is after a start afresh without tombstones.
fn has_room(
    cluster: &mut Cluster,
    (key, value): (&str, &str),
    limits: OwnLimits,
) -> Result<bool, SetError> {
    let collected = cluster.collected;
    let own = cluster.own();
    let len = entry_len(key, value);
    // Nearly always, this is clear without counting.
    if limits.of_leaf.is_none() && own.bytes() + len <= limits.max_bytes {
        return Ok(true);
    }
    let replaced = own.entry(key);
    if replaced.is_some_and(|entry| entry.is_visible() && len <= entry.len()) {
        // Even if there is too much, because the limits were lowered.
        return Ok(true);
    }
    let before = holds(own);
    let after = before
        .without(Holds::of(replaced.into_iter()))
        .with(Holds::of_one(len, true));
    let most = most(limits);
    if let Some(excess) = after.visible.excess(most.visible) {
        return Err(excess.into());
    }
    let is_leaf = limits.of_leaf.is_some();
    let held = match is_leaf {
        true => after.all.with(collected),
        false => after.all,
    };
    let Some(excess) = held.excess(most.all) else {
        return Ok(true);
    };
    let tombstones = before.all.without(before.visible).bytes;
    match is_leaf || tombstones >= limits.max_bytes / WORTH_STARTING_AFRESH {
        true => Ok(false),
        false => Err(excess.into()),
    }
}

/// Returns what the keys of the user may use.
fn most(limits: OwnLimits) -> Holds {
    let all = Usage {
        keys: usize::MAX,
        bytes: limits.max_bytes,
    };
    let of_member = Holds { visible: all, all };
    of_member.min(limits.of_leaf.unwrap_or(of_member))
}

/// Returns what the keys of the user use.
fn holds(own: &NodeState) -> Holds {
    Holds::of(own.entries().filter(|entry| !is_reserved(entry.key)))
}

/// Starts afresh without tombstones if a holder of an invite has too many of them, but not too many keys. Returns true if
/// it has: all entries have new versions then.
///
/// # Errors
///
/// Fails if there are more keys, or longer ones, than the limits allow.
pub(super) fn settle(cluster: &mut Cluster, limits: OwnLimits) -> Result<bool, SetError> {
    if limits.of_leaf.is_none() {
        return Ok(false);
    }
    let (held, most) = (holds(cluster.own()), most(limits));
    if let Some(excess) = held.visible.excess(most.visible) {
        return Err(excess.into());
    }
    let is_excess = (held.all.with(cluster.collected))
        .excess(most.all)
        .is_some();
    if is_excess {
        cluster.drop_own_tombstones();
    }
    Ok(is_excess)
}

impl From<Excess> for SetError {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Keys { max } => Self::TooManyKeys { max },
            Excess::Bytes { len, max } => Self::StateTooLarge { len, max },
        }
    }
}

/// Sets the reserved key `name`. Returns the version above which it has changed, or `None` if it has that payload
/// already.
pub(super) fn set_reserved(
    cluster: &mut Cluster,
    (name, payload): (&str, &str),
    limits: OwnLimits,
    now: Duration,
) -> Result<Option<Version>, SetError> {
    let key = format!("{PREFIX}{name}");
    let own = cluster.own();
    if own.get(&key).map(|value| split(value).0) == Some(payload) {
        return Ok(None);
    }
    let version = own.max_version.saturating_add(1);
    let value = cluster.reserved_value(&key, payload, version);
    let status = DeletionStatus::Set;
    let above = set(cluster, (&key, &value), status, limits, now)?;
    cluster.note_own_reserved(above);
    Ok(above)
}

/// Deletes the reserved key `name`. Returns the version above which it has changed, or `None` if there is no such
/// key.
pub(super) fn delete_reserved(cluster: &mut Cluster, name: &str, now: Duration) -> Option<Version> {
    let above = delete(cluster, &format!("{PREFIX}{name}"), now).ok();
    cluster.note_own_reserved(above);
    above
}

/// Deletes a key of this member. Returns the version above which it has changed.
pub(super) fn delete(
    cluster: &mut Cluster,
    key: &str,
    now: Duration,
) -> Result<Version, DeleteError> {
    let own = cluster.own();
    if own.get(key).is_none() {
        return Err(DeleteError::NoSuchKey {
            key: key.to_owned(),
        });
    }
    let above = own.max_version;
    own.set(key, "", DeletionStatus::Deleted, now);
    Ok(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Quotas;
    use crate::gossip::engine::cluster::ClusterLimits;
    use crate::gossip::engine::policy::most_of_leaf;
    use crate::message::ChitchatId;

    fn id() -> ChitchatId {
        ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into())
    }

    fn cluster() -> Cluster {
        let of_others = ClusterLimits {
            max_members: 1,
            max_bytes_per_member: 0,
            max_bytes: 0,
        };
        Cluster::new(id(), of_others)
    }

    /// Returns the limits of a member without an invite.
    fn of_member(delta_room: usize, max_bytes: usize) -> OwnLimits {
        OwnLimits {
            delta_room,
            max_bytes,
            of_leaf: None,
        }
    }

    /// Returns the limits of a holder of an invite.
    fn of_leaf(keys: u32, bytes: u32) -> OwnLimits {
        let quotas = Quotas::default().with_max_keys(keys).with_max_bytes(bytes);
        OwnLimits {
            delta_room: 1 << 16,
            max_bytes: 1 << 20,
            of_leaf: Some(most_of_leaf(quotas)),
        }
    }

    fn put(
        cluster: &mut Cluster,
        key: (&str, &str),
        limits: OwnLimits,
    ) -> Result<Option<Version>, SetError> {
        set(cluster, key, DeletionStatus::Set, limits, Duration::ZERO)
    }

    fn fits(key: (&str, &str), limits: OwnLimits) -> bool {
        put(&mut cluster(), key, limits).is_ok()
    }

    #[test]
    fn a_key_may_take_all_of_the_room_and_no_byte_more() {
        let room = DeltaBuilder::len_bound_alone(&id(), "key", "value");
        let bytes = entry_len("key", "value");
        let fits = |delta_room, max_bytes| fits(("key", "value"), of_member(delta_room, max_bytes));
        assert!(fits(room, bytes));
        assert!(!fits(room - 1, bytes) && !fits(room, bytes - 1));
    }

    #[test]
    fn a_key_or_value_may_be_as_long_as_its_length_can_say() {
        let limits = of_member(1 << 20, 1 << 20);
        let text = |len| "x".repeat(len);
        let longest = usize::from(u16::MAX);
        assert!(fits((&text(longest), &text(longest)), limits));
        assert!(!fits((&text(longest + 1), "v"), limits));
        assert!(!fits(("k", &text(longest + 1)), limits));
    }

    #[test]
    fn a_leaf_starts_afresh_once_its_tombstones_would_be_more_than_its_keys_may_be() {
        let one = u32::try_from(entry_len("a", "v")).unwrap();
        for limits in [of_leaf(2, u32::MAX), of_leaf(u32::MAX, 2 * one)] {
            let mut cluster = cluster();
            assert_eq!(put(&mut cluster, ("a", "v"), limits), Ok(Some(0)));
            assert_eq!(put(&mut cluster, ("b", "v"), limits), Ok(Some(1)));
            assert!(put(&mut cluster, ("c", "v"), limits).is_err(), "both live");
            assert_eq!(put(&mut cluster, ("a", "v"), limits), Ok(None));
            let mut afresh = Vec::new();
            for (before, after) in [("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g")] {
                delete(&mut cluster, before, Duration::ZERO).unwrap();
                let known = cluster.own().max_version;
                let above = put(&mut cluster, (after, "v"), limits).unwrap();
                let own = cluster.own();
                if above == Some(0) {
                    afresh.push(after);
                    assert!(own.last_gc_version > known);
                    assert!(own.entries().all(|entry| entry.version > known));
                } else {
                    assert_eq!(above, Some(known), "{after}");
                }
                assert!(own.entries().count() <= 4);
                assert_eq!((own.get("a"), own.get(after)), (Some("v"), Some("v")));
            }
            assert!(afresh == ["e"] || afresh == ["f"], "{afresh:?}");
        }
    }

    #[test]
    fn a_leaf_counts_what_it_has_collected_and_others_may_still_hold() {
        let limits = of_leaf(2, u32::MAX);
        let mut cluster = cluster();
        let status = DeletionStatus::DeleteAfterTtl;
        let grace = Duration::from_secs(10);
        for (n, expected) in [Some(0), Some(1), Some(2), Some(3), Some(0)]
            .iter()
            .enumerate()
        {
            let now = grace * u32::try_from(n).unwrap();
            cluster.collect_garbage(grace, now);
            let key = format!("k{n}");
            let above = set(&mut cluster, (&key, "v"), status, limits, now);
            assert_eq!(above, Ok(*expected));
            assert_eq!(cluster.own().entries().count(), 1);
        }
    }

    #[test]
    fn a_member_starts_afresh_if_its_tombstones_take_much_room_only() {
        let one = entry_len("k00", "v");
        let limits = of_member(1 << 16, 16 * one);
        let mut cluster = cluster();
        let key = |n| format!("k{n:02}");
        for n in 0..16 {
            put(&mut cluster, (&key(n), "v"), limits).unwrap();
        }
        let short = one - 1;
        for deleted in 0..4 {
            delete(&mut cluster, &key(deleted), Duration::ZERO).unwrap();
            let error = put(&mut cluster, ("new", "v"), limits);
            let len = (deleted + 1) * short + (16 - deleted) * one;
            let max = 16 * one;
            assert_eq!(error, Err(SetError::StateTooLarge { len, max }));
        }
        delete(&mut cluster, &key(4), Duration::ZERO).unwrap();
        assert_eq!(put(&mut cluster, ("new", "v"), limits), Ok(Some(0)));
        assert_eq!(cluster.own().entries().count(), 12);
    }

    #[test]
    fn who_has_more_than_new_limits_allow_may_delete_and_shorten_and_then_starts_afresh() {
        let mut cluster = cluster();
        for key in ["a", "b", "c"] {
            put(&mut cluster, (key, "long value"), of_leaf(3, 1_000)).unwrap();
        }
        let limits = of_leaf(1, 80);
        let too_many = Err(SetError::TooManyKeys { max: 1 });
        assert_eq!(settle(&mut cluster, limits), too_many);
        assert!(put(&mut cluster, ("a", "short"), limits).is_ok());
        assert!(put(&mut cluster, ("a", "a longer value"), limits).is_err());
        assert!(put(&mut cluster, ("d", ""), limits).is_err());
        for (key, expected) in [("a", too_many), ("b", Ok(true))] {
            delete(&mut cluster, key, Duration::ZERO).unwrap();
            assert_eq!(settle(&mut cluster, limits), expected);
        }
        let keys: Vec<_> = cluster
            .own()
            .entries()
            .map(|entry| entry.key.to_owned())
            .collect();
        assert_eq!(keys, ["c"]);
        assert_eq!(settle(&mut cluster, limits), Ok(false));
    }
}
