//! The key of an invite, which its holders and the core members of its cluster have.
//!
//! Invariant: it is never printed, compared in constant time, and wiped when it is dropped.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::credential::hkdf;
use crate::credential::secret::ClusterSecret;

/// The key of an invite. A core member derives it from a cluster secret and the claims that it receives, so it
/// stores no invites, and nobody without the secret can change claims.
#[derive(Clone)]
pub(crate) struct InviteKey(Zeroizing<[u8; Self::LEN]>);

impl InviteKey {
    /// Length of a key, in bytes.
    pub(super) const LEN: usize = hkdf::KEY_LEN;
    const LABEL: &'static [u8] = b"gossip-transport invite 1";

    /// Derives the key of an invite that was issued with `secret`: HKDF over BLAKE2s, with a label and the claims as
    /// its "info". `claims` are the bytes that were received, whatever they mean.
    pub(crate) fn derive(secret: &ClusterSecret, claims: &[u8]) -> Self {
        Self(hkdf::derive(secret.as_bytes(), Self::LABEL, claims))
    }

    /// Returns a copy of the key, to be mixed into a handshake.
    pub(crate) fn psk(&self) -> Zeroizing<[u8; Self::LEN]> {
        self.0.clone()
    }

    /// Returns the key.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut key = Zeroizing::new([0; Self::LEN]);
        key.copy_from_slice(bytes);
        Self(key)
    }
}

impl PartialEq for InviteKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.as_bytes()).into()
    }
}

impl Eq for InviteKey {}

impl fmt::Debug for InviteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteKey")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn the_key_of_claims_is_the_one_that_python_computes() {
        // mac = lambda key, data: hmac.new(key, data, hashlib.blake2s).digest()
        // mac(mac(b"", bytes(32 * [7])), b"gossip-transport invite 1" + b"claims" + b"\x01").hex()
        let secret = ClusterSecret::from_bytes(&[7; 32]).unwrap();
        let key = InviteKey::derive(&secret, b"claims");
        assert_eq!(
            HEXLOWER.encode(key.as_bytes()),
            "4ae4cc08f72b78f3891ad8923f0360d46e6bf84bf4b594c3516b26bb6ee34b4e"
        );
        assert_eq!(format!("{key:?}"), "InviteKey");
    }

    #[test]
    fn other_claims_and_other_secrets_have_other_keys() {
        let [a, b] = [7, 8].map(|n| ClusterSecret::from_bytes(&[n; 32]).unwrap());
        let key = InviteKey::derive(&a, b"claims");
        assert_eq!(InviteKey::derive(&a, b"claims"), key);
        assert_ne!(InviteKey::derive(&b, b"claims"), key);
        for claims in [&b"claim"[..], b"claims\0", b"Claims", b""] {
            assert_ne!(InviteKey::derive(&a, claims), key, "{claims:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_key_is_wiped_when_it_is_dropped() {
        use crate::rt::crypto::tests::{assert_wiped_on_drop, secret};

        let bytes = secret();
        assert_wiped_on_drop(InviteKey::from_bytes(&bytes), &bytes);
        let key = InviteKey::derive(&ClusterSecret::generate(), b"claims");
        let bytes = *key.as_bytes();
        assert_wiped_on_drop(key, &bytes);
    }
}
