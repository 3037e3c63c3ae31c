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

/// The part of what tombstones and keys may have together that must be tombstones, so that some are collected early.
/// Otherwise each change would collect the latest ones, and peers that lack them would need the whole state again.
const WORTH_COLLECTING: usize = 4;

/// Bounds of the keys that this member may set.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnLimits {
    /// The bytes that a message has for a delta.
    pub(super) delta_room: usize,
    /// What the keys of the user may use.
    pub(super) most: Holds,
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
    } else if let Some(floor) = check_room(cluster.own(), (key, value), limits)? {
        let above = cluster.own().max_version;
        cluster.own().collect_early(floor);
        cluster.own().set(key, value, status, now);
        return Ok(Some(above));
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
    let max = limits.most.all.bytes.saturating_add(OWN_ROOM);
    match len > max {
        true => Err(SetError::StateTooLarge { len, max }),
        false => Ok(()),
    }
}

/// Checks that there is room for `key` with `value`. Returns the version up to which tombstones have to be collected
/// first, if any.
fn check_room(
    own: &NodeState,
    (key, value): (&str, &str),
    limits: OwnLimits,
) -> Result<Option<Version>, SetError> {
    let len = entry_len(key, value);
    let most = limits.most;
    // Nearly always, this is clear without counting.
    if most.all.keys == usize::MAX && own.bytes() + len <= most.all.bytes {
        return Ok(None);
    }
    let before = holds(own);
    let replaced = own.entry(key).into_iter();
    let after = (before.without(Holds::of(replaced))).with(Holds::of_one(len, true));
    if let Some(excess) = after.visible.excess(most.visible, before.visible) {
        return Err(excess.into());
    }
    let Some(excess) = after.all.excess(most.all, before.all) else {
        return Ok(None);
    };
    let others = || {
        let tombstones = own.stale_entries(0).filter(|entry| !entry.is_visible());
        tombstones.filter(|entry| !is_reserved(entry.key) && entry.key != key)
    };
    let needed = after.all.without(most.all);
    let all = Holds::of(others()).all;
    let is_worth = match excess {
        Excess::Keys { max } => all.keys >= max / WORTH_COLLECTING,
        Excess::Bytes { max, .. } => all.bytes >= max / WORTH_COLLECTING,
    };
    if !is_worth {
        return Err(excess.into());
    }
    // The older half, or as many as are needed.
    let mut freed = Usage::default();
    let floor = others().find_map(|entry| {
        freed = freed.with(Holds::of_one(entry.len(), false).all);
        let is_enough = freed.keys >= needed.keys && freed.bytes >= needed.bytes;
        (is_enough && freed.keys >= all.keys / 2).then_some(entry.version)
    });
    floor.map(Some).ok_or(excess.into())
}

/// Returns what the keys of the user use.
fn holds(own: &NodeState) -> Holds {
    Holds::of(own.entries().filter(|entry| !is_reserved(entry.key)))
}

