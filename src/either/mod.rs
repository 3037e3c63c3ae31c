//! Two networks on one socket: a preferred one, and another for peers that do not speak it.
//!
//! [`EitherTransport`] binds both networks to one address and dials each peer over the network that
//! the peer speaks. An unknown peer is dialled over the first network. If that fails or takes longer
//! than 250 ms, the second network is dialled as well, so a silent peer on one does not delay the
//! other. If the dial of the first network succeeds later, its connection replaces the one of the
//! second. A peer that has answered a dial of the second network is dialled over it until a minute after that dial.
//!
//! An address that was reached over the first network is different: whatever arrives from it over the
//! second changes nothing. The second network is used for it only after dials of the first have failed
//! for longer than 250 ms. That is counted ([`EitherTransport::counts`]) and logged as a warning, and
//! the first network is dialled every 5 s, to replace the second as soon as it answers.
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
//! This module carries no messages itself, and knows neither network. Invariants: what it remembers
//! about peers is bounded, and a wrong memory costs a few failed dials; what arrives over the second
//! network never makes an address that was reached over the first be forgotten.
//!
//! | file | contents |
//! |---|---|
//! | `transport` | dialling and binding both networks |
//! | `routes` | what is known about how each address is reached |
//! | `dialler` | dials of the first network, also beside a connection of the second |
//! | `takeover` | whether the first network has replaced a connection of the second |
//! | `connection` | a connection of either network |
//! | `counts` | counters of peers that were reached over the first network |
//! | `error` | the errors of connections that the second network must not carry |
//! | `listener` | a listener of both networks, and its incoming connections |

mod connection;
mod counts;
mod dialler;
mod error;
mod listener;
mod routes;
mod takeover;
mod transport;

pub use connection::EitherConnection;
pub use counts::EitherCounts;
pub use error::{NotPreferred, TakenOver};
pub use listener::{EitherIncomingRequest, EitherListener};
pub use transport::EitherTransport;
