//! Upstream's envelopes to bytes and back, from outside.
//!
//! Since 0.12 chitchat keeps its codec to itself, but for deltas. Its public `UdpSocket` encodes
//! what it sends and decodes what it receives: so a digest crosses a pair of sockets on loopback,
//! one of them upstream's, in lockstep, and everything else is put around it here. Once upstream
//! opens `ChitchatEnvelope::serialize` and `deserialize`, this file is those two calls.
//!
//! A digest of version 0 that is longer than a datagram crosses as version 1, a quarter to a third
//! of the bytes, and is translated here.
//!
//! Invariants: one datagram is on its way at a time, and behind what is to be decoded a marker, so
//! that "this was no envelope" is told apart from silence; a pair that was left in the middle of
//! an exchange (a cancelled future, a timeout) is not used again; datagrams of others are ignored;
//! what comes from peers has passed our own decoder first, which refuses what brings upstream's
//! engine down.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::chitchat_013::transport::{Socket as _, UdpSocket as UpstreamSocket};
use ::chitchat_013::{
    ChitchatEnvelope, ChitchatMessage as Upstream, Deserializable, ProtocolVersion as Version,
    Serializable as _,
};
use anyhow::anyhow;
use bytes::Bytes;
use tokio::net::UdpSocket;

use crate::message::{
    ChitchatMessage, DecodeError, Delta, Digest, EncodeError, HEADER_LEN, MAX_DATAGRAM_LEN,
    Message as _, ProtocolVersion, is_harmless_key,
};
use crate::rt;

/// A datagram on loopback takes microseconds, or it has been lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The cluster id of no bytes behind a digest: its length.
const NO_CLUSTER_LEN: usize = 2;

/// From here on the next digest of version 0 is expected not to fit a datagram, and crosses as
/// version 1: what upstream has taken to send is gone, whether it fits or not. A cluster that grows by
/// more than the rest between two messages, some 300 members, loses one.
const LONG_DIGEST: usize = 48 << 10;

/// Why an envelope was not encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not a message of chitchat's, or one that would bring an upstream node down.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A key that does not begin with an ASCII character: upstream's listeners panic at it.
    #[error("the key {key:?} of {node:?} would bring an upstream node down")]
    HarmfulKey {
        /// Whose key.
        node: String,
        /// The key.
        key: String,
    },
    /// Upstream's decoder refuses what ours has taken.
    #[error("upstream's decoder refuses {what}")]
    Refused {
        /// The part of the message.
        what: &'static str,
    },
    /// A digest that is longer than a datagram even in version 1, which upstream's codec is bound to.
    /// In version 0 a first one that is too long is refused likewise, and those after it are not.
    #[error("a digest of more than {max} bytes")]
    DigestTooLong {
        /// The longest, in bytes.
        max: usize,
    },
    /// The sockets on loopback do not work.
    #[error("the codec's sockets on loopback: {0:#}")]
    Loopback(anyhow::Error),
}

impl From<io::Error> for EnvelopeError {
    fn from(error: io::Error) -> Self {
        Self::Loopback(error.into())
    }
}

/// Encodes and decodes.
pub(super) struct Codec {
    /// Taken for as long as it is in use: what is cancelled does not come back.
    pair: Option<Pair>,
    buffer: Box<[u8]>,
    /// The last digest of version 0 was long.
    has_long_digests: bool,
}

impl Codec {
    pub(super) async fn open() -> Result<Self, EnvelopeError> {
        Ok(Self {
            pair: Some(Pair::open().await?),
            buffer: vec![0; MAX_DATAGRAM_LEN].into(),
            has_long_digests: false,
        })
    }

    /// The bytes of `envelope`. Dropped early, it does not affect the next call.
    pub(super) async fn encode(
        &mut self,
        envelope: ChitchatEnvelope,
    ) -> Result<Bytes, EnvelopeError> {
        let ChitchatEnvelope { version, message } = envelope;
        match message {
            Upstream::Syn { .. } => self.encoded(ChitchatEnvelope { version, message }).await,
            Upstream::SynAck { digest, delta } => {
                let cluster_id = String::new();
                let message = Upstream::Syn { cluster_id, digest };
                let syn = self.encoded(ChitchatEnvelope { version, message }).await?;
                let end = syn.len().saturating_sub(NO_CLUSTER_LEN);
                let digest = syn.get(HEADER_LEN..end).unwrap_or_default();
                let mut bytes = header(&empty_syn_ack(ours(version)))?;
                bytes.extend_from_slice(digest);
                delta.serialize(&mut bytes);
                Ok(bytes.into())
            }
            Upstream::Ack { delta } => {
                let mut bytes = header(&ack(ours(version), Delta::default()))?;
                delta.serialize(&mut bytes);
                Ok(bytes.into())
            }
            Upstream::BadCluster => {
                let version = ours(version);
                Ok(header(&ChitchatMessage::BadCluster { version })?.into())
            }
        }
    }

