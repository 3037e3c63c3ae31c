//! The memory of what the connections of a network have received.
//!
//! It holds the bounds that all connections share, and reads nothing itself. Invariant: what has arrived
//! and was not handed on, and the records that messages share, take no more bytes than these bounds.

use std::sync::Arc;
use std::time::Duration;

use super::partial::PartialMessages;
use super::plaintext::PlaintextPool;
use crate::net::PartialStats;

/// The bounds of memory that the connections of a network share. Clones share them.
#[derive(Debug, Clone)]
pub struct ReceiveMemory(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    partials: PartialMessages,
    plaintexts: PlaintextPool,
}

impl ReceiveMemory {
    /// Creates bounds for all connections that are given a clone of them: their unfinished messages take at
    /// most `max_partial_bytes` bytes, and each 256 KiB of a message must arrive within `partial_timeout`.
    /// Long records whose messages are handed on without a copy take at most `max_shared_bytes`.
    pub fn new(
        max_partial_bytes: usize,
        partial_timeout: Duration,
        max_shared_bytes: usize,
    ) -> Self {
        Self(Arc::new(Bounds {
            partials: PartialMessages::new(max_partial_bytes, partial_timeout),
            plaintexts: PlaintextPool::new(max_shared_bytes),
        }))
    }

    pub(super) fn partials(&self) -> &PartialMessages {
        &self.0.partials
    }

    pub(super) fn plaintexts(&self) -> &PlaintextPool {
        &self.0.plaintexts
    }

    /// Returns the present counts.
    pub fn stats(&self) -> PartialStats {
        let shared_record_bytes = self.0.plaintexts.shared_bytes() as u64;
        PartialStats {
            shared_record_bytes,
            ..self.0.partials.stats()
        }
    }
}
