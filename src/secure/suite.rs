//! The cipher of a connection.

use crate::rt;

/// The cipher that encrypts a connection. The dialler chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-256-GCM, for connections between native nodes. A browser neither offers nor accepts it.
    AesGcm,
    /// ChaCha20-Poly1305, for connections of a browser or of a processor without AES instructions.
    ChaChaPoly,
}

impl Suite {
    /// Returns the suite to dial a native node with: AES-GCM if this processor has instructions
    /// for it, otherwise ChaCha20-Poly1305.
    pub fn preferred() -> Self {
        if rt::crypto::prefers_aes_gcm() {
            Self::AesGcm
        } else {
            Self::ChaChaPoly
        }
    }
}
