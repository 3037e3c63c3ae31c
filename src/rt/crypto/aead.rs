//! The authenticated ciphers, by name.

/// Length of the tag of a sealed message, in bytes.
pub(crate) const TAG_LEN: usize = 16;

/// An authenticated cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aead {
    /// AES-256-GCM. Only native targets have it. Processors have instructions for it, but wasm does
    /// not: there it would be slow, and its timing would leak the key.
    AesGcm,
    /// ChaCha20-Poly1305.
    ChaChaPoly,
}
