//! Stands in for AES-256-GCM on targets that go without it (see `aes_gcm.rs`).

use std::convert::Infallible;

/// Cannot exist here.
pub(crate) struct AesGcm(Infallible);

impl AesGcm {
    /// Whether this target has the cipher.
    pub(crate) const AVAILABLE: bool = false;

    /// `None`: this target does not have the cipher.
    pub(crate) fn new(_key: &[u8; 32]) -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub(crate) fn seal(&self, _nonce: [u8; 12], _bytes: &mut [u8]) -> Option<[u8; 16]> {
        match self.0 {}
    }

    /// Cannot be called.
    pub(crate) fn open(&self, _nonce: [u8; 12], _bytes: &mut [u8], _tag: [u8; 16]) -> Option<()> {
        match self.0 {}
    }
}
