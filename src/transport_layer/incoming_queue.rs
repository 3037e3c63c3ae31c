//! Messages received and not yet taken.
//!
//! It knows addresses and messages, no connection and no clock. Invariants: received = delivered +
//! queued + dropped, for each peer and in all; no bound is ever exceeded; each peer's messages are
//! given in the order in which they came; a message is evicted only from the peer that has the
//! most.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::wait::{Ticket, WaitList};
use super::{ClosedError, DropReason, IncomingConfig, OverflowPolicy, PeerStats};

/// See the module. Shared by the tasks that read connections and the callers of `recv`.
#[derive(Debug)]
pub(super) struct IncomingQueue<M> {
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    config: IncomingConfig,
    closed: bool,
    peers: HashMap<SocketAddr, Peer<M>>,
    /// Peers whose turn comes, each at most once (`Peer::in_turn`); one may have become empty.
    turns: VecDeque<SocketAddr>,
    /// Peers with messages, by how many and by how many bytes: the last one loses when the queue
    /// is full.
    by_messages: BTreeSet<(usize, SocketAddr)>,
    by_bytes: BTreeSet<(usize, SocketAddr)>,
    messages: usize,
    bytes: usize,
    /// Counts of peers that are no longer listed.
    folded: PeerStats,
    receivers: WaitList,
    /// Readers that wait because the queue as a whole is full.
    readers: WaitList,
}

#[derive(Debug)]
struct Peer<M> {
    messages: VecDeque<(M, usize)>,
    bytes: usize,
    counters: PeerStats,
    in_turn: bool,
    /// Whether the socket knows the peer; if not, the entry goes with its last message.
    known: bool,
    /// Readers that wait because this peer's part is full.
    readers: WaitList,
}

impl<M> Default for Peer<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            counters: PeerStats::default(),
            in_turn: false,
            known: false,
            readers: WaitList::default(),
        }
    }
}

/// Which bound a message does not fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Peer,
    Messages,
    Bytes,
}

impl<M> IncomingQueue<M> {
    pub(super) fn new(config: IncomingConfig) -> Self {
        Self {
            state: Mutex::new(State {
                config,
                closed: false,
                peers: HashMap::new(),
                turns: VecDeque::new(),
                by_messages: BTreeSet::new(),
                by_bytes: BTreeSet::new(),
                messages: 0,
                bytes: 0,
                folded: PeerStats::default(),
                receivers: WaitList::default(),
                readers: WaitList::default(),
            }),
        }
    }

    /// Takes a message of `len` bytes from `from`, by policy. Under `Backpressure` it gives the
    /// message back if there is no room.
    pub(super) fn try_push(&self, from: SocketAddr, message: M, len: usize) -> Result<(), M> {
        let mut state = self.lock();
        let pushed = state.push(from, message, len, None);
        let waker = state.receivers.first();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        pushed.map_err(|(message, _)| message)
    }

