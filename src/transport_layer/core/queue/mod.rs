//! The queue of messages for one peer.
//!
//! It knows nothing of connections and never waits. Invariant: after every call, submitted = sent +
//! queued + dropped, where queued messages are those that wait and those that the network is
//! taking, and neither their count nor their bytes exceed the bounds of the queue.

mod expiries;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use self::expiries::Expiries;
use crate::rt::Instant;
use crate::rt::sync::{Ticket, WaitList};
use crate::transport_layer::config::{OverflowPolicy, QueueConfig};
use crate::transport_layer::stats::{DropCounts, DropReason, PeerStats};

/// A batch has at most this many bytes, unless a single message is longer. Large enough to fill
/// system calls, and small enough that newer messages of a slow peer can still replace older ones.
pub(in crate::transport_layer) const BATCH_BYTES: usize = 256 << 10;
/// A batch has at most this many messages.
const BATCH_MESSAGES: usize = 1024;

/// The bounded queue of messages for one peer.
#[derive(Debug)]
pub(super) struct OutgoingQueue {
    /// Shared, since there may be thousands of queues.
    config: Arc<QueueConfig>,
    max_message_len: usize,
    /// Oldest first.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// The waiting bytes that the backlog of all peers counts at present.
    pub(super) settled: usize,
    waiting_expiries: Expiries,
    /// The times at which the messages of the current batch expire. All of them are older than
    /// those in `waiting`. The messages themselves are in the batch, so that none is copied or
    /// counted twice.
    in_flight: Expiries,
    in_flight_bytes: usize,
    /// Whether the batch is that of a sender, whose time to live has not begun.
    direct: bool,
    /// What the network does not take of the batch is dropped for this reason.
    recalled: Option<DropReason>,
    counters: Counters,
    /// Senders that wait for room under `Backpressure`, first come, first served.
    pub(super) senders: WaitList,
}

/// The part of [`PeerStats`] that a queue counts.
#[derive(Debug, Default)]
struct Counters {
    submitted: u64,
    sent: u64,
    sent_bytes: u64,
    dropped: DropCounts,
}

/// The result of offering a message to a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OfferOutcome {
    /// It waits for its turn.
    Queued,
    /// The message was dropped and counted. (If an older message is dropped in its favour, that one
    /// is counted, and the new one is `Queued`.)
    Dropped(DropReason),
    /// There is no room, and the policy is to wait. Nothing is counted.
    Full(Bytes),
}

impl OutgoingQueue {
    /// Creates an empty queue that drops messages longer than `max_message_len` as `TooLarge`.
    pub(super) fn new(config: impl Into<Arc<QueueConfig>>, max_message_len: usize) -> Self {
        let config = config.into();
        Self {
            max_message_len: max_message_len.min(config.max_bytes),
            config,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            settled: 0,
            waiting_expiries: Expiries::default(),
            in_flight: Expiries::default(),
            in_flight_bytes: 0,
            direct: false,
            recalled: None,
            counters: Counters::default(),
            senders: WaitList::default(),
        }
    }

    /// Adds `bytes`, and drops messages according to the overflow policy. `ticket` is the place of
    /// a sender that received `Full` before.
    pub(super) fn offer(&mut self, bytes: Bytes, now: Instant, ticket: Ticket) -> OfferOutcome {
        if bytes.len() > self.max_message_len {
            return self.refuse(DropReason::TooLarge);
        }
        if !self.has_room(bytes.len()) || !self.senders.is_empty() {
            self.purge(now);
        }
        match self.config.overflow {
            OverflowPolicy::Backpressure => {
                if !self.has_room(bytes.len()) || !self.senders.may_pass(ticket) {
                    return OfferOutcome::Full(bytes);
                }
            }
            OverflowPolicy::DropNewest => {
                if !self.has_room(bytes.len()) {
                    return self.refuse(DropReason::Overflow);
                }
            }
            OverflowPolicy::DropOldest => {
                while !self.has_room(bytes.len()) {
                    if !self.drop_oldest(DropReason::Overflow) {
                        // The rest is being handed to the network and cannot be recalled.
                        return self.refuse(DropReason::Overflow);
                    }
                }
            }
        }
        self.push(bytes, now);
        OfferOutcome::Queued
    }

    /// Adds `bytes` if there is room for them and no sender waits. Returns them otherwise.
    pub(super) fn offer_if_room(&mut self, bytes: Bytes, now: Instant) -> Result<(), Bytes> {
        if bytes.len() > self.max_message_len
            || !self.has_room(bytes.len())
            || !self.senders.is_empty()
        {
            return Err(bytes);
        }
        self.push(bytes, now);
        Ok(())
    }

    fn push(&mut self, bytes: Bytes, now: Instant) {
        self.counters.submitted += 1;
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        self.waiting_expiries
            .push_back(now.checked_add(self.config.ttl));
    }

