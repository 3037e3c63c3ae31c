//! The errors of issuing an invite, and of reading one. None of them contains what was read.

use std::time::Duration;

use crate::credential::error::CredentialError;
use crate::credential::secret::SecretId;

/// An invite cannot be issued. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The secret was not made by [`ClusterSecret::generate`](crate::ClusterSecret::generate). An invite lets its
    /// holder test guesses at the secret, so one that a person has made up could be found.
    #[error(
        "invites need a generated secret, and {id} is not one, or was made by an older version; replace it with one \
         that `ClusterSecret::generate` makes"
    )]
    SecretNotGenerated {
        /// The public name of the secret.
        id: SecretId,
    },
    /// The invite would be valid for too short or too long a time.
    #[error(
        "the lifetime of an invite is {} s, but must be 1 s to {} s",
        lifetime.as_secs(),
        max.as_secs()
    )]
    Lifetime {
        /// The lifetime that was asked for.
        lifetime: Duration,
        /// The longest lifetime.
        max: Duration,
    },
    /// There are more seeds than an invite can name.
    #[error("the invite names {count} seeds, but must name at most {max}")]
    TooManySeeds {
        /// The number of seeds.
        count: usize,
        /// The largest number of seeds.
        max: usize,
    },
    /// A text is malformed.
    #[error(transparent)]
    Malformed(#[from] CredentialError),
}

/// The claims of an invite are malformed, or of another version. Whoever has sent them is at fault: claims that
/// this crate encodes are none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// They are longer than any claims.
    #[error("the claims are {len} bytes long, but must be at most {max} bytes long")]
    Oversized {
        /// Their length, in bytes.
        len: usize,
        /// The largest length, in bytes.
        max: usize,
    },
    /// They have another format, which a newer version of this side may know.
    #[error("the claims have the unknown format {version}; update this side")]
    UnknownVersion {
        /// The number of the format.
        version: u8,
    },
    /// They end within the id or within a claim.
    #[error("the claims are cut short")]
    CutShort,
    /// There is a claim that this side does not know. It may be a restriction, so the claims are refused.
    #[error("the claims contain the unknown claim {tag}; update this side")]
    UnknownClaim {
        /// The number of the claim.
        tag: u8,
    },
    /// A claim is there twice.
    #[error("the claims contain claim {tag} twice")]
    Repeated {
        /// The number of the claim.
        tag: u8,
    },
    /// A claim stands behind one with a higher number.
    #[error("the claims contain claim {tag} after claim {after}")]
    OutOfOrder {
        /// The number of the claim.
        tag: u8,
        /// The number of the claim before it.
        after: u8,
    },
    /// The value of a claim has a length that it cannot have.
    #[error("the value of claim {tag} is {len} bytes long, which it cannot be")]
    WrongLength {
        /// The number of the claim.
        tag: u8,
        /// The length of its value, in bytes.
        len: usize,
    },
    /// The value of a claim is not text, or contains control characters.
    #[error("the value of claim {tag} is not plain text")]
    NotText {
        /// The number of the claim.
        tag: u8,
    },
}

/// A text is not an invite that this side can use. Says nothing about whether a cluster accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteTextError {
    /// The text does not begin as an invite does.
    #[error("this is not an invite, which begins with \"gossip-invite-\"")]
    NotAnInvite,
    /// A part of the invite is missing or has been changed. The original may be valid.
    #[error("the invite is incomplete or mistyped; copy all of it again")]
    Damaged,
    /// The text is longer than any invite.
    #[error("the invite is {len} bytes long, but must be at most {max} bytes long")]
    Oversized {
        /// The length of the text, in bytes.
        len: usize,
        /// The largest length, in bytes.
        max: usize,
    },
    /// The invite is complete, and has a format that a newer version of this side may know.
    #[error("the invite has the unknown format {version}; update this side")]
    UnknownVersion {
        /// The number of the format.
        version: u8,
    },
    /// The invite is complete, and a part of it has no meaning. Its issuer is at fault.
    #[error("the invite is malformed: {what}")]
    Malformed {
        /// The part at fault.
        what: &'static str,
    },
    /// The invite is complete, and its claims are malformed. Its issuer is at fault.
    #[error("the invite is malformed: {0}")]
    Claims(#[from] ClaimsError),
}
