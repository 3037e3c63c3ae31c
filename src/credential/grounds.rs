//! What the trust in a connection rests on, and whether it still does.
//!
//! Plain values. The handshake determines the grounds, and [`Trust`](super::Trust) judges them.

use std::sync::Arc;

use super::identity::Identity;
use super::invite::{Claims, InviteId};
use super::refusal::Refusal;
use super::role::Role;
use super::secret::SecretId;

/// What a handshake has proved of a peer besides its identity, on which the trust in a connection rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Grounds {
    /// The network does not say. Only the identity is judged, if the peer has proved one.
    #[default]
    Unknown,
    /// The peer has proved its identity, and no secret was used.
    Identity,
    /// The peer has proved that it knows this secret.
    Secret(SecretId),
    /// The peer has proved that it holds this invite, which was issued with this secret.
    Invite {
        /// The invite.
        id: InviteId,
        /// The secret of this side with which it was issued.
        secret: SecretId,
    },
    /// This side has presented this invite, and the peer has proved that it is a core member of the cluster which
    /// has issued it.
    Core {
        /// The invite of this side.
        invite: InviteId,
    },
}

impl Grounds {
    /// Returns the role of a peer that has proved `identity` and this.
    pub fn role(self, identity: &Identity) -> Role {
        match self {
            _ if *identity == Identity::UNPROVED => Role::Unauthenticated,
            Self::Invite { .. } => Role::Leaf,
            Self::Unknown | Self::Identity | Self::Secret(_) | Self::Core { .. } => Role::Core,
        }
    }
}

/// The grounds of a connection and the claims of its peer's invite, in the size of a pointer, since each connection
/// keeps them. Those of the same secret share their memory.
#[derive(Clone, Default)]
pub(crate) struct Proved(Option<Arc<(Grounds, Option<Arc<Claims>>)>>);

impl Proved {
    /// An identity and nothing else.
    pub(crate) const IDENTITY: Self = Self(None);

    pub(crate) fn new(grounds: Grounds, claims: Option<Claims>) -> Self {
        Self(Some(Arc::new((grounds, claims.map(Arc::new)))))
    }

    pub(crate) fn grounds(&self) -> Grounds {
        self.0.as_ref().map_or(Grounds::Identity, |proved| proved.0)
    }

    pub(crate) fn claims(&self) -> Option<&Arc<Claims>> {
        self.0.as_ref()?.1.as_ref()
    }
}

/// Whether a connection is trusted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It is trusted, and a new one would have the same grounds.
    Current,
    /// It is trusted, but a new one would use another secret, or another invite.
    Outdated,
    /// It is not trusted any more, but the identity is: a new connection may be.
    SecretRemoved,
    /// The identity, or the invite that it has used, is refused for this reason.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::credential::ClusterSecret;

    #[test]
    fn a_peer_without_a_proved_identity_is_unauthenticated_and_a_holder_of_an_invite_is_a_leaf() {
        let peer = Identity::from_bytes([1; 32]);
        let secret = ClusterSecret::generate().id();
        let id = InviteId::generate(Duration::ZERO, Duration::from_secs(60)).unwrap();
        let invite = Grounds::Invite { id, secret };
        for (grounds, role) in [
            (Grounds::Unknown, Role::Core),
            (Grounds::Identity, Role::Core),
            (Grounds::Secret(secret), Role::Core),
            (invite, Role::Leaf),
            (Grounds::Core { invite: id }, Role::Core),
        ] {
            assert_eq!(grounds.role(&peer), role, "{grounds:?}");
            assert_eq!(grounds.role(&Identity::UNPROVED), Role::Unauthenticated);
        }
    }
}
