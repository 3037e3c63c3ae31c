//! One peer's queue of messages to send.
//!
//! A plain value behind its owner's lock: no connection, no waiting, time only as an argument.
//! Invariant: at any moment submitted = sent + queued + dropped, where queued are the messages
//! that wait and those that are being handed to the network, and neither their count nor their
//! bytes exceed the queue's bounds.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

use super::wait::{Ticket, WaitList};
use super::{DropReason, OverflowPolicy, PeerStats, QueueConfig};
use crate::rt::Instant;

/// What one flush hands over at most, unless a single message is larger: large enough to fill
/// system calls, small enough that a slow peer's newer messages can still overtake by policy.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// Messages of one flush.
const BATCH_MESSAGES: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct OutgoingQueue {
    config: QueueConfig,
    max_message_len: usize,
    /// Oldest first.
    waiting: Entries,
    /// Being handed to the network, older than everything in `waiting`.
    in_flight: Entries,
    counters: PeerStats,
    /// Senders under `Backpressure`, first come, first served.
    pub(super) senders: WaitList,
}

#[derive(Debug, Default)]
struct Entries {
    list: VecDeque<Entry>,
    bytes: usize,
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
            waiting: Entries::default(),
            in_flight: Entries::default(),
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
                    if self.waiting.pop().is_none() {
                        // The rest is in the network's hands and cannot be recalled.
                        return self.refuse(DropReason::Overflow);
                    }
                    self.counters.dropped.add(DropReason::Overflow, 1);
                }
            }
        }
        self.counters.submitted += 1;
        self.waiting.push(Entry {
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
            self.waiting.pop();
            self.counters.dropped.add(DropReason::Expired, 1);
        }
    }

    /// When the oldest waiting message is too old.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        // Each entry has the same time to live, so the first is the first to go.
        self.waiting.list.front().and_then(|entry| entry.expires)
    }

    /// Drops everything that waits, and what is in flight too.
    pub(super) fn drop_all(&mut self, reason: DropReason) -> u64 {
        let count = self.queued();
        self.counters.dropped.add(reason, count);
        self.waiting = Entries::default();
        self.in_flight = Entries::default();
        count
    }

    /// The next messages to hand over, at most half of what the queue may hold so that newer
    /// messages can still replace older ones. They count as queued until
    /// [`finish_batch`](Self::finish_batch).
    pub(super) fn begin_batch(&mut self, now: Instant) -> VecDeque<Bytes> {
        self.purge(now);
        self.put_back(self.in_flight.list.len());
        let max_messages = (self.config.max_messages / 2).clamp(1, BATCH_MESSAGES);
        let max_bytes = (self.config.max_bytes / 2).min(BATCH_BYTES);
        let mut batch = VecDeque::new();
        while batch.len() < max_messages
            && let Some(next) = self.waiting.list.front()
            && (batch.is_empty()
                || self.in_flight.bytes.saturating_add(next.bytes.len()) <= max_bytes)
            && let Some(entry) = self.waiting.pop()
        {
            batch.push_back(entry.bytes.clone());
            self.in_flight.push(entry);
        }
        batch
    }

    /// Ends the batch: all but its last `left` messages were taken by the network, those wait
    /// again, before all others and no younger than they are.
    pub(super) fn finish_batch(&mut self, left: usize, now: Instant) {
        while self.in_flight.list.len() > left
            && let Some(entry) = self.in_flight.pop()
        {
            self.counters.sent += 1;
            self.counters.sent_bytes += entry.bytes.len() as u64;
        }
        self.put_back(left);
        self.purge(now);
    }

    fn put_back(&mut self, count: usize) {
        for _ in 0..count {
            let Some(entry) = self.in_flight.list.pop_back() else {
                return;
            };
            self.in_flight.bytes -= entry.bytes.len();
            self.waiting.bytes += entry.bytes.len();
            self.waiting.list.push_front(entry);
        }
    }

    /// Whether nothing waits to be handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.list.is_empty()
    }

    /// Messages that are neither sent nor dropped.
    pub(super) fn queued(&self) -> u64 {
        (self.waiting.list.len() + self.in_flight.list.len()) as u64
    }

    /// The sender whose turn it is, if there may be room for it. Wake it once the lock is released.
    pub(super) fn ready_sender(&self) -> Option<Waker> {
        self.senders.first().filter(|_| self.has_room(0))
    }

    /// The counters, queue lengths included.
    pub(super) fn stats(&self) -> PeerStats {
        PeerStats {
            queued: self.queued(),
            queued_bytes: (self.waiting.bytes + self.in_flight.bytes) as u64,
            ..self.counters.clone()
        }
    }

    fn has_room(&self, len: usize) -> bool {
        let messages = self.waiting.list.len() + self.in_flight.list.len();
        let bytes = self.waiting.bytes + self.in_flight.bytes;
        messages < self.config.max_messages && bytes.saturating_add(len) <= self.config.max_bytes
    }
}

impl Entries {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.list.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.list.pop_front()?;
        self.bytes -= entry.bytes.len();
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
