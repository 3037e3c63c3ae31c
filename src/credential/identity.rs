//! The identity of a peer: its public key, and how it is printed.

use std::fmt;
use std::str::FromStr;

use super::base32;
use super::error::CredentialError;

/// The identity of a peer: its X25519 public key. Printed as 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub(super) [u8; 32]);

impl Identity {
    /// Placeholder for peers on networks without authentication, such as plain UDP. No handshake
    /// results in it.
    pub const UNPROVED: Self = Self([0; 32]);

    /// Creates an identity from the bytes of an X25519 public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Returns the bytes of the X25519 public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Returns the first 10 characters of the printed form, for logs and tables.
    pub fn short(&self) -> String {
        let mut text = base32::encode(&self.0);
        text.truncate(10);
        text
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.short())
    }
}

impl FromStr for Identity {
    type Err = CredentialError;
    /// Parses the form that [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        base32::decode_32(text, "")
            .map(|bytes| Self(*bytes))
            .ok_or(CredentialError::Malformed {
                what: "a public key",
                expected: "52 characters of base32 (a-z, 2-7)",
            })
    }
}
