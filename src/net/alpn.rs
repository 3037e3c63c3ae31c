//! The name of an application protocol, on which both sides of a connection agree.

use std::fmt;

use bytes::Bytes;

/// The name of an application protocol, 1 to 255 bytes. Both sides agree on one in the handshake.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Alpn(Bytes);

impl Alpn {
    /// Creates a name that is known at compile time.
    ///
    /// # Panics
    ///
    /// Panics if `name` is empty or longer than 255 bytes. In a `const` that is a compile error.
    pub const fn from_static(name: &'static [u8]) -> Self {
        assert!(!name.is_empty() && name.len() <= 255);
        Self(Bytes::from_static(name))
    }

    /// Creates a name at run time. Returns `None` if it is empty or longer than 255 bytes.
    pub fn new(name: impl Into<Bytes>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty() && name.len() <= 255).then_some(Self(name))
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
