//! My key, and whom I trust.
//!
//! Plain values and their printable forms; no files, no handshake. Invariant: secrets are wiped
//! from memory when dropped, never printed by `Debug`, and compared in constant time.
//!
//! Printed forms are lower-case base32 (RFC 4648, section 6, without padding), which survives a
//! URL, a file name and a telephone. Secrets carry a prefix that says what they are; a public key
//! carries none. Reading takes either case and ignores white space around the text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::rt;

mod base32;
#[cfg(test)]
mod tests;

/// What a peer may do in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Role {
    /// A full member: it knows the cluster secret, or its key is on the list of trusted keys.
    #[default]
    Core,
}

/// A public key: who somebody is. Printed as 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Nobody's: what a peer has on a network where nobody proves anything. No handshake gives it.
    pub const UNPROVED: Self = Self([0; 32]);

    /// From the bytes of an X25519 public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The X25519 public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// The first 10 characters of the printed form, for logs and tables.
    pub fn short(&self) -> String {
        let mut text = base32::encode(&self.0);
        text.truncate(10);
        text
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.short())
    }
}

impl FromStr for Identity {
    type Err = CredentialError;
    /// Reads [`Display`](fmt::Display)'s form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_32(text, "")
            .map(|bytes| Self(*bytes))
            .ok_or(CredentialError::Malformed {
                what: "a public key",
                expected: "52 characters of base32 (a-z, 2-7)",
            })
    }
}

/// What is wrong with a key, a secret or their printed form. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not the printed form of a key or a secret.
    #[error("{what} has to be {expected}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What it should look like.
        expected: &'static str,
    },
}

/// A secret that every member of a cluster knows; at least 16 bytes.
///
/// Printed as `gossip-secret-` and base32. The bytes should be random, as
/// [`generate`](Self::generate)'s are: who records a handshake can try guesses against it, so a
/// password that a person can remember is too weak.
#[derive(Clone)]
pub struct ClusterSecret(Arc<Zeroizing<Vec<u8>>>);

impl ClusterSecret {
    const MIN_LEN: usize = 16;
    const PREFIX: &'static str = "gossip-secret-";

    /// 32 fresh random bytes.
    ///
    /// # Panics
    ///
    /// If the system has no source of randomness.
    pub fn generate() -> Self {
        Self(Arc::new(Zeroizing::new(random_32().to_vec())))
    }
    /// Any 16 bytes or more (a file's content, say).
    ///
    /// # Errors
    ///
    /// Shorter than 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CredentialError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(CredentialError::Malformed {
                what: "a cluster secret",
                expected: "at least 16 bytes long",
            });
        }
        Ok(Self(Arc::new(Zeroizing::new(bytes.to_vec()))))
    }
    /// The printed form, for a file or a URL fragment. Keep it secret.
    pub fn to_text(&self) -> String {
        let encoded = Zeroizing::new(base32::encode(&self.0));
        format!("{}{}", Self::PREFIX, *encoded)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for ClusterSecret {
    /// In constant time for secrets of one length.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ClusterSecret {}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl FromStr for ClusterSecret {
    type Err = CredentialError;
    /// Reads [`to_text`](Self::to_text)'s form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = decode(text, Self::PREFIX).ok_or(CredentialError::Malformed {
            what: "a cluster secret",
            expected: "\"gossip-secret-\" and base32 (a-z, 2-7)",
        })?;
        Self::from_bytes(&bytes)
    }
}

/// Whom to let in and to talk to. There is no default: somebody has to decide.
///
/// Both sides of a connection have to be content: a peer is refused unless it is trusted here and
/// trusts us. A cluster secret is used by both sides or by neither; one side alone never connects.
#[derive(Clone, Debug)]
pub struct Trust {
    /// `None`: no list is kept.
    /// Sorted, each once.
    keys: Option<Vec<Identity>>,
    secret: Option<ClusterSecret>,
}

