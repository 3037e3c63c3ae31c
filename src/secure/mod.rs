//! Noise handshake and records over any stream of frames; no sockets inside.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::credential::NetCredential;
use crate::net::Alpn;
use crate::rt::MaybeSend;

mod connection;
mod error;

pub use connection::SecureConnection;
pub use error::{FrameError, HandshakeError};

/// The reading half of a byte carrier that keeps frame bounds.
pub trait FrameReader: MaybeSend + 'static {
    /// The next frame; `None` at the carrier's orderly end. Cancel-safe. A frame longer than
    /// [`MAX_FRAME_LEN`] is an error before memory is taken for it.
    fn read_frame(&mut self) -> impl Future<Output = io::Result<Option<FrameEvent>>> + MaybeSend;
}

/// What a carrier reads.
#[derive(Debug)]
pub enum FrameEvent {
    /// A whole frame.
    Frame(BytesMut),
    /// A sign of life without a frame: an answered ping.
    Activity,
}

/// The writing half of a byte carrier that keeps frame bounds.
pub trait FrameWriter: MaybeSend + 'static {
    /// Writes all of `frames` and flushes. What the carrier has taken over leaves `frames`.
    /// Cancel-safe: the next call goes on where this one was dropped.
    fn write_frames(
        &mut self,
        frames: &mut FrameBuffer,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend;

    /// Asks the peer's network stack for a sign of life, where the carrier has such a thing.
    fn ping(&mut self) -> impl Future<Output = io::Result<()>> + MaybeSend {
        async { Ok(()) }
    }

    /// Ends the stream in order.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> + MaybeSend;
}

/// The longest frame, in bytes: a Noise message's limit.
pub const MAX_FRAME_LEN: usize = 65_535;

/// Frames one behind the other, each after its length as a big-endian `u16`: just what TCP
/// carries, so that one write takes them all; a WebSocket takes them off one by one.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: BytesMut,
}

impl FrameBuffer {
    /// Appends a frame whose bytes are known.
    pub fn push(&mut self, _frame: &[u8]) {
        todo!()
    }
    /// The bytes as TCP carries them; advance as they are written.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
    /// Takes the first frame off, without its length.
    pub fn pop(&mut self) -> Option<Bytes> {
        todo!()
    }
    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What encrypts; the dialler chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-GCM, between native nodes. A browser neither offers nor accepts it.
    AesGcm,
    /// ChaCha20-Poly1305, where a browser takes part.
    ChaChaPoly,
}

/// Limits of a secure channel.
#[derive(Debug, Clone)]
pub struct SecureConfig {
    /// The longest message that is sent or accepted, in bytes. Default 16 MiB.
    pub max_message_len: usize,
    /// How long a handshake may take in all. Default 10 s.
    pub handshake_timeout: Duration,
    /// Silence after which a peer counts as gone. Default 90 s: a hidden tab's timers may fire
    /// only once a minute.
    pub silence_timeout: Duration,
    /// Records under one key before the next key is derived. Default 2^20, far below AES-GCM's
    /// bound.
    pub rekey_after_records: u64,
}

impl Default for SecureConfig {
    fn default() -> Self {
        Self {
            max_message_len: 16 << 20,
            handshake_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(90),
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
/// # Errors
///
/// See [`HandshakeError`]; the carrier is closed then.
pub async fn dial<R: FrameReader, W: FrameWriter>(
    _reader: R,
    _writer: W,
    _endpoints: Endpoints,
    _suite: Suite,
    _alpn_preferred: &[Alpn],
    _credential: &NetCredential,
    _config: &SecureConfig,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    todo!()
}

/// Runs the acceptor's side of the handshake.
///
/// # Errors
///
/// See [`HandshakeError`]; the carrier is closed then, without a word to the stranger.
pub async fn accept<R: FrameReader, W: FrameWriter>(
    _reader: R,
    _writer: W,
    _endpoints: Endpoints,
    _alpn_supported: &[Alpn],
    _credential: &NetCredential,
    _config: &SecureConfig,
) -> Result<SecureConnection<R, W>, HandshakeError> {
    todo!()
}

/// The first two bytes of every stream of frames (the preface's length), and what follows: what
/// tells our protocol from HTTP and TLS on the same port.
pub const PREFACE_START: [u8; 5] = [0, 5, 0xA7, b'G', b'T'];
