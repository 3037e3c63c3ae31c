//! The project's rules about its sources, as tests.
//!
//! Links nothing of the library: it reads the sources as text.
#![cfg(not(target_family = "wasm"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    missing_debug_implementations,
    reason = "a test fails by panicking"
)]

mod boundaries;
mod code_map;
mod cycles;
mod defaults;
mod dependencies;
mod imports;
mod layout;
mod mutants;
mod pages;
mod proxies;
mod sizes;
mod source;
mod words;

/// Fails with `rule` and all breaches of it, if there are any.
fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}\n  {}", breaches.join("\n  "));
}
