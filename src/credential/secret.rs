//! The secret of a cluster, and the name under which it may be logged.
//!
//! Invariant: nothing but [`ClusterSecret::to_text`] returns the secret, and every copy is wiped when it is
//! dropped.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use blake2::{Blake2s256, Digest};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::base32;
use super::cluster_key::ClusterKey;
use super::error::CredentialError;

/// A secret that every member of a cluster knows, of at least 16 bytes.
///
/// Printed as `gossip-secret-` followed by base32. The bytes should be random, as those of
/// [`generate`](Self::generate) are. An attacker who records a handshake can test guesses against
/// it, so a password that a person can remember is too weak.
#[derive(Clone)]
pub struct ClusterSecret(Arc<Bytes>);

struct Bytes {
    secret: Zeroizing<Vec<u8>>,
    id: SecretId,
    /// Derived when the first holder of an invite connects.
    cluster_key: OnceLock<ClusterKey>,
}

impl ClusterSecret {
    const MIN_LEN: usize = 16;
    const PREFIX: &'static str = "gossip-secret-";
    /// The number of random bytes in a generated secret, which the mark follows.
    const RANDOM_LEN: usize = 28;

    /// Generates a secret of 32 bytes: 28 random ones, and a mark of 4 bytes that is computed from them. The mark
    /// tells it from secrets that others have made, which may be easy to guess.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of randomness.
    pub fn generate() -> Self {
        let mut bytes = super::random::random_32();
        let (random, mark) = bytes.split_at_mut(Self::RANDOM_LEN);
        mark.copy_from_slice(&mark_of(random));
        Self::new(Zeroizing::new(bytes.to_vec()))
    }
    /// Creates a secret from bytes, such as the contents of a file.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer than 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CredentialError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(CredentialError::Malformed {
                what: "a cluster secret",
                expected: "at least 16 bytes long",
            });
        }
        Ok(Self::new(Zeroizing::new(bytes.to_vec())))
    }
    /// Returns the printed form, for a file or a URL fragment. Keep it secret.
    pub fn to_text(&self) -> String {
        let encoded = Zeroizing::new(base32::encode(&self.0.secret));
        format!("{}{}", Self::PREFIX, *encoded)
    }
    /// Returns the public name of this secret, which may be logged.
    pub fn id(&self) -> SecretId {
        self.0.id
    }

    /// Returns whether [`generate`](Self::generate) has made the secret. One in four billion others of 32 bytes has
    /// the mark as well.
    pub(crate) fn is_generated(&self) -> bool {
        let parts = self.as_bytes().split_at_checked(Self::RANDOM_LEN);
        parts.is_some_and(|(random, mark)| mark_of(random).as_slice().ct_eq(mark).into())
    }

    /// Returns the key pair that holders of invites know core members by.
    pub(crate) fn cluster_key(&self) -> &ClusterKey {
        self.0
            .cluster_key
            .get_or_init(|| ClusterKey::derive(self.as_bytes()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0.secret
    }

    fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        let id = SecretId::of(&secret);
        let cluster_key = OnceLock::new();
        Self(Arc::new(Bytes {
            secret,
            id,
            cluster_key,
        }))
    }
}

/// Returns the mark of a generated secret that begins with these bytes.
fn mark_of(random: &[u8]) -> [u8; 4] {
    let hash = Blake2s256::new()
        .chain_update(b"gossip-transport generated secret 1")
        .chain_update(random)
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

impl PartialEq for ClusterSecret {
    /// Compares in constant time if both secrets have the same length.
    fn eq(&self, other: &Self) -> bool {
        self.0.secret.ct_eq(&other.0.secret).into()
    }
}

impl Eq for ClusterSecret {}

impl fmt::Debug for ClusterSecret {
    /// Prints the public name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSecret({})", self.id())
    }
}

impl FromStr for ClusterSecret {
    type Err = CredentialError;
    /// Parses the form that [`to_text`](Self::to_text) returns.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = base32::decode_after(text, Self::PREFIX).ok_or(CredentialError::Malformed {
            what: "a cluster secret",
            expected: "\"gossip-secret-\" followed by base32 (a-z, 2-7)",
        })?;
        Self::from_bytes(&bytes)
    }
}

/// The public name of a cluster secret: a fingerprint of 40 bits, printed as 8 characters of base32.
///
/// It tells the secrets of a cluster apart in logs and commands. It says nothing about a random secret; of one
/// that a person has made up, it lets guesses be tested.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretId([u8; 5]);

impl SecretId {
    /// Hashed before the secret, so that no other use of the hash results in the same bytes.
    const LABEL: &'static [u8] = b"gossip-transport secret id 1";

    fn of(secret: &[u8]) -> Self {
        let hash = Blake2s256::new()
            .chain_update(Self::LABEL)
            .chain_update(secret)
            .finalize();
        Self(hash.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretId({self})")
    }
}

impl FromStr for SecretId {
    type Err = CredentialError;
    /// Parses the form that [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = base32::decode_after(text, "");
        let bytes = bytes.and_then(|bytes| <[u8; 5]>::try_from(bytes.as_slice()).ok());
        bytes.map(Self).ok_or(CredentialError::Malformed {
            what: "the id of a cluster secret",
            expected: "8 characters of base32 (a-z, 2-7)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_one_id_which_is_that_of_the_documentation() {
        // Computed with Python's hashlib: blake2s(label + bytes(16 * [7])).
        let secret = ClusterSecret::from_bytes(&[7; 16]).unwrap();
        assert_eq!(secret.id().to_string(), "57iue7ms");
        assert_eq!(secret.clone().id(), secret.id());
        assert_eq!(secret.id().to_string().parse(), Ok(secret.id()));
        let other = ClusterSecret::from_bytes(&[7; 17]).unwrap();
        assert_ne!(other.id(), secret.id());
    }

    #[test]
    fn a_generated_secret_is_told_from_others() {
        let secret = ClusterSecret::generate();
        assert_eq!(secret.as_bytes().len(), 32);
        assert!(secret.is_generated());
        let read = secret.to_text().parse::<ClusterSecret>().unwrap();
        assert!(read.is_generated());
        for place in 0..32 {
            let mut bytes = secret.as_bytes().to_vec();
            bytes[place] ^= 1;
            let other = ClusterSecret::from_bytes(&bytes).unwrap();
            assert!(!other.is_generated(), "{place}");
        }
        for bytes in [
            secret.as_bytes()[..28].to_vec(),
            secret.as_bytes()[..31].to_vec(),
            [secret.as_bytes(), &[0]].concat(),
            vec![7; 32],
            b"a password of thirty-two letters".to_vec(),
            b"sixteen letters.".to_vec(),
        ] {
            let other = ClusterSecret::from_bytes(&bytes).unwrap();
            assert!(!other.is_generated(), "{bytes:?}");
        }
    }

    #[test]
    fn the_mark_of_generated_secrets_is_the_one_that_python_computes() {
        // hashlib.blake2s(b"gossip-transport generated secret 1" + bytes(28 * [7])).digest()[:4]
        assert_eq!(mark_of(&[7; 28]), [0x1F, 0xE0, 0x73, 0xD6]);
        let bytes = [&[7; 28][..], &[0x1F, 0xE0, 0x73, 0xD6]].concat();
        assert!(ClusterSecret::from_bytes(&bytes).unwrap().is_generated());
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        let id = ClusterSecret::generate().id().to_string();
        for bad in ["", &id[1..], &format!("{id}a"), "1aaaaaaa"] {
            assert!(bad.parse::<SecretId>().is_err(), "{bad:?} was accepted");
        }
    }
}
