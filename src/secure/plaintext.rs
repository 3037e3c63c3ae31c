//! The plaintext of records, and the memory that it takes while messages share it.
//!
//! A record is decrypted into memory of its own, so that its messages can be handed on without a copy and
//! hold nothing else. A network has one [`PlaintextPool`], which its connections share. It does not know
//! what is inside of a record. Invariant: the long records that messages share take no more bytes than
//! the limit, however long a receiver keeps the messages; the messages of further records are copied.

use std::sync::Arc;

use bytes::Bytes;

use super::error::FrameError;
use super::record::{MAX_PLAINTEXT_LEN, Opener};
use crate::rt::crypto::TAG_LEN;
use crate::rt::sync::Mutex;

/// The longest record whose messages always share its memory, in bytes. A message that is kept holds at
/// most this much besides itself.
pub(super) const SHORT_LEN: usize = 4 << 10;

/// The plaintext of one record.
#[derive(Debug)]
pub(super) struct Plaintext {
    pub(super) bytes: Bytes,
    /// Whether each message may be handed on inside of this memory, however short it is.
    pub(super) may_share: bool,
}

/// The memory of long records that messages share. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct PlaintextPool(Arc<Mutex<RecordMemory>>);

/// A count of the records that messages share, and memory for others.
#[derive(Debug)]
struct RecordMemory {
    /// The records that messages share now.
    shared: usize,
    /// The most of them.
    max_shared: usize,
    /// Memory of earlier records, kept since new memory would have to be filled with zeros: at most as much
    /// as is shared, or that of one record. A keepalive frees it.
    spare: Vec<Vec<u8>>,
}

/// The memory of a long record. It goes back to its pool when the last message is dropped.
struct Shared {
    /// [`MAX_PLAINTEXT_LEN`] bytes.
    memory: Vec<u8>,
    len: usize,
    pool: PlaintextPool,
}

