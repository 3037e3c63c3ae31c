//! The two kinds of peers that have limits of their own.

use crate::credential::Identity;

/// The peers that share limits of a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pool {
    /// Peers that have proved an identity.
    #[default]
    Proved,
    /// Peers that cannot. Their addresses may be forged, so one sender may be any number of them.
    Unproved,
}

impl Pool {
    pub(super) fn of(identity: Identity) -> Self {
        if identity == Identity::UNPROVED {
            Self::Unproved
        } else {
            Self::Proved
        }
    }
}
