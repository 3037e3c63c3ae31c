//! The network of a browser tab: WebSocket, in a window and in a worker.
//!
//! It dials and cannot listen. A dial to an IP address opens `ws://IP:PORT/`, where a native node
//! accepts WebSockets beside TCP. For anything else, such as a `wss://` URL, a host name or a path,
//! [`resolve`](crate::net::NetTransport::resolve) returns an address that stands for it. The
//! [`secure`](crate::secure) channel inside the WebSocket provides identity and encryption, with or
//! without TLS around it.
//!
//! What a browser does not offer, and what this module does about it:
//!
//! - Reading has no back-pressure. Frames that have arrived and are not read are bounded by
//!   [`WebSocketConfig::max_unread_bytes`]; beyond that the connection ends with
//!   [`WebSocketError::Overflow`].
//! - A browser accepts any amount of data to send. Writing pauses at 256 KiB, so that the queues
//!   above, with their expiry and drop policy, decide about everything else.
//! - A browser may open only one WebSocket to a host at a time, so that a peer which never answers delays
//!   others. One whose peer was not reached the last time gives way, and a silent one is given up after
//!   [`WebSocketConfig::open_timeout`], or earlier if others wait.
//! - A failed dial has no reason. [`ConnectError`](crate::net::ConnectError) names possible causes.
//!
//! | file | contents |
//! |---|---|
//! | `config` | limits |
//! | `error` | typed errors |
//! | `transport` | dialling and resolving |
//! | `listener` | the listener of a browser, which never accepts |
//! | `socket` | one browser WebSocket: its events, its end, its limits |
//! | `frames` | the two halves of it, which the secure channel reads and writes |
//! | `openings` | the order in which WebSockets to one host are opened |
//! | `names` | URLs and host names, and the addresses that stand for them |
//! | `environment` | the capabilities of the page or worker around this code |
//! | `diagnosis` | possible causes of a failed dial |
//!
//! Invariant: dropping a connection, or the future of a dial, closes its WebSocket and frees its
//! event handlers before the drop returns.

mod config;
mod diagnosis;
mod environment;
mod error;
mod frames;
mod listener;
mod names;
mod openings;
mod socket;
mod transport;

pub use config::WebSocketConfig;
pub use environment::is_https;
pub use error::{CannotListen, NameError, WebSocketError};
pub use frames::{WebSocketConnection, WebSocketReader, WebSocketWriter};
pub use listener::{WebSocketIncomingRequest, WebSocketListener};
pub use transport::WebSocketTransport;
