//! What a user holds.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use super::{OutgoingConnection, SocketStats, TransportLayerConfig};
use crate::credential::{Identity, NetCredential};
use crate::message::{ChitchatMessage, Message};
use crate::net::NetTransport;

/// An open address: queues messages to peers and gives those that arrive.
///
/// Methods take `&self`: one task may send while another receives. Dropping the socket stops its
/// tasks and frees its port before `drop` returns.
#[derive(Debug)]
pub struct TransportLayerSocket<T: NetTransport, M: Message = ChitchatMessage>(
    PhantomData<fn() -> (T, M)>,
);

impl<T: NetTransport, M: Message> TransportLayerSocket<T, M> {
    /// Binds `listen_addr` and starts accepting.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn new(
        _transport: T,
        _credential: NetCredential,
        _listen_addr: SocketAddr,
        _config: TransportLayerConfig,
    ) -> anyhow::Result<Self> {
        todo!()
    }

    /// The bound address, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Who we are.
    pub fn local_identity(&self) -> Identity {
        todo!()
    }

    /// The network that the socket is open on.
    pub fn transport(&self) -> &T {
        todo!()
    }

    /// Queues `message` for `to`. Ready at once, but for a full queue under `Backpressure`.
    ///
    /// # Errors
    ///
    /// The socket is closed; the message is given back.
    pub async fn send(&self, _to: SocketAddr, _message: M) -> Result<(), SendError<M>> {
        todo!()
    }

    /// The next message and the address to answer to. Peers take turns. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The socket is closed and everything received has been given.
    pub async fn recv(&self) -> Result<(SocketAddr, M), ClosedError> {
        todo!()
    }

    /// The queue of peer `to`, made if there is none.
    ///
    /// # Errors
    ///
    /// The socket is closed.
    pub fn get_or_create_outgoing_connection(
        &self,
        _to: SocketAddr,
    ) -> Result<OutgoingConnection<M>, ClosedError> {
        todo!()
    }

    /// A snapshot of all counters.
    pub fn stats(&self) -> SocketStats {
        todo!()
    }

    /// Stops accepting, sends what is queued for at most `deadline`, and closes every connection.
    /// `recv` then gives what has arrived, and ends. The port is free when this returns.
    pub async fn shutdown(&self, _deadline: Duration) -> ShutdownReport {
        todo!()
    }
}

/// What a shutdown left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Messages that were still queued at the deadline, dropped as `Closed`.
    pub unsent: u64,
}

/// The socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct ClosedError;

/// The socket is closed; the message is inside.
#[derive(thiserror::Error)]
#[error("the socket is closed")]
pub struct SendError<M>(pub M);

impl<M> std::fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SendError(..)")
    }
}
