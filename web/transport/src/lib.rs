//! `gossip-web-transport`: the transport alone for JavaScript, in a window or a worker.
//!
//! For a page that has its own protocol and needs no participant. It exchanges messages of bytes with
//! native nodes, encrypted and authenticated, with the library's queues, expiry, reconnection and
//! statistics. To join a gossip cluster use `gossip-web` instead.
//!
//! The crate is empty on every other target, so that the workspace builds there.

#![cfg(target_family = "wasm")]

mod options;
mod socket;

pub use gossip_web_values::{generate_cluster_secret, generate_secret_key};
pub use options::SocketOptions;
pub use socket::TransportSocket;
