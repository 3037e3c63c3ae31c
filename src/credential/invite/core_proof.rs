//! The proof of a core member towards a holder of an invite: that it knows the private half of the cluster key.
//!
//! All holders of an invite have the key of its handshake, so that key does not tell core members from other
//! holders. The holder sends a fresh public key as its challenge; the member answers with a key that is derived from
//! the Diffie-Hellman result of both and from the hash of the handshake. Invariant: a proof is only valid for the
//! challenge, the handshake and the cluster that it was made for, and says nothing else about the private half.

use std::fmt;

use snow::types::Dh as _;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::credential::cluster_key::{ClusterKey, PublicClusterKey};
use crate::credential::hkdf;
use crate::rt::crypto::X25519;

/// A question that only a core member can answer. It is asked once.
pub(crate) struct Challenge(X25519);

impl Challenge {
    /// Length of what is sent, in bytes.
    pub(crate) const LEN: usize = 32;

    /// Returns a fresh challenge, or `None` if the system has no source of randomness.
    pub(crate) fn generate() -> Option<Self> {
        let mut secret = Zeroizing::new([0; Self::LEN]);
        getrandom::fill(secret.as_mut()).ok()?;
        let mut pair = X25519::default();
        pair.set(secret.as_slice());
        Some(Self(pair))
    }

    /// Returns what is sent.
    pub(crate) fn public(&self) -> [u8; Self::LEN] {
        self.0.pubkey().try_into().unwrap_or_default()
    }

    /// Returns whether `proof` shows, in the handshake with this hash, that its sender has the private half of
    /// `cluster_key`.
    pub(crate) fn is_answered_by(
        &self,
        proof: &[u8],
        cluster_key: &PublicClusterKey,
        handshake_hash: &[u8; 32],
    ) -> bool {
        let expected = prove(&self.0, cluster_key.as_bytes(), handshake_hash);
        expected.is_some_and(|expected| expected.0.as_slice().ct_eq(proof).into())
    }
}

/// The answer to a challenge.
pub(crate) struct CoreProof(Zeroizing<[u8; Self::LEN]>);

impl CoreProof {
    /// Length of a proof, in bytes.
    pub(crate) const LEN: usize = hkdf::KEY_LEN;
    const LABEL: &'static [u8] = b"gossip-transport core proof 1";

    /// Returns the answer of a core member to `challenge` in the handshake with this hash, or `None` if the challenge
    /// is a key of low order, which would make the answer the same for all clusters.
    pub(crate) fn new(
        cluster_key: &ClusterKey,
        challenge: &[u8; Challenge::LEN],
        handshake_hash: &[u8; 32],
    ) -> Option<Self> {
        prove(cluster_key.pair(), challenge, handshake_hash)
    }

    /// Returns the bytes that are sent.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for CoreProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreProof")
    }
}

/// Returns the proof that both sides compute, each with its own private half and the public half of the other.
fn prove(own: &X25519, theirs: &[u8; 32], handshake_hash: &[u8; 32]) -> Option<CoreProof> {
    let mut shared = Zeroizing::new([0; 32]);
    own.dh(theirs, shared.as_mut_slice()).ok()?;
    if shared.ct_eq(&[0; 32]).into() {
        return None;
    }
    let proof = hkdf::derive(shared.as_slice(), CoreProof::LABEL, handshake_hash);
    Some(CoreProof(proof))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const HASH: [u8; 32] = [9; 32];

    fn cluster(n: u8) -> ClusterKey {
        ClusterKey::derive(&[n; 32])
    }

    fn challenge(n: u8) -> Challenge {
        let mut pair = X25519::default();
        pair.set(&[n; 32]);
        Challenge(pair)
    }

    #[test]
    fn a_proof_holds_for_its_cluster_challenge_and_handshake_and_for_no_other() {
        let asked = Challenge::generate().unwrap();
        let core = cluster(1);
        let proof = CoreProof::new(&core, &asked.public(), &HASH).unwrap();
        let proof = proof.as_bytes();
        assert!(asked.is_answered_by(proof, &core.public(), &HASH));
        assert!(!asked.is_answered_by(proof, &cluster(2).public(), &HASH));
        assert!(!asked.is_answered_by(proof, &core.public(), &[8; 32]));
        let other = Challenge::generate().unwrap();
        assert!(!other.is_answered_by(proof, &core.public(), &HASH));
        for place in 0..proof.len() {
            let mut bad = *proof;
            bad[place] ^= 1;
            assert!(!asked.is_answered_by(&bad, &core.public(), &HASH));
        }
        for bad in [&proof[..31], &[], &[proof.as_slice(), &[0]].concat()] {
            assert!(!asked.is_answered_by(bad, &core.public(), &HASH));
        }
    }

    #[test]
    fn a_key_of_low_order_is_neither_asked_with_nor_believed() {
        // The points of order 1, 2 and 4 (RFC 7748, section 6.1), which make every result zero.
        for low in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert!(CoreProof::new(&cluster(1), &low, &HASH).is_none());
            let asked = challenge(1);
            let zero = hkdf::derive(&[0; 32], CoreProof::LABEL, &HASH);
            let cluster_key = PublicClusterKey::from_bytes(low);
            assert!(!asked.is_answered_by(zero.as_slice(), &cluster_key, &HASH));
        }
    }

    #[test]
    fn the_proof_is_the_one_that_python_computes() {
        // With X25519 as in RFC 7748, written out in Python, and:
        // mac = lambda key, data: hmac.new(key, data, hashlib.blake2s).digest()
        // private = mac(mac(b"", bytes(32 * [7])), b"gossip-transport core 1" + b"\x01")
        // public = X25519PrivateKey.from_private_bytes(bytes(32 * [3])).public_key()
        // shared = X25519PrivateKey.from_private_bytes(private).exchange(public)
        // mac(mac(b"", shared), b"gossip-transport core proof 1" + bytes(32 * [9]) + b"\x01").hex()
        let proof = CoreProof::new(&cluster(7), &challenge(3).public(), &HASH).unwrap();
        assert_eq!(
            HEXLOWER.encode(proof.as_bytes()),
            "db59688681646084a99264590cec0b8b3f2bc22f8357c912e18eb106381be41b"
        );
        assert_eq!(format!("{proof:?}"), "CoreProof");
    }
}
