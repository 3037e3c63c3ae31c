//! The native integration tests of the library, in one binary, so that they are linked once.
//!
//! A test that needs a process of its own (a global allocator, say) is a file of its own beside
//! this folder instead. The tests here run in parallel in one process: none sets an environment
//! variable, a global subscriber or anything else that is shared, and none listens on a fixed port.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "acme")]
mod acme;
#[cfg(feature = "chitchat")]
mod chitchat_transport;
#[cfg(feature = "axum")]
mod embedding;
mod examples;
#[cfg(feature = "http")]
mod exhausted_http;
mod gossip;
#[cfg(feature = "http")]
mod http_service;
mod message;
mod networks;
mod secure_channel;
mod support;
mod tls;
mod transport_layer;
