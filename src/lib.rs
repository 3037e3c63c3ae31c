//! Carries a gossip protocol between browser tabs and native nodes.
//!
//! The connections and queues are the same code on both. Only the network below them differs: TCP
//! natively, WebSocket in a browser. Every connection is encrypted and authenticated end to end.
//!
//! Two native members of a cluster:
//!
//! ```
//! use std::time::Duration;
//!
//! use gossip_transport::gossip::{GossipConfig, Participant};
//! use gossip_transport::tcp::TcpTransport;
//! use gossip_transport::{ClusterSecret, NetCredential, TransportLayerTransport, Trust};
//!
//! async fn join(
//!     secret: &ClusterSecret,
//!     name: &str,
//!     seeds: Vec<String>,
//! ) -> anyhow::Result<Participant<TcpTransport>> {
//!     let credential = NetCredential::generate(Trust::secret(secret.clone()));
//!     let transport = TransportLayerTransport::new(TcpTransport::default(), credential);
//!     let socket = transport.open("127.0.0.1:0".parse()?).await?;
//!     let config = GossipConfig::new("my-cluster", name)
//!         .with_seeds(seeds)
//!         .with_interval(Duration::from_millis(50));
//!     Participant::join(socket, config).await
//! }
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     let secret = ClusterSecret::generate();
//!     let ada = join(&secret, "ada", Vec::new()).await?;
//!     let seed = ada.id().gossip_advertise_addr.to_string();
//!     let bob = join(&secret, "bob", vec![seed]).await?;
//!     bob.set("role", "indexer")?;
//!
//!     let mut watch = ada.watch();
//!     while ada.member_value(&bob.id(), "role").as_deref() != Some("indexer") {
//!         watch.changed().await;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A member in a browser tab, in Rust (for JavaScript there is the package `gossip-web`):
//!
//! ```rust,ignore
#![doc = include_str!("../tests/browser/front_page.rs")]
//! ```
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`gossip`] | a member of a cluster: the pure engine of the protocol, and the participant that drives it |
//! | [`transport_layer`] | sockets with queues, connections and counters over any network |
//! | [`message`] | the [`Message`] trait, and chitchat's messages with their exact bytes |
//! | [`credential`] | our own key, and the peers to trust |
//! | `tcp` | the network of native nodes, TCP and WebSocket on one port (native targets only) |
//! | `websocket` | the network of a browser tab (wasm only) |
//! | `udp` | upstream chitchat's datagrams, **in the clear** (native targets only) |
//! | [`either`] | two networks on one socket; each peer is reached over the one that it speaks |
//! | [`memory`] | a network in memory with scripted faults, for tests and examples |
//! | `acme` | certificates for TLS that are ordered and renewed automatically (a feature, native only) |
//! | `chitchat` | our sockets as the transport of the published chitchat crate (a feature, native only) |
//! | [`net`] | the traits that a network implements, [`net::NetTransport`] first |
//! | [`secure`] | the Noise handshake and encrypted records over any stream of frames |
//! | [`channel`] | many streams of frames on one carrier, with byte credits: the rules, without sockets |
//! | [`config`] | the error of a configuration value that is out of bounds |
//! | [`rt`] | tasks, time and locks: the only module that depends on the target |

#[cfg(all(feature = "acme", not(target_family = "wasm")))]
pub mod acme;
pub mod channel;
#[cfg(all(feature = "chitchat", not(target_family = "wasm")))]
pub mod chitchat;
pub mod config;
pub mod credential;
pub mod either;
pub mod gossip;
mod host;
#[cfg(all(feature = "http", not(target_family = "wasm")))]
pub mod http_service;
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
pub use credential::{ClusterSecret, Identity, Keyring, NetCredential, Role, SecretId, Trust};
pub use message::{ChitchatMessage, Message};
pub use transport_layer::{TransportLayerConfig, TransportLayerSocket, TransportLayerTransport};

/// The examples of the README, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
