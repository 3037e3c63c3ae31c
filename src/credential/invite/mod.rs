//! Invites: credentials that a cluster gives to strangers, with an end and with limits.
//!
//! An invite is derived from a cluster secret and from claims. Its holder presents the claims, and every member that
//! knows the secret derives the same key from them, so nothing is stored and no other member is asked. Handshakes,
//! revocations and the policy that applies the quotas are not here. Invariants: keys are never printed, and wiped
//! when they are dropped; bytes and words have exactly one meaning, and each meaning one form.
//!
//! The contents of the word, without its checksum:
//!
//! | bytes | content |
//! |---|---|
//! | 1 | the format: 1 |
//! | length (`u16`), bytes | the claims |
//! | 32 | the key of the invite |
//! | 32 | the public half of the cluster key |
//! | length (`u16`), bytes | the cluster id: 1 to 1,024 bytes of UTF-8 without control characters |
//! | 1 | the number of seeds, 0 to 4 |
//! | length (`u16`), bytes | each seed: 1 to 512 bytes of UTF-8 without control characters |
//!
//! | file | content |
//! |---|---|
//! | `claims`, `id`, `holder`, `name_prefix`, `quotas` | what an invite claims, and the bytes of that |
//! | `key` | the key that belongs to the claims |
//! | `core_proof` | how a core member shows a holder that it is one |
//! | `word` | the word and its checksum |
//! | `text`, `reader` | the texts and other parts of which both consist |
//! | `error` | why an invite cannot be issued or read |

mod claims;
mod core_proof;
mod error;
mod holder;
mod id;
mod key;
mod name_prefix;
mod quotas;
mod reader;
#[cfg(test)]
mod tests;
mod text;
mod word;

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use self::reader::Reader;
use super::cluster_key::PublicClusterKey;
use super::error::CredentialError;
use super::secret::ClusterSecret;

pub use claims::Claims;
pub(crate) use core_proof::{Challenge, CoreProof};
pub use error::{ClaimsError, InviteTextError, IssueError};
pub use holder::Holder;
pub use id::InviteId;
pub(crate) use key::InviteKey;
pub use name_prefix::NamePrefix;
pub use quotas::Quotas;

/// A credential for a stranger: claims, the key that belongs to them, and what is needed to find the cluster.
///
/// Printed as a single word, `gossip-invite-` followed by base32. Everyone who has the word can use the invite, unless
/// it names its only holder, so it is as secret as what it allows.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    claims: Claims,
    key: InviteKey,
    cluster_key: PublicClusterKey,
    cluster_id: String,
    seeds: Vec<String>,
}

impl Invite {
    /// The format of the word that this version writes, and the only one that it reads.
    const VERSION: u8 = 1;
    /// The largest number of seeds.
    pub const MAX_SEEDS: usize = 4;
    /// The longest cluster id, in bytes: that of a member.
    const MAX_CLUSTER_ID_LEN: usize = 1024;
    /// The longest seed, in bytes. Four of them leave a link shorter than the 8 kB that servers and messengers take.
    const MAX_SEED_LEN: usize = 512;
    /// The longest contents of a word, in bytes.
    const MAX_LEN: usize = {
        let claims = 2 + Claims::MAX_LEN;
        let seeds = 1 + Self::MAX_SEEDS * (2 + Self::MAX_SEED_LEN);
        1 + claims + InviteKey::LEN + PublicClusterKey::LEN + 2 + Self::MAX_CLUSTER_ID_LEN + seeds
    };

    /// Issues an invite to the cluster `cluster_id`. `seeds` are the members to contact first, as the holder's network
    /// resolves them.
    ///
    /// Issuing stores nothing. Members with `secret` in their keyring accept the invite until it expires or is
    /// revoked, or the secret is removed.
    ///
    /// # Errors
    ///
    /// Fails if [`ClusterSecret::generate`] has not made the secret, if there are more than four seeds, or if the
    /// cluster id or a seed is empty, too long, or contains control characters.
    pub fn issue(
        secret: &ClusterSecret,
        claims: Claims,
        cluster_id: String,
        seeds: Vec<String>,
    ) -> Result<Self, IssueError> {
        if !secret.is_generated() {
            return Err(IssueError::SecretNotGenerated { id: secret.id() });
        }
        let (count, max) = (seeds.len(), Self::MAX_SEEDS);
        if count > max {
            return Err(IssueError::TooManySeeds { count, max });
        }
        if !text::fits(&cluster_id, Self::MAX_CLUSTER_ID_LEN) {
            return Err(IssueError::Malformed(CredentialError::Malformed {
                what: "the cluster id of an invite",
                expected: "1 to 1,024 bytes long, without control characters",
            }));
        }
        if !seeds
            .iter()
            .all(|seed| text::fits(seed, Self::MAX_SEED_LEN))
        {
            return Err(IssueError::Malformed(CredentialError::Malformed {
                what: "a seed of an invite",
                expected: "1 to 512 bytes long, without control characters",
            }));
        }
        Ok(Self {
            key: InviteKey::derive(secret, &claims.encode()),
            cluster_key: secret.cluster_key().public(),
            claims,
            cluster_id,
            seeds,
        })
    }

