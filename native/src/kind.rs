//! The convention by which members distinguish nodes from browser tabs: a key named `kind`.
//!
//! Shared with the live page only; the library knows nothing of it.

use gossip_transport::gossip::Member;

/// The key that holds a member's kind.
pub(crate) const KIND_KEY: &str = "kind";
/// The value of [`KIND_KEY`] that this program sets. A tab sets `tab`.
pub(crate) const KIND_NODE: &str = "node";

/// Returns whether a member says that it is a node of this program.
pub(crate) fn is_node(member: &Member) -> bool {
    member
        .key_values
        .get(KIND_KEY)
        .is_some_and(|kind| kind.value == KIND_NODE)
}
