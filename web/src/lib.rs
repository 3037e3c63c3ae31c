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

pub use gossip_web_values::{generate_cluster_secret, generate_secret_key};
pub use node::GossipNode;
pub use options::JoinOptions;
