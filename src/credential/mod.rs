//! Keys, secrets and trust: who we are, and which peers may connect.
//!
//! Plain values and their printed forms. Files and handshakes are elsewhere. Invariant: secrets are
//! wiped from memory when they are dropped, never printed by `Debug`, and compared in constant time.
//!
//! Printed forms are lower-case base32 (RFC 4648, section 6, without padding), which can be used in
//! URLs and file names and dictated on the telephone. Secrets have a prefix that says what they are;
//! public keys have none. Reading accepts either case and ignores surrounding white space.

mod address;
mod base32;
mod error;
mod refusal;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use snow::types::Dh as _;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::rt::crypto::X25519;

pub use address::is_key_address;
pub use error::CredentialError;
pub use refusal::Refusal;

/// The role of a peer, which says what it may do in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Role {
    /// A full member: it knows the cluster secret, or its key is on the list of trusted keys. This is
    /// the only role so far, so peers on a network without authentication have it as well.
    #[default]
    Core,
}

/// The identity of a peer: its X25519 public key. Printed as 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Placeholder for peers on networks without authentication, such as plain UDP. No handshake
    /// results in it.
    pub const UNPROVED: Self = Self([0; 32]);

    /// Creates an identity from the bytes of an X25519 public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Returns the bytes of the X25519 public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Returns the first 10 characters of the printed form, for logs and tables.
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
    /// Parses the form that [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_32(text, "")
            .map(|bytes| Self(*bytes))
            .ok_or(CredentialError::Malformed {
                what: "a public key",
                expected: "52 characters of base32 (a-z, 2-7)",
            })
    }
}

/// A secret that every member of a cluster knows, of at least 16 bytes.
///
/// Printed as `gossip-secret-` followed by base32. The bytes should be random, as those of
/// [`generate`](Self::generate) are. An attacker who records a handshake can test guesses against
/// it, so a password that a person can remember is too weak.
#[derive(Clone)]
pub struct ClusterSecret(Arc<Zeroizing<Vec<u8>>>);

impl ClusterSecret {
    const MIN_LEN: usize = 16;
    const PREFIX: &'static str = "gossip-secret-";

    /// Generates a secret of 32 random bytes.
    ///
    /// # Panics
    ///
    /// Panics if the system has no source of randomness.
    pub fn generate() -> Self {
        Self(Arc::new(Zeroizing::new(random_32().to_vec())))
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
        Ok(Self(Arc::new(Zeroizing::new(bytes.to_vec()))))
    }
    /// Returns the printed form, for a file or a URL fragment. Keep it secret.
    pub fn to_text(&self) -> String {
        let encoded = Zeroizing::new(base32::encode(&self.0));
        format!("{}{}", Self::PREFIX, *encoded)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for ClusterSecret {
    /// Compares in constant time if both secrets have the same length.
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
    /// Parses the form that [`to_text`](Self::to_text) returns.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = decode(text, Self::PREFIX).ok_or(CredentialError::Malformed {
            what: "a cluster secret",
            expected: "\"gossip-secret-\" followed by base32 (a-z, 2-7)",
        })?;
        Self::from_bytes(&bytes)
    }
}

/// The policy that decides which peers may connect, in either direction. There is no default, since
/// the decision belongs to the user.
///
/// Both sides of a connection must trust each other. Either both sides use the same cluster secret,
/// or neither uses one; otherwise they do not connect.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The trusted keys, sorted and without duplicates, or `None` to trust every key.
    keys: Option<Vec<Identity>>,
    secret: Option<ClusterSecret>,
    refusing: Option<Refusing>,
}

/// The check that [`Trust::refusing`] adds.
#[derive(Clone)]
struct Refusing(Arc<Refuse>);

type Refuse = dyn Fn(&Identity) -> Option<Refusal> + Send + Sync;

impl fmt::Debug for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusing(..)")
    }
}

impl Trust {
    /// Trusts exactly these identities. An empty list trusts no peer.
    pub fn keys(keys: impl IntoIterator<Item = Identity>) -> Self {
        Self {
            keys: Some(sorted(keys)),
            secret: None,
            refusing: None,
        }
    }
    /// Trusts every peer that knows the cluster secret.
    pub fn secret(secret: ClusterSecret) -> Self {
        Self {
            keys: None,
            secret: Some(secret),
            refusing: None,
        }
    }
    /// Trusts these identities, and only if they know the cluster secret as well.
    pub fn keys_and_secret(
        keys: impl IntoIterator<Item = Identity>,
        secret: ClusterSecret,
    ) -> Self {
        Self {
            keys: Some(sorted(keys)),
            secret: Some(secret),
            refusing: None,
        }
    }
    /// Trusts every peer. Connections are encrypted, but anyone can be at the other end. For tests
    /// and demonstrations.
    pub fn dangerously_anyone() -> Self {
        Self {
            keys: None,
            secret: None,
            refusing: None,
        }
    }
    /// Adds a check: a peer is also refused if `refuse` returns a reason. It is called in each
    /// handshake, after the peer has proved its identity, so it must not block. An acceptor sends the
    /// reason to the dialler.
    ///
    /// This allows decisions that change at run time, such as a list of revoked keys. It replaces the
    /// check of an earlier call.
    #[must_use]
    pub fn refusing(
        mut self,
        refuse: impl Fn(&Identity) -> Option<Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.refusing = Some(Refusing(Arc::new(refuse)));
        self
    }
    /// Checks whether a peer may connect that has proved `identity` and, if there is one, knowledge of
    /// the cluster secret.
    ///
    /// # Errors
    ///
    /// Fails with the reason for which the peer is refused: [`Refusal::Key`] if its key is not on the
    /// list, or what the check of [`refusing`](Self::refusing) returns.
    pub fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        let listed = |keys: &Vec<Identity>| keys.binary_search(identity).is_ok();
        if !self.keys.as_ref().is_none_or(listed) {
            return Err(Refusal::Key);
        }
        let refuse = self.refusing.as_ref();
        match refuse.and_then(|Refusing(refuse)| refuse(identity)) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
    /// Returns whether [`check`](Self::check) succeeds.
    pub fn allows(&self, identity: &Identity) -> bool {
        self.check(identity).is_ok()
    }
    /// Returns the cluster secret, which is mixed into every handshake.
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

/// A static key pair, the peers that it trusts, and the address that it states in handshakes. Clones
/// share all three.
#[derive(Clone)]
pub struct NetCredential {
    inner: Arc<KeyAndTrust>,
    stated: Arc<OnceLock<SocketAddr>>,
}

struct KeyAndTrust {
    key: X25519,
    identity: Identity,
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
        let secret_key = decode_32(text, Self::PREFIX).ok_or(CredentialError::Malformed {
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
        self.inner.identity
    }
    /// Returns the peers that this credential trusts.
    pub fn trust(&self) -> &Trust {
        &self.inner.trust
    }
    /// Returns a credential with the same key that trusts other peers.
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
        let identity = Identity(public);
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