    /// The envelope of `bytes`. Dropped early, it does not affect the next call.
    pub(super) async fn decode(
        &mut self,
        bytes: &Bytes,
    ) -> Result<ChitchatEnvelope, EnvelopeError> {
        let message = ChitchatMessage::decode(bytes.clone())?;
        refuse_harmful_keys(&message)?;
        let version = theirs(message.version());
        let fits = bytes.len() <= MAX_DATAGRAM_LEN;
        let message = match message {
            ChitchatMessage::BadCluster { .. } => Upstream::BadCluster,
            ChitchatMessage::Ack { .. } => Upstream::Ack {
                delta: part(bytes.get(HEADER_LEN..), "a delta")?,
            },
            ChitchatMessage::Syn { .. } | ChitchatMessage::SynAck { .. } if fits => {
                return self.decoded(bytes).await;
            }
            ChitchatMessage::Syn {
                version,
                cluster_id,
                digest,
            } => match self.decoded_digest(version, digest).await? {
                Upstream::Syn { digest, .. } => Upstream::Syn { cluster_id, digest },
                other => other,
            },
            ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            } => {
                let delta = encoded_by_us(&ack(version, delta))?;
                let delta = part(delta.get(HEADER_LEN..), "a delta")?;
                match self.decoded_digest(version, digest).await? {
                    Upstream::Syn { digest, .. } => Upstream::SynAck { digest, delta },
                    other => other,
                }
            }
        };
        Ok(ChitchatEnvelope { version, message })
    }

    /// A Syn of `digest` alone.
    async fn decoded_digest(
        &mut self,
        version: ProtocolVersion,
        digest: Digest,
    ) -> Result<Upstream, EnvelopeError> {
        let cluster_id = String::new();
        let mut message = ChitchatMessage::Syn {
            version,
            cluster_id,
            digest,
        };
        let mut syn = encoded_by_us(&message)?;
        if syn.len() > MAX_DATAGRAM_LEN {
            set_version(&mut message, ProtocolVersion::V1);
            syn = encoded_by_us(&message)?;
        }
        if syn.len() > MAX_DATAGRAM_LEN {
            return Err(digest_too_long());
        }
        Ok(self.decoded(&syn).await?.message)
    }

    /// The bytes of a Syn.
    async fn encoded(&mut self, mut envelope: ChitchatEnvelope) -> Result<Bytes, EnvelopeError> {
        let version = envelope.version;
        if version == Version::V0 && self.has_long_digests {
            envelope.version = Version::V1;
            let bytes = in_version_0(self.crossed(envelope).await?)?;
            self.has_long_digests = bytes.len() >= LONG_DIGEST;
            return Ok(bytes);
        }
        let crossed = self.crossed(envelope).await.map(Bytes::copy_from_slice);
        if version == Version::V0 {
            self.has_long_digests = match &crossed {
                Ok(bytes) => bytes.len() >= LONG_DIGEST,
                Err(error) => matches!(error, EnvelopeError::DigestTooLong { .. }),
            };
        }
        crossed
    }

    async fn crossed(&mut self, envelope: ChitchatEnvelope) -> Result<&[u8], EnvelopeError> {
        let mut pair = self.take_pair().await?;
        let len = pair.encode(envelope, &mut self.buffer).await;
        if !matches!(len, Err(EnvelopeError::Loopback(_))) {
            self.pair = Some(pair);
        }
        Ok(self.buffer.get(..len?).unwrap_or_default())
    }

    async fn decoded(&mut self, bytes: &[u8]) -> Result<ChitchatEnvelope, EnvelopeError> {
        let mut pair = self.take_pair().await?;
        let envelope = pair.decode(bytes).await;
        if !matches!(envelope, Err(EnvelopeError::Loopback(_))) {
            self.pair = Some(pair);
        }
        envelope
    }

    async fn take_pair(&mut self) -> Result<Pair, EnvelopeError> {
        match self.pair.take() {
            Some(pair) => Ok(pair),
            None => Pair::open().await,
        }
    }
}

/// Upstream's socket, and the one that it talks to.
struct Pair {
    upstream: UpstreamSocket,
    upstream_addr: SocketAddr,
    plain: UdpSocket,
    plain_addr: SocketAddr,
}

