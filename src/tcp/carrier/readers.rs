//! What the reading halves of a network share: which of them wait for acknowledgements, and the memory
//! of frames that have arrived in part.
//!
//! It counts memory, and takes none. Invariant: a connection counts for as much as it held when it last
//! began to wait, until it holds nothing, or ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::acks::Acks;

/// What the readers of a network share. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::tcp) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    acks: Acks,
    /// The bytes that readers hold while they wait for the rest of a frame.
    held: AtomicU64,
    max_held: u64,
}

/// The memory that one reader counts for.
#[derive(Debug, Default)]
pub(super) struct Held(u32);

impl Readers {
    /// Creates what the readers of a network share. Beyond `max_held` bytes, a reader that begins to wait
    /// for the rest of a frame gives back the memory that it does not need for the first part of it.
    pub(in crate::tcp) fn new(max_held: u64) -> Self {
        Self(Arc::new(Inner {
            acks: Acks::default(),
            held: AtomicU64::new(0),
            max_held,
        }))
    }

    /// Returns the memory that readers hold while they wait for the rest of a frame, in bytes.
    pub(in crate::tcp) fn held_bytes(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    pub(super) fn acks(&self) -> &Acks {
        &self.0.acks
    }

    /// Counts a reader that has counted for `held` for `bytes` now. Returns whether all hold more than
    /// they may.
    pub(super) fn count(&self, held: &mut Held, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut held.0, bytes);
        if bytes == before {
            return bytes > 0 && self.held_bytes() > self.0.max_held;
        }
        // Wraps around for a difference below zero, as the sum does.
        let difference = u64::from(bytes).wrapping_sub(before.into());
        let all = self.0.held.fetch_add(difference, Ordering::Relaxed);
        all.wrapping_add(difference) > self.0.max_held
    }
}

#[cfg(test)]
impl Default for Readers {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_counts_for_what_it_held_last() {
        let readers = Readers::new(100);
        let (mut a, mut b) = (Held::default(), Held::default());
        assert!(!readers.count(&mut a, 60));
        assert!(!readers.count(&mut b, 40), "all of the limit may be used");
        assert!(readers.count(&mut b, 41));
        assert!(readers.count(&mut b, 41), "still too much");
        assert_eq!(readers.held_bytes(), 101);
        assert!(!readers.count(&mut b, 0));
        assert!(!readers.count(&mut a, 30));
        assert_eq!(readers.held_bytes(), 30);
        readers.count(&mut a, 0);
        assert_eq!(readers.held_bytes(), 0);
    }
}
