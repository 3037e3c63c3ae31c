//! Key addresses: the address that an identity has wherever it is.
//!
//! A key address is made from the identity alone, so its owner knows it before it has met anyone, and
//! nobody else can own it. No network routes it. Invariant: it depends on nothing but the identity.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use blake2::{Blake2s256, Digest};

use super::identity::Identity;

/// The ORCHID prefix `2001:20::/28` (RFC 7343), which is never routed, in the highest bits.
const PREFIX: u128 = 0x2001_0020 << 96;
/// The number of bits of the prefix.
const PREFIX_LEN: u32 = 28;
/// The port of every key address: the one that chitchat and this crate use by default.
const PORT: u16 = 7946;
/// Hashed before the identity, so that no other use of the hash results in the same bytes.
const LABEL: &[u8] = b"gossip-transport key address 1";

impl Identity {
    /// Returns the key address of this identity: the prefix `2001:20::/28`, then the first 100 bits of
    /// the BLAKE2s hash of a label and the identity; port 7946.
    ///
    /// A peer that states no address at which it can be dialled, such as a browser tab, is registered
    /// under its key address. The address is the same behind every proxy, and after a restart or a
    /// reload that keeps the key.
    pub fn address(&self) -> SocketAddr {
        let digest = Blake2s256::new()
            .chain_update(LABEL)
            .chain_update(self.0)
            .finalize();
        let hash = digest
            .first_chunk()
            .map_or(0, |bytes| u128::from_be_bytes(*bytes));
        let ip = Ipv6Addr::from(PREFIX | (hash >> PREFIX_LEN));
        SocketAddr::new(IpAddr::V6(ip), PORT)
    }
}

/// Returns whether `addr` is the key address of some identity.
pub fn is_key_address(addr: SocketAddr) -> bool {
    match addr.ip() {
        IpAddr::V6(ip) => (u128::from(ip) ^ PREFIX) >> (u128::BITS - PREFIX_LEN) == 0,
        IpAddr::V4(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_address_depends_on_the_identity_alone_and_is_known_as_one() {
        let [a, b] = [1, 2].map(|n| Identity::from_bytes([n; 32]));
        assert_eq!(a.address(), a.address());
        assert_ne!(a.address(), b.address());
        assert!(is_key_address(a.address()) && is_key_address(b.address()));
        assert_eq!(a.address().port(), 7946);
        for other in [
            "127.0.0.1:1",
            "[2001:30::1]:7946",
            "[2001:1f:ffff::1]:1",
            "[100::1]:80",
        ] {
            assert!(!is_key_address(other.parse().unwrap()), "{other}");
        }
        for key in [
            "[2001:20::]:1",
            "[2001:2f:ffff:ffff:ffff:ffff:ffff:ffff]:7946",
        ] {
            assert!(is_key_address(key.parse().unwrap()), "{key}");
        }
    }

    #[test]
    fn the_hash_is_that_of_the_documentation() {
        // Computed with Python's hashlib: blake2s(label + bytes(32 * [7])).
        let addr = Identity::from_bytes([7; 32]).address();
        assert_eq!(
            addr.to_string(),
            "[2001:23:7992:e218:11c3:22b1:3ba4:d6c8]:7946"
        );
    }
}
