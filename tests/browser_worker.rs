//! Runs the browser tests in a dedicated worker. Each test binary runs in one kind of environment
//! only.
#![cfg(target_family = "wasm")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod browser;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);
