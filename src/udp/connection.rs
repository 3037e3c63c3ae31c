//! A flow as a connection of the transport layer.
//!
//! It adds no protocol of its own: no handshake, no acknowledgement, no goodbye. Invariant: a
//! connection ends when it is closed, when its last clone is dropped, or when a newer one of the same flow is used; with
//! the last connection of a flow, the endpoint forgets the flow.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::endpoint::Endpoint;
use super::error::UdpError;
use super::flow::Flow;
use crate::credential::Identity;
use crate::message::{ChitchatMessage, MAX_DATAGRAM_LEN, Message as _};
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection};
use crate::rt::Instant;
use crate::secure::FrameError;

/// `recv_many` returns at most this many messages at once.
const MAX_RECEIVED: usize = 1024;

/// The messages that arrive from one address, and the means to send to it. It is not a connection
/// in any stronger sense, and nothing protects it: it belongs to a
/// [`PlaintextUdpTransport`](super::PlaintextUdpTransport).
///
/// Clones share it. If an address that was accepted is dialled, the connection that was dialled takes the place of the
/// accepted one once it is used. When the last connection with the peer is dropped, the peer is forgotten. The remote
/// identity is always [`Identity::UNPROVED`].
#[derive(Debug, Clone)]
pub struct UdpConnection(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    endpoint: Arc<Endpoint>,
    flow: Arc<Flow>,
    /// The id of this connection of the flow.
    id: u64,
    identity: Identity,
    alpn: Alpn,
    /// Set when it is closed.
    closed: OnceLock<CloseCode>,
    /// Set when it has taken the place of older connections of the flow.
    is_used: OnceLock<()>,
}

impl Handle {
    fn close(&self, code: CloseCode) {
        if self.closed.set(code).is_ok() {
            self.endpoint.leave(&self.flow, self.id);
        }
    }

    /// Takes the place of older connections of the flow. Later calls cost nothing, since a connection that is made later
    /// is newer.
    fn note_use(&self) {
        self.is_used.get_or_init(|| self.flow.take_over(self.id));
    }

    fn ended(&self) -> Option<CloseReason> {
        let closed = self.closed.get().copied().map(CloseReason::Local);
        closed.or_else(|| self.flow.end_of(self.id))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close(CloseCode::NORMAL);
    }
}

impl UdpConnection {
    /// Returns the connection of a flow that has this id.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        (flow, id): (Arc<Flow>, u64),
        identity: Identity,
    ) -> Self {
        Self(Arc::new(Handle {
            endpoint,
            flow,
            id,
            identity,
            alpn: ChitchatMessage::ALPN,
            closed: OnceLock::new(),
            is_used: OnceLock::new(),
        }))
    }

    fn check_open(&self) -> anyhow::Result<()> {
        match self.0.ended() {
            None => Ok(()),
            Some(reason) => Err(FrameError::Closed { reason }.into()),
        }
    }

    async fn take(&self, max: usize, take: impl FnMut(Bytes)) -> anyhow::Result<()> {
        self.0.note_use();
        match self.0.flow.take(self.0.id, max, take).await {
            Some(()) => Ok(()),
            None => self.check_open(),
        }
    }
}

impl NetConnection for UdpConnection {
    fn local_addr(&self) -> SocketAddr {
        self.0.endpoint.local_addr()
    }

    fn remote_addr(&self) -> SocketAddr {
        self.0.flow.remote_addr()
    }

    fn local_identity(&self) -> Identity {
        self.0.identity
    }

    /// Returns [`Identity::UNPROVED`].
    fn remote_identity(&self) -> Identity {
        Identity::UNPROVED
    }

    fn alpn_negotiated(&self) -> &Alpn {
        &self.0.alpn
    }

    /// Sends each message as one datagram. Completion means that the system has accepted the
    /// datagrams, not that they arrive. A message to an address that may be forged is dropped, and
    /// counted, if it exceeds what such addresses get.
    ///
    /// # Errors
    ///
    /// Fails with [`FrameError::MessageTooLong`] if a message is longer than a datagram; that
    /// message is removed from the batch. Fails with [`UdpError::Send`] if the system refuses a
    /// datagram, and with [`FrameError::Closed`] if the connection has ended.
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        self.0.note_use();
        self.check_open()?;
        let to = self.remote_addr();
        while let Some(message) = batch.front() {
            let (len, max) = (message.len(), MAX_DATAGRAM_LEN);
            if len > max {
                batch.pop_front();
                return Err(FrameError::MessageTooLong { len, max }.into());
            }
            let sent = self.0.endpoint.send(message, &self.0.flow).await;
            sent.map_err(|source| UdpError::Send { to, source })?;
            batch.pop_front();
        }
        Ok(())
    }

    /// Sends nothing, because upstream nodes have no message for it.
    async fn keepalive(&self) -> anyhow::Result<()> {
        self.check_open()
    }

    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        let mut received = None;
        self.take(1, |message| received = Some(message)).await?;
        Ok(received)
    }

    async fn recv_many(&self, messages: &mut Vec<Bytes>) -> anyhow::Result<bool> {
        self.take(MAX_RECEIVED, |message| messages.push(message))
            .await?;
        Ok(true)
    }

    fn last_heard(&self) -> Instant {
        self.0.flow.last_heard()
    }

    /// Ends the connection on this side. Nothing is sent to the peer.
    async fn close(&self, code: CloseCode) {
        self.0.close(code);
    }

    async fn watch_close(&self) -> CloseReason {
        self.0.flow.wait_for(|| self.0.ended()).await
    }
}
