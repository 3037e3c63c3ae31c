//! Errors of accepting.

use std::io;

/// The error of an incoming connection that was refused before the handshake of the secure channel.
///
/// A handshake that fails later reports a [`HandshakeError`](crate::secure::HandshakeError). The
/// peer is at fault; other connections are not affected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The first bytes do not start any protocol that is served here.
    #[error("the first bytes do not start a known protocol")]
    UnknownProtocol,
    /// The peer starts a TLS handshake, and TLS is not configured.
    #[error("the peer speaks TLS, which is not configured here")]
    TlsNotConfigured,
    /// The peer sent an HTTP request that does not ask for a WebSocket. It received a response that
    /// says so.
    #[error("the peer sent an HTTP request that is not a WebSocket upgrade")]
    NotAnUpgrade,
    /// The stream broke, or the HTTP request was malformed.
    #[error("the connection failed before its handshake: {0}")]
    Io(#[from] io::Error),
}
