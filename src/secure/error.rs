//! What can go wrong on a channel.

/// A handshake that failed. The connection is closed; the stranger is told nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The handshake took too long.
    #[error("no complete handshake within {after:?}")]
    Timeout {
        /// How long was waited.
        after: std::time::Duration,
    },
}

/// A channel that broke after its handshake. The connection is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A message longer than the limit: refused before anything of it was sent.
    #[error("message of {len} bytes, the limit is {max}")]
    MessageTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
}
