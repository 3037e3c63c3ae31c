//! Messages that have been received in part, and the memory that they take together.
//!
//! A network has one [`PartialMessages`], which its connections share as a part of
//! [`ReceiveMemory`](super::ReceiveMemory). Nothing is read here.
//! Invariant: the unfinished messages of all connections take no more bytes than the limit, whether
//! their connections are read or not. If one more byte does not fit, the identity with the most loses
//! its oldest unfinished message, and the connection of it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use litemap::LiteMap;

use super::error::FrameError;
use crate::credential::Identity;
use crate::net::PartialStats;
use crate::rt::Instant;
use crate::rt::sync::Mutex;

/// The bytes of a message that must arrive within each
/// [`partial_timeout`](super::SecureConfig::partial_timeout). A writer gets as much time for as many.
const PROGRESS: usize = 256 << 10;

/// The unfinished messages of all connections of a network. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct PartialMessages(Arc<Mutex<PartialTable>>);

/// The unfinished messages by age, and what they take together.
#[derive(Debug)]
struct PartialTable {
    /// Its `bytes` are the sum of those of `entries`.
    stats: PartialStats,
    timeout: Duration,
    next: u64,
    /// In the order in which the messages have begun.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    identity: Identity,
    /// The size of the buffer, in bytes.
    taken: u64,
    buffer: Arc<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    /// `None` after an eviction.
    bytes: Mutex<Option<Vec<u8>>>,
    /// The task that reads the connection.
    reader: AtomicWaker,
}

impl PartialMessages {
    /// Creates limits for the unfinished messages of all connections that are given a clone of them: they
    /// take at most `max_bytes` bytes, and each 256 KiB of a message must arrive within `timeout`.
    pub(super) fn new(max_bytes: usize, timeout: Duration) -> Self {
        Self(Arc::new(Mutex::new(PartialTable {
            stats: PartialStats {
                max_bytes: max_bytes as u64,
                ..PartialStats::default()
            },
            timeout,
            next: 0,
            entries: Vec::new(),
        })))
    }

    /// Counts a record that ends its connection.
    pub(super) fn count_rejected_record(&self) {
        self.0.lock().stats.rejected_records += 1;
    }

    /// Returns the present counts.
    pub(super) fn stats(&self) -> PartialStats {
        self.0.lock().stats
    }
}

impl PartialTable {
    /// Lets a message take `to` bytes in all. Returns whether it may; if not, it has been evicted.
    fn grow(&mut self, id: u64, to: u64) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return false;
        };
        self.stats.bytes += to.saturating_sub(entry.taken);
        entry.taken = entry.taken.max(to);
        while self.stats.bytes > self.stats.max_bytes {
            let Some(victim) = self.to_evict().and_then(|id| self.remove(id)) else {
                return false;
            };
            self.stats.evicted += 1;
            *victim.buffer.bytes.lock() = None;
            victim.buffer.reader.wake();
            if victim.id == id {
                return false;
            }
        }
        true
    }

    /// Returns the oldest message of the identity with the most bytes. Of several such identities, the
    /// one with the oldest message loses it.
    fn to_evict(&self) -> Option<u64> {
        let mut sums: LiteMap<Identity, u64> = LiteMap::new();
        for entry in &self.entries {
            let sum = sums.get(&entry.identity).copied().unwrap_or(0);
            sums.insert(entry.identity, sum + entry.taken);
        }
        let most = sums.values().copied().max()?;
        let of_most = |entry: &&Entry| sums.get(&entry.identity) == Some(&most);
        self.entries.iter().find(of_most).map(|entry| entry.id)
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        let entry = self.entries.remove(index);
        self.stats.bytes = self.stats.bytes.saturating_sub(entry.taken);
        Some(entry)
    }
}

