//! The network of a native node: TCP, with WebSockets accepted on the same port.
//!
//! A listener distinguishes the two by the first bytes of a connection: our preface starts plain
//! frames, an HTTP request starts a WebSocket upgrade. The same secure channel runs inside both.
//! TLS around either is recognised in the same way, and is accepted if a certificate is configured. This
//! module does not dial WebSockets or relay.
//!
//! | file | contents |
//! |---|---|
//! | `config` | limits |
//! | `error` | the error of a connection that is refused before its handshake |
//! | `transport` | dialling, resolving, binding |
//! | `listener` | accepting |
//! | `admission` | the limit on unauthenticated connections |
//! | `opening` | an incoming stream until it is a carrier of frames |
//! | `proxy` | proxies that are trusted to state the address of their client |
//! | `accepted_streams` | streams that a server of the user has accepted |
//! | `losses` | streams and requests that a listener never gets |
//! | `stream` | a TCP stream, with or without TLS, or any other stream |
//! | `any_stream` | the two halves of any other stream |
//! | `tls` | TLS: certificates, handshakes, streams |
//! | `sniff` | the protocol of an incoming connection, from its first bytes |
//! | `http` | incoming HTTP requests: a WebSocket upgrade, or a refusal |
//! | `plain_requests` | HTTP requests that ask for no WebSocket, for the service that answers them |
//! | `request_stream` | a stream for that service |
//! | `responses` | the responses to requests for WebSockets that hyper has parsed |
//! | `upgrade` | WebSockets that a hyper or axum server of the user hands over |
//! | `carrier` | frames over a TCP stream or over a WebSocket |
//!
//! Invariant: nothing that a peer sends is trusted, and nothing outlives its connection, before the
//! handshake with it is complete.

mod accepted_streams;
mod admission;
mod any_stream;
mod carrier;
mod config;
mod error;
mod http;
mod listener;
mod losses;
mod opening;
#[cfg(feature = "http")]
mod plain_requests;
mod proxy;
#[cfg(feature = "http")]
mod request_stream;
#[cfg(feature = "http")]
mod responses;
mod sniff;
mod stream;
mod tls;
mod transport;
#[cfg(feature = "http")]
mod upgrade;

pub use accepted_streams::{AcceptedStreams, PushError, StreamsInUse};
pub use carrier::{TcpConnection, TcpReader, TcpWriter, WebSocketError};
pub use config::TcpConfig;
pub use error::AcceptError;
pub use listener::{TcpIncomingRequest, TcpListener};
pub use proxy::{Network, NetworkError};
#[cfg(feature = "acme")]
pub(crate) use tls::Der;
pub use tls::{
    Reloaded, TlsAcceptError, TlsDialError, TlsError, TlsFileError, TlsIdentity, TlsNameError,
    TlsRoots, TlsValidation,
};
pub use transport::TcpTransport;
#[cfg(feature = "http")]
pub use upgrade::{GossipUpgrade, UpgradeRejection};