    /// Returns `bytes` as a batch of its own, which the caller hands to the network at once. Fails
    /// with them if older messages must go first or the message does not fit. Its time to live
    /// begins with [`finish_batch`](Self::finish_batch) if the network does not take it.
    pub(super) fn begin_direct(&mut self, bytes: Bytes) -> Result<VecDeque<Bytes>, Bytes> {
        let idle = self.queued() == 0 && self.senders.is_empty();
        if !idle || bytes.len() > self.max_message_len {
            return Err(bytes);
        }
        self.counters.submitted += 1;
        self.in_flight_bytes = bytes.len();
        self.in_flight.push_back(None);
        self.direct = true;
        // No message waits, so the batch gets the memory of those that would, and returns it.
        let mut batch = std::mem::take(&mut self.waiting);
        if batch.capacity() == 0 {
            batch.reserve_exact(1);
        }
        batch.push_back(bytes);
        Ok(batch)
    }

    /// Counts a message that was passed to `send` and is not queued.
    pub(super) fn refuse(&mut self, reason: DropReason) -> OfferOutcome {
        self.counters.submitted += 1;
        self.counters.dropped.add(reason, 1);
        OfferOutcome::Dropped(reason)
    }

    /// Drops the messages that have expired.
    pub(super) fn purge(&mut self, now: Instant) {
        while self.next_expiry().is_some_and(|at| at <= now) {
            self.drop_oldest(DropReason::Expired);
        }
    }

