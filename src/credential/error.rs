//! The error of reading a key or a secret.

/// A key, a secret or its printed form is malformed. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The text or the bytes are not those of a key or a secret.
    #[error("{what} must be {expected}")]
    Malformed {
        /// The value that was being read.
        what: &'static str,
        /// The form that it must have.
        expected: &'static str,
    },
}
