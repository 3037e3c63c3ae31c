//! The zstd compressor of each target.
//!
//! Native targets use the C library, since a native build needs a C compiler anyway. Browsers use the
//! pure Rust of ruzstd, or without the feature `compress` no compressor at all, since every reader
//! accepts uncompressed bytes as well. This module does not decompress. Invariant: the output is
//! valid zstd, but its bytes differ between targets.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod web;

#[cfg(not(target_family = "wasm"))]
pub(crate) use native::compress;
#[cfg(target_family = "wasm")]
pub(crate) use web::compress;
