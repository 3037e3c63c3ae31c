//! What can end a WebSocket, and why an address cannot be used.

use std::io;
use std::net::SocketAddr;

/// Why a WebSocket can no longer be used; found inside the [`io::Error`] of a frame's error.
///
/// Whatever it is, the connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The network or the peer went away, or the peer broke the WebSocket protocol: a browser does
    /// not say which. A new connection may help.
    #[error("the WebSocket broke (a browser does not say why)")]
    Broken,
    /// The peer closed with a code that is no orderly end (neither 1000 nor 1001). What helps
    /// depends on the code; RFC 6455, section 7.4.
    #[error("the peer closed the WebSocket with code {code} ({})", reason.escape_debug())]
    Closed {
        /// The peer's code.
        code: u16,
        /// The peer's text, at most 123 bytes; whatever the peer likes.
        reason: String,
    },
    /// More arrived than was read. A browser cannot be told to read more slowly, so the connection
    /// ends here. The application is at fault: it does not read; or it means to read slowly, and
    /// needs a larger limit. A new connection helps if it reads.
    #[error("the WebSocket overflowed: more than {limit} bytes arrived and were not read")]
    Overflow {
        /// The limit in bytes ([`max_unread_bytes`](super::WebSocketConfig::max_unread_bytes)).
        limit: usize,
    },
    /// A message longer than any frame. The peer is at fault; a retry does not help.
    #[error("a WebSocket message of {len} bytes, the limit is {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A text message. The peer is at fault or is not ours; a retry does not help.
    #[error("the peer sent a text message, only binary ones have a meaning here")]
    NotBinary,
    /// Closed on this side, or not open yet.
    #[error("the WebSocket is not open")]
    NotOpen,
    /// The browser refused a call.
    #[error("the browser refused to {call}: {said}")]
    Exception {
        /// What was called.
        call: &'static str,
        /// The exception's text.
        said: String,
    },
}

impl From<WebSocketError> for io::Error {
    fn from(error: WebSocketError) -> Self {
        let kind = match &error {
            WebSocketError::Broken => io::ErrorKind::ConnectionReset,
            WebSocketError::Closed { .. } => io::ErrorKind::ConnectionAborted,
            WebSocketError::Overflow { .. } => io::ErrorKind::OutOfMemory,
            WebSocketError::TooLong { .. } | WebSocketError::NotBinary => {
                io::ErrorKind::InvalidData
            }
            WebSocketError::NotOpen => io::ErrorKind::NotConnected,
            WebSocketError::Exception { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A browser cannot listen. The caller is at fault; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a browser cannot listen on {addr}: give the unspecified address with port 0 (0.0.0.0:0) to \
     dial only"
)]
pub struct CannotListen {
    /// The address that was asked for.
    pub addr: SocketAddr,
}

/// A name that is neither an address, a host and port, nor a WebSocket URL. Whoever wrote it is at
/// fault; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is no address: write IP:PORT, [IPv6]:PORT, HOST:PORT, or a URL that starts with ws:// or \
     wss:// ({what})", name.escape_debug()
)]
pub struct NameError {
    /// What was written, at most its first 100 characters.
    pub name: String,
    /// What is wrong with it.
    pub what: &'static str,
}
