//! The server's side of TLS handshakes.
//!
//! It asks for no client certificate: the secure channel inside decides which peers may connect. Invariant: a peer that
//! fails the handshake has learned no more than an alert of TLS says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::{AlertDescription, Connection, ServerConfig};
use tokio::net::TcpStream;

use super::error::TlsAcceptError;
use super::identity::TlsIdentity;
use super::session::{Broken, TlsStream};
use super::{hello, validation};
use crate::rt;

/// The application protocol inside of TLS. A client that names none is accepted as well.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The alert `handshake_failure` (RFC 8446, section 6) as a record of TLS 1.2, which all versions take.
pub(in crate::tcp) const REFUSAL: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// The alert `no_application_protocol` (RFC 7301), in the same form.
const NO_PROTOCOL: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 120];

/// Accepts TLS.
pub(in crate::tcp) struct TlsAcceptor {
    config: Arc<ServerConfig>,
    identity: TlsIdentity,
    limit: Duration,
}

/// How a handshake goes on after the first message of the client.
enum Course {
    /// The client is a peer.
    Peer(Arc<ServerConfig>),
    /// The client is a certificate authority which validates a name.
    Validation(Arc<ServerConfig>, String),
    Refuse([u8; 7], TlsAcceptError),
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
        Ok(Self {
            config: config(identity.resolver(), HTTP_1_1)?,
            identity: identity.clone(),
            limit,
        })
    }

    /// Runs the handshake. `received` holds the bytes of the stream that have been read already. A stream that fails is
    /// returned, so that the peer can read the alert before it is closed; not after the time limit.
    pub(in crate::tcp) async fn accept(
        &self,
        stream: TcpStream,
        received: BytesMut,
    ) -> Result<TlsStream, (Option<TcpStream>, TlsAcceptError)> {
        match rt::timeout(self.limit, self.shake_hands(stream, received)).await {
            Ok(result) => result,
            Err(rt::Elapsed(after)) => Err((None, TlsAcceptError::Timeout { after })),
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        received: BytesMut,
    ) -> Result<TlsStream, (Option<TcpStream>, TlsAcceptError)> {
        let accepted = match hello::read(&stream, &received).await {
            Ok(accepted) => accepted,
            Err(broken) => return Err(failed(stream, broken)),
        };
        drop(received);
        let course = self.course(&accepted.client_hello());
        let (config, validated) = match course.unwrap_or_else(Course::failed) {
            Course::Peer(config) => (config, None),
            Course::Validation(config, name) => (config, Some(name)),
            Course::Refuse(alert, error) => {
                // It is the first thing that is sent, so there is room for it.
                let _ = stream.try_write(&alert);
                return Err((Some(stream), error));
            }
        };
        let session = match accepted.into_connection(config) {
            Ok(session) => session,
            Err((error, alert)) => {
                let broken = hello::refused(error, alert, &stream);
                return Err(failed(stream, broken));
            }
        };
        let opening = TlsStream::open(stream, Connection::Server(session), BytesMut::new());
        let stream = opening
            .await
            .map_err(|(stream, broken)| failed(stream, broken))?;
        match validated {
            None => Ok(stream),
            // The authority has seen all that it wants.
            Some(name) => {
                let _ = stream.try_end();
                Err((Some(stream.into_tcp()), TlsAcceptError::Validation { name }))
            }
        }
    }

    fn course(&self, hello: &ClientHello<'_>) -> Result<Course, rustls::Error> {
        if validation::is_validation(hello) {
            let name = hello.server_name().unwrap_or_default().to_owned();
            return Ok(match self.identity.validations().answer(hello) {
                Some(answer) => {
                    Course::Validation(config(Arc::new(answer), validation::ACME_TLS_1)?, name)
                }
                None => Course::Refuse(NO_PROTOCOL, TlsAcceptError::NoCommonProtocol),
            });
        }
        if !self.identity.has_certificate() {
            return Ok(Course::Refuse(REFUSAL, TlsAcceptError::NoCertificateYet));
        }
        Ok(Course::Peer(Arc::clone(&self.config)))
    }
}

impl Course {
    fn failed(error: rustls::Error) -> Self {
        Self::Refuse(REFUSAL, reason(error))
    }
}

/// Returns the configuration of handshakes in which `resolver` names the certificate, for one protocol inside.
fn config(
    resolver: Arc<dyn ResolvesServerCert>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![protocol.to_vec()];
    // No session is resumed: it would outlive the certificate with which it began.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn failed(stream: TcpStream, broken: Broken) -> (Option<TcpStream>, TlsAcceptError) {
    match broken {
        Broken::Tls(error) => (Some(stream), reason(error)),
        Broken::Unanswered(error) | Broken::Io(error) => (None, TlsAcceptError::Io(error)),
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
