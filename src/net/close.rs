//! The code with which a connection is closed, and the reason for which it has ended.

use std::fmt;
use std::sync::Arc;

/// The reason for which one side has closed a connection. Codes below 256 belong to this crate, the
/// others are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// Nothing is wrong.
    pub const NORMAL: Self = Self(0);
    /// This side is going away: a shutdown, or a page that is left.
    pub const GOING_AWAY: Self = Self(1);
    /// There was no message for longer than the idle timeout.
    pub const IDLE: Self = Self(2);
    /// There were too many connections, and this was the least recently used one.
    pub const EVICTED: Self = Self(3);
    /// The peer has broken the protocol or a limit.
    pub const PROTOCOL: Self = Self(4);
    /// Another connection of the same identity is alive, and it keeps its place: two programs use one
    /// key.
    pub const DUPLICATE: Self = Self(5);
    /// Both sides have dialled each other, and the other connection stays.
    pub const REDUNDANT: Self = Self(6);
    /// The secret or the key on which the connection rests is not trusted any more.
    pub const UNTRUSTED: Self = Self(7);
    /// The peer has dialled again with another secret or invite, and the new connection takes the place of this one.
    pub const RENEWED: Self = Self(8);
    /// The peer's invite, or all peers with invites together, have as many connections as they may. A retry may help
    /// later.
    pub const QUOTA: Self = Self(9);
    /// The peer's name is not its to use: it lacks the prefix that the peer's invite demands, or a core member has it.
    /// Another name helps.
    pub const NAME: Self = Self(10);
    /// The peer's clock is ahead of this side's, so that its generation lies in the future. Setting it and joining again
    /// helps.
    pub const CLOCK: Self = Self(11);

    /// Returns whether the side that says goodbye with this code may [go on
    /// receiving](super::NetConnection::leave), so that the other one has to write what it has begun, and say goodbye as
    /// well.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::UNTRUSTED | Self::RENEWED)
    }
}

/// The end of a connection: which side closed it, or the error that broke it.
#[derive(Debug, Clone)]
pub enum CloseReason {
    /// This side has closed it.
    Local(CloseCode),
    /// The peer has closed it.
    Remote(CloseCode),
    /// It broke.
    Lost(Arc<anyhow::Error>),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(code) => write!(f, "closed here with code {}", code.0),
            Self::Remote(code) => write!(f, "closed by the peer with code {}", code.0),
            Self::Lost(error) => write!(f, "lost: {error:#}"),
        }
    }
}
