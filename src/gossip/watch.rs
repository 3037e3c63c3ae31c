//! Waiting for changes of the membership.
//!
//! It says that something has changed, never what: whoever waits looks at the members as they are
//! then, so that nothing queues up behind a slow reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::rt::sync::Epoch;

/// The participant's side.
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

    /// Completes when members, their liveness or their keys have changed since it last completed;
    /// several changes in between are one. Heartbeats alone are no change. `false` once the
    /// participant has left. Cancel-safe.
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
