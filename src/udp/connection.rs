//! One peer's messages, and the stranger that becomes a peer.
//!
//! It knows one remote address; whose datagram it is, the endpoint has told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::endpoint::Endpoint;
use super::{UdpConfig, UdpError};
use crate::credential::Identity;
use crate::message::{ChitchatMessage, MAX_DATAGRAM_LEN, Message as _};
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection, NetIncomingRequest, NetListener};
use crate::rt::Instant;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::secure::FrameError;

/// What `recv_many` takes at most, beside the first.
const MANY_MESSAGES: usize = 1024;
const MANY_BYTES: usize = 64 << 10;

static CHITCHAT: Alpn = ChitchatMessage::ALPN;

/// Messages of one remote address, and whether anybody still wants them.
#[derive(Debug)]
pub(super) struct Link {
    remote: SocketAddr,
    state: Mutex<State>,
    changed: Epoch,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Bytes>,
    bytes: usize,
    heard: Instant,
    ended: Option<CloseReason>,
}

impl Link {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self {
            remote,
            state: Mutex::new(State {
                messages: VecDeque::new(),
                bytes: 0,
                heard: Instant::now(),
                ended: None,
            }),
            changed: Epoch::default(),
        }
    }

    pub(super) fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// False if too much waits already.
    pub(super) fn push(&self, message: Bytes, config: &UdpConfig) -> bool {
        let mut state = self.lock();
        state.heard = Instant::now();
        if state.messages.len() >= config.max_messages_per_peer
            || state.bytes.saturating_add(message.len()) > config.max_bytes_per_peer
        {
            return false;
        }
        state.bytes += message.len();
        state.messages.push_back(message);
        drop(state);
        self.changed.advance();
        true
    }

    pub(super) fn fail(&self, error: UdpError) {
        self.end(CloseReason::Lost(Arc::new(error.into())));
    }

    fn end(&self, reason: CloseReason) {
        self.lock().ended.get_or_insert(reason);
        self.changed.advance();
    }

    /// At least one message; `None` once the link has ended.
    async fn take(&self, max: usize, mut take: impl FnMut(Bytes)) -> Option<()> {
        loop {
            let seen = self.changed.current();
            {
                let mut state = self.lock();
                if state.ended.is_some() {
                    return None;
                }
                let (mut count, mut bytes) = (0, 0);
                while count < max && bytes <= MANY_BYTES {
                    let Some(message) = state.messages.pop_front() else {
                        break;
                    };
                    state.bytes -= message.len();
                    count += 1;
                    bytes += message.len();
                    take(message);
                }
                if count > 0 {
                    return Some(());
                }
            }
            self.changed.later_than(seen).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// A peer's address, and the messages that come from it: no connection in any stronger sense, and
/// nothing that protects it. See [`PlaintextUdpTransport`](super::PlaintextUdpTransport).
///
/// Clones share it; with the last one the peer is forgotten. Its remote identity is
/// [`Identity::UNPROVED`].
#[derive(Debug, Clone)]
pub struct UdpConnection(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    endpoint: Arc<Endpoint>,
    link: Arc<Link>,
    identity: Identity,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.endpoint.forget(&self.link);
    }
}

impl UdpConnection {
    pub(super) fn dialled(
        endpoint: Arc<Endpoint>,
        remote: SocketAddr,
        identity: Identity,
    ) -> Result<Self, UdpError> {
        let link = endpoint.link(remote)?;
        Ok(Self(Arc::new(Handle {
            endpoint,
            link,
            identity,
        })))
    }

    fn check_open(&self) -> anyhow::Result<()> {
        match &self.0.link.lock().ended {
            None => Ok(()),
            Some(reason) => {
                let reason = reason.clone();
                Err(FrameError::Closed { reason }.into())
            }
        }
    }

    async fn take(&self, max: usize, take: impl FnMut(Bytes)) -> anyhow::Result<()> {
        match self.0.link.take(max, take).await {
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
        self.0.link.remote
    }

    fn local_identity(&self) -> Identity {
        self.0.identity
    }

    /// [`Identity::UNPROVED`].
    fn remote_identity(&self) -> Identity {
        Identity::UNPROVED
    }

    fn alpn_negotiated(&self) -> &Alpn {
        &CHITCHAT
    }

    /// See [`NetConnection::send_many`]: one datagram for each. That the network has taken it does
    /// not mean that it arrives.
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        self.check_open()?;
        let to = self.0.link.remote;
        while let Some(message) = batch.front() {
            let (len, max) = (message.len(), MAX_DATAGRAM_LEN);
            if len > max {
                batch.pop_front();
                return Err(FrameError::MessageTooLong { len, max }.into());
            }
            let sent = self.0.endpoint.socket().send_to(message, to).await;
            sent.map_err(|source| UdpError::Send { to, source })?;
            batch.pop_front();
        }
        Ok(())
    }

    /// Does nothing: upstream nodes know no such message.
    async fn keepalive(&self) -> anyhow::Result<()> {
        self.check_open()
    }

    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        let mut received = None;
        self.take(1, |message| received = Some(message)).await?;
        Ok(received)
    }

    async fn recv_many(&self, messages: &mut Vec<Bytes>) -> anyhow::Result<bool> {
        self.take(MANY_MESSAGES, |message| messages.push(message))
            .await?;
        Ok(true)
    }

    fn silence(&self) -> Duration {
        self.0.link.lock().heard.elapsed()
    }

    /// Ends it here; the peer is told nothing.
    async fn close(&self, code: CloseCode) {
        self.0.link.end(CloseReason::Local(code));
        self.0.endpoint.forget(&self.0.link);
    }

    async fn watch_close(&self) -> CloseReason {
        let link = &self.0.link;
        loop {
            let seen = link.changed.current();
            if let Some(reason) = &link.lock().ended {
                return reason.clone();
            }
            link.changed.later_than(seen).await;
        }
    }
}

/// A bound port for datagrams. Dropping it turns strangers away, and frees the port once the
/// connections over it are dropped as well.
#[derive(Debug)]
pub struct UdpListener {
    endpoint: Arc<Endpoint>,
    identity: Identity,
}

impl UdpListener {
    pub(super) fn new(endpoint: Arc<Endpoint>, identity: Identity) -> Self {
        endpoint.listen(true);
        Self { endpoint, identity }
    }
}

impl Drop for UdpListener {
    fn drop(&mut self) {
        self.endpoint.listen(false);
    }
}

impl NetListener for UdpListener {
    type IncomingRequest = UdpIncomingRequest;
    type Connection = UdpConnection;

    fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    async fn accept(&self) -> anyhow::Result<UdpIncomingRequest> {
        let link = self.endpoint.stranger().await?;
        Ok(UdpIncomingRequest(Handle {
            endpoint: Arc::clone(&self.endpoint),
            link,
            identity: self.identity,
        }))
    }
}

/// An address that has sent a message. Dropping it forgets the message.
#[derive(Debug)]
pub struct UdpIncomingRequest(Handle);

impl NetIncomingRequest for UdpIncomingRequest {
    type Connection = UdpConnection;

    fn remote_addr(&self) -> SocketAddr {
        self.0.link.remote
    }

    async fn accept(self) -> anyhow::Result<UdpConnection> {
        Ok(UdpConnection(Arc::new(self.0)))
    }
}
