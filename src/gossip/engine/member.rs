//! A member of the cluster, as the engine shows it to the application.
//!
//! Plain values: a snapshot that does not change when the engine does.

use std::collections::BTreeMap;

use super::entries::Entry;
use super::node_state::NodeState;
use super::reserved::is_reserved;
use crate::message::{ChitchatId, DeletionStatus, Version};

/// A member of the cluster, as this participant sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The member's name, generation and advertised address.
    pub id: ChitchatId,
    /// The verdict of the failure detector.
    pub liveness: Liveness,
    /// True if another member with the same name takes precedence: this is an earlier or a failed
    /// generation of a member that has restarted. A live generation takes precedence over those that
    /// are not live, one that has left over those that are dead or not live yet, and otherwise the latest does. The others stay listed until they are forgotten.
    pub superseded: bool,
    /// The highest known heartbeat.
    pub heartbeat: u64,
    /// The highest version known.
    pub max_version: Version,
    /// The keys and their values, without those that are deleted or reserved.
    pub key_values: BTreeMap<String, MemberValue>,
}

/// A value that a member has set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberValue {
    /// The value.
    pub value: String,
    /// The version at which the member set it. A member's versions rise with each change.
    pub version: Version,
    /// `Set`, or `DeleteAfterTtl` for a key that will be removed.
    pub status: DeletionStatus,
}

/// Whether a member is live, according to the failure detector and to what members say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// This participant itself.
    Myself,
    /// Its heartbeat keeps rising.
    Live,
    /// It has left, as it has said itself, or as those say who have lost the connection to it. It is live
    /// again as soon as its heartbeat rises.
    Left,
    /// Its heartbeat has not risen for too long, or has not risen often enough yet.
    Dead,
}

impl Liveness {
    /// Returns true for a live member, and for this participant itself.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Myself | Self::Live)
    }

    /// Returns a name for metrics and logs, in lower-case letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Myself => "myself",
            Self::Live => "live",
            Self::Left => "left",
            Self::Dead => "dead",
        }
    }
}

/// Returns the keys of `state` that are neither deleted nor reserved.
pub(super) fn visible_keys(state: &NodeState) -> BTreeMap<String, MemberValue> {
    let is_shown = |entry: &Entry<'_>| entry.is_visible() && !is_reserved(entry.key);
    let entries = state.entries().filter(is_shown);
    let mut visible = BTreeMap::new();
    visible.extend(entries.map(|entry| {
        let value = MemberValue {
            value: entry.value.to_owned(),
            version: entry.version,
            status: entry.status,
        };
        (entry.key.to_owned(), value)
    }));
    visible
}