    /// Returns whether it was issued with `secret`, as a handshake shows.
    pub(crate) fn is_of(&self, secret: &ClusterSecret) -> bool {
        let key = InviteKey::derive(secret, &self.claims.encode());
        key == self.key && secret.cluster_key().public() == self.cluster_key
    }

    /// Returns the claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
    /// Returns the key that belongs to the claims.
    pub(crate) fn key(&self) -> &InviteKey {
        &self.key
    }
    /// Returns the key by which a core member of the cluster is known.
    pub(crate) fn cluster_key(&self) -> &PublicClusterKey {
        &self.cluster_key
    }
    /// Returns the id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }
    /// Returns the members to contact first, at most four.
    pub fn seeds(&self) -> &[String] {
        &self.seeds
    }

    /// Returns the word, for a URL fragment or a file. It is valid in a URL as it is.
    pub fn to_text(&self) -> Zeroizing<String> {
        word::encode(&self.encode())
    }

    /// Returns the contents of the word.
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        // With the whole capacity from the start, so that no copy is left in memory that it outgrows.
        let mut contents = Zeroizing::new(Vec::with_capacity(Self::MAX_LEN));
        contents.push(Self::VERSION);
        push_counted(&mut contents, &self.claims.encode());
        contents.extend_from_slice(self.key.as_bytes());
        contents.extend_from_slice(self.cluster_key.as_bytes());
        push_counted(&mut contents, self.cluster_id.as_bytes());
        // There are at most 4.
        contents.push(u8::try_from(self.seeds.len()).unwrap_or(u8::MAX));
        for seed in &self.seeds {
            push_counted(&mut contents, seed.as_bytes());
        }
        contents
    }
}

impl FromStr for Invite {
    type Err = InviteTextError;
    /// Parses the form that [`to_text`](Self::to_text) returns. Surrounding white space is ignored.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let contents = word::decode(word, Self::MAX_LEN)?;
        let mut reader = Reader::new(&contents);
        let cut_short = InviteTextError::Malformed {
            what: "it is cut short",
        };
        let version = reader.byte().ok_or(cut_short)?;
        if version != Self::VERSION {
            return Err(InviteTextError::UnknownVersion { version });
        }
        let claims = Claims::decode(reader.counted().ok_or(cut_short)?)?;
        let key = reader.slice(InviteKey::LEN).ok_or(cut_short)?;
        let key = key.try_into().map_err(|_| cut_short)?;
        let cluster_key = reader.array().ok_or(cut_short)?;
        let cluster_id = reader.counted().ok_or(cut_short)?;
        let count = usize::from(reader.byte().ok_or(cut_short)?);
        if count > Self::MAX_SEEDS {
            let what = "it names more than four seeds";
            return Err(InviteTextError::Malformed { what });
        }
        let cluster_id =
            text::read(cluster_id, Self::MAX_CLUSTER_ID_LEN).ok_or(InviteTextError::Malformed {
                what: "the cluster id is empty, too long or no plain text",
            })?;
        let mut seeds = Vec::new();
        for _ in 0..count {
            let seed = reader.counted().ok_or(cut_short)?;
            let seed = text::read(seed, Self::MAX_SEED_LEN).ok_or(InviteTextError::Malformed {
                what: "a seed is empty, too long or no plain text",
            })?;
            seeds.push(seed.to_owned());
        }
        if !reader.is_empty() {
            let what = "there are bytes behind the last seed";
            return Err(InviteTextError::Malformed { what });
        }
        Ok(Self {
            claims,
            key: InviteKey::from_bytes(key),
            cluster_key: PublicClusterKey::from_bytes(cluster_key),
            cluster_id: cluster_id.to_owned(),
            seeds,
        })
    }
}

impl fmt::Debug for Invite {
    /// Prints everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("claims", &self.claims)
            .field("cluster_key", &self.cluster_key)
            .field("cluster_id", &self.cluster_id)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

/// Appends `bytes` behind their length (`u16`). No part of an invite is longer than 1,024 bytes.
fn push_counted(contents: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    contents.extend_from_slice(&len.to_be_bytes());
    contents.extend_from_slice(bytes);
}
