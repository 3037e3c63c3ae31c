//! The errors of channels: which of them are ours, and what a peer has done to end the carrier.
//!
//! Values only.

use bytes::Bytes;

use super::number::ChannelNumber;

/// An error of opening a channel. Nothing has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This side has used all of its numbers. Another carrier helps.
    #[error("all numbers of channels on this carrier have been used")]
    Exhausted,
    /// As many channels are open as the peer allows. A retry helps once one has ended.
    #[error("the peer allows {max} channels on this carrier, and they are open")]
    TooMany {
        /// The peer's limit.
        max: usize,
    },
    /// The limits of this side leave no memory for the channel. A retry helps once another one has ended.
    #[error("no room for another channel on this carrier")]
    NoRoom,
    /// The request is too long.
    #[error("a request of {len} bytes, but at most {max} are allowed")]
    TooLong {
        /// The length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The carrier has ended.
    #[error("the carrier has ended")]
    CarrierEnded,
}

/// An error of sending a frame, or of another call for a channel. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// As many frames wait as may. [`Writable`](super::ChannelEvent::Writable) follows when that changes.
    #[error("too many frames wait to be sent on this channel")]
    Full(
        /// The frame.
        Bytes,
    ),
    /// The frame or answer is too long.
    #[error("{len} bytes, but at most {max} are allowed")]
    TooLong {
        /// The length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The channel is not open: it is not answered yet, has ended, or never was.
    #[error("channel {number} is not open")]
    NotOpen {
        /// The number of the channel.
        number: ChannelNumber,
    },
}

/// Something that no peer sends which follows the rules. It ends the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A control message is cut off.
    #[error("a control message that is cut off")]
    Truncated,
    /// A control message has an unknown kind.
    #[error("a control message of the unknown kind {kind}")]
    UnknownKind {
        /// The first byte of the message.
        kind: u8,
    },
    /// A request or answer is too long.
    #[error("a request or answer of {len} bytes, but at most {max} are allowed")]
    TextTooLong {
        /// The length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// A frame of a channel is too long.
    #[error("a frame of {len} bytes on a channel, but at most {max} are allowed")]
    FrameTooLong {
        /// The length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// A channel was opened with a number that is not the next one of the peer.
    #[error("channel {number} was opened out of order")]
    OutOfOrder {
        /// The number.
        number: ChannelNumber,
    },
    /// The peer has opened more channels than it may.
    #[error("more than {max} channels were opened")]
    TooMany {
        /// This side's limit.
        max: usize,
    },
    /// A frame or control message is for a channel that was never opened.
    #[error("channel {number} was never opened")]
    NeverOpened {
        /// The number, which may be 0.
        number: ChannelNumber,
    },
    /// A frame or control message of a channel came after its end.
    #[error("something was sent on channel {number} after its end")]
    AfterEnd {
        /// The number.
        number: ChannelNumber,
    },
    /// A control message does not fit the state of its channel: an answer to a channel that is open, or credit or an
    /// end without an answer.
    #[error("a control message that does not fit channel {number}")]
    Unexpected {
        /// The number.
        number: ChannelNumber,
    },
    /// A channel got no credit by a message that gives credit, or more than 2^31 - 1 bytes in all.
    #[error("credit of {amount} bytes for channel {number}")]
    Credit {
        /// The number.
        number: ChannelNumber,
        /// The credit that was given, in bytes.
        amount: u32,
    },
    /// On a channel that this side has ended, the peer went on sending beyond its credit.
    #[error("channel {number} has ended, and frames went on beyond the credit")]
    LateOverrun {
        /// The number.
        number: ChannelNumber,
    },
}
