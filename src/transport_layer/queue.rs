//! One peer's queue of messages to send.
//!
//! A plain value behind its owner's lock: no connection, no waiting, time only as an argument.
//! Invariant: at any moment submitted = sent + queued + dropped, where queued are the messages
//! that wait and those that are being handed to the network, and neither their count nor their
//! bytes exceed the queue's bounds.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

use super::{DropReason, OverflowPolicy, PeerStats, QueueConfig};
use crate::rt::Instant;
use crate::rt::sync::{Ticket, WaitList};

/// What one flush hands over at most, unless a single message is larger: large enough to fill
/// system calls, small enough that a slow peer's newer messages can still overtake by policy.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// Messages of one flush.
const BATCH_MESSAGES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct OutgoingQueue {
    config: QueueConfig,
    max_message_len: usize,
    /// Oldest first.
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    /// When what is being handed to the network expires, older than everything in `waiting`; the
    /// messages themselves are in the batch, so that none is copied or counted twice.
    in_flight: VecDeque<Option<Instant>>,
    in_flight_bytes: usize,
    counters: PeerStats,
    /// Senders under `Backpressure`, first come, first served.
    pub(super) senders: WaitList,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// `None`: beyond what the clock can say, so never.
    expires: Option<Instant>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It waits for its turn.
    Queued,
    /// It, and not an older one, was dropped, and is counted.
    Dropped(DropReason),
    /// There is no room and the policy is to wait. Nothing is counted.
    Full(Bytes),
}

impl OutgoingQueue {
    /// An empty queue. A message longer than `max_message_len` is never taken.
    pub(super) fn new(config: QueueConfig, max_message_len: usize) -> Self {
        Self {
            max_message_len: max_message_len.min(config.max_bytes),
            config,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            counters: PeerStats::default(),
            senders: WaitList::default(),
        }
    }

    /// Takes `bytes`, dropping by policy what has to go. `ticket` is the place among the waiting
    /// senders, of one that has been told `Full` before.
    pub(super) fn offer(&mut self, bytes: Bytes, now: Instant, ticket: Ticket) -> Offer {
        if bytes.len() > self.max_message_len {
            return self.refuse(DropReason::TooLarge);
        }
        if !self.has_room(bytes.len()) || !self.senders.is_empty() {
            self.purge(now);
        }
        match self.config.overflow {
            OverflowPolicy::Backpressure => {
                if !self.has_room(bytes.len()) || !self.senders.may_pass(ticket) {
                    return Offer::Full(bytes);
                }
            }
            OverflowPolicy::DropNewest => {
                if !self.has_room(bytes.len()) {
                    return self.refuse(DropReason::Overflow);
                }
            }
            OverflowPolicy::DropOldest => {
                while !self.has_room(bytes.len()) {
                    if self.pop().is_none() {
                        // The rest is in the network's hands and cannot be recalled.
                        return self.refuse(DropReason::Overflow);
                    }
                    self.counters.dropped.add(DropReason::Overflow, 1);
                }
            }
        }
        self.counters.submitted += 1;
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(Entry {
            bytes,
            expires: now.checked_add(self.config.ttl),
        });
        Offer::Queued
    }

    /// Counts a message that was given to `send` and never got here.
    pub(super) fn refuse(&mut self, reason: DropReason) -> Offer {
        self.counters.submitted += 1;
        self.counters.dropped.add(reason, 1);
        Offer::Dropped(reason)
    }

    /// Drops what is too old.
    pub(super) fn purge(&mut self, now: Instant) {
        while self.next_expiry().is_some_and(|at| at <= now) {
            self.pop();
            self.counters.dropped.add(DropReason::Expired, 1);
        }
    }

    /// When the oldest waiting message is too old.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        // Each entry has the same time to live, so the first is the first to go.
        self.waiting.front().and_then(|entry| entry.expires)
    }

    /// Drops everything that waits, and what is in flight too.
    pub(super) fn drop_all(&mut self, reason: DropReason) -> u64 {
        let count = self.queued();
        self.counters.dropped.add(reason, count);
        self.waiting = VecDeque::new();
        self.waiting_bytes = 0;
        self.in_flight = VecDeque::new();
        self.in_flight_bytes = 0;
        count
    }

    /// Moves the next messages to hand over into `batch`, which is empty: at most half of what the
    /// queue may hold, so that newer messages can still replace older ones. They count as queued
    /// until [`finish_batch`](Self::finish_batch), which has to come before the next batch. Gives
    /// their bytes.
    pub(super) fn begin_batch(&mut self, batch: &mut VecDeque<Bytes>, now: Instant) -> usize {
        self.purge(now);
        let max_messages = (self.config.max_messages / 2).clamp(1, BATCH_MESSAGES);
        let max_bytes = (self.config.max_bytes / 2).min(BATCH_BYTES);
        while batch.len() < max_messages
            && let Some(next) = self.waiting.front()
            && (batch.is_empty()
                || self.in_flight_bytes.saturating_add(next.bytes.len()) <= max_bytes)
            && let Some(entry) = self.pop()
        {
            self.in_flight_bytes += entry.bytes.len();
            self.in_flight.push_back(entry.expires);
            batch.push_back(entry.bytes);
        }
        self.in_flight_bytes
    }

    /// Ends the batch: what is left in it waits again, before all others and no younger than it
    /// is; the rest was taken by the network.
    pub(super) fn finish_batch(&mut self, batch: &mut VecDeque<Bytes>, now: Instant) {
        let left: usize = batch.iter().map(Bytes::len).sum();
        let sent = self.in_flight.len().saturating_sub(batch.len());
        self.counters.sent += sent as u64;
        self.counters.sent_bytes += self.in_flight_bytes.saturating_sub(left) as u64;
        while let Some(expires) = self.in_flight.pop_back() {
            let Some(bytes) = batch.pop_back() else { break };
            self.waiting_bytes += bytes.len();
            self.waiting.push_front(Entry { bytes, expires });
        }
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.purge(now);
    }

    /// Gives back the memory that a burst has taken.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
        self.in_flight.shrink_to_fit();
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.waiting_bytes -= entry.bytes.len();
        Some(entry)
    }

    /// Whether nothing waits to be handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Messages that are neither sent nor dropped.
    pub(super) fn queued(&self) -> u64 {
        (self.waiting.len() + self.in_flight.len()) as u64
    }

    /// The sender whose turn it is, if there may be room for it. Wake it once the lock is released.
    pub(super) fn ready_sender(&self) -> Option<Waker> {
        self.senders.first().filter(|_| self.has_room(0))
    }

    /// The counters, queue lengths included.
    pub(super) fn stats(&self) -> PeerStats {
        PeerStats {
            queued: self.queued(),
            queued_bytes: (self.waiting_bytes + self.in_flight_bytes) as u64,
            ..self.counters.clone()
        }
    }

    fn has_room(&self, len: usize) -> bool {
        let messages = self.waiting.len() + self.in_flight.len();
        let bytes = self.waiting_bytes + self.in_flight_bytes;
        messages < self.config.max_messages && bytes.saturating_add(len) <= self.config.max_bytes
    }
}

#[cfg(test)]
mod tests;
