//! What can be wrong with a message.

/// Bytes that are no message. The sender is at fault, the connection survives, a retry does not
/// help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("truncated inside {field}: {missing} bytes are missing")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// How many bytes more it needs, at least.
        missing: usize,
    },
    /// The message ends before its bytes do.
    #[error("{len} bytes follow the end of the message")]
    TrailingBytes {
        /// How many.
        len: usize,
    },
    /// It does not begin as a chitchat message does.
    #[error("begins with {got:#06x}, a chitchat message begins with 0xb053")]
    WrongMagic {
        /// The first two bytes, little-endian.
        got: u16,
    },
    /// A protocol version from the future.
    #[error("protocol version {got} is unknown")]
    UnknownVersion {
        /// Its code.
        got: u8,
    },
    /// None of Syn, SynAck, Ack, BadCluster.
    #[error("message type {got} is unknown")]
    UnknownType {
        /// Its code.
        got: u8,
    },
    /// A block that is neither compressed, plain nor the end.
    #[error("block tag {got} is unknown")]
    UnknownBlockTag {
        /// The tag.
        got: u8,
    },
    /// An operation of a delta that is neither Node, KeyValue nor SetMaxVersion.
    #[error("operation tag {got} is unknown")]
    UnknownOperation {
        /// The tag.
        got: u8,
    },
    /// A key that is neither set, deleted nor to be deleted.
    #[error("deletion status {got} is unknown")]
    UnknownStatus {
        /// Its code.
        got: u8,
    },
    /// An address that is neither IPv4 nor IPv6.
    #[error("address family {got} is unknown")]
    UnknownAddressFamily {
        /// Its code.
        got: u8,
    },
    /// A string that is not UTF-8.
    #[error("{field} is not UTF-8 after its first {valid_up_to} bytes")]
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// How many of its bytes are good.
        valid_up_to: usize,
    },
    /// A compressed block that zstd cannot read.
    #[error("block {block} ({len} bytes) is not valid zstd: {reason}")]
    CorruptBlock {
        /// Counted from zero.
        block: usize,
        /// Its compressed length.
        len: usize,
        /// What zstd says.
        reason: String,
    },
    /// A compressed block that expands past what a block may hold.
    #[error("block {block} ({len} bytes) expands past {max} bytes")]
    BlockExpandsTooFar {
        /// Counted from zero.
        block: usize,
        /// Its compressed length.
        len: usize,
        /// [`MAX_BLOCK_LEN`](super::MAX_BLOCK_LEN).
        max: usize,
    },
    /// The blocks together expand past what a stream may hold.
    #[error("the block stream expands past {max} bytes, in block {block}")]
    StreamExpandsTooFar {
        /// Counted from zero.
        block: usize,
        /// [`MAX_STREAM_LEN`](super::MAX_STREAM_LEN).
        max: usize,
    },
    /// A change of a node before it is said which node.
    #[error("operation {operation} comes before any node")]
    OperationBeforeNode {
        /// The operation's tag.
        operation: u8,
    },
    /// A delta has the same node twice.
    #[error("node delta {index} is about a node that an earlier one is about")]
    DuplicateNode {
        /// The second one's place, counted from zero.
        index: usize,
    },
    /// The versions of a node's keys do not rise.
    #[error("a key of version {version} follows version {after}")]
    VersionDoesNotRise {
        /// The key's version.
        version: u64,
        /// The version before it; zero before the first.
        after: u64,
    },
    /// A node's state would end below what the same delta puts into it.
    #[error("max version {max_version} follows version {after}")]
    MaxVersionTooLow {
        /// What the delta sets it to.
        max_version: u64,
        /// The version before it.
        after: u64,
    },
}

/// A message that its format cannot express. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field is longer than its length prefix can say.
    #[error("{field} has {len} bytes, the format takes {max} at most")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The format's limit.
        max: usize,
    },
    /// A list has more entries than its count can say.
    #[error("{field} has {count} entries, the format takes {max} at most")]
    TooMany {
        /// The list.
        field: &'static str,
        /// Its entries.
        count: usize,
        /// The format's limit.
        max: usize,
    },
    /// A delta has the same node twice; a receiver refuses it.
    #[error("node delta {index} is about a node that an earlier one is about")]
    DuplicateNode {
        /// The second one's place, counted from zero.
        index: usize,
    },
    /// The versions of a node's keys do not rise; a receiver refuses the delta.
    #[error("a key of version {version} follows version {after}")]
    VersionDoesNotRise {
        /// The key's version.
        version: u64,
        /// The version before it; zero before the first.
        after: u64,
    },
    /// A node's max version lies below one of its keys; it would crash a receiver.
    #[error("max version {max_version} lies below a key of version {after}")]
    MaxVersionTooLow {
        /// The node delta's max version.
        max_version: u64,
        /// Its last key's version.
        after: u64,
    },
}
