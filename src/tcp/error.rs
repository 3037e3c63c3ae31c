//! Errors of accepting.

use std::io;
use std::time::Duration;

use super::tls::TlsAcceptError;
use crate::net::AcceptFailure;

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
    /// The peer starts a TLS handshake, and TLS is not configured. It received an alert.
    #[error(
        "the peer speaks TLS, which is not configured here (TcpConfig::tls; gossip-node --tls-cert FILE --tls-key FILE)"
    )]
    TlsNotConfigured,
    /// The TLS handshake with the peer failed.
    #[error(transparent)]
    Tls(#[from] TlsAcceptError),
    /// The peer does not speak TLS, and [`TcpConfig::tls_only`](super::TcpConfig::tls_only) is set. If it sent an HTTP
    /// request, it received a response that says so.
    #[error(
        "the peer does not speak TLS, which is required here (TcpConfig::tls_only): dial tls:// or wss:// there"
    )]
    TlsRequired,
    /// The peer sent an HTTP request that asks for no WebSocket, which `TcpConfig::http` answers.
    /// Nothing has failed, and it is not counted.
    #[error(
        "the peer sent an HTTP request that asks for no WebSocket, which the HTTP service answers"
    )]
    PlainRequest,
    /// The peer sent an HTTP request that does not ask for a WebSocket. It received a response that
    /// says so.
    #[error("the peer sent an HTTP request that is not a WebSocket upgrade")]
    NotAnUpgrade,
    /// The peer sent a request over HTTP/1.0, which cannot become a WebSocket. It is the default of
    /// nginx. The peer received a response that says so.
    #[error(
        "the peer sent a request over HTTP/1.0, which has no WebSockets (if nginx is in front, set \
         \"proxy_http_version 1.1;\" there, and pass the Upgrade and Connection headers)"
    )]
    Http10,
    /// The peer asks for a version of the WebSocket protocol other than 13. It received a response
    /// that says so.
    #[error("the peer asks for another version of the WebSocket protocol than 13")]
    OtherWebSocketVersion,
    /// The peer sent an HTTP request that breaks the rules of HTTP or of the WebSocket upgrade. It
    /// received a response that says so.
    #[error("the peer sent a malformed HTTP request: {what}")]
    MalformedRequest {
        /// The broken rule.
        what: &'static str,
    },
    /// The head of the peer's HTTP request is too long. The peer received a response that says so.
    #[error("the head of the peer's HTTP request is longer than {} KiB", max >> 10)]
    HeadTooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// Too many streams that a server of yours has accepted wait for the listener
    /// ([`AcceptedStreams`](super::AcceptedStreams)). This one was closed, or its request was refused.
    #[error("{max} streams wait for the listener already")]
    TooManyStreams {
        /// The limit.
        max: usize,
    },
    /// The peer asked for a WebSocket after another request, or from a server of yours, and had gone when the response was
    /// written.
    #[error("the peer had gone before the WebSocket that it asked for was open")]
    NotUpgraded,
    /// Too many peers had not authenticated yet, and this one's host had the most. A retry may help.
    #[error("too many connections have not authenticated, and this one's host has the most")]
    TooManyUnauthenticated,
    /// The peer states the address of a client (PROXY protocol), and is not a proxy that is trusted to
    /// ([`TcpConfig::proxy_protocol_from`](super::TcpConfig::proxy_protocol_from)).
    #[error("the peer sent a header of the PROXY protocol, and is not among the trusted proxies")]
    ProxyNotTrusted,
    /// A trusted proxy did not begin with a valid header of the PROXY protocol, version 2.
    #[error("a trusted proxy sent no valid header of the PROXY protocol: {what}")]
    ProxyHeader {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Too many connections of trusted proxies had not stated their client when this one came.
    #[error("{max} connections of trusted proxies have not stated the address of their client")]
    TooManyUnidentified {
        /// The limit, which is [`TcpConfig::max_unauthenticated`](super::TcpConfig::max_unauthenticated).
        max: usize,
    },
    /// A trusted proxy did not state its client in time.
    #[error("a trusted proxy did not state the address of its client within {after:?}")]
    ProxySilent {
        /// The time limit.
        after: Duration,
    },
    /// The stream broke.
    #[error("the connection failed before its handshake")]
    Io(#[from] io::Error),
}

impl AcceptError {
    /// Returns the reason under which this is counted, or `None` if nothing has failed.
    pub(super) fn failure(&self) -> Option<AcceptFailure> {
        Some(match self {
            Self::PlainRequest => return None,
            Self::UnknownProtocol => AcceptFailure::OtherProtocol,
            Self::TlsNotConfigured => AcceptFailure::Tls,
            Self::Tls(TlsAcceptError::Timeout { .. }) => AcceptFailure::Timeout,
            Self::Tls(TlsAcceptError::Io(_)) => AcceptFailure::Broken,
            Self::Tls(TlsAcceptError::NoCertificateYet) => AcceptFailure::Tls,
            Self::Tls(TlsAcceptError::Validation { .. }) => AcceptFailure::Validation,
            Self::Tls(TlsAcceptError::Refused { .. }) => AcceptFailure::TlsRefused,
            Self::Tls(_) => AcceptFailure::TlsHandshake,
            Self::TlsRequired => AcceptFailure::Plain,
            Self::Http10 => AcceptFailure::Http10,
            Self::NotAnUpgrade
            | Self::OtherWebSocketVersion
            | Self::MalformedRequest { .. }
            | Self::HeadTooLong { .. } => AcceptFailure::Http,
            Self::TooManyUnauthenticated
            | Self::TooManyUnidentified { .. }
            | Self::TooManyStreams { .. } => AcceptFailure::Crowded,
            Self::ProxyNotTrusted | Self::ProxyHeader { .. } | Self::ProxySilent { .. } => {
                AcceptFailure::Proxy
            }
            Self::NotUpgraded | Self::Io(_) => AcceptFailure::Broken,
        })
    }
}
