//! The server's side of TLS handshakes.
//!
//! It asks for no client certificate: the secure channel inside decides which peers may connect. Invariant: a peer that
//! fails the handshake has learned no more than an alert of TLS says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::crypto::aws_lc_rs;
use rustls::{AlertDescription, Connection, ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::error::TlsAcceptError;
use super::identity::TlsIdentity;
use super::session::{Broken, TlsStream};
use crate::rt;

/// The application protocol inside of TLS. A client that names none is accepted as well.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The alert `handshake_failure` (RFC 8446, section 6) as a record of TLS 1.2, which all versions take.
pub(in crate::tcp) const REFUSAL: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// Accepts TLS.
pub(in crate::tcp) struct TlsAcceptor {
    config: Arc<ServerConfig>,
    limit: Duration,
}

impl TlsAcceptor {
    /// Each handshake may take `limit`.
    ///
    /// # Errors
    ///
    /// Fails if the library of ciphers has none for TLS 1.3 and 1.2, which it has.
    pub(in crate::tcp) fn new(
        identity: &TlsIdentity,
        limit: Duration,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        let config = Arc::new(config);
        Ok(Self { config, limit })
    }

    /// Runs the handshake. `received` holds the bytes of the stream that have been read already. A stream that fails is
    /// returned, so that the peer can read the alert before it is closed; not after the time limit.
    pub(in crate::tcp) async fn accept(
        &self,
        stream: TcpStream,
        received: BytesMut,
    ) -> Result<TlsStream, (Option<TcpStream>, TlsAcceptError)> {
        let session = ServerConnection::new(Arc::clone(&self.config));
        let session = session.map_err(|error| (None, reason(error)))?;
        let opening = TlsStream::open(stream, Connection::Server(session), received);
        match rt::timeout(self.limit, opening).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err((stream, broken))) => Err(match broken {
                Broken::Tls(error) => (Some(stream), reason(error)),
                Broken::Ended => (
                    None,
                    TlsAcceptError::Io(std::io::ErrorKind::UnexpectedEof.into()),
                ),
                Broken::Io(error) => (None, TlsAcceptError::Io(error)),
            }),
            Err(rt::Elapsed(after)) => Err((None, TlsAcceptError::Timeout { after })),
        }
    }
}

fn reason(error: rustls::Error) -> TlsAcceptError {
    match error {
        rustls::Error::NoApplicationProtocol
        | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            TlsAcceptError::NoCommonProtocol
        }
        rustls::Error::AlertReceived(alert) => TlsAcceptError::Refused {
            alert: format!("{alert:?}"),
        },
        rustls::Error::PeerIncompatible(what) => TlsAcceptError::Incompatible {
            reason: format!("{what:?}"),
        },
        other => TlsAcceptError::Malformed {
            reason: other.to_string(),
        },
    }
}

/// Whether a port accepts streams with and without TLS.
#[derive(Debug)]
pub(in crate::tcp) enum TlsPolicy {
    /// TLS is not configured.
    Off,
    /// Both are accepted.
    Offered(TlsAcceptor),
    /// Streams without TLS are refused.
    Required(TlsAcceptor),
}

impl TlsPolicy {
    pub(in crate::tcp) fn acceptor(&self) -> Option<&TlsAcceptor> {
        match self {
            Self::Off => None,
            Self::Offered(acceptor) | Self::Required(acceptor) => Some(acceptor),
        }
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
