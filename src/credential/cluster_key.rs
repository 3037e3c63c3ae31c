//! The key pair of a cluster secret, by which holders of invites know core members.
//!
//! Every member that knows the secret has the pair, so it says that a peer is a core member, not which one. The proof
//! itself belongs to the handshake. Invariant: the private half is never printed, and wiped when it is dropped.

use std::fmt;

use snow::types::Dh as _;

use super::base32;
use super::hkdf;
use crate::rt::crypto::X25519;

/// The X25519 key pair of a cluster secret.
#[derive(Clone)]
pub(crate) struct ClusterKey(X25519);

impl ClusterKey {
    const LABEL: &'static [u8] = b"gossip-transport core 1";

    /// Derives the key pair of a cluster secret: the private half is HKDF over BLAKE2s, with a label as its "info".
    pub(super) fn derive(secret: &[u8]) -> Self {
        let private = hkdf::derive(secret, Self::LABEL, &[]);
        let mut pair = X25519::default();
        pair.set(private.as_slice());
        Self(pair)
    }

    /// Returns the pair, for proofs.
    pub(super) fn pair(&self) -> &X25519 {
        &self.0
    }

    /// Returns the public half, which is part of every invite.
    pub(crate) fn public(&self) -> PublicClusterKey {
        PublicClusterKey(self.0.pubkey().try_into().unwrap_or_default())
    }
}

impl fmt::Debug for ClusterKey {
    /// Prints the public half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({})", base32::encode(&self.public().0))
    }
}

/// The public half of a cluster key. Only peers that can prove to have the other half are core members.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PublicClusterKey([u8; Self::LEN]);

impl PublicClusterKey {
    /// Length of the key, in bytes.
    pub(super) const LEN: usize = 32;

    /// Returns the bytes of the X25519 public key.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for PublicClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicClusterKey({})", base32::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn the_key_pair_of_a_secret_is_the_one_that_python_computes() {
        // mac = lambda key, data: hmac.new(key, data, hashlib.blake2s).digest()
        // private = mac(mac(b"", bytes(32 * [7])), b"gossip-transport core 1" + b"\x01")
        // The public half is the Montgomery ladder of RFC 7748, section 5, in Python's integers.
        let key = ClusterKey::derive(&[7; 32]);
        let private = "28ed58e874ae0333b7b37b2c21b2589c9f294066d4ac476bea05eb8b39e5f032";
        assert_eq!(HEXLOWER.encode(key.0.privkey()), private);
        let public = "bcde5ed51c615d95c15c6639ac9749d0f39e205dd97fcb3fadc65786dbbfa253";
        assert_eq!(HEXLOWER.encode(key.public().as_bytes()), public);
    }

    #[test]
    fn each_secret_has_one_key_pair_whose_private_half_is_not_printed() {
        let key = ClusterKey::derive(&[7; 32]);
        assert_eq!(ClusterKey::derive(&[7; 32]).public(), key.public());
        assert_ne!(ClusterKey::derive(&[8; 32]).public(), key.public());
        let public = base32::encode(key.public().as_bytes());
        assert_eq!(format!("{key:?}"), format!("ClusterKey({public})"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_key_pair_is_wiped_when_it_is_dropped() {
        use crate::rt::crypto::tests::assert_wiped_on_drop;

        let key = ClusterKey::derive(&crate::rt::crypto::tests::secret::<32>());
        let private = key.0.privkey().to_vec();
        assert_wiped_on_drop(key, &private);
    }
}