impl Pair {
    async fn open() -> Result<Self, EnvelopeError> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let upstream = UpstreamSocket::open(loopback).await;
        let upstream = upstream.map_err(EnvelopeError::Loopback)?;
        let upstream_addr = upstream.local_addr().map_err(EnvelopeError::Loopback)?;
        let plain = UdpSocket::bind(loopback).await?;
        // The system keeps others' datagrams out from now on.
        plain.connect(upstream_addr).await?;
        let plain_addr = plain.local_addr()?;
        Ok(Self {
            upstream,
            upstream_addr,
            plain,
            plain_addr,
        })
    }

    /// Puts the bytes of `envelope` into `buffer`, and gives their number.
    async fn encode(
        &mut self,
        envelope: ChitchatEnvelope,
        buffer: &mut [u8],
    ) -> Result<usize, EnvelopeError> {
        let sent = self.upstream.send(self.plain_addr, envelope).await;
        sent.map_err(|error| match error.downcast_ref::<io::Error>() {
            // Nothing has left, so the pair is in step.
            Some(io) if is_too_long(io) => digest_too_long(),
            _ => EnvelopeError::Loopback(error),
        })?;
        in_time(async {
            loop {
                // One that came before the pair was joined is nobody's we know.
                let (len, from) = self.plain.recv_from(buffer).await?;
                if from == self.upstream_addr {
                    return Ok(len);
                }
            }
        })
        .await
    }

    async fn decode(&mut self, bytes: &[u8]) -> Result<ChitchatEnvelope, EnvelopeError> {
        let marker = ChitchatMessage::BadCluster {
            version: ProtocolVersion::V0,
        };
        self.plain.send(bytes).await?;
        self.plain.send(&encoded_by_us(&marker)?).await?;
        let envelope = self.received().await?;
        if matches!(envelope.message, Upstream::BadCluster) {
            let what = "a digest";
            return Err(EnvelopeError::Refused { what });
        }
        match self.received().await?.message {
            Upstream::BadCluster => Ok(envelope),
            _ => Err(EnvelopeError::Loopback(anyhow!("out of step"))),
        }
    }

    async fn received(&mut self) -> Result<ChitchatEnvelope, EnvelopeError> {
        in_time(async {
            loop {
                let received = self.upstream.recv().await;
                let received = received.map_err(EnvelopeError::Loopback)?;
                // Any process of this machine can write to the socket.
                if received.from_addr == self.plain_addr {
                    return Ok(received.envelope);
                }
            }
        })
        .await
    }
}

async fn in_time<T>(
    exchange: impl Future<Output = Result<T, EnvelopeError>>,
) -> Result<T, EnvelopeError> {
    match rt::timeout(PATIENCE, exchange).await {
        Ok(result) => result,
        Err(elapsed) => Err(EnvelopeError::Loopback(elapsed.into())),
    }
}

/// Upstream has no name for the type of a delta, but for its place in a message.
fn part<T: Deserializable>(bytes: Option<&[u8]>, what: &'static str) -> Result<T, EnvelopeError> {
    let mut bytes = bytes.unwrap_or_default();
    T::deserialize(&mut bytes).map_err(|_| EnvelopeError::Refused { what })
}

fn refuse_harmful_keys(message: &ChitchatMessage) -> Result<(), EnvelopeError> {
    let (ChitchatMessage::SynAck { delta, .. } | ChitchatMessage::Ack { delta, .. }) = message
    else {
        return Ok(());
    };
    for node in &delta.node_deltas {
        let mut keys = node.key_values.iter().map(|mutation| &mutation.key);
        if let Some(key) = keys.find(|key| !is_harmless_key(key)) {
            return Err(EnvelopeError::HarmfulKey {
                node: node.chitchat_id.node_id.to_string(),
                key: key.clone(),
            });
        }
    }
    Ok(())
}

/// A Syn of version 1 in version 0.
fn in_version_0(syn: &[u8]) -> Result<Bytes, EnvelopeError> {
    let mut message = ChitchatMessage::decode(Bytes::copy_from_slice(syn))?;
    set_version(&mut message, ProtocolVersion::V0);
    encoded_by_us(&message)
}

fn set_version(message: &mut ChitchatMessage, to: ProtocolVersion) {
    let (ChitchatMessage::Syn { version, .. }
    | ChitchatMessage::SynAck { version, .. }
    | ChitchatMessage::Ack { version, .. }
    | ChitchatMessage::BadCluster { version }) = message;
    *version = to;
}

fn digest_too_long() -> EnvelopeError {
    EnvelopeError::DigestTooLong {
        max: MAX_DATAGRAM_LEN - HEADER_LEN - NO_CLUSTER_LEN,
    }
}

/// `EMSGSIZE`, which std has no name for: of Linux, of macOS and the BSDs, of Windows.
fn is_too_long(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(90 | 40 | 10_040))
}

/// The header of `message`.
fn header(message: &ChitchatMessage) -> Result<Vec<u8>, EnvelopeError> {
    let mut bytes = encoded_by_us(message)?.to_vec();
    bytes.truncate(HEADER_LEN);
    Ok(bytes)
}

fn encoded_by_us(message: &ChitchatMessage) -> Result<Bytes, EnvelopeError> {
    let mut buffer = bytes::BytesMut::new();
    let encoded = message.encode(&mut buffer);
    encoded.map_err(|error: EncodeError| EnvelopeError::Loopback(error.into()))?;
    Ok(buffer.freeze())
}

fn empty_syn_ack(version: ProtocolVersion) -> ChitchatMessage {
    ChitchatMessage::SynAck {
        version,
        digest: Digest::default(),
        delta: Delta::default(),
    }
}

fn ack(version: ProtocolVersion, delta: Delta) -> ChitchatMessage {
    ChitchatMessage::Ack { version, delta }
}

fn ours(version: Version) -> ProtocolVersion {
    match version {
        Version::V0 => ProtocolVersion::V0,
        Version::V1 => ProtocolVersion::V1,
    }
}

fn theirs(version: ProtocolVersion) -> Version {
    match version {
        ProtocolVersion::V0 => Version::V0,
        ProtocolVersion::V1 => Version::V1,
    }
}

#[cfg(test)]
mod tests;
