//! `gossip-web`: a member of a gossip cluster for JavaScript, in a window or a worker.
//!
//! A thin, typed interface to the library's participant. It converts options, members, counters and
//! errors to JavaScript values, and adds nothing to the protocol. The page in `page/` is one user of
//! it. Invariant: no value that JavaScript passes in causes a panic; an invalid one causes a `TypeError`
//! whose text says what to change.
//!
//! The crate is empty on every other target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

mod abort;
mod closing;
mod console;
mod convert;
mod node;
mod options;
mod renewal;
mod types;

pub use gossip_web_values::{generate_cluster_secret, generate_secret_key};
pub use node::GossipNode;
pub use options::JoinOptions;
