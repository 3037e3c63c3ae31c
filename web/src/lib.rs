//! `gossip-web`: a member of a gossip cluster for JavaScript, in a window or a worker.
//!
//! A thin, typed skin over the library's participant: it turns options, members, counters and
//! errors into JavaScript's own kinds, and adds nothing to what gossip does. The page in `page/`
//! is one user of it. Invariant: nothing that JavaScript passes in makes it panic; what is wrong
//! is an `Error` whose text says what to do.
//!
//! Empty on every other target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

mod convert;
mod node;
mod options;
mod types;

use gossip_transport::credential::{ClusterSecret, NetCredential, Trust};
use wasm_bindgen::prelude::wasm_bindgen;

pub use node::GossipNode;
pub use options::JoinOptions;

/// Runs when the module is loaded: a defect shows its text in the console.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// A fresh secret key in its printed form, for `JoinOptions.secretKey`. Keep it where the node
/// should keep its identity: `sessionStorage` for one tab, say.
#[wasm_bindgen(js_name = generateSecretKey)]
pub fn generate_secret_key() -> String {
    // The key is the same whomever its owner trusts.
    NetCredential::generate(Trust::keys([]))
        .to_secret_text()
        .to_string()
}

/// A fresh cluster secret in its printed form, for `JoinOptions.secret`.
#[wasm_bindgen(js_name = generateClusterSecret)]
pub fn generate_cluster_secret() -> String {
    ClusterSecret::generate().to_text()
}
