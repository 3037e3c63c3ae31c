//! What is carried: the [`Message`] trait, and chitchat's messages with their exact bytes.
//!
//! This module knows bytes and meanings, no queues, no network, no clock. Invariant: decoding
//! never trusts a length, never allocates more than its input can justify (a block holds at most
//! [`MAX_BLOCK_LEN`], a stream of blocks [`MAX_STREAM_LEN`]), and leaves no byte unread.
//!
//! The bytes are those of upstream chitchat, protocol versions V0 and V1; its sources are where the
//! layout comes from. What it decodes is decoded here to the same meaning, but for three things:
//! bytes after a message's end (ignored there), a stream past [`MAX_STREAM_LEN`], and a max version
//! that sinks (it crashes upstream's engine) are refused. What is encoded here it decodes, and
//! where nothing is compressed the bytes are equal.
//!
//! An engine that must keep messages within a limit adds up [`HEADER_LEN`] or [`syn_overhead`],
//! [`Digest::encoded_len`], and the limit that it gives to a [`DeltaBuilder`].

use bytes::{Bytes, BytesMut};

use crate::net::Alpn;
use crate::rt::MaybeSend;

mod block_stream;
mod delta;
mod delta_builder;
mod digest;
mod envelope;
mod error;
mod field;
mod model;
mod reader;
mod zstd;

pub use block_stream::{MAX_BLOCK_LEN, MAX_STREAM_LEN};
pub use delta_builder::DeltaBuilder;
pub use envelope::{HEADER_LEN, MAX_DATAGRAM_LEN, begins_a_message, syn_overhead};
pub use error::{DecodeError, EncodeError};
pub use model::{
    ChitchatId, ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta,
    NodeDigest, ProtocolVersion, Version,
};

/// Something that a socket can carry.
pub trait Message: Sized + MaybeSend + 'static {
    /// The protocol that both ends of a connection have to name; see
    /// [`TransportLayerConfig::alpn`](crate::TransportLayerConfig).
    const ALPN: Alpn;

    /// Appends the message to `buffer`.
    ///
    /// # Errors
    ///
    /// The message breaks a limit of its format; `buffer` may then hold a part of it.
    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError>;

    /// The message as bytes; what already is bytes need not copy.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    fn into_bytes(self) -> Result<Bytes, EncodeError> {
        let mut buffer = BytesMut::new();
        self.encode(&mut buffer)?;
        Ok(buffer.freeze())
    }

    /// Reads one message from all of `bytes`, which come from the network and may be anything.
    ///
    /// # Errors
    ///
    /// `bytes` are no such message. The connection survives; the peer is at fault.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError>;
}

impl Message for Bytes {
    const ALPN: Alpn = Alpn::from_static(b"gossip-transport/bytes/1");

    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        buffer.extend_from_slice(self);
        Ok(())
    }

    fn into_bytes(self) -> Result<Bytes, EncodeError> {
        Ok(self)
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Ok(bytes)
    }
}

impl Message for ChitchatMessage {
    const ALPN: Alpn = Alpn::from_static(b"chitchat");

    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        envelope::write(buffer, self)
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        envelope::read(&bytes)
    }
}

/// Whether an upstream peer survives `key`: it crashes on a first character that is not ASCII.
pub(crate) fn is_harmless_key(key: &str) -> bool {
    key.bytes().next().is_none_or(|first| first.is_ascii())
}
