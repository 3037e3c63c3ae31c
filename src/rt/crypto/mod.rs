//! The ciphers and the curve, with the best implementation for each target.
//!
//! Native targets use aws-lc, whose assembly code uses the processor's instructions. Browsers use the
//! pure Rust of the RustCrypto and dalek projects. This module counts no nonces and knows no records.
//! Invariant: both targets compute the same bytes, and keys are wiped when they are dropped.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod web;

#[cfg(not(target_family = "wasm"))]
use native as target;
#[cfg(target_family = "wasm")]
use web as target;

pub(crate) use target::{AeadKey, HAS_AES_GCM, curve, prefers_aes_gcm};

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
