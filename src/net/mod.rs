//! The traits that a network implements for the transport layer.
//!
//! Implement [`NetTransport`] to add a network. The transport layer adds queues, expiry, reconnection
//! and statistics to it. This module contains traits and plain values only: no sockets, no tasks and
//! nothing that depends on the target. Invariant: a connection delivers whole messages, in order, from
//! a peer that has proved its identity, or it fails.
//!
//! Errors are [`anyhow::Error`], since anyone can add a network. The networks of this crate put typed
//! errors inside, which `downcast_ref` returns: [`ConnectError`],
//! [`HandshakeError`](crate::secure::HandshakeError), [`FrameError`](crate::secure::FrameError) and
//! [`ConfigError`](crate::ConfigError).
//!
//! | file | contents |
//! |---|---|
//! | `transport` | [`NetTransport`], [`NetListener`] and [`NetIncomingRequest`]: dialling and accepting |
//! | `connection` | [`NetConnection`]: sending and receiving |
//! | `alpn` | the name of an application protocol |
//! | `close` | the code with which a connection is closed, and the reason for which it has ended |
//! | `accept_failure` | the reasons for which incoming connections are not accepted |
//! | `stats` | counts of what was received in part |
//! | `address` | which addresses can be dialled or listened on, and their canonical form |
//! | `error` | the error of a dial |

mod accept_failure;
pub(crate) mod address;
mod alpn;
mod close;
mod connection;
mod error;
pub(crate) mod stand_ins;
mod stats;
mod transport;

pub use accept_failure::AcceptFailure;
pub use address::{NotListenable, canonical, check_listenable, is_dialable, is_link_local};
pub(crate) use address::{may_be_dialled, unspecified_like};
pub use alpn::Alpn;
pub use close::{CloseCode, CloseReason};
pub use connection::NetConnection;
pub use error::ConnectError;
pub use stats::PartialStats;
pub use transport::{NetIncomingRequest, NetListener, NetTransport};

/// The longest head of an HTTP request, in bytes, wherever requests are read. Browsers send less than 1 KiB plus their
/// cookies, and other servers refuse more, too.
pub const MAX_REQUEST_HEAD_LEN: usize = 16 << 10;
