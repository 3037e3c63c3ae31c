//! Limits of the TCP network.

use std::time::Duration;

use super::accepted_streams::AcceptedStreams;
use super::proxy::{Network, Proxies};
use super::tls::{TlsIdentity, TlsRoots};
use crate::config::{ConfigError, at_least, setters};
#[cfg(feature = "http")]
use crate::http_service::HttpService;
use crate::secure::SecureConfig;

/// Limits of a [`TcpTransport`](super::TcpTransport).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Limits of the secure channel. For an incoming connection, the handshake timeout covers
    /// everything before authentication: detecting the protocol, the HTTP upgrade and the Noise
    /// handshake together. For a dial, it applies to the TCP connect and to the handshake each.
    pub secure: SecureConfig,
    /// The largest number of accepted connections that have not authenticated yet. One more ends the oldest
    /// of the host that has the most. Default 256.
    pub max_unauthenticated: usize,
    /// The largest number of accepted connections from one host that have not authenticated yet. One
    /// more ends the oldest of them. A host is an IPv4 address or an IPv6 network of 64 bits. Default 64.
    pub max_unauthenticated_per_ip: usize,
    /// The proxies of TCP streams that state the address of their client in a header of the PROXY protocol,
    /// version 2. A stream from one of them must begin with that header, and one from any other host must
    /// not. Limits per host then apply to the client. Default: none.
    pub proxy_protocol_from: Vec<Network>,
    /// The proxies of HTTP whose field `X-Forwarded-For` in an upgrade is believed. It is read from the
    /// right, past all of these. Other requests and streams of such a host count as its own. Default: none.
    pub forwarded_for_from: Vec<Network>,
    /// The certificate with which connections are accepted that begin with a TLS handshake. Everything else of the port
    /// works inside of TLS as it does outside. Default: none, and such connections are refused.
    pub tls: Option<TlsIdentity>,
    /// Whether connections without TLS are refused, those of this crate's own protocol included: a seed here is dialled by a
    /// `tls://` name. Addresses of members, for which no certificate is issued, are dialled with TLS from here, and without it
    /// if the other side does not speak it; the certificate is not compared with anything then, and the secure channel inside
    /// authenticates the peer as always. So members that require TLS reach each other, and all that they learn of by gossip.
    /// Needs [`tls`](Self::tls). Default: `false`.
    pub tls_only: bool,
    /// The authorities that are trusted when a name that begins with `tls://` is dialled. Default: those of the system.
    pub tls_roots: TlsRoots,
    /// The time limit of a TLS handshake; at least 1 ms. It counts as a part of the handshake timeout of an incoming connection
    /// ([`SecureConfig::handshake_timeout`]), so a longer one than that is of no use. Default 5 s.
    pub tls_handshake_timeout: Duration,
    /// Streams that a server of yours has accepted, and that the listener takes over besides those of its own port. One
    /// listener takes them at a time. Default: none.
    pub accepted_streams: Option<AcceptedStreams>,
    /// The service that answers the HTTP requests of the port that ask for no WebSocket, within limits of its own. Default:
    /// none, and they are refused. A service that owns the socket or participant keeps it alive for ever: let it hold a
    /// [`Weak`](std::sync::Weak) one.
    #[cfg(feature = "http")]
    pub http: Option<HttpService>,
}

impl TcpConfig {
    setters! {
        with_secure => secure: SecureConfig,
        with_max_unauthenticated => max_unauthenticated: usize,
        with_max_unauthenticated_per_ip => max_unauthenticated_per_ip: usize,
        with_proxy_protocol_from => proxy_protocol_from: Vec<Network>,
        with_forwarded_for_from => forwarded_for_from: Vec<Network>,
        with_tls => tls: Option<TlsIdentity>,
        with_tls_only => tls_only: bool,
        with_tls_roots => tls_roots: TlsRoots,
        with_tls_handshake_timeout => tls_handshake_timeout: Duration,
        with_accepted_streams => accepted_streams: Option<AcceptedStreams>,
    }

    #[cfg(feature = "http")]
    setters! {
        with_http => http: Option<HttpService>,
    }

    pub(super) fn proxies(&self) -> Proxies {
        Proxies {
            proxy_protocol: self.proxy_protocol_from.clone(),
            forwarded_for: self.forwarded_for_from.clone(),
        }
    }

    /// Checks every value.
    /// [`create_listener`](crate::net::NetTransport::create_listener) and
    /// [`connect`](crate::net::NetTransport::connect) call it.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds: a limit is zero, `secure` is invalid, or only
    /// TLS is accepted without a certificate.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.secure.validate().map_err(|e| e.inside("secure"))?;
        at_least("max_unauthenticated", self.max_unauthenticated, 1)?;
        at_least(
            "max_unauthenticated_per_ip",
            self.max_unauthenticated_per_ip,
            1,
        )?;
        at_least(
            "tls_handshake_timeout",
            self.tls_handshake_timeout,
            Duration::from_millis(1),
        )?;
        if self.tls_only && self.tls.is_none() {
            let bound = "false unless tls has a certificate";
            return Err(ConfigError::new("tls_only", "true".to_owned(), bound));
        }
        Ok(())
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            secure: SecureConfig::default(),
            max_unauthenticated: 256,
            max_unauthenticated_per_ip: 64,
            proxy_protocol_from: Vec::new(),
            forwarded_for_from: Vec::new(),
            tls: None,
            tls_only: false,
            tls_roots: TlsRoots::default(),
            tls_handshake_timeout: Duration::from_secs(5),
            accepted_streams: None,
            #[cfg(feature = "http")]
            http: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_an_error_that_names_it() {
        let config = TcpConfig::default;
        for (config, expected) in [
            (config(), Ok(())),
            (
                config().with_max_unauthenticated(0),
                Err("max_unauthenticated is 0, but must be at least 1"),
            ),
            (
                config().with_max_unauthenticated_per_ip(0),
                Err("max_unauthenticated_per_ip is 0, but must be at least 1"),
            ),
            (
                config().with_tls_handshake_timeout(Duration::ZERO),
                Err("tls_handshake_timeout is 0ns, but must be at least 1ms"),
            ),
            (
                config().with_tls_only(true),
                Err("tls_only is true, but must be false unless tls has a certificate"),
            ),
            (
                config().with_secure(SecureConfig::default().with_max_message_len(0)),
                Err("secure.max_message_len is 0, but must be at least 1"),
            ),
        ] {
            let result = config.validate().map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "{config:?}");
        }
    }
}
