//! The role of a peer in the cluster.

/// The role of a peer, which says what it may do in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Role {
    /// A full member: it knows a cluster secret, or its key is on the list of trusted keys. It may change
    /// everything.
    #[default]
    Core,
    /// A guest: it holds an [`Invite`](super::Invite). It may change its own member, within the limits of its invite.
    Leaf,
    /// A peer that has proved no identity, as on a network without authentication. It may change only members that
    /// are reached in no other way.
    Unauthenticated,
}
