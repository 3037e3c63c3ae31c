//! The errors of the transport layer.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::credential::{Identity, Refusal};
use crate::net::CloseCode;

/// The socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct ClosedError;

/// The socket is closed. Contains the message that was not sent.
#[derive(thiserror::Error)]
#[error("the socket is closed")]
pub struct SendError<M>(pub M);

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

/// The peer has refused a connection because another one with the same key is alive: two programs use
/// one key. Give each a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{addr} refused the connection because another program that uses the same key is connected to it; \
     give each program a key of its own"
)]
pub struct DuplicateIdentity {
    /// The address of the peer.
    pub addr: SocketAddr,
}

/// The peer has closed the connection for this reason. This side's invite, or all holders of invites together, have as
/// many connections as they may ([`Refusal::Quota`]), or what this side gossips about itself is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{addr} closed the connection: {reason}")]
pub struct Refused {
    /// The address of the peer.
    pub addr: SocketAddr,
    /// Its reason.
    pub reason: Refusal,
}

impl Refused {
    /// Returns the error if `code` stands for a reason.
    pub(super) fn from_code(addr: SocketAddr, code: CloseCode) -> Option<Self> {
        let reason = match code {
            CloseCode::QUOTA => Refusal::Quota,
            CloseCode::NAME => Refusal::Name,
            CloseCode::CLOCK => Refusal::Clock,
            _ => return None,
        };
        Some(Self { addr, reason })
    }
}

/// Returns the code by which a leaf learns that what it gossips about itself is refused.
pub(super) fn code_of(reason: Refusal) -> CloseCode {
    match reason {
        Refusal::Quota => CloseCode::QUOTA,
        Refusal::Name => CloseCode::NAME,
        Refusal::Clock => CloseCode::CLOCK,
        _ => CloseCode::PROTOCOL,
    }
}

/// A dial was answered with our own key: the address leads back to this socket, or another program uses
/// the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{addr} answered with the key of this program: the address leads back here, or another program uses \
     the same key"
)]
pub struct OwnIdentity {
    /// The address that was dialled.
    pub addr: SocketAddr,
}

/// A dial was answered by another identity than the one that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{addr} was answered by {identity}, which is not its owner")]
pub struct WrongIdentity {
    /// The address that was called.
    pub addr: SocketAddr,
    /// The identity that has answered.
    pub identity: Identity,
}

/// There is no connection with a peer. The error of the last dial, if there was one, is the source.
#[derive(Debug)]
pub(super) struct NotConnected {
    pub(super) addr: SocketAddr,
    /// The time for which the caller has waited; `None` if waiting longer could not help.
    pub(super) limit: Option<Duration>,
    pub(super) cause: Option<Arc<anyhow::Error>>,
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection with {}", self.addr)?;
        match self.limit {
            Some(limit) => write!(f, " within {limit:?}"),
            None => Ok(()),
        }
    }
}

impl Error for NotConnected {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause: &(dyn Error + Send + Sync + 'static) = self.cause.as_deref()?.as_ref();
        Some(cause)
    }
}
