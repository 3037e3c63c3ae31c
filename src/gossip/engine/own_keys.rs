//! Setting and deleting keys of this member.
//!
//! Refuses keys that no peer would accept. It does not handle keys of other members. Invariant: a
//! key that was set fits into a message, and the whole state stays within its limit.

use std::time::Duration;

use super::cluster::Cluster;
use super::entries::entry_len;
use crate::gossip::error::{DeleteError, SetError};
use crate::message::{DeletionStatus, DeltaBuilder, Version, is_harmless_key};

/// Bounds of the keys that this member may set.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnLimits {
    /// The bytes that a message has for a delta.
    pub(super) delta_room: usize,
    /// The size of all keys and values together, as [`entry_len`] counts it.
    pub(super) max_bytes: usize,
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
    let replaced = own.entry(key).map_or(0, |entry| entry.len());
    let len = own.bytes().saturating_sub(replaced) + entry_len(key, value);
    let max = limits.max_bytes;
    if len > max {
        return Err(SetError::StateTooLarge { len, max });
    }
    let above = own.max_version;
    Ok(own.set(key, value, status, now).then_some(above))
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
