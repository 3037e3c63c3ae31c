//! The datagrams of upstream chitchat, byte for byte and **in the clear**, for clusters that
//! already use them.
//!
//! Nothing is encrypted and no peer is authenticated: anyone who can send a datagram to the port is
//! a member, can read everything and can change everything. It is the only network of this crate
//! without the secure channel, and it must be chosen explicitly, as [`PlaintextUdpTransport`]. Use
//! it inside a network that you trust, to reach nodes that speak nothing else.
//!
//! A "connection" is a flow: a remote address and the messages that have arrived from it. Dialling
//! sends nothing, a peer that is gone is not noticed, and messages are lost, duplicated and
//! reordered as datagrams are. All datagrams of a socket leave from the port that it listens on,
//! because upstream nodes reply to the source address of a message.
//!
//! | file | contents |
//! |---|---|
//! | `config` | limits |
//! | `error` | typed errors |
//! | `transport` | dialling, resolving, binding |
//! | `endpoint` | a bound port: sorts datagrams into flows |
//! | `flow` | the state of one remote address on a port |
//! | `echo` | how much may be sent to an address that may be forged |
//! | `budget` | how many bytes in a second each host gets of those for all |
//! | `connection` | a flow as a connection of the transport layer |
//! | `listener` | flows from new addresses, as incoming connections |
//!
//! Invariants: a datagram that is not a chitchat message is counted, and takes neither memory nor a
//! place in a queue; a flow for a new address is created only after its first message has been
//! decoded; messages that wait are bounded, per peer and in total; what a port has for all is shared by hosts, so
//! that one that takes all it can leaves room to others; there is no flow for an address to which nothing can be
//! sent, such as the key address of an authenticated peer.

mod budget;
mod config;
mod connection;
mod echo;
mod endpoint;
mod error;
mod flow;
mod listener;
mod transport;

pub use config::UdpConfig;
pub use connection::UdpConnection;
pub use endpoint::UdpCounts;
pub use error::UdpError;
pub use listener::{UdpIncomingRequest, UdpListener};
pub use transport::PlaintextUdpTransport;
