//! ChaCha20-Poly1305 for browsers: RustCrypto's implementation, in a crate with its own optimisation
//! level.
//!
//! Generic code is compiled in the crate that uses it, at that crate's optimisation level, and the
//! page is optimised for size. This crate has a level of its own (`[profile.web.package]` in the
//! workspace's Cargo.toml), at which records of 64 KiB take 320 instead of 154 MB/s (Node.js 20, one
//! core), and which is no larger after gzip.
//!
//! It counts no nonces. Invariant: keys are wiped when they are dropped.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};

/// Length of the tag of a sealed message, in bytes.
pub const TAG_LEN: usize = 16;

/// An expanded key, which is wiped when it is dropped.
pub struct ChaChaKey(ChaCha20Poly1305);

impl ChaChaKey {
    /// Expands `key`.
    #[inline(never)]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts `bytes` in place and returns the tag, or `None` if they are too long for the cipher.
    ///
    /// A nonce must be used at most once under a key.
    #[inline(never)]
    pub fn seal(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        bytes: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::from(nonce);
        let tag = self.0.encrypt_in_place_detached(&nonce, associated, bytes);
        tag.ok().map(Into::into)
    }

    /// Decrypts `sealed`, which must end with the tag, in place. Returns the length of the plaintext,
    /// or `None` if the tag does not match; `sealed` is then unusable.
    pub fn open(&self, nonce: [u8; 12], associated: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let (bytes, tag) = sealed.split_last_chunk_mut::<TAG_LEN>()?;
        self.open_detached(nonce, associated, bytes, *tag)?;
        Some(bytes.len())
    }

    /// Decrypts `sealed`, which must end with the tag and has no associated data, to `plaintext`, which must
    /// be shorter by the tag. Returns `None` if the tag or a length does not match; `plaintext` is then
    /// unusable.
    pub fn open_to(&self, nonce: [u8; 12], sealed: &[u8], plaintext: &mut [u8]) -> Option<()> {
        let (bytes, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        if bytes.len() != plaintext.len() {
            return None;
        }
        plaintext.copy_from_slice(bytes);
        self.open_detached(nonce, &[], plaintext, *tag)
    }

    #[inline(never)]
    fn open_detached(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        bytes: &mut [u8],
        tag: [u8; TAG_LEN],
    ) -> Option<()> {
        let nonce = Nonce::from(nonce);
        let tag = Tag::from(tag);
        let opened = self
            .0
            .decrypt_in_place_detached(&nonce, associated, bytes, &tag);
        opened.ok()
    }
}

impl std::fmt::Debug for ChaChaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChaChaKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_unless_a_bit_was_changed() {
        let key = ChaChaKey::new(&[7; 32]);
        let mut sealed = b"hello".to_vec();
        let tag = key.seal([1; 12], b"with", &mut sealed).unwrap();
        sealed.extend_from_slice(&tag);
        for changed in 0..sealed.len() {
            let mut sealed = sealed.clone();
            sealed[changed] ^= 1;
            assert_eq!(key.open([1; 12], b"with", &mut sealed), None);
        }
        assert_eq!(key.open([1; 12], b"without", &mut sealed.clone()), None);
        assert_eq!(key.open([1; 12], b"with", &mut sealed), Some(5));
        assert_eq!(&sealed[..5], b"hello");
    }

    #[test]
    fn sealed_bytes_open_to_other_memory_of_the_right_length_only() {
        let key = ChaChaKey::new(&[7; 32]);
        let mut sealed = b"hello".to_vec();
        let tag = key.seal([1; 12], &[], &mut sealed).unwrap();
        sealed.extend_from_slice(&tag);
        for len in [0, 4, 6, 21] {
            assert_eq!(key.open_to([1; 12], &sealed, &mut vec![0; len]), None);
        }
        let mut plaintext = [0; 5];
        assert_eq!(key.open_to([1; 12], &sealed[1..], &mut plaintext), None);
        assert_eq!(key.open_to([1; 12], &sealed[..15], &mut plaintext), None);
        assert_eq!(key.open_to([1; 12], &sealed, &mut plaintext), Some(()));
        assert_eq!(&plaintext, b"hello");
        for changed in 0..sealed.len() {
            sealed[changed] ^= 1;
            assert_eq!(key.open_to([1; 12], &sealed, &mut plaintext), None);
            sealed[changed] ^= 1;
        }
    }
}
