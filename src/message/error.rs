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
}