/// A message that spans more than one record, as far as it has arrived.
pub(super) struct Partial {
    all: PartialMessages,
    id: u64,
    buffer: Arc<Buffer>,
    len: usize,
    received: usize,
    /// The size of the buffer, in bytes.
    taken: usize,
    /// The bytes that had been received at the last progress, and its time.
    progress: Option<(usize, Instant)>,
}

impl Partial {
    /// Begins a message of `len` bytes from the peer `identity`.
    pub(super) fn begin(all: &PartialMessages, identity: Identity, len: usize) -> Self {
        let buffer = Arc::new(Buffer {
            bytes: Mutex::new(Some(Vec::new())),
            reader: AtomicWaker::new(),
        });
        let mut pool = all.0.lock();
        pool.next += 1;
        let id = pool.next;
        pool.entries.push(Entry {
            id,
            identity,
            taken: 0,
            buffer: Arc::clone(&buffer),
        });
        drop(pool);
        Self {
            all: all.clone(),
            id,
            buffer,
            len,
            received: 0,
            taken: 0,
            progress: None,
        }
    }

    /// Returns the number of bytes that have not arrived yet.
    pub(super) fn missing(&self) -> usize {
        self.len.saturating_sub(self.received)
    }

    /// Appends bytes, and doubles the memory when it is used up, but never beyond the message's
    /// length.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        let needed = self.received.saturating_add(piece.len());
        if needed > self.taken {
            let taken = needed.saturating_mul(2).min(self.len);
            if !self.all.0.lock().grow(self.id, taken as u64) {
                return Err(self.evicted());
            }
            self.taken = taken;
        }
        match &mut *self.buffer.bytes.lock() {
            Some(bytes) => {
                bytes.reserve_exact(self.taken.saturating_sub(bytes.len()));
                bytes.extend_from_slice(piece);
            }
            None => return Err(self.evicted()),
        }
        self.received = needed;
        Ok(())
    }

    /// Returns the whole message.
    pub(super) fn finish(self) -> Result<Bytes, FrameError> {
        let bytes = self.buffer.bytes.lock().take();
        bytes.map(Bytes::from).ok_or_else(|| self.evicted())
    }

    /// Returns the time in which more must arrive.
    pub(super) fn time_left(&mut self, now: Instant) -> Duration {
        let (reached, since) = self.progress.get_or_insert((self.received, now));
        if self.received.saturating_sub(*reached) >= PROGRESS {
            (*reached, *since) = (self.received, now);
        }
        let passed = now.saturating_duration_since(*since);
        self.all.0.lock().timeout.saturating_sub(passed)
    }

    /// Counts that too little has arrived in time. Returns the error.
    pub(super) fn timed_out(&self) -> FrameError {
        let mut pool = self.all.0.lock();
        pool.stats.timed_out += 1;
        let after = pool.timeout;
        FrameError::PartialTimeout {
            received: self.received,
            len: self.len,
            after,
        }
    }

    /// Completes with the error if the message is evicted.
    pub(super) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<FrameError> {
        self.buffer.reader.register(cx.waker());
        match *self.buffer.bytes.lock() {
            Some(_) => Poll::Pending,
            None => Poll::Ready(self.evicted()),
        }
    }

    /// Returns the length and the capacity of the buffer.
    #[cfg(test)]
    pub(super) fn memory(&self) -> (usize, usize) {
        let bytes = self.buffer.bytes.lock();
        bytes
            .as_ref()
            .map_or((0, 0), |bytes| (bytes.len(), bytes.capacity()))
    }

    fn evicted(&self) -> FrameError {
        FrameError::PartialEvicted {
            max: self.all.stats().max_bytes,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.all.0.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn identity(n: u8) -> Identity {
        Identity::from_bytes([n; 32])
    }

    fn limited(max_bytes: usize) -> PartialMessages {
        PartialMessages::new(max_bytes, Duration::from_secs(30))
    }

    /// Begins a message of `len` bytes of which all but one arrive.
    fn unfinished(all: &PartialMessages, from: u8, len: usize) -> Partial {
        let mut partial = Partial::begin(all, identity(from), len);
        partial.append(&vec![7; len - 1]).unwrap();
        partial
    }

    fn is_evicted(partial: &Partial) -> bool {
        let cx = Context::from_waker(std::task::Waker::noop());
        partial.poll_evicted(&cx).is_ready()
    }

    #[test]
    fn the_identity_with_the_most_bytes_loses_its_oldest_message() {
        let all = limited(100 * KIB);
        let honest = unfinished(&all, 1, 30 * KIB);
        let first = unfinished(&all, 2, 20 * KIB);
        let mut second = unfinished(&all, 2, 20 * KIB);
        let mut newcomer = unfinished(&all, 3, 40 * KIB);
        assert!(is_evicted(&first) && !is_evicted(&second) && !is_evicted(&honest));
        // Its memory is free, though its connection has not been read yet.
        assert_eq!(all.stats().bytes, (90 * KIB) as u64);
        // Whoever has the most pays, also for its own next byte.
        let mut more = Partial::begin(&all, identity(3), 20 * KIB);
        assert!(more.append(&[7; 10 * KIB]).is_ok());
        assert!(is_evicted(&newcomer));
        assert!(newcomer.append(b"a").is_err());
        second.append(b"a").unwrap();
        assert_eq!(second.finish().unwrap().len(), 20 * KIB);
        assert_eq!(all.stats().bytes, (50 * KIB) as u64);
        let last = unfinished(&all, 4, 50 * KIB);
        assert_eq!(all.stats().evicted, 2, "all of the limit may be used");
        drop((honest, first, newcomer, more, last));
        assert_eq!(all.stats().bytes, 0);
        assert!(all.0.lock().entries.is_empty());
    }

    #[test]
    fn a_message_that_fits_nowhere_costs_its_own_sender() {
        let all = limited(100 * KIB);
        let honest = unfinished(&all, 1, 30 * KIB);
        let mut long = Partial::begin(&all, identity(2), 200 * KIB);
        let error = long.append(&[7; 60 * KIB]).unwrap_err();
        assert!(
            matches!(error, FrameError::PartialEvicted { .. }),
            "{error}"
        );
        assert!(!is_evicted(&honest));
    }

    #[test]
    fn each_part_of_a_message_has_its_time() {
        let all = limited(4 << 20);
        let mut partial = Partial::begin(&all, identity(1), 2 << 20);
        let start = Instant::now();
        let left = |partial: &mut Partial, secs| {
            let left = partial.time_left(start + Duration::from_secs(secs));
            left.as_secs()
        };
        assert_eq!(left(&mut partial, 0), 30);
        partial.append(&vec![7; PROGRESS - 1]).unwrap();
        assert_eq!(left(&mut partial, 20), 10, "too little");
        partial.append(&[7]).unwrap();
        assert_eq!(left(&mut partial, 25), 30);
        assert_eq!(left(&mut partial, 50), 5);
        assert_eq!(left(&mut partial, 90), 0);
    }

    #[test]
    fn a_message_that_is_too_slow_is_counted_and_its_error_says_how_much_has_arrived() {
        let all = limited(KIB);
        let partial = unfinished(&all, 1, 100);
        for count in 1..=2 {
            let error = partial.timed_out().to_string();
            let expected = "99 of 100 bytes of a message have arrived, and too few more within 30s";
            assert_eq!(error, expected);
            assert_eq!(all.stats().timed_out, count);
        }
    }

    #[test]
    fn the_memory_of_a_message_doubles_once_it_is_used_up_and_ends_at_its_length() {
        let all = limited(KIB);
        let mut partial = Partial::begin(&all, identity(1), 100);
        for (piece, received, taken) in [(10, 10, 20), (10, 20, 20), (1, 21, 42), (40, 61, 100)] {
            partial.append(&vec![7; piece]).unwrap();
            assert_eq!(partial.memory(), (received, taken));
            assert_eq!(all.stats().bytes, taken as u64);
        }
    }
}
