//! Ciphers and the curve, by what is best on each target.
//!
//! Natively aws-lc, whose assembly uses what the processor has; in a browser the pure Rust of the
//! RustCrypto and dalek projects. Keys only: no nonce is counted and no record known here.
//! Invariant: both targets compute the same bytes, and keys are wiped when dropped.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod web;

#[cfg(not(target_family = "wasm"))]
use native as target;
#[cfg(target_family = "wasm")]
use web as target;

pub(crate) use target::{AeadKey, HAS_AES_GCM, curve, prefers_aes_gcm};

/// What a tag adds to a message, in bytes.
pub(crate) const TAG_LEN: usize = 16;

/// An authenticated cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aead {
    /// AES-256-GCM. Only native targets have it: processors have instructions for it, a browser's
    /// wasm does not, and would be slow and leak timing.
    AesGcm,
    /// ChaCha20-Poly1305.
    ChaChaPoly,
}
