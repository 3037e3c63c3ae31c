//! Messages received and not yet taken.
//!
//! It knows addresses and messages, no connection and no clock. Invariants: received = delivered +
//! queued + dropped, for each peer and in all; no bound is ever exceeded; each peer's messages are
//! given in the order in which they came; a message is evicted only from the peer that has the
//! most.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use super::ranking::Ranking;
use super::{ClosedError, DropReason, IncomingConfig, PeerMap, PeerStats};
use crate::rt::sync::{Mutex, MutexGuard, Ticket, WaitList};

use state::{Bound, State};

/// See the module. Shared by the tasks that read connections and the callers of `recv`.
#[derive(Debug)]
pub(super) struct IncomingQueue<M> {
    state: Mutex<State<M>>,
}

impl<M> IncomingQueue<M> {
    pub(super) fn new(config: IncomingConfig) -> Self {
        Self {
            state: Mutex::new(State {
                config,
                closed: false,
                peers: PeerMap::default(),
                turns: VecDeque::new(),
                ranking: Ranking::default(),
                messages: 0,
                bytes: 0,
                spare: Vec::new(),
                folded: PeerStats::default(),
                receivers: WaitList::default(),
                readers: WaitList::default(),
            }),
        }
    }

    /// Takes messages from `from`, each with its length in bytes, by policy, and enters the queue
    /// only once for all of them. What is left in `messages` found no room, under `Backpressure`.
    pub(super) fn try_push_many(&self, from: SocketAddr, messages: &mut VecDeque<(M, usize)>) {
        let mut state = self.lock();
        if !state.push_all(from, messages) {
            while let Some((message, len)) = messages.pop_front() {
                if let Err((message, _)) = state.push(from, message, len, None) {
                    messages.push_front((message, len));
                    break;
                }
            }
        }
        let waker = state.receivers.first();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes one message and waits for room under `Backpressure`. Cancelled, the message is lost
    /// and not counted.
    pub(super) async fn push(&self, from: SocketAddr, message: M, len: usize) {
        let mut place = ReaderPlace {
            queue: self,
            from,
            bound: None,
            ticket: None,
        };
        let mut in_hand = Some(message);
        poll_fn(|cx| match in_hand.take() {
            None => Poll::Ready(()),
            Some(message) => match self.poll_push(&mut place, message, len, cx) {
                Ok(()) => Poll::Ready(()),
                Err(message) => {
                    in_hand = Some(message);
                    Poll::Pending
                }
            },
        })
        .await;
    }

    fn poll_push(
        &self,
        place: &mut ReaderPlace<'_, M>,
        message: M,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Result<(), M> {
        let mut state = self.lock();
        let mut wakers = Vec::new();
        let pushed = state.push(place.from, message, len, place.held());
        let pushed = match pushed {
            Ok(()) => {
                place.leave(&mut state, &mut wakers);
                wakers.extend(state.receivers.first());
                Ok(())
            }
            Err((message, bound)) => {
                if place
                    .bound
                    .is_some_and(|held| (held == Bound::Peer) != (bound == Bound::Peer))
                {
                    place.leave(&mut state, &mut wakers);
                }
                place.bound = Some(bound);
                if bound == Bound::Peer {
                    let peer = state.peers.entry(place.from).or_default();
                    peer.readers.join(&mut place.ticket, cx.waker());
                } else {
                    state.readers.join(&mut place.ticket, cx.waker());
                }
                Err(message)
            }
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        pushed
    }

    /// Counts `len` bytes from `from` that were no message.
    pub(super) fn count_undecodable(&self, from: SocketAddr, len: usize) -> u64 {
        let mut state = self.lock();
        state.refuse(from, len, DropReason::DecodeFailed);
        let count = state.peers.get(&from).map(|peer| {
            peer.counters
                .incoming_dropped
                .count(DropReason::DecodeFailed)
        });
        state.fold_if_done(from);
        count.unwrap_or(0)
    }

    /// The next message: peers with messages take turns. Cancel-safe.
    pub(super) async fn recv(&self) -> Result<(SocketAddr, M), ClosedError> {
        let mut place = ReceiverPlace {
            queue: self,
            ticket: None,
        };
        poll_fn(|cx| self.poll_recv(&mut place.ticket, cx)).await
    }

    fn poll_recv(
        &self,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(SocketAddr, M), ClosedError>> {
        let mut state = self.lock();
        let mut wakers = Vec::new();
        let poll = if let Some((from, message, reader)) = state.pop() {
            state.receivers.leave(ticket);
            if state.messages > 0 {
                wakers.extend(state.receivers.first());
            }
            wakers.extend(state.readers.first());
            wakers.extend(reader);
            Poll::Ready(Ok((from, message)))
        } else if state.closed {
            state.receivers.leave(ticket);
            wakers.extend(state.receivers.first());
            Poll::Ready(Err(ClosedError))
        } else {
            state.receivers.join(ticket, cx.waker());
            Poll::Pending
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        poll
    }

    /// What is queued can still be taken; then `recv` ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers: Vec<_> = state.receivers.all().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Keeps the counters of `peer` until [`forget`](Self::forget).
    pub(super) fn remember(&self, peer: SocketAddr) {
        self.lock().peers.entry(peer).or_default().known = true;
    }

    /// Adds the counters of `peer` to the total once its messages are taken.
    pub(super) fn forget(&self, peer: SocketAddr) {
        let mut state = self.lock();
        if let Some(entry) = state.peers.get_mut(&peer) {
            entry.known = false;
        }
        state.fold_if_done(peer);
    }

    /// Adds the counters to `peers`, and those of peers no longer listed to `total`.
    pub(super) fn stats(&self, total: &mut PeerStats, peers: &mut BTreeMap<SocketAddr, PeerStats>) {
        let state = self.lock();
        total.merge(&state.folded);
        for (addr, peer) in &state.peers {
            let mut counters = peer.counters.clone();
            counters.incoming_queued = peer.messages.len() as u64;
            peers.entry(*addr).or_default().merge(&counters);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock()
    }
}

/// A reader's place in line, given up when the reader is dropped.
struct ReaderPlace<'a, M> {
    queue: &'a IncomingQueue<M>,
    from: SocketAddr,
    bound: Option<Bound>,
    ticket: Ticket,
}

impl<M> ReaderPlace<'_, M> {
    fn held(&self) -> Option<(Bound, Ticket)> {
        self.bound.map(|bound| (bound, self.ticket))
    }

    fn leave(&mut self, state: &mut State<M>, wakers: &mut Vec<Waker>) {
        let readers = match self.bound.take() {
            None => return,
            Some(Bound::Peer) => match state.peers.get_mut(&self.from) {
                Some(peer) => &mut peer.readers,
                None => return,
            },
            Some(Bound::Messages | Bound::Bytes) => &mut state.readers,
        };
        if readers.leave(&mut self.ticket) {
            wakers.extend(readers.first());
        }
    }
}

impl<M> Drop for ReaderPlace<'_, M> {
    fn drop(&mut self) {
        if self.bound.is_none() {
            return;
        }
        let mut wakers = Vec::new();
        let queue = self.queue;
        let mut state = queue.lock();
        self.leave(&mut state, &mut wakers);
        state.fold_if_done(self.from);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A receiver's place in line, given up when the receiver is dropped.
struct ReceiverPlace<'a, M> {
    queue: &'a IncomingQueue<M>,
    ticket: Ticket,
}

impl<M> Drop for ReceiverPlace<'_, M> {
    fn drop(&mut self) {
        if self.ticket.is_none() {
            return;
        }
        let mut state = self.queue.lock();
        let first = state.receivers.leave(&mut self.ticket);
        let waker = state.receivers.first().filter(|_| first);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

mod state;
#[cfg(test)]
mod tests;
