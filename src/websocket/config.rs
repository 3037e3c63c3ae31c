//! Limits of the WebSocket network.

use std::time::Duration;

use super::socket::FRAME_OVERHEAD;
use crate::config::{ConfigError, at_least, setters};
use crate::secure::{MAX_FRAME_LEN, SecureConfig};

/// Limits of a [`WebSocketTransport`](super::WebSocketTransport).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// Limits of the secure channel.
    pub secure: SecureConfig,
    /// The longest time that a dial may take, including the handshake. Default 10 s.
    pub connect_timeout: Duration,
    /// The longest time for which a WebSocket may be opening, within that of the dial. Default 5 s. While
    /// others to the same host wait, it is 2 s at first.
    pub open_timeout: Duration,
    /// The largest number of bytes of one connection that have arrived and wait to be read. Each
    /// frame counts 64 bytes in addition to its length. At least one longest frame, 65,599 bytes.
    /// Default 16 MiB, which is the default limit of a message, and the number of bytes that the
    /// transport layer queues for one peer; a reader that never waits stays far below it.
    pub max_unread_bytes: usize,
}

impl WebSocketConfig {
    setters! {
        with_secure => secure: SecureConfig,
        with_connect_timeout => connect_timeout: Duration,
        with_open_timeout => open_timeout: Duration,
        with_max_unread_bytes => max_unread_bytes: usize,
    }

    /// Checks every value.
    /// [`create_listener`](crate::net::NetTransport::create_listener) and
    /// [`connect`](crate::net::NetTransport::connect) call it.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds: `connect_timeout` or
    /// `open_timeout` is less than 1 ms, `max_unread_bytes` has no room for the longest frame, or `secure` is invalid.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.secure.validate().map_err(|e| e.inside("secure"))?;
        at_least(
            "connect_timeout",
            self.connect_timeout,
            Duration::from_millis(1),
        )?;
        at_least("open_timeout", self.open_timeout, Duration::from_millis(1))?;
        at_least(
            "max_unread_bytes",
            self.max_unread_bytes,
            MAX_FRAME_LEN + FRAME_OVERHEAD,
        )
    }
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            secure: SecureConfig::default(),
            connect_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(5),
            max_unread_bytes: 16 << 20,
        }
    }
}
