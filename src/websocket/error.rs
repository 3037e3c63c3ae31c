//! Errors of the WebSocket network.

use std::io;
use std::net::SocketAddr;

/// The error of a WebSocket that can no longer be used. It is inside the [`io::Error`] of a failed
/// read or write.
///
/// After any of these the connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The network or the peer went away, or the peer broke the WebSocket protocol. A browser does
    /// not report which. A new connection may help.
    #[error("the WebSocket broke (a browser does not report why)")]
    Broken,
    /// The peer closed with a code other than 1000 and 1001, which are the orderly ones. Whether a
    /// retry helps depends on the code; see RFC 6455, section 7.4.
    #[error("the peer closed the WebSocket with code {code} ({})", reason.escape_debug())]
    Closed {
        /// The code that the peer sent.
        code: u16,
        /// The text that the peer sent, at most 123 bytes. It is not trustworthy.
        reason: String,
    },
    /// More data arrived than was read. Reading in a browser has no back-pressure, so the
    /// connection ends. The application is at fault: it must read, or set a larger limit if it
    /// reads slowly on purpose. A new connection helps once it does.
    #[error("the WebSocket overflowed: more than {limit} bytes arrived and were not read")]
    Overflow {
        /// The limit in bytes ([`max_unread_bytes`](super::WebSocketConfig::max_unread_bytes)).
        limit: usize,
    },
    /// The peer sent a message that is longer than any frame. The peer is at fault; a retry does
    /// not help.
    #[error("the peer sent a WebSocket message of {len} bytes, the limit is {max}")]
    TooLong {
        /// The length of the message, in bytes.
        len: usize,
        /// The longest frame, in bytes.
        max: usize,
    },
    /// The peer sent a text message. It is at fault or does not speak this protocol; a retry does
    /// not help.
    #[error("the peer sent a text message, but only binary messages are used here")]
    NotBinary,
    /// The WebSocket was closed on this side, or is not open yet.
    #[error("the WebSocket is not open")]
    NotOpen,
    /// A call into the browser threw an exception.
    #[error("the browser refused to {call}: {message}")]
    Exception {
        /// The name of the call.
        call: &'static str,
        /// The text of the exception.
        message: String,
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

/// The error of listening in a browser, which cannot listen. The caller is at fault; a retry does
/// not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a browser cannot listen on {addr}: use the unspecified address with port 0 (0.0.0.0:0) to \
     dial only"
)]
pub struct CannotListen {
    /// The requested address.
    pub addr: SocketAddr,
}

/// The error of resolving a name that is neither an address, a host with a port, nor a WebSocket
/// URL. The name must be corrected; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not an address: write IP:PORT, [IPv6]:PORT, HOST:PORT, or a URL that starts with ws:// \
     or wss:// ({what})", name.escape_debug()
)]
pub struct NameError {
    /// The name, at most its first 100 characters.
    pub name: String,
    /// The reason for which it is refused.
    pub what: &'static str,
}
