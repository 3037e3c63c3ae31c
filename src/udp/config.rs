//! Limits of the plaintext UDP network.

use crate::config::{ConfigError, at_least, setters};
use crate::message::{MAX_DATAGRAM_LEN, MAX_STREAM_LEN};

/// Limits of a [`PlaintextUdpTransport`](super::PlaintextUdpTransport).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UdpConfig {
    /// The largest number of flows from new addresses that wait to be accepted. One more drops the
    /// oldest of the host (an IPv4 address or an IPv6 /64) that has the most, and its messages are counted
    /// as [`refused`](super::UdpCounts::refused). Default 128.
    pub max_pending_flows: usize,
    /// The largest number of messages of one peer that wait to be read. One more is dropped, and
    /// counted as [`overflowed`](super::UdpCounts::overflowed). Default 256.
    pub max_messages_per_peer: usize,
    /// The largest number of bytes of one peer that wait to be read. A message that would exceed it
    /// is dropped, and counted as [`overflowed`](super::UdpCounts::overflowed). At least the
    /// longest datagram, 65,507 bytes. Default 1 MiB.
    pub max_bytes_per_peer: usize,
    /// The number of bytes that each port sends in a second to addresses which may be forged, in all. An
    /// address that has not shown that it receives what is sent to it gets three times what came from it;
    /// what exceeds that is counted here, and messages that open an exchange leave half to answers. Hosts
    /// share it: one that has had more lately than is left for others gets no more. A
    /// message that exceeds this as well is dropped, and counted as
    /// [`withheld`](super::UdpCounts::withheld). With 0, an upstream node that joins a cluster of many
    /// members through this port waits for hundreds of rounds. An address that has shown it gets 64 times what came from
    /// it, and such addresses together 16 times as many bytes as are set here: what shows it can be prepared.
    /// Default 256 KiB.
    pub max_unechoed_bytes_per_second: usize,
    /// The number of bytes into which the compressed messages that arrive on each port in a second may
    /// decompress, in all. One more is dropped, and counted as
    /// [`overcompressed`](super::UdpCounts::overcompressed). Addresses that may be forged leave half to
    /// others, and hosts share it: one that has sent more lately than is left for others waits. At least twice the bytes of the longest message, so 8 MiB. Default 16 MiB.
    pub max_decompressed_bytes_per_second: usize,
}

impl UdpConfig {
    setters! {
        with_max_pending_flows => max_pending_flows: usize,
        with_max_messages_per_peer => max_messages_per_peer: usize,
        with_max_bytes_per_peer => max_bytes_per_peer: usize,
        with_max_unechoed_bytes_per_second => max_unechoed_bytes_per_second: usize,
        with_max_decompressed_bytes_per_second => max_decompressed_bytes_per_second: usize,
    }

    /// Checks every value.
    /// [`create_listener`](crate::net::NetTransport::create_listener) and
    /// [`connect`](crate::net::NetTransport::connect) call it.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of bounds: a number of flows or messages is zero, or
    /// `max_bytes_per_peer` or `max_decompressed_bytes_per_second` has no room for the longest message.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least("max_pending_flows", self.max_pending_flows, 1)?;
        at_least("max_messages_per_peer", self.max_messages_per_peer, 1)?;
        at_least(
            "max_bytes_per_peer",
            self.max_bytes_per_peer,
            MAX_DATAGRAM_LEN,
        )?;
        at_least(
            "max_decompressed_bytes_per_second",
            self.max_decompressed_bytes_per_second,
            2 * MAX_STREAM_LEN,
        )
    }
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            max_pending_flows: 128,
            max_messages_per_peer: 256,
            max_bytes_per_peer: 1 << 20,
            max_unechoed_bytes_per_second: 256 << 10,
            // Decompressing and decoding takes 4 to 8 ms for each MiB, so about a tenth of a core. A digest of a
            // thousand members has 51 KB.
            max_decompressed_bytes_per_second: 16 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_an_error_that_names_it() {
        let config = UdpConfig::default;
        for (config, expected) in [
            (config(), Ok(())),
            (
                config().with_max_pending_flows(0),
                Err("max_pending_flows is 0, but must be at least 1"),
            ),
            (
                config().with_max_messages_per_peer(0),
                Err("max_messages_per_peer is 0, but must be at least 1"),
            ),
            (
                config().with_max_bytes_per_peer(65_506),
                Err("max_bytes_per_peer is 65506, but must be at least 65507"),
            ),
            (config().with_max_bytes_per_peer(65_507), Ok(())),
            (
                config().with_max_decompressed_bytes_per_second(1000),
                Err("max_decompressed_bytes_per_second is 1000, but must be at least 8388608"),
            ),
        ] {
            let result = config.validate().map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "{config:?}");
        }
    }
}
