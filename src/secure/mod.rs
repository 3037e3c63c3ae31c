//! Noise handshake and records over any stream of frames; no sockets inside.
//!
//! [`dial`] and [`accept`] turn the two halves of a carrier ([`FrameReader`], [`FrameWriter`]) into
//! a [`SecureConnection`]. The bytes on the wire are the same over TCP, WebSocket and memory: so
//! identity and encryption hold end to end, through proxies and relays, with or without TLS
//! outside. There is no plaintext mode.
//!
//! | where | what |
//! |---|---|
//! | `frame` | frames, and what carries them |
//! | `preface` | the dialler's first frame: version and suite, bound into the handshake |
//! | `noise` | one Noise handshake, by snow |
//! | `handshake` | its three messages: protocols, trust, the acceptor's word |
//! | `record` | the cipher state: sealing and opening in place, rekeying |
//! | `stream` | messages inside records |
//! | `connection` | [`SecureConnection`]: the two halves in use, and how it ends |
//! | `silence` | when the peer was last heard |
//! | `ending` | how it ended, and who waits to know |

use std::net::SocketAddr;
use std::time::Duration;

use crate::credential::NetCredential;
use crate::net::Alpn;
use crate::rt;

mod connection;
mod ending;
mod error;
mod frame;
mod handshake;
mod noise;
mod preface;
mod record;
mod silence;
mod stream;

pub use connection::SecureConnection;
pub use error::{FrameError, HandshakeError};
pub use frame::{FrameBuffer, FrameEvent, FrameReader, FrameWriter, MAX_FRAME_LEN};
pub use preface::PREFACE_START;

/// How long a failed handshake's carrier may take to end in order.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// What encrypts; the dialler chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-256-GCM, between native nodes. A browser neither offers nor accepts it.
    AesGcm,
    /// ChaCha20-Poly1305, where a browser takes part, or a processor without AES.
    ChaChaPoly,
}

impl Suite {
    /// What to dial a native node with: AES-GCM if this processor has instructions for it.
    pub fn preferred() -> Self {
        if rt::crypto::prefers_aes_gcm() {
            Self::AesGcm
        } else {
            Self::ChaChaPoly
        }
    }
}

/// Limits of a secure channel.
#[derive(Debug, Clone)]
pub struct SecureConfig {
    /// The longest message that is sent or accepted, in bytes. Default 16 MiB; never more than
    /// 4 GiB less 257 bytes.
    pub max_message_len: usize,
    /// How long a handshake may take in all. Default 10 s.
    pub handshake_timeout: Duration,
    /// Records that we send under one key before the next key is derived; the peer is told, and
    /// may have another number. Default 2^20, far below AES-GCM's bound; 0 counts as 1.
    pub rekey_after_records: u64,
}

impl Default for SecureConfig {
    fn default() -> Self {
        Self {
            max_message_len: 16 << 20,
            handshake_timeout: Duration::from_secs(10),
            rekey_after_records: 1 << 20,
        }
    }
}

/// Whom a channel joins.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// Our address as bound. The dialler's is replaced by what the acceptor says it sees.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

/// Runs the dialler's side of the handshake. Completes once the acceptor has let us in.
///
/// Offers `alpn_preferred` in this order; the acceptor takes the first that it supports. Dropping
/// the future drops the carrier.
///
/// # Errors
///
/// See [`HandshakeError`]; the carrier is closed then.
pub async fn dial<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    endpoints: Endpoints,
    suite: Suite,
    alpn_preferred: &[Alpn],
    credential: &NetCredential,
    config: &SecureConfig,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let handshake = handshake::dial(
        &mut reader,
        &mut writer,
        suite,
        alpn_preferred,
        credential,
        config,
    );
    let result = rt::timeout(config.handshake_timeout, handshake).await;
    finish(reader, writer, endpoints, credential, config, result).await
}

/// Runs the acceptor's side of the handshake.
///
/// Dropping the future drops the carrier.
///
/// # Errors
///
/// See [`HandshakeError`]; the carrier is closed then, without a word to the stranger.
pub async fn accept<R: FrameReader, W: FrameWriter>(
    mut reader: R,
    mut writer: W,
    endpoints: Endpoints,
    alpn_supported: &[Alpn],
    credential: &NetCredential,
    config: &SecureConfig,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let handshake = handshake::accept(
        &mut reader,
        &mut writer,
        endpoints.remote,
        alpn_supported,
        credential,
        config,
    );
    let result = rt::timeout(config.handshake_timeout, handshake).await;
    finish(reader, writer, endpoints, credential, config, result).await
}

async fn finish<R: FrameReader, W: FrameWriter>(
    reader: R,
    mut writer: W,
    endpoints: Endpoints,
    credential: &NetCredential,
    config: &SecureConfig,
    result: Result<Result<handshake::Established, HandshakeError>, rt::Elapsed>,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    let failed = match result {
        Ok(Ok(established)) => {
            return Ok(SecureConnection::new(
                reader,
                writer,
                endpoints,
                credential.identity(),
                established,
                config,
            ));
        }
        Ok(Err(error)) => error,
        Err(rt::Elapsed(after)) => HandshakeError::Timeout { after },
    };
    let _ = rt::timeout(SHUTDOWN_TIME, writer.shutdown()).await;
    Err(failed)
}