impl PlaintextPool {
    /// Creates a pool for all connections of a network. The records that their messages share take at most
    /// `max_bytes` bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(RecordMemory {
            shared: 0,
            max_shared: max_bytes / MAX_PLAINTEXT_LEN,
            spare: Vec::new(),
        })))
    }

    /// Decrypts the whole `record` with `opener`.
    pub(super) fn open(&self, opener: &mut Opener, record: &[u8]) -> Result<Plaintext, FrameError> {
        let len = record.len().saturating_sub(TAG_LEN);
        if len > SHORT_LEN
            && let Some(mut shared) = self.take(len)
        {
            let plaintext = shared.memory.get_mut(..len).unwrap_or_default();
            opener.open(record, plaintext)?;
            return Ok(Plaintext {
                bytes: Bytes::from_owner(shared),
                may_share: true,
            });
        }
        let mut plaintext = vec![0; len];
        opener.open(record, &mut plaintext)?;
        if len == 0 {
            // A keepalive: a connection is idle.
            let spare = std::mem::take(&mut self.0.lock().spare);
            drop(spare);
        }
        Ok(Plaintext {
            bytes: plaintext.into(),
            may_share: len <= SHORT_LEN,
        })
    }

    /// Returns the memory of the records that messages share now, in bytes.
    pub(super) fn shared_bytes(&self) -> usize {
        self.0.lock().shared.saturating_mul(MAX_PLAINTEXT_LEN)
    }

    /// Returns memory for `len` bytes, or `None` if messages share as much as they may.
    fn take(&self, len: usize) -> Option<Shared> {
        let mut pool = self.0.lock();
        if len > MAX_PLAINTEXT_LEN || pool.shared >= pool.max_shared {
            return None;
        }
        pool.shared += 1;
        let spare = pool.spare.pop();
        drop(pool);
        Some(Shared {
            memory: spare.unwrap_or_else(|| vec![0; MAX_PLAINTEXT_LEN]),
            len,
            pool: self.clone(),
        })
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut pool = self.pool.0.lock();
        pool.shared = pool.shared.saturating_sub(1);
        let keep = pool.shared.max(1);
        pool.spare.push(memory);
        let kept = pool.spare.len().min(keep);
        let surplus = pool.spare.split_off(kept);
        drop(pool);
        // Outside of the lock, since freeing is slow.
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::record::Sealer;
    use crate::secure::suite::Suite;
    use bytes::BytesMut;

    const RECORD: usize = MAX_PLAINTEXT_LEN;

    struct Ends {
        sealer: Sealer,
        opener: Opener,
        pool: PlaintextPool,
    }

    fn ends(max_bytes: usize) -> Ends {
        let suite = Suite::ChaChaPoly;
        Ends {
            sealer: Sealer::new(suite, &[1; 32], 1000).unwrap(),
            opener: Opener::new(suite, &[1; 32], 1000).unwrap(),
            pool: PlaintextPool::new(max_bytes),
        }
    }

    impl Ends {
        /// Returns what a record with `len` bytes of `byte` opens to.
        fn record(&mut self, len: usize, byte: u8) -> Plaintext {
            let mut frame = BytesMut::zeroed(2);
            frame.resize(2 + len, byte);
            self.sealer.seal(&mut frame, 0).unwrap();
            let opened = self.pool.open(&mut self.opener, &frame[2..]).unwrap();
            assert_eq!(opened.bytes, vec![byte; len]);
            opened
        }

        fn shared(&self) -> usize {
            self.pool.shared_bytes() / RECORD
        }

        fn spare(&self) -> usize {
            self.pool.0.lock().spare.len()
        }
    }

    #[test]
    fn long_records_share_memory_up_to_the_limit_and_short_ones_always() {
        let mut ends = ends(3 * RECORD + RECORD / 2);
        for len in [0, 1, SHORT_LEN] {
            let short = ends.record(len, 1);
            assert!(short.may_share);
            assert_eq!(ends.shared(), 0, "{len}");
        }
        let mut records: Vec<_> = (0..3).map(|i| ends.record(SHORT_LEN + 1, i)).collect();
        assert!(records.iter().all(|record| record.may_share));
        let further = ends.record(RECORD, 4);
        assert!(!further.may_share);
        assert_eq!(ends.shared(), 3);
        // One byte of a record holds all of it.
        let byte = records.pop().map(|record| record.bytes.slice(7..8));
        assert!(!ends.record(RECORD, 5).may_share);
        drop(byte);
        assert!(ends.record(RECORD, 6).may_share);
        drop((records, further));
        assert_eq!(ends.shared(), 0);
    }

    #[test]
    fn a_limit_of_less_than_a_record_copies_the_messages_of_all_long_records() {
        let mut ends = ends(RECORD - 1);
        assert!(!ends.record(SHORT_LEN + 1, 1).may_share);
        assert!(ends.record(SHORT_LEN, 1).may_share);
    }

    #[test]
    fn memory_is_used_again_and_no_more_of_it_is_kept_than_is_shared() {
        let mut ends = ends(100 * RECORD);
        let first = ends.record(RECORD, 1).bytes.as_ptr();
        assert_eq!(ends.spare(), 1);
        let again = ends.record(SHORT_LEN + 1, 2);
        assert_eq!(again.bytes.as_ptr(), first);
        assert_eq!(ends.spare(), 0);
        let burst: Vec<_> = (0..50).map(|i| ends.record(RECORD, i)).collect();
        for (dropped, record) in (1..).zip(burst) {
            drop(record);
            assert_eq!(ends.spare(), dropped.min(ends.shared()), "{dropped}");
        }
        drop(again);
        assert_eq!((ends.spare(), ends.shared()), (1, 0));
        ends.record(1, 1);
        assert_eq!(ends.spare(), 1);
        ends.record(0, 0);
        assert_eq!(ends.spare(), 0, "a keepalive left memory of a burst");
    }

    #[test]
    fn a_record_that_does_not_open_holds_no_memory() {
        let mut ends = ends(RECORD);
        for len in [
            0,
            TAG_LEN - 1,
            TAG_LEN,
            SHORT_LEN,
            RECORD + TAG_LEN,
            2 * RECORD,
        ] {
            let opened = ends.pool.open(&mut ends.opener, &vec![7; len]);
            assert!(matches!(opened, Err(FrameError::Tampered)), "{len}");
            assert_eq!(ends.shared(), 0);
        }
        assert!(ends.record(RECORD, 1).may_share);
    }
}
