//! The rules: what a sender may say about a member. See the table of the [module](super).
//!
//! Pure functions of plain facts. Nothing is counted or remembered here. Invariant: nothing is denied to a core
//! member, which no rule is asked about.

use std::net::SocketAddr;

use crate::credential::NamePrefix;
use crate::gossip::engine::config::MAX_LEAF_NAME_LEN;
use crate::gossip::engine::cores::Owner;
use crate::gossip::engine::denial::Denial;
use crate::gossip::engine::presence::LEFT;
use crate::gossip::engine::reserved;
use crate::message::{ChitchatId, KeyValueMutation, NodeDelta, NodeDigest, Version};

/// Heartbeats and versions of a leaf are below this: JavaScript counts exactly up to here, and no honest counting gets
/// near it.
pub(super) const END_OF_VERSIONS: u64 = 1 << 53;

/// The sender of a report, if it is no core member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker<'a> {
    /// A leaf.
    Leaf {
        /// Its key address.
        own: SocketAddr,
        /// The prefix that its invite demands, if the claims of its invite are known.
        prefix: Option<&'a NamePrefix>,
        /// The highest generation that does not lie in the future.
        latest: u64,
    },
    /// A peer over UDP.
    Unauthenticated {
        /// Whether the receiver may still be told of its own past. See [`MayLearn`].
        past: MayLearn,
    },
}

/// Whether the receiver may learn from unauthenticated peers what it was before it restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayLearn {
    Yes,
    No,
}

/// What is known of the member that a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The receiver itself.
    Receiver,
    /// A known member.
    Known(Owner),
    /// An unknown member at an address of such an owner.
    Unknown {
        owner: Owner,
        /// A live core member, or the receiver, has its name or its address.
        is_taken: bool,
    },
}

/// Returns why `speaker` may say nothing about the member `id`, if that is so.
pub(super) fn denial(speaker: Speaker<'_>, id: &ChitchatId, subject: Subject) -> Option<Denial> {
    match speaker {
        Speaker::Leaf {
            own,
            prefix,
            latest,
        } => {
            let of_another = match subject {
                Subject::Receiver => Some(Denial::Receiver),
                _ if id.addr() == own => None,
                Subject::Known(_) => Some(Denial::Heartbeat),
                Subject::Unknown { .. } => Some(Denial::NewMember),
            };
            of_another.or_else(|| match prefix {
                None => Some(Denial::Claims),
                Some(_) if id.node_id.len() > MAX_LEAF_NAME_LEN => Some(Denial::Name),
                Some(prefix) if !prefix.allows(&id.node_id) => Some(Denial::Name),
                // The clock by which one that is known was accepted may have been set since.
                Some(_) => {
                    let is_new = !matches!(subject, Subject::Known(_));
                    (is_new && id.generation_id > latest).then_some(Denial::Generation)
                }
            })
        }
        Speaker::Unauthenticated { past } => match subject {
            Subject::Receiver => (past == MayLearn::No).then_some(Denial::Receiver),
            Subject::Known(Owner::Unproved) => None,
            Subject::Known(Owner::Core | Owner::Leaf) => Some(Denial::Heartbeat),
            Subject::Unknown {
                owner: Owner::Unproved,
                is_taken,
            } => is_taken.then_some(Denial::Name),
            Subject::Unknown { .. } => Some(Denial::NewMember),
        },
    }
}

/// Returns true if all numbers that a digest lists for a member are below [`END_OF_VERSIONS`].
pub(super) fn is_credible(listed: &NodeDigest) -> bool {
    let NodeDigest {
        heartbeat,
        last_gc_version,
        max_version,
    } = *listed;
    heartbeat.max(last_gc_version).max(max_version) < END_OF_VERSIONS
}

/// Returns true if all versions of a delta are below [`END_OF_VERSIONS`].
pub(super) fn are_credible(delta: &NodeDelta) -> bool {
    let versions = [
        delta.last_gc_version,
        delta.from_version_excluded,
        delta.max_version,
    ];
    let of_keys = delta.key_values.iter().map(|change| change.version);
    versions
        .into_iter()
        .chain(of_keys)
        .all(|version| version < END_OF_VERSIONS)
}

/// The longest value of a reserved key that takes nothing of a leaf's quotas, in bytes: longer than a heartbeat.
const MAX_FREE_LEN: usize = 32;

/// Returns true if a leaf may not set this key: of the reserved ones, it may say that it has left.
pub(super) fn is_denied_to_leaf(change: &KeyValueMutation) -> bool {
    reserved::name_of(&change.key).is_some_and(|name| name != LEFT)
}

/// Returns true if this key of a leaf, which it may set, takes nothing of its quotas: it says that it has left.
pub(super) fn is_free_for_leaf(key: &str, value: &str) -> bool {
    reserved::is_reserved(key) && value.len() <= MAX_FREE_LEN
}

/// Returns true if the key is reserved.
pub(super) fn is_reserved(change: &KeyValueMutation) -> bool {
    reserved::is_reserved(&change.key)
}

/// Cuts off the changes of `delta` from `place` on, so that it does not claim to contain them. Returns how many there
/// were.
pub(super) fn cut(delta: &mut NodeDelta, place: usize) -> usize {
    let all = delta.key_values.len();
    if place >= all {
        return 0;
    }
    delta.key_values.truncate(place);
    let last: Option<Version> = delta.key_values.last().map(|change| change.version);
    delta.max_version = last.unwrap_or(delta.from_version_excluded);
    all - place
}
