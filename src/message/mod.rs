//! Messages: the [`Message`] trait, and chitchat's messages with their exact bytes.
//!
//! This module converts between values and bytes. It has no queues, no network and no clock.
//! Invariant: decoding never trusts a length, never allocates more than its input can justify (a
//! block holds at most [`MAX_BLOCK_LEN`], a stream of blocks [`MAX_STREAM_LEN`]), and leaves no byte
//! unread.
//!
//! The format is that of upstream chitchat, protocol versions V0 and V1; its source code defines the
//! layout. Upstream decodes everything that is encoded here, and uncompressed bytes are identical.
//! Everything that upstream accepts is decoded to the same meaning, with three exceptions, which are
//! refused here: bytes after the end of a message (upstream ignores them), a stream longer than
//! [`MAX_STREAM_LEN`], and a max version below an earlier version (it crashes upstream's engine).
//!
//! To keep messages within a limit, an engine adds up [`HEADER_LEN`] or [`syn_overhead`],
//! [`Digest::encoded_len`], and the limit that it passes to a [`DeltaBuilder`].

mod block_stream;
mod delta;
mod delta_builder;
mod digest;
mod envelope;
mod error;
mod field;
mod id;
mod memory;
mod model;
mod node_digests;
mod node_id;
mod reader;
mod zstd;

use bytes::{Bytes, BytesMut};

use crate::net::Alpn;
use crate::rt::MaybeSend;

/// For the gossip engine, which uses nothing of the network.
pub(crate) use crate::net::canonical;
pub use block_stream::{MAX_BLOCK_LEN, MAX_STREAM_LEN, expanded_len_bound};
pub use delta_builder::DeltaBuilder;
pub use envelope::{HEADER_LEN, MAX_DATAGRAM_LEN, begins_a_message, syn_overhead};
pub use error::{DecodeError, EncodeError};
pub use id::ChitchatId;
pub use model::{
    ChitchatMessage, DeletionStatus, Delta, Digest, KeyValueMutation, NodeDelta, ProtocolVersion,
};
pub use node_digests::{NodeDigest, NodeDigests, Version};
pub use node_id::NodeId;

/// The room for an encoded message at first, in bytes.
const USUAL_LEN: usize = 128;

/// A message that a [`TransportLayerSocket`](crate::TransportLayerSocket) can carry.
pub trait Message: Sized + MaybeSend + 'static {
    /// The application protocol of this type. Both ends of a connection must agree on it, unless
    /// [`TransportLayerConfig::alpn`](crate::TransportLayerConfig) names others.
    const ALPN: Alpn;

    /// Returns the application protocols that a socket of this type offers and accepts by default, in
    /// order of preference.
    fn alpns() -> Vec<Alpn> {
        vec![Self::ALPN]
    }

    /// Appends the message to `buffer`.
    ///
    /// # Errors
    ///
    /// Fails if the message breaks a limit of its format. `buffer` may then contain a part of it.
    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError>;

    /// Returns the encoded message. A type that consists of bytes can return them without a copy.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`encode`](Self::encode).
    fn into_bytes(self) -> Result<Bytes, EncodeError> {
        let mut buffer = BytesMut::with_capacity(USUAL_LEN);
        self.encode(&mut buffer)?;
        Ok(buffer.freeze())
    }

    /// Returns the approximate memory that the message takes, in bytes, for a type that may take more than
    /// its encoded bytes. The queue of received messages counts it with that then. Default 0.
    fn memory(&self) -> usize {
        0
    }

    /// Returns an upper bound of the bytes at which decoding looks, for a type that may take long to decode:
    /// whose messages are compressed, for example. It must be cheap. The peers of a socket take turns to have
    /// such messages decoded, so that none of them keeps a core busy. Default 0, for messages that are cheap.
    fn decoding_work(bytes: &[u8]) -> usize {
        let _ = bytes;
        0
    }

    /// Decodes one message, which must fill all of `bytes`. They come from the network and may be
    /// anything.
    ///
    /// # Errors
    ///
    /// Fails if `bytes` are not such a message. The peer is at fault; its connection stays open.
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

    fn alpns() -> Vec<Alpn> {
        vec![ALPN_V1, Self::ALPN]
    }

    fn encode(&self, buffer: &mut BytesMut) -> Result<(), EncodeError> {
        envelope::write(buffer, self)
    }

    fn memory(&self) -> usize {
        memory::of(self)
    }

    fn decoding_work(bytes: &[u8]) -> usize {
        let plain = match bytes.len() {
            0..=MAX_DATAGRAM_LEN => 0,
            len => len,
        };
        expanded_len_bound(bytes).saturating_add(plain)
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        envelope::read(&bytes)
    }
}

/// The application protocol by which two sockets tell each other that both read version 1 of chitchat's
/// format. Peers that may not, such as those that run the published crate's engine, agree on
/// [`ChitchatMessage::ALPN`].
pub const ALPN_V1: Alpn = Alpn::from_static(b"chitchat/v1");

/// Returns whether an upstream node can receive `key`. It crashes if the first character of a key
/// is not ASCII.
pub(crate) fn is_harmless_key(key: &str) -> bool {
    key.bytes().next().is_none_or(|first| first.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_offers_its_own_protocol_and_chitchat_its_later_version_first() {
        assert_eq!(Bytes::alpns(), [Bytes::ALPN]);
        let chitchat = ChitchatMessage::alpns();
        assert_eq!(chitchat, [ALPN_V1, ChitchatMessage::ALPN]);
    }

    #[test]
    fn bytes_are_encoded_and_decoded_as_they_are() {
        let message = Bytes::from_static(b"message");
        let mut buffer = BytesMut::from(&b"before "[..]);
        message.encode(&mut buffer).unwrap();
        assert_eq!(buffer, "before message");
        assert_eq!(message.clone().into_bytes().unwrap(), message);
        assert_eq!(Bytes::decode(message.clone()).unwrap(), message);
    }

    #[test]
    fn what_is_decompressed_is_work_and_so_is_a_message_that_no_datagram_holds() {
        assert_eq!(Bytes::decoding_work(&[7; 100_000]), 0);
        assert_eq!(Bytes::from_static(b"message").memory(), 0);
        let mut builder = DeltaBuilder::new(MAX_DATAGRAM_LEN);
        let id = ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into());
        let value = "v".repeat(1000);
        assert!(builder.try_add_node(&id, 0, 0));
        assert!(builder.try_add_key_value("key", &value, 1, DeletionStatus::Set));
        let message = ChitchatMessage::Ack {
            version: ProtocolVersion::V0,
            delta: builder.finish(),
        };
        let bytes = message.into_bytes().unwrap();
        let contents = delta::node_len(&id) + delta::key_value_len("key", &value);
        assert!(bytes.len() < contents, "it is compressed");
        for (zeros, work) in [
            (0, contents),
            (MAX_DATAGRAM_LEN - bytes.len(), contents),
            (MAX_DATAGRAM_LEN, contents + bytes.len() + MAX_DATAGRAM_LEN),
        ] {
            let longer = [&bytes[..], &vec![0; zeros]].concat();
            assert_eq!(ChitchatMessage::decoding_work(&longer), work, "{zeros}");
        }
    }

    #[test]
    fn only_a_key_whose_first_character_is_not_ascii_harms_an_upstream_node() {
        for key in ["", "a", "a\u{e9}"] {
            assert!(is_harmless_key(key), "{key}");
        }
        for key in ["\u{e9}", "\u{e9}a"] {
            assert!(!is_harmless_key(key), "{key}");
        }
    }
}