    /// As [`try_push`](Self::try_push), but waits for room. Cancelled, the message is lost and
    /// not counted.
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
        let poll = if let Some((from, message)) = state.pop() {
            state.receivers.leave(ticket);
            if state.messages > 0 {
                wakers.extend(state.receivers.first());
            }
            wakers.extend(state.readers.first());
            if let Some(peer) = state.peers.get(&from) {
                wakers.extend(peer.readers.first());
            }
            state.fold_if_done(from);
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    /// `held` is the reader's place, if it has waited.
    fn push(
        &mut self,
        from: SocketAddr,
        message: M,
        len: usize,
        held: Option<(Bound, Ticket)>,
    ) -> Result<(), (M, Bound)> {
        if len > self.config.max_bytes_per_peer.min(self.config.max_bytes) {
            self.refuse(from, len, DropReason::TooLarge);
            self.fold_if_done(from);
            return Ok(());
        }
        let missing = self.missing_room(from, 1, len);
        match (self.config.overflow, missing) {
            (OverflowPolicy::Backpressure, Some(bound)) => return Err((message, bound)),
            (OverflowPolicy::Backpressure, None) => {
                if let Some(bound) = self.others_first(from, held) {
                    return Err((message, bound));
                }
            }
            (OverflowPolicy::DropNewest, Some(_)) => {
                self.refuse(from, len, DropReason::Overflow);
                self.fold_if_done(from);
                return Ok(());
            }
            (OverflowPolicy::DropNewest | OverflowPolicy::DropOldest, _) => {}
        }
        self.append(from, message, len);
        // With the new message counted, so that whoever has the most, this peer perhaps, pays.
        while let Some(bound) = self.missing_room(from, 0, 0) {
            let victim = match bound {
                Bound::Peer => Some(from),
                Bound::Messages => self.most(&self.by_messages, from, |peer| peer.messages.len()),
                Bound::Bytes => self.most(&self.by_bytes, from, |peer| peer.bytes),
            };
            let Some(victim) = victim else { break };
            if self.take_first(victim).is_none() {
                break;
            }
            if let Some(peer) = self.peers.get_mut(&victim) {
                peer.counters.incoming_dropped.add(DropReason::Overflow, 1);
            }
            self.fold_if_done(victim);
        }
        Ok(())
    }

    /// Who has the most by `order`; `from`, if it has no less.
    fn most(
        &self,
        order: &BTreeSet<(usize, SocketAddr)>,
        from: SocketAddr,
        size: impl Fn(&Peer<M>) -> usize,
    ) -> Option<SocketAddr> {
        let (most, addr) = order.last()?;
        let own = self.peers.get(&from).map_or(0, size);
        Some(if own >= *most { from } else { *addr })
    }

    /// The bound that `more` messages of `len` bytes from `from` would break.
    fn missing_room(&self, from: SocketAddr, more: usize, len: usize) -> Option<Bound> {
        let (count, bytes) = self
            .peers
            .get(&from)
            .map_or((0, 0), |peer| (peer.messages.len(), peer.bytes));
        let over = |have: usize, add: usize, max: usize| have.saturating_add(add) > max;
        if over(count, more, self.config.max_messages_per_peer)
            || over(bytes, len, self.config.max_bytes_per_peer)
        {
            Some(Bound::Peer)
        } else if over(self.messages, more, self.config.max_messages) {
            Some(Bound::Messages)
        } else if over(self.bytes, len, self.config.max_bytes) {
            Some(Bound::Bytes)
        } else {
            None
        }
    }

    /// Whether a reader that came earlier has to go first, and which list it is in.
    fn others_first(&self, from: SocketAddr, held: Option<(Bound, Ticket)>) -> Option<Bound> {
        let ticket = |of_peer: bool| {
            held.filter(|(bound, _)| (*bound == Bound::Peer) == of_peer)
                .and_then(|(_, ticket)| ticket)
        };
        let own = self.peers.get(&from).map(|peer| &peer.readers);
        if own.is_some_and(|readers| !readers.may_pass(ticket(true))) {
            Some(Bound::Peer)
        } else if !self.readers.may_pass(ticket(false)) {
            Some(Bound::Messages)
        } else {
            None
        }
    }

    fn refuse(&mut self, from: SocketAddr, len: usize, reason: DropReason) {
        let counters = &mut self.peers.entry(from).or_default().counters;
        counters.received += 1;
        counters.received_bytes += len as u64;
        counters.incoming_dropped.add(reason, 1);
    }

    fn append(&mut self, from: SocketAddr, message: M, len: usize) {
        self.unlist(from);
        let peer = self.peers.entry(from).or_default();
        peer.counters.received += 1;
        peer.counters.received_bytes += len as u64;
        peer.messages.push_back((message, len));
        peer.bytes += len;
        if !peer.in_turn {
            peer.in_turn = true;
            self.turns.push_back(from);
        }
        self.messages += 1;
        self.bytes += len;
        self.list(from);
    }

    fn pop(&mut self) -> Option<(SocketAddr, M)> {
        while let Some(from) = self.turns.pop_front() {
            let message = self.take_first(from);
            let Some(peer) = self.peers.get_mut(&from) else {
                continue;
            };
            peer.in_turn = !peer.messages.is_empty();
            if peer.in_turn {
                self.turns.push_back(from);
            }
            if let Some(message) = message {
                peer.counters.delivered += 1;
                return Some((from, message));
            }
            self.fold_if_done(from);
        }
        None
    }

    fn take_first(&mut self, from: SocketAddr) -> Option<M> {
        self.unlist(from);
        let taken = self.peers.get_mut(&from).and_then(|peer| {
            let (message, len) = peer.messages.pop_front()?;
            peer.bytes -= len;
            Some((message, len))
        });
        self.list(from);
        let (message, len) = taken?;
        self.messages -= 1;
        self.bytes -= len;
        Some(message)
    }

    fn list(&mut self, addr: SocketAddr) {
        if let Some(peer) = self.peers.get(&addr)
            && !peer.messages.is_empty()
        {
            self.by_messages.insert((peer.messages.len(), addr));
            self.by_bytes.insert((peer.bytes, addr));
        }
    }

    fn unlist(&mut self, addr: SocketAddr) {
        if let Some(peer) = self.peers.get(&addr) {
            self.by_messages.remove(&(peer.messages.len(), addr));
            self.by_bytes.remove(&(peer.bytes, addr));
        }
    }

    fn fold_if_done(&mut self, addr: SocketAddr) {
        let done = self
            .peers
            .get(&addr)
            .is_some_and(|peer| !peer.known && peer.messages.is_empty() && peer.readers.is_empty());
        if done && let Some(peer) = self.peers.remove(&addr) {
            if peer.in_turn {
                self.turns.retain(|turn| *turn != addr);
            }
            self.folded.merge(&peer.counters);
        }
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

#[cfg(test)]
mod tests;
