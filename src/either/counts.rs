//! Counters of peers that were reached over the first network.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of times that the second network was about to be used for a peer that was reached over
/// the first, over all sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EitherCounts {
    /// Connections of the second network that were taken or made, because dials of the first had failed
    /// for longer than its head start of 250 ms.
    pub fallbacks: u64,
    /// Incoming connections of the second network that were refused, because nothing said that the
    /// first had failed.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    fallbacks: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(super) fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> EitherCounts {
        EitherCounts {
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
