//! Two networks on one socket: the first one preferred, the second for peers that speak no other.
//!
//! [`EitherTransport`] binds both to one address and dials each peer by what it speaks. That is
//! learnt from traffic: what answered last is what is dialled next. A stranger is dialled by the
//! first network, with a head start; if that fails, or takes longer, by the second, so that neither
//! waits for the other. A dial of the first that comes through late takes over.
//!
//! ```
//! use gossip_transport::either::EitherTransport;
//! use gossip_transport::tcp::TcpTransport;
//! use gossip_transport::udp::PlaintextUdpTransport;
//!
//! // TCP and WebSocket, encrypted, for whoever can; upstream's datagrams for whoever cannot.
//! let network = EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
//! # let _ = network;
//! ```
//!
//! Whoever puts a network without authentication second has to know that somebody who keeps the
//! first from answering gets the second: it is as safe as the weaker of the two.
//!
//! | where | what |
//! |---|---|
//! | `transport` | dialling and binding both |
//! | `peers` | who speaks what |
//! | `connection` | a connection, a listener and a stranger of either |
//!
//! Invariant: what is remembered of peers is bounded, and a wrong memory costs one failed dial.

mod connection;
mod peers;
mod transport;

pub use connection::{EitherConnection, EitherIncomingRequest, EitherListener};
pub use transport::EitherTransport;
