//! The error of an invite that cannot be revoked.

use crate::credential::invite::InviteId;

/// An invite cannot be revoked. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// As many invites are revoked as can be, and none of them has expired. Replacing the secret invalidates all
    /// invites that were issued with it.
    #[error("{max} invites are revoked already; replace the secret that they were issued with")]
    TooMany {
        /// The largest number of revoked invites.
        max: usize,
    },
    /// The id claims a time of expiry that no invite has, which was issued by now. The id is wrong, or the clock of
    /// this machine or of the issuer is.
    #[error(
        "the invite {id} would expire in more than 30 days, which none does; check the id and the clock"
    )]
    TooFarAhead {
        /// The id.
        id: InviteId,
    },
}
