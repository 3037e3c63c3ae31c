//! What is queued, and for whom: all that changes under the queue's one lock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::Waker;

use crate::rt::sync::{Ticket, WaitList};
use crate::transport_layer::ranking::{Ranking, Sizes};
use crate::transport_layer::{DropReason, IncomingConfig, OverflowPolicy, PeerMap, PeerStats};

/// Messages for which a peer that has none keeps room.
const KEPT_ROOM: usize = 16;
/// Grown queues that are kept for whoever needs one next.
pub(super) const SPARE_QUEUES: usize = 4;

#[derive(Debug)]
pub(super) struct State<M> {
    pub(super) config: IncomingConfig,
    pub(super) closed: bool,
    pub(super) peers: PeerMap<Peer<M>>,
    /// Peers whose turn comes, each at most once (`Peer::in_turn`); one may have become empty.
    pub(super) turns: VecDeque<SocketAddr>,
    /// Who loses when the queue is full.
    pub(super) ranking: Ranking,
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Emptied queues, for the next peers: what a burst has grown does not stay with its peer.
    pub(super) spare: Vec<VecDeque<(M, usize)>>,
    /// Counts of peers that are no longer listed.
    pub(super) folded: PeerStats,
    pub(super) receivers: WaitList,
    /// Readers that wait because the queue as a whole is full.
    pub(super) readers: WaitList,
}

#[derive(Debug)]
pub(super) struct Peer<M> {
    pub(super) messages: VecDeque<(M, usize)>,
    pub(super) bytes: usize,
    pub(super) counters: PeerStats,
    pub(super) in_turn: bool,
    /// Whether the ranking has been told that the sizes change.
    pub(super) noted: bool,
    /// Whether the socket knows the peer; if not, the entry goes with its last message.
    pub(super) known: bool,
    /// Readers that wait because this peer's part is full.
    pub(super) readers: WaitList,
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
pub(super) enum Bound {
    Peer,
    Messages,
    Bytes,
}

impl<M> State<M> {
    /// `held` is the reader's place, if it has waited.
    pub(super) fn push(
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
    pub(super) fn push_all(
        &mut self,
        from: SocketAddr,
        messages: &mut VecDeque<(M, usize)>,
    ) -> bool {
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

    pub(super) fn refuse(&mut self, from: SocketAddr, len: usize, reason: DropReason) {
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
    pub(super) fn pop(&mut self) -> Option<(SocketAddr, M, Option<Waker>)> {
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

    pub(super) fn fold_if_done(&mut self, addr: SocketAddr) {
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