impl Trust {
    /// Exactly these identities. An empty list trusts nobody.
    pub fn keys(keys: impl IntoIterator<Item = Identity>) -> Self {
        Self {
            keys: Some(sorted(keys)),
            secret: None,
        }
    }
    /// Whoever knows the cluster's secret.
    pub fn secret(secret: ClusterSecret) -> Self {
        Self {
            keys: None,
            secret: Some(secret),
        }
    }
    /// These identities, and only if they know the secret too.
    pub fn keys_and_secret(
        keys: impl IntoIterator<Item = Identity>,
        secret: ClusterSecret,
    ) -> Self {
        Self {
            keys: Some(sorted(keys)),
            secret: Some(secret),
        }
    }
    /// Anyone at all: encrypted, but against no one in particular. For tests and demonstrations.
    pub fn dangerously_anyone() -> Self {
        Self {
            keys: None,
            secret: None,
        }
    }
    /// Whether a peer that proved `identity` (and the secret, if there is one) may come in.
    pub fn allows(&self, identity: &Identity) -> bool {
        self.keys
            .as_ref()
            .is_none_or(|keys| keys.binary_search(identity).is_ok())
    }
    /// The secret that is mixed into every handshake.
    pub fn cluster_secret(&self) -> Option<&ClusterSecret> {
        self.secret.as_ref()
    }
}

fn sorted(keys: impl IntoIterator<Item = Identity>) -> Vec<Identity> {
    let mut sorted: Vec<Identity> = Vec::new();
    for key in keys {
        if let Err(place) = sorted.binary_search(&key) {
            sorted.insert(place, key);
        }
    }
    sorted
}

/// A static key pair and whom it trusts. Clones share the key.
#[derive(Clone)]
pub struct NetCredential(Arc<KeyAndTrust>);

struct KeyAndTrust {
    secret_key: Zeroizing<[u8; 32]>,
    identity: Identity,
    trust: Trust,
}

impl NetCredential {
    const PREFIX: &'static str = "gossip-key-";

    /// A fresh key.
    ///
    /// # Panics
    ///
    /// If the system has no source of randomness.
    pub fn generate(trust: Trust) -> Self {
        Self::from_secret_key(random_32(), trust)
    }
    /// A saved key; [`to_secret_text`](Self::to_secret_text)'s form, surrounding white space
    /// ignored.
    ///
    /// # Errors
    ///
    /// Not that form.
    pub fn from_secret_text(text: &str, trust: Trust) -> Result<Self, CredentialError> {
        let secret_key = decode_32(text, Self::PREFIX).ok_or(CredentialError::Malformed {
            what: "a secret key",
            expected: "\"gossip-key-\" and 52 characters of base32 (a-z, 2-7)",
        })?;
        Ok(Self::from_secret_key(secret_key, trust))
    }
    /// The secret key's printed form, to be saved where only its owner reads it: `gossip-key-` and
    /// base32.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(base32::encode(self.secret_key()));
        Zeroizing::new(format!("{}{}", Self::PREFIX, *encoded))
    }
    /// The public key: what others put on their list.
    pub fn identity(&self) -> Identity {
        self.0.identity
    }
    /// Whom it trusts.
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }
    /// The same key with another list of whom to trust.
    #[must_use]
    pub fn with_trust(&self, trust: Trust) -> Self {
        Self::from_secret_key(self.0.secret_key.clone(), trust)
    }

    pub(crate) fn secret_key(&self) -> &[u8; 32] {
        &self.0.secret_key
    }

    fn from_secret_key(secret_key: Zeroizing<[u8; 32]>, trust: Trust) -> Self {
        let identity = public_key(&secret_key);
        Self(Arc::new(KeyAndTrust {
            secret_key,
            identity,
            trust,
        }))
    }
}

impl fmt::Debug for NetCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetCredential")
            .field("identity", &self.0.identity)
            .field("trust", &self.0.trust)
            .finish_non_exhaustive()
    }
}

fn public_key(secret_key: &[u8; 32]) -> Identity {
    let mut public = [0; 32];
    if let Some(mut dh) = rt::crypto::curve() {
        dh.set(secret_key);
        public.copy_from_slice(dh.pubkey());
    }
    Identity(public)
}

fn random_32() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    let filled = getrandom::fill(bytes.as_mut());
    assert!(filled.is_ok(), "the system has no source of randomness");
    bytes
}

fn decode(text: &str, prefix: &str) -> Option<Zeroizing<Vec<u8>>> {
    base32::decode(text.trim().strip_prefix(prefix)?)
}

fn decode_32(text: &str, prefix: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = decode(text, prefix)?;
    let mut array: [u8; 32] = bytes.as_slice().try_into().ok()?;
    let fixed = Zeroizing::new(array);
    array.zeroize();
    Some(fixed)
}
