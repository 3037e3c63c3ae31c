//! Limits of a secure connection.
//!
//! Values only. Invariant: every default is finite, so a connection with the default configuration
//! has bounded memory and a bounded handshake whatever its peer does.

use std::time::Duration;

use super::receive_memory::ReceiveMemory;
use super::stream::LONGEST_MESSAGE;
use crate::config::{ConfigError, Value as _, at_least, setters};

/// Limits of a [`SecureConnection`](super::SecureConnection) and its handshake.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SecureConfig {
    /// The longest message that is sent or accepted, in bytes: 1 to 4,294,967,039 (4 GiB less 257
    /// bytes, which is what the format can express). Default 16 MiB.
    pub max_message_len: usize,
    /// The most memory that messages which have arrived in part may take, those of all connections of
    /// a network together, in bytes. One more byte ends the connection with the oldest such message of the
    /// identity that has the most. A value below `max_message_len` stands for that. Default 64 MiB.
    pub max_partial_bytes: usize,
    /// The time in which each 256 KiB of a message must arrive, or the rest of it, once its first part
    /// has; at least 1 ms. Default 30 s, the time that a writer gets for as much.
    pub partial_timeout: Duration,
    /// The most memory that long records may take, of more than 4 KiB, while messages share it that were
    /// handed on without a copy, those of all connections of a network together, in bytes. Each of them
    /// counts as 64 KiB. The messages of further records are copied, which is slower. 0 copies those of all.
    /// Default 16 MiB.
    pub max_shared_record_bytes: usize,
    /// The time limit of the whole handshake; at least 1 ms. Default 10 s.
    pub handshake_timeout: Duration,
    /// The number of records that this side sends under one key before it derives the next; at
    /// least 1. The peer learns the number in the handshake, and may use another one. Default
    /// 2^20, far below what AES-GCM allows.
    pub rekey_after_records: u64,
}

impl SecureConfig {
    setters! {
        with_max_message_len => max_message_len: usize,
        with_max_partial_bytes => max_partial_bytes: usize,
        with_partial_timeout => partial_timeout: Duration,
        with_max_shared_record_bytes => max_shared_record_bytes: usize,
        with_handshake_timeout => handshake_timeout: Duration,
        with_rekey_after_records => rekey_after_records: u64,
    }

    /// Checks every value. [`dial`](super::dial) and [`accept`](super::accept) call it, and a
    /// network calls it when it is opened.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of the bounds that the field's documentation states.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least("max_message_len", self.max_message_len, 1)?;
        if self.max_message_len > LONGEST_MESSAGE {
            return Err(ConfigError::new(
                "max_message_len",
                self.max_message_len.text(),
                format!("at most {LONGEST_MESSAGE}"),
            ));
        }
        let shortest = Duration::from_millis(1);
        at_least("partial_timeout", self.partial_timeout, shortest)?;
        at_least("handshake_timeout", self.handshake_timeout, shortest)?;
        at_least("rekey_after_records", self.rekey_after_records, 1)
    }

    /// Returns the bounds of memory that the connections of a network with this configuration share.
    pub fn receive_memory(&self) -> ReceiveMemory {
        let max_partial_bytes = self.max_partial_bytes.max(self.max_message_len);
        ReceiveMemory::new(
            max_partial_bytes,
            self.partial_timeout,
            self.max_shared_record_bytes,
        )
    }
}

impl Default for SecureConfig {
    fn default() -> Self {
        Self {
            max_message_len: 16 << 20,
            max_partial_bytes: 64 << 20,
            partial_timeout: Duration::from_secs(30),
            max_shared_record_bytes: 16 << 20,
            handshake_timeout: Duration::from_secs(10),
            rekey_after_records: 1 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validate_names_the_field_the_value_and_the_bound() {
        let config = SecureConfig::default;
        let millisecond = Duration::from_millis(1);
        let short = Duration::from_micros(999);
        for (config, expected) in [
            (config(), None),
            (config().with_max_message_len(1), None),
            (config().with_max_message_len(LONGEST_MESSAGE), None),
            (config().with_handshake_timeout(millisecond), None),
            (config().with_rekey_after_records(1), None),
            (config().with_rekey_after_records(u64::MAX), None),
            (
                config().with_max_message_len(0),
                Some("max_message_len is 0, but must be at least 1"),
            ),
            (
                config().with_max_message_len(LONGEST_MESSAGE + 1),
                Some("max_message_len is 4294967040, but must be at most 4294967039"),
            ),
            (
                config().with_partial_timeout(short),
                Some("partial_timeout is 999µs, but must be at least 1ms"),
            ),
            (
                config().with_handshake_timeout(Duration::ZERO),
                Some("handshake_timeout is 0ns, but must be at least 1ms"),
            ),
            (
                config().with_handshake_timeout(short),
                Some("handshake_timeout is 999µs, but must be at least 1ms"),
            ),
            (
                config().with_rekey_after_records(0),
                Some("rekey_after_records is 0, but must be at least 1"),
            ),
        ] {
            let found = config.validate().map_err(|error| error.to_string());
            assert_eq!(found.err().as_deref(), expected, "{config:?}");
        }
    }
}
