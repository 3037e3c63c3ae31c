//! A peer's queue and the task that empties it.

use std::net::SocketAddr;
use std::time::Duration;

use super::{ClosedError, ConnectionInfo};

/// A handle to one peer's queue.
#[derive(Debug)]
pub struct OutgoingConnection<M>(std::marker::PhantomData<fn() -> M>);

impl<M> OutgoingConnection<M> {
    /// Whose queue this is.
    pub fn peer_addr(&self) -> SocketAddr {
        todo!()
    }
    /// Dials if there is no live connection, and waits until there is one. Cancel-safe.
    ///
    /// # Errors
    ///
    /// No connection within `limit` (the last dial's error as source), or the socket is closed.
    pub async fn connected(&self, _limit: Duration) -> anyhow::Result<ConnectionInfo> {
        let _: Option<ClosedError> = None;
        todo!()
    }
}