/// Checks that the keys of this member are within the limits.
pub(super) fn check(cluster: &mut Cluster, limits: OwnLimits) -> Result<(), SetError> {
    let visible = holds(cluster.own()).visible;
    let excess = visible.excess(limits.most.visible, Usage::default());
    excess.map_or(Ok(()), |excess| Err(excess.into()))
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
    fn of_member(delta_room: usize, bytes: usize) -> OwnLimits {
        let all = Usage {
            keys: usize::MAX,
            bytes,
        };
        let most = Holds { visible: all, all };
        OwnLimits { delta_room, most }
    }

    /// Returns the limits of a holder of an invite.
    fn of_leaf(keys: u32, bytes: u32) -> OwnLimits {
        let quotas = Quotas::default().with_max_keys(keys).with_max_bytes(bytes);
        OwnLimits {
            delta_room: 1 << 16,
            most: most_of_leaf(quotas),
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
    fn tombstones_of_a_leaf_are_collected_early_once_they_are_as_many_as_its_keys() {
        let one = u32::try_from(entry_len("a", "v")).unwrap();
        for limits in [of_leaf(2, u32::MAX), of_leaf(u32::MAX, 2 * one)] {
            let mut cluster = cluster();
            assert_eq!(put(&mut cluster, ("a", "v"), limits), Ok(Some(0)));
            assert_eq!(put(&mut cluster, ("b", "v"), limits), Ok(Some(1)));
            assert!(put(&mut cluster, ("c", "v"), limits).is_err(), "both live");
            assert_eq!(put(&mut cluster, ("a", "v"), limits), Ok(None));
            let mut collected = 0;
            for (before, after) in [("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g")] {
                delete(&mut cluster, before, Duration::ZERO).unwrap();
                let known = cluster.own().max_version;
                assert_eq!(put(&mut cluster, (after, "v"), limits), Ok(Some(known)));
                let own = cluster.own();
                assert_eq!(own.max_version, known + 1, "nothing else changes");
                // Some that peers have had for longest are collected, and never the last one.
                collected += usize::from(own.last_gc_version > 0);
                assert!(own.last_gc_version < known, "{after}");
                assert!(own.entries().count() <= 4);
                assert_eq!((own.get("a"), own.get(after)), (Some("v"), Some("v")));
            }
            assert_eq!(collected, 3, "not before there are too many");
        }
    }

    #[test]
    fn keys_with_a_ttl_are_renewed_before_tombstones_are_collected_early() {
        let limits = of_leaf(2, u32::MAX);
        let mut cluster = cluster();
        let status = DeletionStatus::DeleteAfterTtl;
        set(&mut cluster, ("t", "v"), status, limits, Duration::ZERO).unwrap();
        for n in 0..4 {
            let key = format!("k{n}");
            put(&mut cluster, (&key, "v"), limits).unwrap();
            delete(&mut cluster, &key, Duration::ZERO).unwrap();
        }
        let own = cluster.own();
        let entry = own.entry("t").unwrap();
        assert!(own.last_gc_version > 1 && entry.version > own.last_gc_version);
        let grace = Duration::from_secs(10);
        assert!(own.collect_garbage(grace, grace), "its age stays");
    }

    #[test]
    fn a_member_collects_tombstones_early_if_they_take_much_room_only() {
        let one = entry_len("k00", "v");
        let limits = of_member(1 << 16, 16 * one);
        let mut cluster = cluster();
        let key = |n| format!("k{n:02}");
        for n in 0..16 {
            put(&mut cluster, (&key(n), "v"), limits).unwrap();
        }
        let short = one - 1;
        for deleted in 0..3 {
            delete(&mut cluster, &key(deleted), Duration::ZERO).unwrap();
            let error = put(&mut cluster, ("new", "v"), limits);
            let len = (deleted + 1) * short + (16 - deleted) * one;
            let max = 16 * one;
            assert_eq!(error, Err(SetError::StateTooLarge { len, max }));
        }
        for deleted in 3..5 {
            delete(&mut cluster, &key(deleted), Duration::ZERO).unwrap();
        }
        put(&mut cluster, ("new", "v"), limits).unwrap();
        let collected = 16 + 2;
        assert_eq!(cluster.own().last_gc_version, collected, "the older half");
    }

    #[test]
    fn who_has_more_than_new_limits_allow_may_make_changes_that_add_nothing() {
        let mut cluster = cluster();
        for key in ["a", "b", "c"] {
            put(&mut cluster, (key, "long value"), of_leaf(3, 1_000)).unwrap();
        }
        let limits = of_leaf(1, 70);
        assert_eq!(
            check(&mut cluster, limits),
            Err(SetError::TooManyKeys { max: 1 })
        );
        let mut put = |key, value| put(&mut cluster, (key, value), limits);
        assert!(put("a", "short").is_ok());
        assert!(put("a", "a longer value").is_err());
        assert!(put("d", "").is_err());
        for key in ["a", "b"] {
            delete(&mut cluster, key, Duration::ZERO).unwrap();
            let own = holds(cluster.own());
            let expected = if key == "a" { 2 } else { 1 };
            assert_eq!((own.visible.keys, own.all.keys), (expected, 3));
        }
    }
}