    /// Returns when the oldest waiting message expires, or `None` if no message waits or it never
    /// expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        // All entries have the same time to live, so the first is the first to expire.
        self.waiting_expiries.first()
    }

    /// Drops every waiting message. A batch in flight is not affected. Returns the number of
    /// messages.
    pub(super) fn drop_waiting(&mut self, reason: DropReason) -> u64 {
        let count = self.waiting.len() as u64;
        self.counters.dropped.add(reason, count);
        self.waiting = VecDeque::new();
        self.waiting_bytes = 0;
        self.waiting_expiries = Expiries::default();
        count
    }

    /// Drops every waiting message, and what the network will not have taken of a batch in flight.
    pub(super) fn recall(&mut self, reason: DropReason) {
        self.drop_waiting(reason);
        self.recalled = self.is_in_flight().then_some(reason);
    }

    /// Drops every message, a batch in flight included, which must then not be finished. Returns
    /// the number of messages.
    pub(super) fn drop_all(&mut self, reason: DropReason) -> u64 {
        let in_flight = self.in_flight.len() as u64;
        self.counters.dropped.add(reason, in_flight);
        self.in_flight = Expiries::default();
        self.in_flight_bytes = 0;
        in_flight + self.drop_waiting(reason)
    }

    /// Moves the next messages to send into `batch`, which must be empty, and returns their bytes.
    ///
    /// A batch is at most half of what the queue may hold, so that newer messages can still replace
    /// older ones. Its messages count as queued until [`finish_batch`](Self::finish_batch), which must
    /// be called before the next batch.
    pub(super) fn begin_batch(&mut self, batch: &mut VecDeque<Bytes>, now: Instant) -> usize {
        self.purge(now);
        let max_messages = (self.config.max_messages / 2).clamp(1, BATCH_MESSAGES);
        let max_bytes = (self.config.max_bytes / 2).min(BATCH_BYTES);
        if self.waiting.len() <= max_messages && self.waiting_bytes <= max_bytes {
            // In the common case the two buffers are swapped, and no message is moved.
            std::mem::swap(&mut self.waiting, batch);
            std::mem::swap(&mut self.waiting_expiries, &mut self.in_flight);
            self.in_flight_bytes = std::mem::take(&mut self.waiting_bytes);
            return self.in_flight_bytes;
        }
        let (mut count, mut bytes) = (0, 0_usize);
        for message in self.waiting.iter().take(max_messages) {
            if count > 0 && bytes.saturating_add(message.len()) > max_bytes {
                break;
            }
            count += 1;
            bytes += message.len();
        }
        batch.extend(self.waiting.drain(..count));
        self.waiting_expiries.move_front(count, &mut self.in_flight);
        self.waiting_bytes -= bytes;
        self.in_flight_bytes = bytes;
        bytes
    }

    /// Ends the batch. Messages left in it are queued again, before all others and with their old
    /// time of expiry; the network has taken the rest. Returns the number of messages that it has
    /// taken.
    pub(super) fn finish_batch(&mut self, batch: &mut VecDeque<Bytes>, now: Instant) -> usize {
        let mut left: usize = batch.iter().map(Bytes::len).sum();
        let sent = self.in_flight.len().saturating_sub(batch.len());
        self.counters.sent += sent as u64;
        self.counters.sent_bytes += self.in_flight_bytes.saturating_sub(left) as u64;
        let direct = std::mem::take(&mut self.direct);
        if let Some(reason) = self.recalled.take() {
            self.counters.dropped.add(reason, batch.len() as u64);
            batch.clear();
            left = 0;
        }
        if batch.is_empty() {
            if direct && self.waiting.capacity() == 0 {
                std::mem::swap(&mut self.waiting, batch);
            }
        } else {
            if direct {
                self.in_flight.clear();
                self.in_flight.push_back(now.checked_add(self.config.ttl));
            }
            self.in_flight.drop_front(sent);
            self.in_flight.append(&mut self.waiting_expiries);
            std::mem::swap(&mut self.waiting_expiries, &mut self.in_flight);
            batch.append(&mut self.waiting);
            std::mem::swap(&mut self.waiting, batch);
            self.waiting_bytes += left;
        }
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.purge(now);
        sent
    }

    /// Moves the waiting messages of `other` to the end of this queue, as if they had been passed to
    /// this one. They keep their times of expiry, or get that of the message before them if it is
    /// later. If there is no room, the oldest messages are dropped under `DropOldest`, and the moved ones
    /// otherwise.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        other.counters.submitted -= other.waiting.len() as u64;
        other.waiting_bytes = 0;
        let mut expiries = std::mem::take(&mut other.waiting_expiries);
        for bytes in std::mem::take(&mut other.waiting) {
            let at = expiries.first();
            expiries.drop_front(1);
            if self.config.overflow == OverflowPolicy::DropOldest {
                while !self.has_room(bytes.len()) && self.drop_oldest(DropReason::Overflow) {}
            }
            if self.has_room(bytes.len()) {
                self.counters.submitted += 1;
                self.waiting_bytes += bytes.len();
                self.waiting.push_back(bytes);
                self.waiting_expiries.push_back_in_order(at);
            } else {
                self.refuse(DropReason::Overflow);
            }
        }
    }

    /// Releases the memory that a burst has taken.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
        self.waiting_expiries.shrink();
        self.in_flight.shrink();
    }

    /// Drops waiting messages of at least `excess` bytes for those of other peers, and up to a quarter
    /// of the waiting bytes, so that this queue need not be found again for each message. The policy
    /// decides which ones. Returns whether there were any.
    pub(super) fn give_way(&mut self, excess: usize) -> bool {
        let keep = self.waiting_bytes - excess.max(self.waiting_bytes / 4).min(self.waiting_bytes);
        let mut any = false;
        while self.waiting_bytes > keep {
            any |= match self.config.overflow {
                OverflowPolicy::DropNewest => self.drop_newest(DropReason::TotalOverflow),
                OverflowPolicy::DropOldest | OverflowPolicy::Backpressure => {
                    self.drop_oldest(DropReason::TotalOverflow)
                }
            };
        }
        any
    }

    /// Drops the newest waiting message. Returns whether there was one.
    fn drop_newest(&mut self, reason: DropReason) -> bool {
        let Some(bytes) = self.waiting.pop_back() else {
            return false;
        };
        self.waiting_bytes -= bytes.len();
        self.waiting_expiries.drop_back();
        self.counters.dropped.add(reason, 1);
        true
    }

    /// Drops the oldest waiting message. Returns whether there was one.
    fn drop_oldest(&mut self, reason: DropReason) -> bool {
        let Some(bytes) = self.waiting.pop_front() else {
            return false;
        };
        self.waiting_bytes -= bytes.len();
        self.waiting_expiries.drop_front(1);
        self.counters.dropped.add(reason, 1);
        true
    }

    /// Returns the bytes that wait to be sent, without those that the network is taking.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Returns whether a message is too long for this queue.
    pub(super) fn is_too_long(&self, len: usize) -> bool {
        len > self.max_message_len
    }

    /// Returns whether no message waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether a batch is being handed to the network.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.len() > 0
    }

    /// Returns the number of messages that are neither sent nor dropped.
    pub(super) fn queued(&self) -> u64 {
        (self.waiting.len() + self.in_flight.len()) as u64
    }

    /// Returns the waker of the first sender in line if there may be room for its message.
    pub(super) fn ready_sender(&self) -> Option<Waker> {
        self.senders.first().filter(|_| self.has_room(0))
    }

    /// Returns the counters, with the lengths of the queue.
    pub(super) fn stats(&self) -> PeerStats {
        PeerStats {
            queued: self.queued(),
            queued_bytes: (self.waiting_bytes + self.in_flight_bytes) as u64,
            submitted: self.counters.submitted,
            sent: self.counters.sent,
            sent_bytes: self.counters.sent_bytes,
            dropped: self.counters.dropped,
            ..PeerStats::default()
        }
    }

    fn has_room(&self, len: usize) -> bool {
        let messages = self.waiting.len() + self.in_flight.len();
        let bytes = self.waiting_bytes + self.in_flight_bytes;
        messages < self.config.max_messages && bytes.saturating_add(len) <= self.config.max_bytes
    }
}
