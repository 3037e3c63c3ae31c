//! The client's side of TLS handshakes.
//!
//! The certificate must be for the name that is dialled, and from an authority that is trusted; there is no way to skip
//! that. An address without a name is dialled as `unverified.rs` says. Invariant: nothing is sent inside of TLS before the
//! handshake has ended.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, InvalidMessage,
};
use tokio::net::TcpStream;

use super::error::{TlsDialError, TlsFileError};
use super::names::TlsName;
use super::roots::TlsRoots;
use super::session::{Broken, TlsStream};
use super::unverified;
use crate::rt;

/// The most names of a certificate that an error shows.
const MAX_SHOWN_NAMES: usize = 8;

/// Dials TLS. It keeps the authorities once they are loaded.
pub(in crate::tcp) struct TlsConnector {
    roots: TlsRoots,
    limit: Duration,
    // No dial waits for another one that loads them, since nobody may be polling that.
    config: OnceLock<Arc<ClientConfig>>,
    /// For addresses.
    unverified: OnceLock<Arc<ClientConfig>>,
}

impl TlsConnector {
    /// Each handshake may take `limit`.
    pub(in crate::tcp) fn new(roots: TlsRoots, limit: Duration) -> Self {
        Self {
            roots,
            limit,
            config: OnceLock::new(),
            unverified: OnceLock::new(),
        }
    }

    /// Runs the handshake over a stream to `name`, and verifies that the peer may use that name. It may take `limit`, and no
    /// longer than any.
    pub(in crate::tcp) async fn connect(
        &self,
        stream: TcpStream,
        name: &TlsName,
        limit: Duration,
    ) -> Result<TlsStream, TlsDialError> {
        let shown = || name.host_and_port().to_owned();
        let config = match self.config.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = self.load(name).await?;
                Arc::clone(self.config.get_or_init(|| config))
            }
        };
        let session = ClientConnection::new(config, name.server.clone());
        open(stream, session, limit.min(self.limit), &shown).await
    }

    /// Runs the handshake over a stream to an address of which no name is known. See `unverified.rs`.
    pub(in crate::tcp) async fn connect_unverified(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
    ) -> Result<TlsStream, TlsDialError> {
        let shown = || addr.to_string();
        let config = match self.unverified.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = unverified::config().map_err(|error| reason(shown(), error))?;
                Arc::clone(self.unverified.get_or_init(|| config))
            }
        };
        let server = ServerName::IpAddress(addr.ip().into());
        let session = ClientConnection::new(config, server);
        open(stream, session, self.limit, &shown).await
    }

    /// Loads the authorities, which may take some time on other systems than Linux.
    async fn load(&self, name: &TlsName) -> Result<Arc<ClientConfig>, TlsDialError> {
        let roots = self.roots.clone();
        let loading = tokio::task::spawn_blocking(move || roots.load());
        let loaded = loading.await.unwrap_or_else(|error| {
            Err(TlsFileError::NoSystemRoots {
                what: error.to_string(),
            })
        });
        let roots = loaded.map_err(|source| TlsDialError::Roots {
            name: name.host_and_port().to_owned(),
            source,
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| reason(name.host_and_port().to_owned(), error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A server could make this side remember megabytes, for a dial that is rare.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

async fn open(
    stream: TcpStream,
    session: Result<ClientConnection, rustls::Error>,
    limit: Duration,
    shown: &impl Fn() -> String,
) -> Result<TlsStream, TlsDialError> {
    let session = session.map_err(|error| reason(shown(), error))?;
    let opening = TlsStream::open(stream, Connection::Client(session), BytesMut::new());
    match rt::timeout(limit, opening).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((_, Broken::Tls(error)))) => Err(reason(shown(), error)),
        Ok(Err((_, Broken::Unanswered(source)))) => Err(TlsDialError::Unanswered {
            name: shown(),
            source,
        }),
        Ok(Err((_, Broken::Io(source)))) => Err(TlsDialError::Io {
            name: shown(),
            source,
        }),
        Err(rt::Elapsed(after)) => Err(TlsDialError::Timeout {
            name: shown(),
            after,
        }),
    }
}

fn reason(name: String, error: rustls::Error) -> TlsDialError {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(error) => certificate(name, &error),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => TlsDialError::WrongName {
            name,
            presented: Vec::new(),
        },
        Error::AlertReceived(alert) => TlsDialError::Refused {
            name,
            alert: format!("{alert:?}"),
        },
        // The first bytes of the answer are no record of TLS.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => TlsDialError::NotTls { name },
        other => TlsDialError::Failed {
            name,
            reason: other.to_string(),
        },
    }
}

fn certificate(name: String, error: &CertificateError) -> TlsDialError {
    match error {
        // The latter is what an authority of the same name with another key leads to: one that was created again.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsDialError::UnknownIssuer { name }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsDialError::Expired { name }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsDialError::NotValidYet { name }
        }
        CertificateError::NotValidForName => TlsDialError::WrongName {
            name,
            presented: Vec::new(),
        },
        CertificateError::NotValidForNameContext { presented, .. } => TlsDialError::WrongName {
            name,
            presented: presented.iter().take(MAX_SHOWN_NAMES).cloned().collect(),
        },
        other => TlsDialError::Certificate {
            name,
            reason: other.to_string(),
        },
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector")
            .field("roots", &self.roots)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
