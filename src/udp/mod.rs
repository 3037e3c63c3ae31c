//! **In the clear**: the datagrams of upstream chitchat, byte for byte, for clusters that already
//! run so.
//!
//! Nothing here is encrypted, and nobody proves who they are: whoever can send a datagram to the
//! port is a member, can read everything, and can change everything. It has to be asked for by its
//! name, [`PlaintextUdpTransport`], and is the only network of this crate without the secure
//! channel. Use it to reach nodes that speak nothing else, inside a network that you trust.
//!
//! A "connection" is a peer's address and the messages that have come from it: dialling says
//! nothing, a peer that is gone is not noticed, messages are lost, doubled and reordered as
//! datagrams are. All of a socket's datagrams leave from the port that it listens on, since
//! upstream nodes answer to where a message came from.
//!
//! | where | what |
//! |---|---|
//! | `transport` | what is asked for by name; dialling, binding |
//! | `endpoint` | a bound port: whose datagram is it |
//! | `connection` | one peer's messages, and the stranger that becomes a peer |
//!
//! Invariants: what is no message of chitchat's is counted, and costs neither memory nor anybody's
//! place; a stranger's first message has been decoded before anything is kept for it; what waits is
//! bounded, for each peer and in all.

mod connection;
mod endpoint;
mod transport;

pub use connection::{UdpConnection, UdpIncomingRequest, UdpListener};
pub use endpoint::UdpCounts;
pub use transport::{PlaintextUdpTransport, UdpConfig, UdpError};
