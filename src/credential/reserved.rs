//! The keys with which core members authenticate what they write into the reserved keys of their states.
//!
//! What is authenticated is up to the caller. Invariant: the keys are never printed, compared in constant time, and
//! wiped when they are dropped.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::base32;
use super::hkdf::{self, KEY_LEN};
use super::keyring::Keyring;
use super::secret::ClusterSecret;

/// Length of a message authentication code (MAC), in bytes: the first half of an HMAC over BLAKE2s.
const MAC_LEN: usize = 16;

/// The keys of all secrets of a keyring: the first one makes MACs, and all of them verify.
#[derive(Clone)]
pub(crate) struct ReservedKeys {
    first: ReservedMacKey,
    others: Vec<ReservedMacKey>,
}

/// The MAC key that is derived from one secret.
#[derive(Clone)]
struct ReservedMacKey(Zeroizing<[u8; KEY_LEN]>);

impl ReservedKeys {
    /// Length of the printed form of a MAC, in characters of base32.
    pub(crate) const TEXT_LEN: usize = (MAC_LEN * 8).div_ceil(5);

    /// Derives the keys of a keyring.
    pub(crate) fn of(keyring: &Keyring) -> Self {
        let first = ReservedMacKey::derive(keyring.first());
        let others = keyring.secrets().skip(1);
        Self {
            first,
            others: others.map(ReservedMacKey::derive).collect(),
        }
    }

    /// Returns the MAC of `message`, made with the first secret, as base32.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        base32::encode(self.first.mac(message).as_slice())
    }

    /// Returns true if `text` is the MAC of `message` by one of the secrets.
    pub(crate) fn verify(&self, message: &[u8], text: &str) -> bool {
        let Some(mac) = base32::decode(text).filter(|mac| mac.len() == MAC_LEN) else {
            return false;
        };
        let mut is_right = Choice::from(0);
        for key in self.keys() {
            is_right |= key.mac(message).ct_eq(mac.as_slice());
        }
        is_right.into()
    }

    fn keys(&self) -> impl Iterator<Item = &ReservedMacKey> {
        [&self.first].into_iter().chain(&self.others)
    }
}

impl ReservedMacKey {
    const LABEL: &'static [u8] = b"gossip-transport reserved 1";

    /// Derives the key of `secret`: HKDF over BLAKE2s, with a label as its "info".
    fn derive(secret: &ClusterSecret) -> Self {
        Self(hkdf::derive(secret.as_bytes(), Self::LABEL, &[]))
    }

    fn mac(&self, message: &[u8]) -> Zeroizing<[u8; MAC_LEN]> {
        let whole = hkdf::hmac(&self.0, &[message]);
        Zeroizing::new(whole.first_chunk().copied().unwrap_or_default())
    }
}

impl PartialEq for ReservedKeys {
    /// Compares in constant time if there are as many keys.
    fn eq(&self, other: &Self) -> bool {
        let mut is_same = Choice::from(u8::from(self.others.len() == other.others.len()));
        for (ours, theirs) in self.keys().zip(other.keys()) {
            is_same &= ours.0.ct_eq(theirs.0.as_slice());
        }
        is_same.into()
    }
}

impl Eq for ReservedKeys {}

impl fmt::Debug for ReservedKeys {
    /// Prints the number of keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReservedKeys({})", self.keys().count())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn secret(n: u8) -> ClusterSecret {
        ClusterSecret::from_bytes(&[n; 32]).unwrap()
    }

    fn keys(secrets: &[u8]) -> ReservedKeys {
        let secrets = secrets.iter().map(|n| secret(*n));
        ReservedKeys::of(&Keyring::new(secrets).unwrap())
    }

    #[test]
    fn the_key_and_the_mac_are_those_that_python_computes() {
        // mac = lambda key, data: hmac.new(key, data, hashlib.blake2s).digest()
        // key = mac(mac(b"", bytes(32 * [7])), b"gossip-transport reserved 1" + b"\x01")
        // base64.b32encode(mac(key, b"message")[:16]).decode().lower().rstrip("=")
        assert_eq!(
            HEXLOWER.encode(ReservedMacKey::derive(&secret(7)).0.as_slice()),
            "1f61417a1231b4086723bb73e6c2caa95392aa52aac5c6b2f9debd2a0dbdd0ab"
        );
        let text = keys(&[7]).sign(b"message");
        assert_eq!(text, "qs7o3rkbaxrj6i277egpuocuhq");
        assert_eq!(text.len(), ReservedKeys::TEXT_LEN);
    }

    #[test]
    fn the_first_secret_makes_macs_and_all_verify_them() {
        let text = keys(&[7, 8]).sign(b"message");
        assert_eq!(text, keys(&[7]).sign(b"message"));
        for verifying in [&[7][..], &[8, 7], &[1, 2, 3, 7]] {
            assert!(keys(verifying).verify(b"message", &text), "{verifying:?}");
        }
        assert!(!keys(&[8, 9]).verify(b"message", &text));
    }

    #[test]
    fn another_message_and_another_text_are_refused() {
        let keys = keys(&[7]);
        let text = keys.sign(b"message");
        for message in [&b"messag"[..], b"message\0", b"Message", b""] {
            assert!(!keys.verify(message, &text), "{message:?}");
        }
        let longer = format!("{text}aa");
        for other in ["", &text[1..], &text[..24], &longer, &"a".repeat(26)] {
            assert!(!keys.verify(b"message", other), "{other:?}");
        }
        for n in 0..text.len() {
            let mut letters = text.clone().into_bytes();
            letters[n] = if letters[n] == b'a' { b'b' } else { b'a' };
            let other = String::from_utf8(letters).unwrap();
            assert!(!keys.verify(b"message", &other), "{other}");
        }
    }

    #[test]
    fn keys_are_compared_and_not_printed() {
        assert_eq!(keys(&[7, 8]), keys(&[7, 8]));
        for other in [&[7][..], &[8, 7], &[7, 9], &[7, 8, 9]] {
            assert_ne!(keys(&[7, 8]), keys(other), "{other:?}");
        }
        assert_eq!(format!("{:?}", keys(&[7, 8])), "ReservedKeys(2)");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_key_is_wiped_when_it_is_dropped() {
        use crate::rt::crypto::tests::assert_wiped_on_drop;

        let key = ReservedMacKey::derive(&ClusterSecret::generate());
        let bytes = *key.0;
        assert_wiped_on_drop(key, &bytes);
    }
}
