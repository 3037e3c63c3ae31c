//! Conversion of upstream's envelopes to bytes and back, without access to upstream's codec.
//!
//! Since chitchat 0.12 only the codec of deltas is public. But upstream's public `UdpSocket` encodes
//! what it sends and decodes what it receives. A digest is therefore sent through a pair of sockets
//! on loopback, one of which is upstream's, and the rest of the message is encoded here. If upstream
//! makes `ChitchatEnvelope::serialize` and `deserialize` public, those two calls replace this file.
//!
//! A digest of version 0 that is longer than a datagram is sent through the pair in version 1, which
//! takes a quarter to a third of the bytes, and is converted here.
//!
//! Invariants:
//!
//! - One datagram is on its way at a time. A message to decode is followed by a marker, which
//!   distinguishes a message that upstream ignores from one that is late.
//! - A pair that was left in the middle of an exchange (a cancelled future, a timeout) is not used
//!   again.
//! - Datagrams from other processes are ignored.
//! - Messages of peers pass our own decoder first, which refuses those that crash upstream's engine.

#[cfg(test)]
mod tests;

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

use super::error::EnvelopeError;
use crate::message::{
    ChitchatMessage, Delta, Digest, EncodeError, HEADER_LEN, MAX_DATAGRAM_LEN, Message as _,
    ProtocolVersion, is_harmless_key,
};
use crate::rt;

/// The time within which a datagram on loopback must arrive. It takes microseconds, unless it has
/// been lost.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Encoded length of an empty cluster id, in bytes.
const NO_CLUSTER_LEN: usize = 2;

/// Digests of version 0 that are at least this long, in bytes, count as long.
///
/// The digest after a long one is expected not to fit into a datagram and is sent through the pair
/// in version 1, since upstream takes the envelope even if sending it fails. A message is lost only
/// if a cluster grows by more than the remaining room, about 300 members, between two messages.
const LONG_DIGEST: usize = 48 << 10;

/// Encodes and decodes envelopes.
pub(super) struct Codec {
    /// Taken out while it is in use, so that a cancelled exchange loses it.
    pair: Option<Pair>,
    buffer: Box<[u8]>,
    /// Whether the last digest of version 0 was long.
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

    /// Encodes `envelope`. If the future is dropped, the envelope is lost, but the next call is not
    /// affected.
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

    /// Decodes `bytes`. Cancel-safe: a dropped future does not affect the next call.
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

    /// Returns upstream's form of a Syn that contains only `digest`.
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

    /// Encodes a Syn, in version 1 first if it is expected to be long.
    async fn encoded(&mut self, mut envelope: ChitchatEnvelope) -> Result<Bytes, EnvelopeError> {
        let version = envelope.version;
        if version == Version::V0 && self.has_long_digests {
            envelope.version = Version::V1;
            let bytes = in_version_0(self.encoded_by_pair(envelope).await?)?;
            self.has_long_digests = bytes.len() >= LONG_DIGEST;
            return Ok(bytes);
        }
        let encoded = self.encoded_by_pair(envelope).await;
        let encoded = encoded.map(Bytes::copy_from_slice);
        if version == Version::V0 {
            self.has_long_digests = match &encoded {
                Ok(bytes) => bytes.len() >= LONG_DIGEST,
                Err(error) => matches!(error, EnvelopeError::DigestTooLong { .. }),
            };
        }
        encoded
    }

    async fn encoded_by_pair(
        &mut self,
        envelope: ChitchatEnvelope,
    ) -> Result<&[u8], EnvelopeError> {
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

/// Upstream's socket, and a plain one that exchanges datagrams with it.
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
        // From now on the system discards datagrams from other sockets.
        plain.connect(upstream_addr).await?;
        let plain_addr = plain.local_addr()?;
        Ok(Self {
            upstream,
            upstream_addr,
            plain,
            plain_addr,
        })
    }

    /// Encodes `envelope` into `buffer` and returns the number of bytes.
    async fn encode(
        &mut self,
        envelope: ChitchatEnvelope,
        buffer: &mut [u8],
    ) -> Result<usize, EnvelopeError> {
        let sent = self.upstream.send(self.plain_addr, envelope).await;
        sent.map_err(|error| match error.downcast_ref::<io::Error>() {
            // Nothing was sent, so the pair can be used again.
            Some(io) if is_too_long(io) => digest_too_long(),
            _ => EnvelopeError::Loopback(error),
        })?;
        in_time(async {
            loop {
                // A datagram from another process may have arrived before `connect`.
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
            _ => Err(EnvelopeError::Loopback(anyhow!("unexpected datagram"))),
        }
    }

    async fn received(&mut self) -> Result<ChitchatEnvelope, EnvelopeError> {
        in_time(async {
            loop {
                let received = self.upstream.recv().await;
                let received = received.map_err(EnvelopeError::Loopback)?;
                // Any process of this machine can send to the socket.
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
    match rt::timeout(EXCHANGE_TIMEOUT, exchange).await {
        Ok(result) => result,
        Err(elapsed) => Err(EnvelopeError::Loopback(elapsed.into())),
    }
}

/// Decodes a part of a message. `T` is inferred from the place of the result in a message, since
/// upstream's type of a delta is not public.
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

/// Converts an encoded Syn of version 1 to version 0.
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

/// Returns whether `error` is `EMSGSIZE`, for which std has no name. The codes are those of Linux, of
/// macOS and the BSDs, and of Windows.
fn is_too_long(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(90 | 40 | 10_040))
}

/// Returns the encoded header of `message`.
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
