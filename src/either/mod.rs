//! Two networks on one socket: a preferred one, and another for peers that do not speak it.
//!
//! [`EitherTransport`] binds both networks to one address and dials each peer over the network that
//! the peer speaks. It learns that from traffic: the network over which a peer answered last is
//! dialled next. An unknown peer is dialled over the first network. If that fails or takes longer
//! than 250 ms, the second network is dialled as well, so a silent peer on one does not delay the
//! other. If the dial of the first network succeeds later, its connection replaces the one of the
//! second.
//!
//! ```
//! use gossip_transport::either::EitherTransport;
//! use gossip_transport::tcp::TcpTransport;
//! use gossip_transport::udp::PlaintextUdpTransport;
//!
//! // Encrypted TCP and WebSocket for peers that speak it, upstream's datagrams for the others.
//! let network = EitherTransport::new(TcpTransport::default(), PlaintextUdpTransport::default());
//! # let _ = network;
//! ```
//!
//! The combination is only as safe as the weaker network. If the second network has no
//! authentication, an attacker that keeps the first one from answering receives the traffic over
//! the second.
//!
//! This module carries no messages itself, and knows neither network. Invariant: what it remembers
//! about peers is bounded, and a wrong memory costs one failed dial.
//!
//! | file | contents |
//! |---|---|
//! | `transport` | dialling and binding both networks |
//! | `routes` | what is known about how each address is reached |
//! | `takeover` | dials of the first network that succeed late |
//! | `connection` | a connection of either network |
//! | `error` | the error of a connection that was replaced |
//! | `listener` | a listener of both networks, and its incoming connections |

mod connection;
mod error;
mod listener;
mod routes;
mod takeover;
mod transport;

pub use connection::EitherConnection;
pub use error::TakenOver;
pub use listener::{EitherIncomingRequest, EitherListener};
pub use transport::EitherTransport;
