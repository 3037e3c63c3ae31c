//! The errors of decoding and encoding a message.
//!
//! None of them affects the connection that the message came over. Each names the part of the
//! message that is wrong, with its numbers.

use std::fmt;

/// An error of decoding: the bytes are not a message.
///
/// The sender is at fault, and its connection stays open. A retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("truncated inside {field}: {missing} bytes are missing")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
        /// The number of further bytes that the field needs at least.
        missing: usize,
    },
    /// Bytes follow the end of the message.
    #[error("{len} bytes follow the end of the message")]
    TrailingBytes {
        /// The number of these bytes.
        len: usize,
    },
    /// The bytes do not start with the magic number of a chitchat message.
    #[error("the message starts with {got:#06x}, but a chitchat message starts with 0xb053")]
    WrongMagic {
        /// The first two bytes, little-endian.
        got: u16,
    },
    /// The protocol version is unknown, probably because the sender is newer.
    #[error("protocol version {got} is unknown")]
    UnknownVersion {
        /// The code of the version.
        got: u8,
    },
    /// The message is none of Syn, SynAck, Ack and BadCluster.
    #[error("message type {got} is unknown")]
    UnknownType {
        /// The code of the type.
        got: u8,
    },
    /// A block is neither compressed nor plain, nor is it the end of the stream.
    #[error("block tag {got} is unknown")]
    UnknownBlockTag {
        /// The tag.
        got: u8,
    },
    /// An operation of a delta is none of Node, KeyValue and SetMaxVersion.
    #[error("operation tag {got} is unknown")]
    UnknownOperation {
        /// The tag.
        got: u8,
    },
    /// The deletion status of a key is none of those of [`DeletionStatus`](super::DeletionStatus).
    #[error("deletion status {got} is unknown")]
    UnknownStatus {
        /// The code of the status.
        got: u8,
    },
    /// An address is neither an IPv4 nor an IPv6 address.
    #[error("address family {got} is unknown")]
    UnknownAddressFamily {
        /// The code of the family.
        got: u8,
    },
    /// A string is not valid UTF-8.
    #[error("{field} is not UTF-8 after its first {valid_up_to} bytes")]
    NotUtf8 {
        /// The field that contains the string.
        field: &'static str,
        /// The number of bytes at its start that are valid.
        valid_up_to: usize,
    },
    /// A compressed block is not valid zstd.
    #[error("block {block} ({len} bytes) is not valid zstd: {reason}")]
    CorruptBlock {
        /// The index of the block, counted from zero.
        block: usize,
        /// The compressed length of the block, in bytes.
        len: usize,
        /// The error of the decompressor.
        reason: String,
    },
    /// A compressed block expands to more than a block may hold.
    #[error("block {block} ({len} bytes) expands to more than {max} bytes")]
    BlockExpandsTooFar {
        /// The index of the block, counted from zero.
        block: usize,
        /// The compressed length of the block, in bytes.
        len: usize,
        /// The limit, [`MAX_BLOCK_LEN`](super::MAX_BLOCK_LEN).
        max: usize,
    },
    /// The blocks together expand to more than a stream may hold.
    #[error("the block stream expands to more than {max} bytes, in block {block}")]
    StreamExpandsTooFar {
        /// The index of the block that exceeds the limit, counted from zero.
        block: usize,
        /// The limit, [`MAX_STREAM_LEN`](super::MAX_STREAM_LEN).
        max: usize,
    },
    /// An operation comes before the first Node operation, so its node is unknown.
    #[error("operation {operation} comes before any node")]
    OperationBeforeNode {
        /// The tag of the operation.
        operation: u8,
    },
    /// A delta contains the same node twice.
    #[error("node delta {index} is for the same node as an earlier one")]
    DuplicateNode {
        /// The index of the second node delta, counted from zero.
        index: usize,
    },
    /// The versions of a node's keys do not rise.
    #[error("a key of version {version} follows version {after}")]
    VersionDoesNotRise {
        /// The version of the key.
        version: u64,
        /// The version before it, or zero if it is the first key.
        after: u64,
    },
    /// A node's max version is below a version that comes before it in the same delta.
    #[error("max version {max_version} follows version {after}")]
    MaxVersionTooLow {
        /// The max version.
        max_version: u64,
        /// The version before it.
        after: u64,
    },
    /// The bytes break another rule of a message type of your own. See [`DecodeError::custom`].
    #[error("{reason}")]
    Custom {
        /// What is wrong.
        reason: String,
    },
}

impl DecodeError {
    /// Returns an error of a message type of your own. `reason` says what is wrong, as in "the room must
    /// not be 0"; the error is shown as this text.
    pub fn custom(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self::Custom { reason }
    }
}

/// An error of encoding: the format cannot express the message. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field is longer than the format allows.
    #[error("{field} has {len} bytes, but the format allows at most {max}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The length of the field, in bytes.
        len: usize,
        /// The limit of the format, in bytes.
        max: usize,
    },
    /// A list has more entries than the format allows.
    #[error("{field} has {count} entries, but the format allows at most {max}")]
    TooMany {
        /// The list.
        field: &'static str,
        /// The number of entries.
        count: usize,
        /// The limit of the format.
        max: usize,
    },
    /// A delta contains the same node twice. A receiver would refuse it.
    #[error("node delta {index} is for the same node as an earlier one")]
    DuplicateNode {
        /// The index of the second node delta, counted from zero.
        index: usize,
    },
    /// The versions of a node's keys do not rise. A receiver would refuse the delta.
    #[error("a key of version {version} follows version {after}")]
    VersionDoesNotRise {
        /// The version of the key.
        version: u64,
        /// The version before it, or zero if it is the first key.
        after: u64,
    },
    /// A node's max version is below the version of one of its keys. It would crash a receiver.
    #[error("max version {max_version} is below a key of version {after}")]
    MaxVersionTooLow {
        /// The max version of the node delta.
        max_version: u64,
        /// The version of its last key.
        after: u64,
    },
    /// The format of a message type of your own cannot express the message. See
    /// [`EncodeError::custom`].
    #[error("{reason}")]
    Custom {
        /// What is wrong.
        reason: String,
    },
}

impl EncodeError {
    /// Returns an error of a message type of your own. `reason` says what is wrong, as in "the room must
    /// not be 0"; the error is shown as this text.
    pub fn custom(reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        Self::Custom { reason }
    }
}

/// An error of decompressing one block. `block_stream` converts it to a [`DecodeError`].
#[derive(Debug)]
pub(super) enum DecompressError {
    /// The block would expand to more than it is allowed to.
    TooLong,
    /// The block is not valid zstd; the text is the error of the decompressor.
    Corrupt(String),
}
