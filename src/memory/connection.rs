//! A connection: two pipes, and the reason of its end.
//!
//! It checks no credentials; the listener has done that before a connection exists. Invariant: once
//! an end has ended, its reason does not change and all its waiting calls return.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};

use super::pipe::{Abandoned, Item, Pipe};
use crate::credential::{Claims, Grounds, Identity};
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection};
use crate::rt::Instant;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::secure::FrameError;

/// A connection over a [`MemoryNetwork`](super::MemoryNetwork). Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryConnection(Arc<End>);

/// One end of a connection, shared by the clones of its [`MemoryConnection`].
#[derive(Debug)]
struct End {
    info: Info,
    outgoing: Arc<Pipe>,
    incoming: Arc<Pipe>,
    max_message_len: usize,
    state: Mutex<State>,
    ended: Epoch,
}

/// What the handshake would tell one end: addresses, identities and the protocol.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) local_addr: SocketAddr,
    pub(super) remote_addr: SocketAddr,
    pub(super) local_identity: Identity,
    pub(super) remote_identity: Identity,
    /// What the other end has proved besides.
    pub(super) grounds: Grounds,
    /// The claims of the invite of the other end.
    pub(super) claims: Option<Arc<Claims>>,
    /// The address that the other end states.
    pub(super) stated_addr: Option<SocketAddr>,
    pub(super) alpn: Alpn,
}

#[derive(Debug)]
struct State {
    ended: Option<CloseReason>,
    last_heard: Instant,
    last_answer: Option<Instant>,
    /// Whether this end has said goodbye, and still receives.
    leaving: bool,
}

impl MemoryConnection {
    pub(super) fn new(
        info: Info,
        outgoing: Arc<Pipe>,
        incoming: Arc<Pipe>,
        max_message_len: usize,
    ) -> Self {
        Self(Arc::new(End {
            info,
            outgoing,
            incoming,
            max_message_len,
            state: Mutex::new(State {
                ended: None,
                last_heard: Instant::now(),
                last_answer: None,
                leaving: false,
            }),
            ended: Epoch::default(),
        }))
    }
}

impl End {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn ended(&self) -> Option<CloseReason> {
        self.lock().ended.clone()
    }

    /// Ends the connection. The first reason is kept.
    fn end(&self, reason: CloseReason) {
        {
            let mut state = self.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(reason);
        }
        self.incoming.abandon();
        self.ended.advance();
    }

    /// Ends the connection as one that was lost.
    fn end_as_lost(&self) {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = FrameError::from(error);
        self.end(CloseReason::Lost(Arc::new(error.into())));
    }

    /// Returns the error of a call on a connection that has ended.
    fn ended_error(&self) -> anyhow::Error {
        match self.ended() {
            Some(CloseReason::Lost(error)) => match error.downcast_ref::<FrameError>() {
                Some(error) => error.clone().into(),
                None => FrameError::Truncated.into(),
            },
            Some(reason) => FrameError::Closed { reason }.into(),
            None => FrameError::Truncated.into(),
        }
    }

    /// Sends an item that is not a message. Does nothing behind a goodbye: the other end may have answered it and
    /// be gone, and what it has sent before is still on its way.
    fn push(&self, item: Item) -> anyhow::Result<()> {
        if self.ended().is_some() {
            return Err(self.ended_error());
        }
        if self.lock().leaving {
            return Ok(());
        }
        self.outgoing.push(item).map_err(|Abandoned| {
            self.end_as_lost();
            self.ended_error()
        })
    }

    /// Runs `future`. Returns `None` if the connection ends first.
    async fn unless_ended<F: Future>(&self, future: F) -> Option<F::Output> {
        let seen = self.ended.current();
        if self.ended().is_some() {
            return None;
        }
        let ended = pin!(self.ended.later_than(seen));
        match select(pin!(future), ended).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Fails only if the other end is gone as well.
        let _ = self.outgoing.push(Item::Broken);
        self.incoming.abandon();
    }
}

impl NetConnection for MemoryConnection {
    fn local_addr(&self) -> SocketAddr {
        self.0.info.local_addr
    }

    fn remote_addr(&self) -> SocketAddr {
        self.0.info.remote_addr
    }

    fn local_identity(&self) -> Identity {
        self.0.info.local_identity
    }

    fn remote_identity(&self) -> Identity {
        self.0.info.remote_identity
    }

    fn grounds(&self) -> Grounds {
        self.0.info.grounds
    }

    fn claims(&self) -> Option<&Arc<Claims>> {
        self.0.info.claims.as_ref()
    }

    fn stated_addr(&self) -> Option<SocketAddr> {
        self.0.info.stated_addr
    }

    fn alpn_negotiated(&self) -> &Alpn {
        &self.0.info.alpn
    }

    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        let end = &self.0;
        while let Some(message) = batch.front() {
            let (len, max) = (message.len(), end.max_message_len);
            if len > max {
                batch.pop_front();
                return Err(FrameError::MessageTooLong { len, max }.into());
            }
            match end.unless_ended(end.outgoing.send(message)).await {
                Some(Ok(())) => batch.pop_front(),
                Some(Err(Abandoned)) => {
                    end.end_as_lost();
                    return Err(end.ended_error());
                }
                None => return Err(end.ended_error()),
            };
        }
        if end.ended().is_some() {
            return Err(end.ended_error());
        }
        Ok(())
    }

    async fn keepalive(&self) -> anyhow::Result<()> {
        self.0.push(Item::Keepalive)
    }

    async fn probe(&self) -> anyhow::Result<()> {
        self.0.push(Item::Probe)
    }

    fn last_answer(&self) -> Option<Instant> {
        self.0.lock().last_answer
    }

    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        let end = &self.0;
        loop {
            let Some(item) = end.unless_ended(end.incoming.recv()).await else {
                return match end.ended() {
                    Some(CloseReason::Remote(_)) => Ok(None),
                    _ => Err(end.ended_error()),
                };
            };
            end.lock().last_heard = Instant::now();
            match item {
                Item::Message(message) => return Ok(Some(message)),
                Item::Keepalive => {}
                // The messages before it have been returned by earlier calls. Fails only if the other
                // end is gone, which the next item says.
                Item::Probe => drop(end.outgoing.push(Item::Answer)),
                Item::Answer => end.lock().last_answer = Some(Instant::now()),
                Item::Goodbye(code) => {
                    if code.is_answered() && !end.lock().leaving {
                        // Fails only if the other end is gone.
                        let _ = end.outgoing.push(Item::Goodbye(code));
                    }
                    end.end(CloseReason::Remote(code));
                }
                Item::Broken => end.end_as_lost(),
            }
        }
    }

    fn last_heard(&self) -> Instant {
        self.0.lock().last_heard
    }

    async fn close(&self, code: CloseCode) {
        if self.0.ended().is_none() {
            // Fails only if the other end is gone already.
            let _ = self.0.outgoing.push(Item::Goodbye(code));
            self.0.end(CloseReason::Local(code));
        }
    }

    async fn leave(&self, code: CloseCode) {
        let is_first = {
            let mut state = self.0.lock();
            let is_open = state.ended.is_none() && !state.leaving;
            state.leaving |= is_open;
            is_open
        };
        if is_first {
            // Fails only if the other end is gone already.
            let _ = self.0.outgoing.push(Item::Goodbye(code));
        }
    }

    async fn watch_close(&self) -> CloseReason {
        loop {
            let seen = self.0.ended.current();
            if let Some(reason) = self.0.ended() {
                return reason;
            }
            self.0.ended.later_than(seen).await;
        }
    }
}
