//! The reasons for which incoming connections are not accepted, and their names in metrics.

/// The reason for which an incoming connection was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AcceptFailure {
    /// Too many peers had not authenticated yet, and this one's host had the most; or too many connections
    /// of trusted proxies had not stated their client; or too many streams of a server of the user waited.
    Crowded,
    /// The handshake took too long.
    Timeout,
    /// The stream broke, or the peer has closed it.
    Broken,
    /// The peer speaks an unknown protocol.
    OtherProtocol,
    /// The peer speaks TLS, and there is no certificate: none is configured, or none was obtained yet.
    Tls,
    /// The TLS handshake failed: no common version or protocol, or broken rules.
    TlsHandshake,
    /// The peer has ended the TLS handshake: it does not trust the certificate, which may have expired or be for another name.
    TlsRefused,
    /// No failure: a certificate authority has validated a name, with a connection that serves nothing else.
    Validation,
    /// The peer does not speak TLS, which is required.
    Plain,
    /// An HTTP request that is not a WebSocket upgrade, or a malformed one.
    Http,
    /// A request over HTTP/1.0, which cannot become a WebSocket: the default of nginx.
    Http10,
    /// A proxy that is not trusted states a client, or one that is trusted states none.
    Proxy,
    /// The peer speaks another version of the secure channel.
    Version,
    /// The peer has another cluster secret, or none.
    Secret,
    /// The peer has proved its identity, and is not trusted.
    NotTrusted,
    /// The two sides have no application protocol in common.
    NoCommonProtocol,
    /// The peer broke the rules of the handshake.
    Malformed,
    /// Anything else.
    Other,
}

impl AcceptFailure {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 18] = [
        Self::Crowded,
        Self::Timeout,
        Self::Broken,
        Self::OtherProtocol,
        Self::Tls,
        Self::TlsHandshake,
        Self::TlsRefused,
        Self::Validation,
        Self::Plain,
        Self::Http,
        Self::Http10,
        Self::Proxy,
        Self::Version,
        Self::Secret,
        Self::NotTrusted,
        Self::NoCommonProtocol,
        Self::Malformed,
        Self::Other,
    ];

    /// Returns whether the connection has failed: whatever the reason is but [`Validation`](Self::Validation).
    pub fn is_failure(self) -> bool {
        self != Self::Validation
    }

    /// Returns a name for metrics: lower-case letters, digits and underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::OtherProtocol => "other_protocol",
            Self::Tls => "tls",
            Self::TlsHandshake => "tls_handshake",
            Self::TlsRefused => "tls_refused",
            Self::Validation => "validation",
            Self::Plain => "plain",
            Self::Http => "http",
            Self::Http10 => "http_1_0",
            Self::Proxy => "proxy",
            Self::Version => "version",
            Self::Secret => "secret",
            Self::NotTrusted => "not_trusted",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}
