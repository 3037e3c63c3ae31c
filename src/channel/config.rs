//! Limits of the channels of a carrier.
//!
//! Values only. Invariant: with limits that [`ChannelConfig::validate`] accepts, every channel that was opened can hold one
//! frame to send and receive two, whatever the others do.

use crate::config::{ConfigError, Value as _, all_at_least, setters};

/// The longest frame of a channel, in bytes: 16 KiB. A frame delays those of all other channels, by 130 ms at
/// 1 Mbit/s, so it is a quarter of what a carrier could take.
pub const MAX_FRAME_LEN: usize = 16 << 10;

/// The credit that a frame costs besides its length, in bytes: about what it takes in memory to keep a frame in a queue. Without
/// it, empty frames would be free, and frames of one byte would take 60 times the memory that the credit allows.
pub const FRAME_COST: u32 = 64;

/// The most credit that a frame can cost, in bytes.
pub(super) const MAX_COST: u32 = MAX_FRAME_LEN as u32 + FRAME_COST;

/// The smallest window of a channel, in bytes: two of the longest frames. Credit is returned once half of a window has been read,
/// so with less than that both sides could wait for each other.
pub const SMALLEST_WINDOW: usize = 2 * MAX_COST as usize;

/// The most credit that a side can have on a channel, in bytes.
pub(super) const MAX_CREDIT: u32 = i32::MAX as u32;

/// Returns the credit that `frame` costs.
pub(super) fn cost(frame: &[u8]) -> u32 {
    cost_of(frame.len())
}

/// Returns the credit that a frame of this length costs.
pub(super) fn cost_of(len: usize) -> u32 {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    len.saturating_add(FRAME_COST)
}

/// Limits of the channels of one carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelConfig {
    /// The most channels that the peer may have open at the same time; at least 1. The peer learns it in the handshake, and
    /// opening more ends the carrier. Default 1,024, since a tab is to have 1,000.
    pub max_channels: usize,
    /// The credit that the peer has on a new channel, in bytes: 32,896 (two of the longest frames) to 2^31 - 1. Default
    /// 32,896.
    pub initial_window: usize,
    /// The most credit that the peer may have on a channel that is read as fast as it arrives, in bytes; at least
    /// `initial_window`. Default 256 KiB: 20 Mbit/s at a round trip of 100 ms.
    pub max_window: usize,
    /// The most that received frames which wait to be read may cost, and the credit that the peer has, both of all channels
    /// together, in bytes; at least `initial_window`. A channel for which no window is left is refused. Default 64 MiB, which
    /// `max_channels` new channels take half of.
    pub max_unread_bytes: usize,
    /// The most that the frames of a channel which wait to be sent may cost, in bytes; at least 16,448 (one of the longest frames).
    /// Default 64 KiB.
    pub max_unsent_per_channel: usize,
    /// The most that the frames of all channels which wait to be sent may cost, in bytes; at least 16,448. Each channel
    /// has 16,448 of it for itself. A channel that would not have them is not opened. Default 48 MiB, of which 1,024 channels of
    /// each side have 32 MiB for themselves.
    pub max_unsent_bytes: usize,
}

impl ChannelConfig {
    setters! {
        with_max_channels => max_channels: usize,
        with_initial_window => initial_window: usize,
        with_max_window => max_window: usize,
        with_max_unread_bytes => max_unread_bytes: usize,
        with_max_unsent_per_channel => max_unsent_per_channel: usize,
        with_max_unsent_bytes => max_unsent_bytes: usize,
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// Fails with the first field that is out of the bounds that the field's documentation states.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let frame = MAX_COST as usize;
        all_at_least(&[
            ("max_channels", self.max_channels, 1),
            ("initial_window", self.initial_window, SMALLEST_WINDOW),
            ("max_window", self.max_window, self.initial_window),
            (
                "max_unread_bytes",
                self.max_unread_bytes,
                self.initial_window,
            ),
            ("max_unsent_per_channel", self.max_unsent_per_channel, frame),
            ("max_unsent_bytes", self.max_unsent_bytes, frame),
        ])?;
        if self.max_window > MAX_CREDIT as usize {
            let bound = format!("at most {MAX_CREDIT}");
            return Err(ConfigError::new(
                "max_window",
                self.max_window.text(),
                bound,
            ));
        }
        Ok(())
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            max_channels: 1024,
            initial_window: 32_896,
            max_window: 256 << 10,
            max_unread_bytes: 64 << 20,
            max_unsent_per_channel: 64 << 10,
            max_unsent_bytes: 48 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_holds_as_many_channels_as_it_allows() {
        let config = ChannelConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.initial_window, SMALLEST_WINDOW);
        assert!(config.max_channels * config.initial_window <= config.max_unread_bytes);
        assert!(2 * config.max_channels * MAX_COST as usize <= config.max_unsent_bytes);
    }

    #[test]
    fn a_limit_that_could_stop_a_channel_is_refused() {
        let config = ChannelConfig::default;
        for (config, field) in [
            (config().with_max_channels(0), "max_channels"),
            (
                config().with_initial_window(SMALLEST_WINDOW - 1),
                "initial_window",
            ),
            (config().with_max_window(SMALLEST_WINDOW - 1), "max_window"),
            (config().with_max_window(1 << 31), "max_window"),
            (
                config().with_max_unread_bytes(SMALLEST_WINDOW - 1),
                "max_unread_bytes",
            ),
            (
                config().with_max_unsent_per_channel(16_447),
                "max_unsent_per_channel",
            ),
            (config().with_max_unsent_bytes(16_447), "max_unsent_bytes"),
        ] {
            assert_eq!(config.validate().unwrap_err().field, field);
        }
    }
}
