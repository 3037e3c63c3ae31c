//! What a carrier's channels tell their driver.
//!
//! Values only.

use std::fmt;

use bytes::Bytes;

use super::error::Violation;
use super::number::ChannelNumber;

/// The reason for which one side ends or refuses a channel. Codes below 256 belong to this crate, the others are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelCode(pub u16);

impl ChannelCode {
    /// Nothing is wrong. It also answers the end of the other side.
    pub const NORMAL: Self = Self(0);
    /// This side is going away.
    pub const GOING_AWAY: Self = Self(1);
    /// A frame cost more than the credit that was left.
    pub const OVERRUN: Self = Self(2);
    /// A frame came before the channel was opened.
    pub const EARLY: Self = Self(3);
    /// The memory for another channel is not there now. A retry may help later.
    pub const NO_ROOM: Self = Self(4);
    /// What was asked for is unknown, absent or forbidden.
    pub const REFUSED: Self = Self(5);
    /// Nothing was sent for too long, in either direction.
    pub const IDLE: Self = Self(6);
    /// A limit of the peer's identity, invite or host has been reached. A retry may help later.
    pub const QUOTA: Self = Self(7);
}

impl fmt::Display for ChannelCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::NORMAL => "nothing is wrong",
            Self::GOING_AWAY => "going away",
            Self::OVERRUN => "a frame beyond the credit",
            Self::EARLY => "a frame before the channel was opened",
            Self::NO_ROOM => "no room for another channel",
            Self::REFUSED => "unknown, absent or forbidden",
            Self::IDLE => "idle for too long",
            Self::QUOTA => "quota reached",
            Self(code) => return write!(f, "code {code}"),
        };
        f.write_str(text)
    }
}

/// The reason for which a channel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelEnd {
    /// This side has ended it.
    #[error("ended here: {0}")]
    Local(ChannelCode),
    /// The peer has ended it.
    #[error("ended by the peer: {0}")]
    Remote(ChannelCode),
    /// The peer has not opened it.
    #[error("refused by the peer: {0}")]
    Refused(ChannelCode),
    /// The peer has broken a rule of the channel, so this side has ended it with this code.
    #[error("ended here because of the peer: {0}")]
    Breach(ChannelCode),
    /// The carrier has ended in order, or was lost.
    #[error("the carrier of the channel has ended")]
    CarrierEnded,
    /// The peer has broken a rule of the carrier, which has ended.
    #[error("the carrier of the channel has ended: {0}")]
    Violation(Violation),
}

/// Something that has happened to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The peer asks for a channel, which must be [accepted](super::Channels::accept) or
    /// [refused](super::Channels::refuse).
    Requested {
        /// The number of the channel.
        number: ChannelNumber,
        /// What the peer asks for, at most 512 bytes.
        request: Bytes,
    },
    /// The peer has opened the channel that this side has asked for.
    Opened {
        /// The number of the channel.
        number: ChannelNumber,
        /// What the peer has answered, at most 512 bytes.
        answer: Bytes,
    },
    /// Frames have arrived on a channel of which all had been taken.
    Readable {
        /// The number of the channel.
        number: ChannelNumber,
    },
    /// A channel that could not take a frame can take one now.
    Writable {
        /// The number of the channel.
        number: ChannelNumber,
    },
    /// A channel has ended and all frames that had arrived have been taken or dropped. Its last event; there is exactly
    /// one for each channel that was asked for here or `Requested`.
    Ended {
        /// The number of the channel.
        number: ChannelNumber,
        /// The reason.
        end: ChannelEnd,
    },
}

/// What is written to a carrier next, one record or frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// A record with messages of channel 0.
    Zero,
    /// A record of channel 0 with these control messages.
    Control(Bytes),
    /// A frame of another channel.
    Frame {
        /// The number of the channel.
        number: ChannelNumber,
        /// The frame.
        frame: Bytes,
    },
}
