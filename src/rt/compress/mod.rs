//! The zstd compressor of each target.
//!
//! Natively the C library, which a native build has a compiler for anyway; in a browser the pure
//! Rust of ruzstd, and with the feature `compress` off none at all: what is not compressed is read
//! by everyone. What comes out is any valid zstd, and its bytes are not the same everywhere.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod web;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::compress;
#[cfg(target_family = "wasm")]
pub(crate) use web::compress;
