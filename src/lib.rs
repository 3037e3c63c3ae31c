//! Carries a gossip protocol between browser tabs and native nodes.
//!
//! The same connection and queue code runs on both; only the last hop differs: WebSocket in a
//! browser, TCP natively. Every connection is encrypted and authenticated end to end.
//!
//! | where | what |
//! |---|---|
//! | [`net`] | the seam: what a network has to offer ([`net::NetTransport`]) |
//! | [`config`] | the error of a configuration value that is out of bounds |
//! | [`credential`] | my key, and whom I trust |
//! | [`message`] | what is carried: the [`Message`] trait, chitchat's messages and their bytes |
//! | [`transport_layer`] | queues, connections, statistics: written once for every target |
//! | [`secure`] | Noise handshake and records over any stream of frames |
//! | [`rt`] | spawn, sleep, timeout, clocks: the one place that knows the target |
//! | [`either`] | two networks on one socket, each peer reached by what it speaks |
//! | `tcp` | the network of a native node (native targets only) |
//! | `udp` | upstream chitchat's datagrams, **in the clear** (native targets only) |
//! | `websocket` | the network of a browser tab (wasm only) |
//! | [`memory`] | a network in memory, with scripted faults, for tests and examples |
//! | `chitchat` | our sockets under nodes of the published chitchat crate (a feature, native only) |
//! | [`gossip`] | the participant: a pure engine, and the driver that joins it to a socket |

#[cfg(all(feature = "chitchat", not(target_family = "wasm")))]
pub mod chitchat;
pub mod config;
pub mod credential;
pub mod either;
pub mod gossip;
pub mod memory;
pub mod message;
pub mod net;
pub mod rt;
pub mod secure;
#[cfg(not(target_family = "wasm"))]
pub mod tcp;
pub mod transport_layer;
#[cfg(not(target_family = "wasm"))]
pub mod udp;
#[cfg(target_family = "wasm")]
pub mod websocket;

pub use config::ConfigError;
pub use credential::{ClusterSecret, Identity, NetCredential, Role, Trust};
pub use message::{ChitchatMessage, Message};
pub use transport_layer::{TransportLayerConfig, TransportLayerSocket, TransportLayerTransport};

/// The README's examples, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
