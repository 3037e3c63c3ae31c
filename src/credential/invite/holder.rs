//! The peers that may use an invite.

use crate::credential::identity::Identity;

/// The peers that may use an invite. Default: anyone who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Holder {
    /// Every peer that has the invite, such as all tabs that open the same link.
    #[default]
    Anyone,
    /// Only the peer with this identity, so that an invite that is stolen is of no use.
    Only(Identity),
}

impl Holder {
    /// Returns whether the peer that has proved `identity` may use the invite. One that has proved none may not.
    pub fn allows(&self, identity: &Identity) -> bool {
        if *identity == Identity::UNPROVED {
            return false;
        }
        match self {
            Self::Anyone => true,
            Self::Only(holder) => holder == identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_may_use_an_invite_and_nobody_without_a_proved_identity() {
        let [a, b] = [1, 2].map(|n| Identity::from_bytes([n; 32]));
        assert!(Holder::default().allows(&a) && Holder::Anyone.allows(&b));
        assert!(Holder::Only(a).allows(&a) && !Holder::Only(a).allows(&b));
        for holder in [Holder::Anyone, Holder::Only(Identity::UNPROVED)] {
            assert!(!holder.allows(&Identity::UNPROVED), "{holder:?}");
        }
    }
}
