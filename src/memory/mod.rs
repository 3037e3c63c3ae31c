//! A network in memory with scripted faults, for tests and examples.
//!
//! Hosts are IP addresses, which need not exist. A [`MemoryTransport`] is the access of one host to
//! a [`MemoryNetwork`]. Messages never leave the process, so nothing is encrypted; identities,
//! trust and application protocols are checked as in the handshake of the secure channel, and fail
//! with the same errors. It uses no sockets and no threads, so it also works in a browser.
//!
//! Faults are set for one direction between two hosts, and may change at any time: see
//! [`Faults`]. Invariant: on tokio's paused clock and with a fixed seed, the same calls have
//! the same results.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use gossip_transport::memory::MemoryNetwork;
//! use gossip_transport::net::NetTransport as _;
//! use gossip_transport::{NetCredential, Trust};
//!
//! let network = MemoryNetwork::new(1);
//! let host = network.host([10, 0, 0, 1].into());
//! let credential = NetCredential::generate(Trust::dangerously_anyone());
//! let _listener = host.create_listener(([10, 0, 0, 1], 7000).into(), &[], &credential).await?;
//! assert!(host.create_listener(([10, 0, 0, 1], 7000).into(), &[], &credential).await.is_err());
//! # anyhow::Ok(()) }).unwrap();
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `config` | limits |
//! | `faults` | the faults between hosts |
//! | `pipe` | one direction of a connection |
//! | `connection` | two pipes, and how a connection ended |
//! | `backlog` | dials that wait to be accepted |
//! | `network` | all hosts, listeners and pipes |
//! | `transport` | dialling and binding, as one host |
//! | `listener` | accepting, and the checks of a handshake |

mod backlog;
mod config;
mod connection;
mod faults;
mod listener;
mod network;
mod pipe;
mod transport;

pub use config::MemoryConfig;
pub use connection::MemoryConnection;
pub use faults::{DialFault, Faults};
pub use listener::{MemoryIncomingRequest, MemoryListener};
pub use network::MemoryNetwork;
pub use transport::MemoryTransport;
