//! The secure channel over a carrier in memory: what connects, what does not, and how it ends.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "a test fails by panicking"
)]

mod cancellation;
mod carrier;
mod common;
mod handshake;
mod lifetime;
mod records;
