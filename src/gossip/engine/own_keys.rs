//! Setting and deleting keys of this member.
//!
//! Refuses keys that no peer would accept. It does not handle keys of other members. Invariant: a
//! key that was set fits into a message, and the whole state stays within its limits, tombstones included: if it is they
//! that take the room, they are dropped before their time.

use std::time::Duration;

use super::cluster::Cluster;
use super::entries::{Entry, entry_len};
use super::node_state::NodeState;
use super::reserved::{OWN_ROOM, PREFIX, is_reserved, split};
use crate::gossip::error::{DeleteError, SetError};
use crate::message::{DeletionStatus, DeltaBuilder, Version, is_harmless_key};

/// Bounds of the keys that this member may set.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnLimits {
    /// The bytes that a message has for a delta.
    pub(super) delta_room: usize,
    /// The size of all keys and values together, as [`entry_len`] counts it.
    pub(super) max_bytes: usize,
    /// The number of keys.
    pub(super) max_keys: usize,
}

/// The keys of the user, and their size.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    keys: usize,
    bytes: usize,
}

impl Usage {
    /// Returns what the entries that `counts` accepts would take if `key` had `value`.
    fn with(
        own: &NodeState,
        (key, value): (&str, &str),
        counts: impl Fn(&Entry<'_>) -> bool,
    ) -> Self {
        let others = Self::of(own, |entry| entry.key != key && counts(entry));
        Self {
            keys: others.keys + 1,
            bytes: others.bytes + entry_len(key, value),
        }
    }

    /// Returns what the entries that `counts` accepts take.
    fn of(own: &NodeState, counts: impl Fn(&Entry<'_>) -> bool) -> Self {
        let entries = own.entries();
        let counted = entries.filter(|entry| !is_reserved(entry.key) && counts(entry));
        counted.fold(Self::default(), |sum, entry| Self {
            keys: sum.keys + 1,
            bytes: sum.bytes + entry.len(),
        })
    }

    fn check(self, limits: OwnLimits) -> Result<(), SetError> {
        if self.keys > limits.max_keys {
            let max = limits.max_keys;
            return Err(SetError::TooManyKeys { max });
        }
        if self.bytes > limits.max_bytes {
            let (len, max) = (self.bytes, limits.max_bytes);
            return Err(SetError::StateTooLarge { len, max });
        }
        Ok(())
    }
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
    let own = cluster.own();
    if is_reserved(key) {
        let replaced = own.entry(key).map_or(0, |entry| entry.len());
        let len = own.bytes().saturating_sub(replaced) + entry_len(key, value);
        let max = limits.max_bytes.saturating_add(OWN_ROOM);
        if len > max {
            return Err(SetError::StateTooLarge { len, max });
        }
    } else if !is_clearly_within(own, (key, value), limits)
        && Usage::with(own, (key, value), |_| true)
            .check(limits)
            .is_err()
    {
        Usage::with(own, (key, value), |entry| entry.is_visible()).check(limits)?;
        cluster.drop_own_tombstones();
        cluster.own().set(key, value, status, now);
        // Peers drop what they hold, so this change alone would tell them nothing.
        return Ok(Some(0));
    }
    let own = cluster.own();
    let above = own.max_version;
    Ok(own.set(key, value, status, now).then_some(above))
}

/// Returns true if it is clear without counting that a change is within the limits, since all entries are, tombstones and
/// those of this crate included.
fn is_clearly_within(own: &NodeState, (key, value): (&str, &str), limits: OwnLimits) -> bool {
    let bytes = own.bytes() + entry_len(key, value);
    limits.max_keys == usize::MAX && bytes <= limits.max_bytes
}

/// Checks that the keys of this member are within the limits.
pub(super) fn check(cluster: &mut Cluster, limits: OwnLimits) -> Result<(), SetError> {
    Usage::of(cluster.own(), |entry| entry.is_visible()).check(limits)
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
    use crate::gossip::engine::cluster::ClusterLimits;
    use crate::message::ChitchatId;

    fn id() -> ChitchatId {
        ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into())
    }

    fn fits(key: (&str, &str), limits: OwnLimits) -> bool {
        let of_others = ClusterLimits {
            max_members: 1,
            max_bytes_per_member: 0,
            max_bytes: 0,
        };
        let mut cluster = Cluster::new(id(), of_others);
        set(
            &mut cluster,
            key,
            DeletionStatus::Set,
            limits,
            Duration::ZERO,
        )
        .is_ok()
    }

    #[test]
    fn a_key_may_take_all_of_the_room_and_no_byte_more() {
        let room = DeltaBuilder::len_bound_alone(&id(), "key", "value");
        let bytes = entry_len("key", "value");
        let fits = |delta_room, max_bytes| {
            let limits = OwnLimits {
                max_keys: usize::MAX,
                delta_room,
                max_bytes,
            };
            fits(("key", "value"), limits)
        };
        assert!(fits(room, bytes));
        assert!(!fits(room - 1, bytes) && !fits(room, bytes - 1));
    }

    #[test]
    fn a_key_or_value_may_be_as_long_as_its_length_can_say() {
        let limits = OwnLimits {
            max_keys: usize::MAX,
            delta_room: 1 << 20,
            max_bytes: 1 << 20,
        };
        let text = |len| "x".repeat(len);
        let longest = usize::from(u16::MAX);
        assert!(fits((&text(longest), &text(longest)), limits));
        assert!(!fits((&text(longest + 1), "v"), limits));
        assert!(!fits(("k", &text(longest + 1)), limits));
    }

    #[test]
    fn tombstones_are_dropped_if_they_take_the_room_of_keys_and_peers_take_the_whole_state() {
        let one = entry_len("a", "v");
        let limits = [(2, usize::MAX), (usize::MAX, 2 * one)];
        for (max_keys, max_bytes) in limits {
            let limits = OwnLimits {
                max_keys,
                delta_room: 1 << 16,
                max_bytes,
            };
            let of_others = ClusterLimits {
                max_members: 1,
                max_bytes_per_member: 0,
                max_bytes: 0,
            };
            let mut cluster = Cluster::new(id(), of_others);
            let put = |cluster: &mut Cluster, key| {
                let status = DeletionStatus::Set;
                set(cluster, (key, "v"), status, limits, Duration::ZERO)
            };
            assert_eq!(put(&mut cluster, "a"), Ok(Some(0)));
            assert_eq!(put(&mut cluster, "b"), Ok(Some(1)));
            assert!(put(&mut cluster, "c").is_err(), "both are alive");
            delete(&mut cluster, "b", Duration::ZERO).unwrap();
            let known = cluster.own().max_version;
            assert_eq!(put(&mut cluster, "a"), Ok(None), "nothing changes");
            assert_eq!(put(&mut cluster, "c"), Ok(Some(0)));
            let own = cluster.own();
            let keys: Vec<_> = own.entries().map(|entry| entry.key.to_owned()).collect();
            assert_eq!(keys, ["a", "c"]);
            assert!(own.last_gc_version > known);
            assert!(own.entries().all(|entry| entry.version > known));
        }
    }
}
