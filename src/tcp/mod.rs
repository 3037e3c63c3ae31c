//! The network of a native node: TCP, with WebSocket accepted on the same port.
//!
//! One port serves both kinds of peer, told apart by their first bytes: our preface means frames
//! as they are, HTTP means a WebSocket upgrade. Inside both runs the same secure channel. Nothing
//! of a peer is trusted, and nothing is stored for it, before its handshake is complete.
//!
//! | where | what |
//! |---|---|
//! | `config` | limits |
//! | `transport` | dialling, resolving, binding |
//! | `listener` | accepting |
//! | `admission` | how many strangers at a time |
//! | `sniff` | which protocol a stranger speaks |
//! | `http` | a stranger that speaks HTTP: upgrade, or a plain refusal |
//! | `carrier` | frames over the stream, whichever it is |
//!
//! Not here yet: TLS and the relay. A TLS hello is recognised and refused by name.

mod admission;
mod carrier;
mod config;
mod http;
mod listener;
mod sniff;
mod transport;

pub use carrier::{TcpReader, TcpWriter};
pub use config::TcpConfig;
pub use listener::{AcceptError, TcpIncomingRequest, TcpListener};
pub use transport::TcpTransport;

use crate::secure::SecureConnection;

/// A connection over TCP, raw or inside a WebSocket.
pub type TcpConnection = SecureConnection<TcpReader, TcpWriter>;
