//! `gossip-web-transport`: the transport alone for JavaScript, in a window or a worker.
//!
//! For a page that speaks a protocol of its own and has no use for a participant: messages of
//! bytes to native nodes and back, encrypted and authenticated, through the library's queues, with
//! its expiry, reconnection and statistics. Whoever wants to be a member of a cluster takes
//! `gossip-web` instead.
//!
//! Empty on every other target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

mod options;
mod socket;

pub use gossip_web_values::{generate_cluster_secret, generate_secret_key};
pub use options::SocketOptions;
pub use socket::{MessageObject, TransportSocket};
