//! Keys that are derived from a cluster secret: HKDF (RFC 5869) over HMAC (RFC 2104) with BLAKE2s.
//!
//! Written here, since it is short and the crates for it would be three more dependencies. The salt is empty, and
//! a key is as long as the hash. Invariant: the label of a key is the beginning of no other label, so that keys
//! with different labels say nothing about each other.

use blake2::{Blake2s256, Digest as _};
use zeroize::Zeroizing;

/// Length of a derived key, in bytes.
pub(super) const KEY_LEN: usize = 32;
/// Length of the hash's blocks, in bytes.
const BLOCK_LEN: usize = 64;
/// The bytes with which HMAC pads the key of its inner and its outer hash.
const INNER: u8 = 0x36;
const OUTER: u8 = 0x5C;

/// Returns the key that belongs to `secret`, `label` and `context`. HKDF's "info" is the label, then the context.
pub(super) fn derive(secret: &[u8], label: &[u8], context: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let extracted = hmac(&[0; KEY_LEN], &[secret]);
    hmac(&extracted, &[label, context, &[1]])
}

pub(super) fn hmac(key: &[u8; KEY_LEN], parts: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
    let inner = hash(key, INNER, parts);
    hash(key, OUTER, &[inner.as_slice()])
}

/// Returns the hash of the key, filled up to a block and combined with `pad`, and of all parts.
fn hash(key: &[u8; KEY_LEN], pad: u8, parts: &[&[u8]]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut block = Zeroizing::new([pad; BLOCK_LEN]);
    for (byte, key) in block.iter_mut().zip(key) {
        *byte ^= key;
    }
    let mut hash = Blake2s256::new_with_prefix(block.as_slice());
    for part in parts {
        hash.update(part);
    }
    let mut output = Zeroizing::new([0; KEY_LEN]);
    hash.finalize_into((&mut *output).into());
    output
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn hex(bytes: &[u8; KEY_LEN]) -> String {
        HEXLOWER.encode(bytes)
    }

    #[test]
    fn hmac_and_hkdf_are_those_that_python_computes() {
        // mac = lambda key, data: hmac.new(key, data, hashlib.blake2s).digest()
        // mac(bytes(range(32)), b"one, two").hex()
        let key = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let parts: [&[u8]; 3] = [b"one", b", ", b"two"];
        assert_eq!(
            hex(&hmac(&key, &parts)),
            "19d61234d3d3e144870eb7442b50370c5bc77c3fad5f084bf1c4a6c541c3c06c"
        );
        // mac(mac(b"", b"a secret"), b"label" + b" context" + b"\x01").hex()
        let derived = derive(b"a secret", b"label", b" context");
        assert_eq!(
            hex(&derived),
            "ede7b319a871a03e3cf90d3c0c42b2945b4eb9460396ddaa0b1a705445f01da1"
        );
    }

    #[test]
    fn a_key_depends_on_the_secret_the_label_and_the_context() {
        let keys = [
            derive(b"secret", b"label", b"context"),
            derive(b"Secret", b"label", b"context"),
            derive(b"secret", b"Label", b"context"),
            derive(b"secret", b"label", b"Context"),
            derive(b"secret", b"label", b""),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key), "{n}");
        }
    }
}
