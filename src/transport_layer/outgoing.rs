//! A handle to the outgoing queue of one peer.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Outbound, connected, submit};
use super::error::SendError;
use super::stats::ConnectionInfo;
use crate::message::Message;

/// A handle to the outgoing queue of one peer.
///
/// It stores only the address and keeps no peer alive: the queue is created again when it is
/// needed, and every call fails once the socket is closed.
///
/// [`get_or_create_outgoing_connection`](super::TransportLayerSocket::get_or_create_outgoing_connection)
/// returns it.
pub struct OutgoingConnection<M> {
    outbound: Arc<dyn Outbound>,
    addr: SocketAddr,
    message: PhantomData<fn() -> M>,
}

impl<M> OutgoingConnection<M> {
    pub(super) fn new(outbound: Arc<dyn Outbound>, addr: SocketAddr) -> Self {
        Self {
            outbound,
            addr,
            message: PhantomData,
        }
    }

    /// Returns the address of the peer.
    pub fn peer_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until there is a live connection, and dials if there is none. Cancel-safe.
    ///
    /// A peer whose last dials have failed is dialled when its backoff ends, not at once.
    ///
    /// # Errors
    ///
    /// Fails if there is no connection within `limit`, if no retry can help, or if the peer is forgotten
    /// because there are more than
    /// [`max_peers`](super::TransportLayerConfig::max_peers). The error of the last dial is in the
    /// chain of sources. Fails with [`ClosedError`](super::ClosedError) if the socket is
    /// closed.
    pub async fn connected(&self, limit: Duration) -> anyhow::Result<ConnectionInfo> {
        connected(&*self.outbound, self.addr, limit).await
    }
}

impl<M: Message> OutgoingConnection<M> {
    /// Queues `message` for this peer, as
    /// [`TransportLayerSocket::send`](super::TransportLayerSocket::send) does. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the socket is closed. The error contains the message.
    pub async fn send(&self, message: M) -> Result<(), SendError<M>> {
        submit(&*self.outbound, self.addr, message).await
    }
}

impl<M> Clone for OutgoingConnection<M> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.outbound), self.addr)
    }
}

impl<M> std::fmt::Debug for OutgoingConnection<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingConnection")
            .field("peer_addr", &self.addr)
            .finish_non_exhaustive()
    }
}
