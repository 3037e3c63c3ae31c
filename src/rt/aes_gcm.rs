//! AES-256-GCM, which only native targets have (see `no_aes_gcm.rs`): processors have
//! instructions for it, a browser's wasm does not and would be slow and leak timing.

use ::aes_gcm::aead::{AeadInPlace, KeyInit};
use ::aes_gcm::{Aes256Gcm, Nonce, Tag};

/// A key that is ready for use. Wiped when dropped.
pub(crate) struct AesGcm(Aes256Gcm);

impl AesGcm {
    /// Whether this target has the cipher.
    pub(crate) const AVAILABLE: bool = true;

    /// `None` where this target does not have the cipher.
    pub(crate) fn new(key: &[u8; 32]) -> Option<Self> {
        Some(Self(Aes256Gcm::new(key.into())))
    }

    /// Encrypts `bytes` in place and gives the tag; `None` if they are too long for the cipher.
    pub(crate) fn seal(&self, nonce: [u8; 12], bytes: &mut [u8]) -> Option<[u8; 16]> {
        let tag = self
            .0
            .encrypt_in_place_detached(Nonce::from_slice(&nonce), &[], bytes);
        tag.ok().map(Into::into)
    }

    /// Decrypts `bytes` in place; `None`, and garbage in `bytes`, if the tag does not match.
    pub(crate) fn open(&self, nonce: [u8; 12], bytes: &mut [u8], tag: [u8; 16]) -> Option<()> {
        let tag = Tag::from(tag);
        let nonce = Nonce::from_slice(&nonce);
        self.0
            .decrypt_in_place_detached(nonce, &[], bytes, &tag)
            .ok()
    }
}
