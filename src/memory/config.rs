//! Limits of the network in memory.

use crate::config::{ConfigError, at_least, setters};

/// Limits of a [`MemoryNetwork`](super::MemoryNetwork).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The largest number of bytes in transit in one direction of a connection; the sender waits
    /// until there is room. A single message may be longer. Default 256 KiB.
    pub pipe_bytes: usize,
    /// The largest number of messages in transit in one direction of a connection. Default 1,024.
    pub pipe_messages: usize,
    /// The longest message, in bytes. Default 16 MiB.
    pub max_message_len: usize,
}

impl MemoryConfig {
    setters! {
        with_pipe_bytes => pipe_bytes: usize,
        with_pipe_messages => pipe_messages: usize,
        with_max_message_len => max_message_len: usize,
    }

    /// Checks every value.
    /// [`create_listener`](crate::net::NetTransport::create_listener) and
    /// [`connect`](crate::net::NetTransport::connect) call it.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is zero.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least("pipe_bytes", self.pipe_bytes, 1)?;
        at_least("pipe_messages", self.pipe_messages, 1)?;
        at_least("max_message_len", self.max_message_len, 1)
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            pipe_bytes: 256 << 10,
            pipe_messages: 1024,
            max_message_len: 16 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_an_error_that_names_it() {
        let config = MemoryConfig::default;
        for (config, expected) in [
            (config(), Ok(())),
            (
                config().with_pipe_bytes(0),
                Err("pipe_bytes is 0, but must be at least 1"),
            ),
            (
                config().with_pipe_messages(0),
                Err("pipe_messages is 0, but must be at least 1"),
            ),
            (
                config().with_max_message_len(0),
                Err("max_message_len is 0, but must be at least 1"),
            ),
        ] {
            let result = config.validate().map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "{config:?}");
        }
    }
}
