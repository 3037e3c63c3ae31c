//! The part of the inbox that belongs to one peer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::ranking::Sizes;
use crate::credential::{Identity, Role};
use crate::rt::Instant;
use crate::rt::sync::WaitList;
use crate::transport_layer::received::Received;
use crate::transport_layer::stats::PeerStats;

/// Messages for which a peer without messages keeps memory.
pub(super) const KEPT_ROOM: usize = 16;

/// The sender of a message, as its connection has proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) struct Origin {
    pub(in crate::transport_layer) identity: Identity,
    pub(in crate::transport_layer) role: Role,
}

/// The messages of one peer, and its counters.
#[derive(Debug)]
pub(super) struct Share<M> {
    /// Oldest first, each with its length in bytes.
    pub(super) messages: VecDeque<(M, usize)>,
    arrivals: VecDeque<Arrival>,
    /// Bytes of `messages`.
    pub(super) bytes: usize,
    /// Messages taken by a receiver that may still hold some of them. They count against the bounds.
    pub(super) in_hand: usize,
    pub(super) in_hand_bytes: usize,
    pub(super) counters: PeerStats,
    /// Whether the peer is in the list of turns.
    pub(super) in_turn: bool,
    /// Whether the ranking knows that the sizes have changed.
    pub(super) noted: bool,
    /// Whether the socket has an entry for the peer. If not, the share goes with its last message.
    pub(super) known: bool,
    /// Readers that wait because this share is full.
    pub(super) readers: WaitList,
}

/// Messages that arrived together.
#[derive(Debug)]
struct Arrival {
    origin: Origin,
    at: Instant,
    count: usize,
}

impl<M> Default for Share<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            arrivals: VecDeque::new(),
            bytes: 0,
            in_hand: 0,
            in_hand_bytes: 0,
            counters: PeerStats::default(),
            in_turn: false,
            noted: false,
            known: false,
            readers: WaitList::default(),
        }
    }
}

impl<M> Share<M> {
    /// Returns what could be evicted.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            messages: self.messages.len(),
            bytes: self.bytes,
        }
    }

    /// Notes that `count` messages of `bytes` bytes have arrived; the caller appends them.
    pub(super) fn arrived(&mut self, origin: Origin, at: Instant, count: usize, bytes: usize) {
        self.counters.received += count as u64;
        self.counters.received_bytes += bytes as u64;
        self.bytes += bytes;
        match self.arrivals.back_mut() {
            Some(last) if last.at == at && last.origin == origin => last.count += count,
            _ => self.arrivals.push_back(Arrival { origin, at, count }),
        }
    }

    /// Takes the oldest message, with its length.
    pub(super) fn pop(&mut self, from: SocketAddr) -> Option<(Received<M>, usize)> {
        let (message, len) = self.messages.pop_front()?;
        self.bytes -= len;
        let arrival = self.arrivals.front_mut()?;
        arrival.count -= 1;
        let received = Received {
            from,
            identity: arrival.origin.identity,
            role: arrival.origin.role,
            at: arrival.at,
            message,
        };
        if arrival.count == 0 {
            self.arrivals.pop_front();
        }
        Some((received, len))
    }

    /// Returns the memory that a burst has taken, if nothing is queued any more.
    pub(super) fn give_back(&mut self) -> Option<VecDeque<(M, usize)>> {
        if self.arrivals.capacity() > KEPT_ROOM && self.arrivals.is_empty() {
            self.arrivals = VecDeque::new();
        }
        (self.messages.capacity() > KEPT_ROOM).then(|| std::mem::take(&mut self.messages))
    }

    /// Returns whether nothing keeps the share but the socket's entry for its peer.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.in_hand == 0 && self.readers.is_empty()
    }
}
