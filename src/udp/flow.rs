//! The state of one remote address on a port.
//!
//! A flow queues messages; the endpoint decides which datagrams belong to it. An address that was
//! accepted and is dialled has several connections, of which the newest one that is used ends the others. Invariants:
//! waiting messages are within the limits of [`UdpConfig`]; none is delivered after the flow has ended, and none is
//! queued after it was discarded.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::Share;
use super::config::UdpConfig;
use super::echo::Echo;
use super::error::UdpError;
use crate::net::{CloseCode, CloseReason};
use crate::rt::Instant;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};

/// [`Flow::take`] removes at most this many bytes at once, besides the message that reaches it.
const MAX_TAKEN_BYTES: usize = 64 << 10;

/// The messages that have arrived from one remote address, and whether its connection has ended.
#[derive(Debug)]
pub(super) struct Flow {
    remote_addr: SocketAddr,
    state: Mutex<State>,
    changed: Epoch,
}

#[derive(Debug)]
struct State {
    messages: VecDeque<Bytes>,
    // The sum of the lengths of `messages`.
    bytes: usize,
    last_heard: Instant,
    ended: Option<CloseReason>,
    is_discarded: bool,
    /// The connections that have not ended, in the order in which they were made.
    connections: Vec<u64>,
    /// The number of connections that were made.
    made: u64,
    echo: Echo,
}

/// What has become of a message that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// There was no room, and it is dropped.
    Full,
    /// The flow was discarded: the message is the first of a new flow.
    Discarded,
}

impl Flow {
    pub(super) fn new(remote_addr: SocketAddr, echo: Echo) -> Self {
        Self {
            remote_addr,
            state: Mutex::new(State {
                messages: VecDeque::new(),
                bytes: 0,
                last_heard: Instant::now(),
                ended: None,
                is_discarded: false,
                connections: Vec::new(),
                made: 0,
                echo,
            }),
            changed: Epoch::default(),
        }
    }

    pub(super) fn remote_addr(&self) -> SocketAddr {
        self.remote_addr
    }

    /// Queues a message, if there is room.
    pub(super) fn push(&self, message: Bytes, config: &UdpConfig) -> Pushed {
        let mut state = self.lock();
        if state.is_discarded {
            return Pushed::Discarded;
        }
        state.last_heard = Instant::now();
        state.echo.received(&message);
        if state.messages.len() >= config.max_messages_per_peer
            || state.bytes.saturating_add(message.len()) > config.max_bytes_per_peer
        {
            return Pushed::Full;
        }
        state.bytes += message.len();
        state.messages.push_back(message);
        drop(state);
        self.changed.advance();
        Pushed::Queued
    }

    /// Takes no more messages, and drops those that wait. Returns how many they were.
    pub(super) fn discard(&self) -> usize {
        let mut state = self.lock();
        state.is_discarded = true;
        state.bytes = 0;
        std::mem::take(&mut state.messages).len()
    }

    /// Begins a connection, and returns its id.
    pub(super) fn join(&self) -> u64 {
        let mut state = self.lock();
        state.made += 1;
        let id = state.made;
        state.connections.push(id);
        id
    }

    /// Ends the connections that were made before the connection `id`, which is used.
    pub(super) fn take_over(&self, id: u64) {
        let mut state = self.lock();
        if state.connections.first().is_none_or(|first| *first >= id) {
            return;
        }
        state.connections.retain(|other| *other >= id);
        drop(state);
        self.changed.advance();
    }

    /// Ends the connection `id`. Returns true if it was the last one. The caller must call [`wake`](Self::wake), outside
    /// of its locks.
    pub(super) fn leave(&self, id: u64) -> bool {
        let mut state = self.lock();
        let before = state.connections.len();
        state.connections.retain(|other| *other != id);
        before > 0 && state.connections.is_empty()
    }

    /// Wakes all tasks that wait on the flow.
    pub(super) fn wake(&self) {
        self.changed.advance();
    }

    /// Passes at least one and at most `max` messages to `take`, waiting if there is none. Returns
    /// `None` once the flow or its connection `id` has ended. Cancel-safe.
    pub(super) async fn take(
        &self,
        id: u64,
        max: usize,
        mut take: impl FnMut(Bytes),
    ) -> Option<()> {
        loop {
            let seen = self.changed.current();
            {
                let mut state = self.lock();
                if state.ended.is_some() || !state.connections.contains(&id) {
                    return None;
                }
                let (mut count, mut bytes) = (0, 0);
                while count < max && bytes <= MAX_TAKEN_BYTES {
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

    /// Notes a message that is about to be sent. Returns whether it may be; `budget` is asked for what
    /// exceeds the credit of an address that may be forged.
    pub(super) fn may_send(
        &self,
        message: &Bytes,
        budget: impl FnOnce(usize, Share) -> bool,
    ) -> bool {
        self.lock().echo.may_send(message, budget)
    }

    /// Returns whether the address has shown that it receives what is sent to it.
    pub(super) fn has_echoed(&self) -> bool {
        self.lock().echo.has_echoed()
    }

    /// Returns when the last datagram arrived.
    pub(super) fn last_heard(&self) -> Instant {
        self.lock().last_heard
    }

    /// Ends the flow because of an error, and wakes all tasks that wait on it. The first error is kept.
    pub(super) fn fail(&self, error: UdpError) {
        let reason = CloseReason::Lost(Arc::new(error.into()));
        self.lock().ended.get_or_insert(reason);
        self.changed.advance();
    }

    /// Returns why the connection `id`, which was not closed, has ended, if it has: a newer one has taken its place, or
    /// the flow has failed.
    pub(super) fn end_of(&self, id: u64) -> Option<CloseReason> {
        let state = self.lock();
        match state.connections.contains(&id) {
            true => state.ended.clone(),
            false => Some(CloseReason::Local(CloseCode::REDUNDANT)),
        }
    }

    /// Waits until `ended` returns something, which is asked whenever a connection of this flow has ended. Cancel-safe.
    pub(super) async fn wait_for<T>(&self, ended: impl Fn() -> Option<T>) -> T {
        loop {
            let seen = self.changed.current();
            if let Some(ended) = ended() {
                return ended;
            }
            self.changed.later_than(seen).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
