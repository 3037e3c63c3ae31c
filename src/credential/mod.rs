//! Keys, secrets and trust: who we are, and which peers may connect.
//!
//! Plain values and their printed forms. Files and handshakes are elsewhere. Invariant: secrets are
//! wiped from memory when they are dropped, never printed by `Debug`, and compared in constant time.
//!
//! Printed forms are lower-case base32 (RFC 4648, section 6, without padding), which can be used in
//! URLs and file names and dictated on the telephone. Secrets have a prefix that says what they are;
//! public keys have none. Reading accepts either case and ignores surrounding white space.
//!
//! | file | content |
//! |---|---|
//! | `identity`, `address` | [`Identity`], and the address that it has wherever it is |
//! | `secret` | [`ClusterSecret`], and its public name |
//! | `keyring` | [`Keyring`]: the secrets of a cluster |
//! | `cluster_key` | the key pair of a cluster secret, by which strangers know members |
//! | `invite` | [`Invite`]: what a cluster gives to strangers |
//! | `grounds`, `role` | what a connection rests on, and what its peer may do |
//! | `renewal` | renewing the invite of this side before it expires |
//! | `revoked` | the invites that have been revoked |
//! | `reserved` | the keys with which core members authenticate what they say about the cluster |
//! | `trust` | [`Trust`]: which peers may connect, and which of their connections may stay |
//! | `refusal` | [`Refusal`]: why a peer may not |
//! | `base32`, `random`, `hkdf` | printed forms; random bytes; derived keys |

mod address;
mod base32;
mod cluster_key;
mod error;
mod grounds;
mod hkdf;
mod identity;
mod invite;
mod keyring;
mod random;
mod refusal;
mod renewal;
mod reserved;
mod revoked;
mod role;
mod secret;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use snow::types::Dh as _;
use zeroize::Zeroizing;

use crate::rt::crypto::X25519;
use random::random_32;

pub use address::is_key_address;
pub use error::CredentialError;
pub(crate) use grounds::Proved;
pub use grounds::{Grounds, Standing};
pub use identity::Identity;
pub(crate) use invite::{Challenge, CoreProof, InviteKey};
pub use invite::{
    Claims, ClaimsError, Holder, Invite, InviteId, InviteTextError, IssueError, NamePrefix, Quotas,
};
pub use keyring::{Keyring, KeyringError};
pub use refusal::Refusal;
pub use renewal::renew_invites;
pub(crate) use reserved::ReservedKeys;
pub use revoked::RevokeError;
pub use role::Role;
pub use secret::{ClusterSecret, SecretId};
pub(crate) use trust::Access;
pub use trust::{NotALeaf, Trust};

/// A static key pair, the peers that it trusts, and the address that it states in handshakes. Clones
/// share all three.
#[derive(Clone)]
pub struct NetCredential {
    inner: Arc<KeyAndTrust>,
    stated: Arc<OnceLock<SocketAddr>>,
}

struct KeyAndTrust {
    key: X25519,
    /// Shared by all connections.
    identity: Arc<Identity>,
    trust: Trust,
}

impl NetCredential {
    const PREFIX: &'static str = "gossip-key-";

    /// Generates a new key.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of randomness.
    pub fn generate(trust: Trust) -> Self {
        Self::from_secret_key(&random_32(), trust)
    }
    /// Reads a saved key in the form that [`to_secret_text`](Self::to_secret_text) returns.
    /// Surrounding white space is ignored.
    ///
    /// # Errors
    ///
    /// Fails if `text` does not have that form.
    pub fn from_secret_text(text: &str, trust: Trust) -> Result<Self, CredentialError> {
        let secret_key =
            base32::decode_32(text, Self::PREFIX).ok_or(CredentialError::Malformed {
                what: "a secret key",
                expected: "\"gossip-key-\" followed by 52 characters of base32 (a-z, 2-7)",
            })?;
        Ok(Self::from_secret_key(&secret_key, trust))
    }
    /// Returns the printed form of the secret key: `gossip-key-` followed by base32. Save it where
    /// only its owner can read it.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(base32::encode(self.key().privkey()));
        Zeroizing::new(format!("{}{}", Self::PREFIX, *encoded))
    }
    /// Returns the public key, which other members put on their list of trusted keys.
    pub fn identity(&self) -> Identity {
        *self.inner.identity
    }
    pub(crate) fn shared_identity(&self) -> &Arc<Identity> {
        &self.inner.identity
    }
    /// Returns the peers that this credential trusts.
    pub fn trust(&self) -> &Trust {
        &self.inner.trust
    }
    /// Returns a credential with the same key and another trust.
    #[must_use]
    pub fn with_trust(&self, trust: Trust) -> Self {
        Self::from_key(self.inner.key.clone(), trust)
    }

    /// Returns the address at which peers can dial this side, which handshakes state; `None` if there
    /// is none, as in a browser. A socket sets it, once it is bound, for its own connections.
    pub fn stated_addr(&self) -> Option<SocketAddr> {
        self.stated.get().copied()
    }
    /// Sets the address that handshakes state, for this credential and its clones. Does nothing if it
    /// is set already.
    pub fn state_addr(&self, addr: SocketAddr) {
        let _ = self.stated.set(addr);
    }
    /// Returns the same credential without a stated address, so that two sockets that share a
    /// credential state an address each.
    #[must_use]
    pub fn without_stated_addr(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            stated: Arc::default(),
        }
    }

    /// Returns the key pair, for handshakes.
    pub(crate) fn key(&self) -> &X25519 {
        &self.inner.key
    }

    fn from_secret_key(secret_key: &[u8; 32], trust: Trust) -> Self {
        let mut key = X25519::default();
        key.set(secret_key);
        Self::from_key(key, trust)
    }

    fn from_key(key: X25519, trust: Trust) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(key.pubkey());
        let identity = Arc::new(Identity(public));
        Self {
            inner: Arc::new(KeyAndTrust {
                key,
                identity,
                trust,
            }),
            stated: Arc::default(),
        }
    }
}

impl fmt::Debug for NetCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetCredential")
            .field("identity", &self.inner.identity)
            .field("trust", &self.inner.trust)
            .field("stated_addr", &self.stated_addr())
            .finish_non_exhaustive()
    }
}
