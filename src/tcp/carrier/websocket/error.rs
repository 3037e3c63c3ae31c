//! Violations of the WebSocket protocol.

/// A rule of the WebSocket protocol (RFC 6455), or a limit, that a peer has broken. It received a close
/// frame with [`close_code`](Self::close_code).
///
/// It is the source of the [`std::io::Error`] with which the connection has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The peer sent a text message, and these WebSockets carry binary frames.
    #[error("received a text message on a WebSocket that carries binary frames")]
    Text,
    /// The peer sent a message that is longer than a frame of the secure channel.
    #[error("received a WebSocket message of {len} bytes or more, the limit is {max}")]
    TooLong {
        /// Length of the message as far as it was announced, in bytes.
        len: u64,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer sent many pings in a row without a message between them.
    #[error("received more than {max} pings in a row")]
    TooManyPings {
        /// The limit.
        max: usize,
    },
    /// A frame was not masked, as those of a client must be.
    #[error("received a WebSocket frame without a mask")]
    NotMasked,
    /// A frame uses bits that no extension has been agreed on for.
    #[error("received a WebSocket frame with reserved bits")]
    ReservedBits,
    /// A frame has an opcode that is not defined.
    #[error("received a WebSocket frame with the unknown opcode {opcode}")]
    UnknownOpcode {
        /// The opcode.
        opcode: u8,
    },
    /// The length of a frame is not written in the shortest form.
    #[error("received a WebSocket frame whose length is not in the shortest form")]
    LengthForm,
    /// A ping, a pong or a close frame is longer than 125 bytes, or one of several fragments.
    #[error("received a WebSocket control frame that is fragmented or longer than 125 bytes")]
    ControlFrame,
    /// A fragment continues a message that has not begun, or a message begins inside another one.
    #[error("received a fragment of a WebSocket message out of order")]
    FragmentOrder,
    /// A close frame has a code that may not be sent, or half of one.
    #[error("received a WebSocket close frame with an invalid code")]
    CloseCode,
    /// The reason in a close frame is not UTF-8.
    #[error("received a WebSocket close frame whose reason is not UTF-8")]
    CloseReason,
}

impl WebSocketError {
    /// Returns the code of the close frame that the peer has received (RFC 6455, section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::CloseReason => 1007,
            Self::TooManyPings { .. } => 1008,
            Self::TooLong { .. } => 1009,
            Self::NotMasked
            | Self::ReservedBits
            | Self::UnknownOpcode { .. }
            | Self::LengthForm
            | Self::ControlFrame
            | Self::FragmentOrder
            | Self::CloseCode => 1002,
        }
    }
}
