//! The part of the inbox that belongs to one peer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::arrival::{Arrival, Origin};
use super::in_hand::InHand;
use super::room::Sizes;
use crate::credential::Identity;
use crate::rt::Instant;
use crate::rt::sync::WaitList;
use crate::transport_layer::core::pool::Pool;
use crate::transport_layer::received::Received;
use crate::transport_layer::stats::{DropCounts, PeerStats};

/// An emptied queue keeps room for this many messages.
pub(super) const KEPT_ROOM: usize = 16;

/// The part of [`PeerStats`] that the inbox counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) delivered: u64,
    pub(super) incoming_dropped: DropCounts,
}

impl Counters {
    pub(super) fn stats(&self) -> PeerStats {
        PeerStats {
            received: self.received,
            received_bytes: self.received_bytes,
            delivered: self.delivered,
            incoming_dropped: self.incoming_dropped,
            ..PeerStats::default()
        }
    }
}

/// The messages of one peer, and its counters.
#[derive(Debug)]
pub(super) struct Share<M> {
    /// The queued messages, oldest first, each with the bytes with which it counts.
    pub(super) messages: VecDeque<(M, usize)>,
    arrivals: VecDeque<Arrival>,
    /// Bytes of `messages`.
    pub(super) bytes: usize,
    /// Messages taken by a receiver that may still hold some of them. They count against the bounds.
    pub(super) in_hand: usize,
    pub(super) in_hand_bytes: usize,
    pub(super) counters: Counters,
    /// The pool that the messages count in, those in hand included: that of the last sender.
    pub(super) pool: Pool,
    /// Whether the peer is in the list of turns.
    pub(super) in_turn: bool,
    /// Whether the ranking has been notified that the sizes change.
    pub(super) noted: bool,
    /// Whether the socket has an entry for the peer. If not, the share is removed with its last
    /// message.
    pub(super) known: bool,
    /// Readers that wait because this share is full.
    pub(super) readers: WaitList,
}

impl<M> Default for Share<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            arrivals: VecDeque::new(),
            bytes: 0,
            in_hand: 0,
            in_hand_bytes: 0,
            counters: Counters::default(),
            pool: Pool::default(),
            in_turn: false,
            noted: false,
            known: false,
            readers: WaitList::default(),
        }
    }
}

impl<M> Share<M> {
    /// Returns the messages and bytes that could be evicted.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            messages: self.messages.len(),
            bytes: self.bytes,
        }
    }

    /// Returns the messages and bytes that count against the bounds.
    pub(super) fn held(&self) -> Sizes {
        Sizes {
            messages: self.messages.len() + self.in_hand,
            bytes: self.bytes + self.in_hand_bytes,
        }
    }

    /// Returns whether messages of an identity are held, beside which those of a peer of `pool` have no
    /// place: they would share its room.
    pub(super) fn is_closed_to(&self, pool: Pool) -> bool {
        pool == Pool::Unproved && self.pool == Pool::Proved && self.held().messages > 0
    }

    /// Records that `count` messages of `bytes` bytes have arrived; the caller appends them, and adds
    /// what they count with.
    pub(super) fn arrived(&mut self, origin: Origin, at: Instant, count: usize, bytes: usize) {
        self.counters.received += count as u64;
        self.counters.received_bytes += bytes as u64;
        match self.arrivals.back_mut() {
            Some(last) if last.at == at && last.origin == origin => last.count += count,
            last => {
                if last.is_none() {
                    // By itself, the queue would make room for four, and most peers need one.
                    self.arrivals.reserve_exact(1);
                }
                self.arrivals.push_back(Arrival { origin, at, count });
            }
        }
    }

    /// Returns whether messages that `identity` has sent are queued.
    pub(super) fn has_messages_of(&self, identity: Identity) -> bool {
        let mut arrivals = self.arrivals.iter();
        arrivals.any(|arrival| arrival.origin.identity == identity)
    }

    /// Takes the oldest message, with its length.
    pub(super) fn pop(&mut self, from: SocketAddr) -> Option<(Received<M>, usize)> {
        let (message, len) = self.messages.pop_front()?;
        self.bytes -= len;
        let arrival = self.arrivals.front_mut()?;
        arrival.count -= 1;
        let received = arrival.received(from, message);
        if arrival.count == 0 {
            self.arrivals.pop_front();
        }
        Some((received, len))
    }

    /// Moves messages into `to`, oldest first, until `to` has `most` messages or `most_bytes` bytes
    /// have been moved. Returns the number of messages and bytes that were moved.
    pub(super) fn hand_over(
        &mut self,
        from: SocketAddr,
        to: &mut InHand<M>,
        most: usize,
        most_bytes: usize,
    ) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for (_, len) in self.messages.iter().take(most.saturating_sub(to.len())) {
            if bytes + len > most_bytes {
                break;
            }
            count += 1;
            bytes += len;
        }
        to.messages.extend(self.messages.drain(..count));
        self.bytes -= bytes;
        let mut missing = count;
        while missing > 0
            && let Some(arrival) = self.arrivals.front_mut()
        {
            let taken = missing.min(arrival.count);
            let run = Arrival {
                count: taken,
                ..*arrival
            };
            to.runs.push_back((from, run));
            missing -= taken;
            arrival.count -= taken;
            if arrival.count == 0 {
                self.arrivals.pop_front();
            }
        }
        (count, bytes)
    }

    /// Takes out the memory that a burst has left behind, if no message is queued any more.
    pub(super) fn give_back(&mut self) -> Option<VecDeque<(M, usize)>> {
        if self.arrivals.capacity() > KEPT_ROOM && self.arrivals.is_empty() {
            self.arrivals = VecDeque::new();
        }
        (self.messages.capacity() > KEPT_ROOM).then(|| std::mem::take(&mut self.messages))
    }

    /// Returns whether only the socket's entry for its peer keeps the share.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.in_hand == 0 && self.readers.is_empty()
    }
}
