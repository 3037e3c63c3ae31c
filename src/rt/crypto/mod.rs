//! The ciphers and the curve, with the best implementation for each target.
//!
//! Native targets use aws-lc, whose assembly code uses the processor's instructions. Browsers use the
//! pure Rust of the RustCrypto and dalek projects. This module counts no nonces and knows no records.
//! Invariant: both targets compute the same bytes, and keys are wiped when they are dropped.

mod aead;
#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(test)]
#[cfg(target_os = "linux")]
pub(crate) mod tests;
#[cfg(target_family = "wasm")]
mod web;

pub(crate) use aead::{Aead, TAG_LEN};
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{AeadKey, HAS_AES_GCM, X25519, prefers_aes_gcm, sha1};
#[cfg(target_family = "wasm")]
pub(crate) use web::{AeadKey, HAS_AES_GCM, X25519, prefers_aes_gcm};
