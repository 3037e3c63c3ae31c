//! Messages received and not yet taken.
//!
//! It knows addresses and messages, no connection and no clock. Invariants: received = delivered +
//! queued + dropped, for each peer and in all; no bound is ever exceeded; each peer's messages are
//! given in the order in which they came; a message is evicted only from the peer that has the
//! most.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::ranking::{Ranking, Sizes};
use super::wait::{Ticket, WaitList};
use super::{ClosedError, DropReason, IncomingConfig, OverflowPolicy, PeerMap, PeerStats};

/// Messages for which a peer that has none keeps room.
const KEPT_ROOM: usize = 16;
/// Grown queues that are kept for whoever needs one next.
const SPARE_QUEUES: usize = 4;

/// See the module. Shared by the tasks that read connections and the callers of `recv`.
#[derive(Debug)]
pub(super) struct IncomingQueue<M> {
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    config: IncomingConfig,
    closed: bool,
    peers: PeerMap<Peer<M>>,
    /// Peers whose turn comes, each at most once (`Peer::in_turn`); one may have become empty.
    turns: VecDeque<SocketAddr>,
    /// Who loses when the queue is full.
    ranking: Ranking,
    messages: usize,
    bytes: usize,
    /// Emptied queues, for the next peers: what a burst has grown does not stay with its peer.
    spare: Vec<VecDeque<(M, usize)>>,
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
    /// Whether the ranking has been told that the sizes change.
    noted: bool,
    /// Whether the socket knows the peer; if not, the entry goes with its last message.
    known: bool,
    /// Readers that wait because this peer's part is full.
    readers: WaitList,
}

impl<M> Peer<M> {
    fn sizes(&self) -> Sizes {
        Sizes {
            messages: self.messages.len(),
            bytes: self.bytes,
        }
    }
}

impl<M> Default for Peer<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            counters: PeerStats::default(),
            in_turn: false,
            noted: false,
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
                Bound::Messages | Bound::Bytes => self.who_has_most(bound, from),
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

    /// Takes all of `messages` if nothing stands in their way, which is the common case; false,
    /// and nothing taken, if they have to be looked at one by one.
    fn push_all(&mut self, from: SocketAddr, messages: &mut VecDeque<(M, usize)>) -> bool {
        let count = messages.len();
        let bytes = messages
            .iter()
            .fold(0_usize, |sum, (_, len)| sum.saturating_add(*len));
        if count == 0
            || self.missing_room(from, count, bytes).is_some()
            || self.others_first(from, None).is_some()
        {
            return count == 0;
        }
        let peer = self.peers.entry(from).or_default();
        peer.counters.received += count as u64;
        peer.counters.received_bytes += bytes as u64;
        if count > peer.messages.capacity().max(KEPT_ROOM)
            && peer.messages.is_empty()
            && let Some(spare) = self.spare.pop()
        {
            peer.messages = spare;
        }
        peer.messages.append(messages);
        peer.bytes += bytes;
        self.messages += count;
        self.bytes += bytes;
        self.after_append(from);
        true
    }

    /// Who has the most; `from`, if it has no less.
    fn who_has_most(&mut self, bound: Bound, from: SocketAddr) -> Option<SocketAddr> {
        self.update_ranking();
        let own = self.peers.get(&from).map(Peer::sizes).unwrap_or_default();
        let (own, most) = if bound == Bound::Bytes {
            (own.bytes, self.ranking.most_bytes()?)
        } else {
            (own.messages, self.ranking.most_messages()?)
        };
        Some(if own >= most.0 { from } else { most.1 })
    }

    fn update_ranking(&mut self) {
        let peers = &mut self.peers;
        self.ranking.update(|addr| match peers.get_mut(&addr) {
            Some(peer) => {
                peer.noted = false;
                peer.sizes()
            }
            None => Sizes::default(),
        });
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
        let peer = self.peers.entry(from).or_default();
        peer.counters.received += 1;
        peer.counters.received_bytes += len as u64;
        peer.messages.push_back((message, len));
        peer.bytes += len;
        self.messages += 1;
        self.bytes += len;
        self.after_append(from);
    }

    fn after_append(&mut self, from: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(&from) {
            if !peer.in_turn {
                peer.in_turn = true;
                self.turns.push_back(from);
            }
            if !peer.noted {
                self.note_change(from);
            }
        }
    }

    /// Tells the ranking, once until it looks, that the sizes of `from` change.
    fn note_change(&mut self, from: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.noted = true;
        }
        if self.ranking.note(from, self.peers.len()) {
            self.update_ranking();
        }
    }

    /// The next message, and a reader of its peer for whom there is room now.
    fn pop(&mut self) -> Option<(SocketAddr, M, Option<Waker>)> {
        while let Some(from) = self.turns.pop_front() {
            let Some(peer) = self.peers.get_mut(&from) else {
                continue;
            };
            let taken = peer.messages.pop_front();
            peer.in_turn = !peer.messages.is_empty();
            if peer.in_turn {
                self.turns.push_back(from);
            } else if peer.messages.capacity() > KEPT_ROOM {
                let emptied = std::mem::take(&mut peer.messages);
                if self.spare.len() < SPARE_QUEUES {
                    self.spare.push(emptied);
                }
            }
            let Some((message, len)) = taken else {
                self.fold_if_done(from);
                continue;
            };
            peer.bytes -= len;
            peer.counters.delivered += 1;
            self.messages -= 1;
            self.bytes -= len;
            let reader = peer.readers.first();
            let (noted, rests) = (peer.noted, !peer.in_turn);
            if !noted {
                self.note_change(from);
            }
            if rests {
                self.fold_if_done(from);
            }
            return Some((from, message, reader));
        }
        None
    }

    fn take_first(&mut self, from: SocketAddr) -> Option<M> {
        let peer = self.peers.get_mut(&from)?;
        let (message, len) = peer.messages.pop_front()?;
        peer.bytes -= len;
        self.messages -= 1;
        self.bytes -= len;
        if !peer.noted {
            self.note_change(from);
        }
        Some(message)
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
