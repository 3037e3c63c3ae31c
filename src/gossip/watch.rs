//! [`MembershipWatch`]: waits for changes of the membership.
//!
//! A watch reports that something has changed, and not what. The caller then looks at the members as
//! they are, so that nothing queues up for a slow caller. Invariant: a change is never missed, and
//! several changes may be reported as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rt::sync::Epoch;

/// The participant's side of its watches.
#[derive(Debug, Default)]
pub(super) struct Changes {
    epoch: Epoch,
    left: AtomicBool,
}

impl Changes {
    pub(super) fn notify(&self) {
        self.epoch.advance();
    }

    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.epoch.advance();
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }
}

/// Waits for changes of the membership.
#[derive(Debug)]
pub struct MembershipWatch {
    changes: Arc<Changes>,
    seen: u64,
}

impl MembershipWatch {
    pub(super) fn new(changes: Arc<Changes>) -> Self {
        let seen = changes.epoch.current();
        Self { changes, seen }
    }

    /// Waits until members, their liveness or their keys have changed, and returns true. Changes
    /// since the last call count; several of them are reported as one. A heartbeat is not a change.
    /// Returns false once the participant has left, or one of its tasks has ended.
    ///
    /// Cancel-safe: if the future is dropped, the next call reports the change.
    pub async fn changed(&mut self) -> bool {
        loop {
            if self.changes.has_left() {
                return false;
            }
            let epoch = self.changes.epoch.current();
            if epoch != self.seen {
                self.seen = epoch;
                return true;
            }
            self.changes.epoch.later_than(epoch).await;
        }
    }
}
