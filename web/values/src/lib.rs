//! `gossip-web-values`: what the crates for JavaScript share.
//!
//! Options are read and results are built field by field: with this few shapes that is smaller in
//! a module than a serializer. Exports of this crate are exports of every module that uses it: the
//! two generators of keys, and the set-up that runs when a module is loaded. Invariant: nothing
//! that JavaScript passes in makes it panic; what is wrong is an `Error` whose text says what to
//! do.
//!
//! Empty on every other target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

mod credential;
mod fields;
mod object;
mod stats;

use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

pub use credential::{credential, generate_cluster_secret, generate_secret_key};
pub use fields::Fields;
pub use object::Object;
pub use stats::{StatsObject, stats};

/// Runs when the module is loaded: a defect shows its text in the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// An error with its causes, as JavaScript's `Error`.
pub fn error(error: &anyhow::Error) -> JsError {
    JsError::new(&format!("{error:#}"))
}
