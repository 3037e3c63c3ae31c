//! My key, and whom I trust.
//!
//! Plain values and their printable forms; no files, no handshake. Invariant: secrets are wiped
//! from memory when dropped, never printed by `Debug`, and compared in constant time.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A public key: who somebody is. Printed as 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
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
        todo!()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.short())
    }
}

impl FromStr for Identity {
    type Err = CredentialError;
    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        todo!()
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

/// A secret that every member of a cluster knows; at least 16 bytes. Printed as base32.
#[derive(Clone)]
pub struct ClusterSecret(#[expect(dead_code, reason = "skeleton")] Arc<Vec<u8>>);

impl ClusterSecret {
    /// 32 fresh random bytes.
    pub fn generate() -> Self {
        todo!()
    }
    /// Any 16 bytes or more (a file's content, say).
    ///
    /// # Errors
    ///
    /// Shorter than 16 bytes.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, CredentialError> {
        todo!()
    }
    /// The printed form, for a file or a URL fragment. Keep it secret.
    pub fn to_text(&self) -> String {
        todo!()
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl FromStr for ClusterSecret {
    type Err = CredentialError;
    /// Reads [`to_text`](Self::to_text)'s form.
    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        todo!()
    }
}

/// Whom to let in and to talk to. There is no default: somebody has to decide.
#[derive(Clone, Debug)]
pub struct Trust {
    #[expect(dead_code, reason = "skeleton")]
    keys: Option<BTreeSet<Identity>>,
    #[expect(dead_code, reason = "skeleton")]
    secret: Option<ClusterSecret>,
}

impl Trust {
    /// Exactly these identities.
    pub fn keys(_keys: impl IntoIterator<Item = Identity>) -> Self {
        todo!()
    }
    /// Whoever knows the cluster's secret.
    pub fn secret(_secret: ClusterSecret) -> Self {
        todo!()
    }
    /// These identities, and only if they know the secret too.
    pub fn keys_and_secret(
        _keys: impl IntoIterator<Item = Identity>,
        _secret: ClusterSecret,
    ) -> Self {
        todo!()
    }
    /// Anyone at all: encrypted, but against no one in particular. For tests and demonstrations.
    pub fn dangerously_anyone() -> Self {
        todo!()
    }
    /// Whether a peer that proved `identity` (and the secret, if there is one) may come in.
    pub fn allows(&self, _identity: &Identity) -> bool {
        todo!()
    }
    /// The secret that is mixed into every handshake.
    pub fn cluster_secret(&self) -> Option<&ClusterSecret> {
        todo!()
    }
}

/// A static key pair and whom it trusts. Clones share the key.
#[derive(Clone)]
pub struct NetCredential(#[expect(dead_code, reason = "skeleton")] Arc<()>);

impl NetCredential {
    /// A fresh key.
    pub fn generate(_trust: Trust) -> Self {
        todo!()
    }
    /// A saved key; [`to_secret_text`](Self::to_secret_text)'s form, surrounding white space
    /// ignored.
    ///
    /// # Errors
    ///
    /// Not that form.
    pub fn from_secret_text(_text: &str, _trust: Trust) -> Result<Self, CredentialError> {
        todo!()
    }
    /// The secret key's printed form, to be saved where only its owner reads it.
    pub fn to_secret_text(&self) -> zeroize::Zeroizing<String> {
        todo!()
    }
    /// The public key: what others put on their list.
    pub fn identity(&self) -> Identity {
        todo!()
    }
    /// Whom it trusts.
    pub fn trust(&self) -> &Trust {
        todo!()
    }
}

impl fmt::Debug for NetCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetCredential").finish_non_exhaustive()
    }
}
