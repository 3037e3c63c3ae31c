//! What the task has done, for those who watch it.

use std::sync::Arc;
use std::time::Duration;

use super::error::AcmeError;
use crate::rt::sync::Mutex;

/// What was done for a certificate since the start of the program.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AcmeStatus {
    /// The number of orders that were begun.
    pub orders: u64,
    /// The number of certificates that were issued and are or were in use.
    pub issued: u64,
    /// The number of attempts that failed.
    pub failed: u64,
    /// The error of the last attempt, `None` if it has succeeded or there was none.
    pub last_error: Option<Arc<AcmeError>>,
    /// The time since 1970-01-01 UTC of the next order: a renewal, or another attempt.
    pub next_order: Duration,
}

/// The status, which the task changes.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<AcmeStatus>);

impl Shared {
    pub(super) fn status(&self) -> AcmeStatus {
        self.0.lock().clone()
    }

    pub(super) fn began(&self) {
        self.0.lock().orders += 1;
    }

    pub(super) fn succeeded(&self) {
        let mut status = self.0.lock();
        status.issued += 1;
        status.last_error = None;
    }

    pub(super) fn failed(&self, error: AcmeError) {
        let mut status = self.0.lock();
        if matches!(error, AcmeError::AlreadyDue) {
            status.issued += 1;
        }
        status.failed += 1;
        status.last_error = Some(Arc::new(error));
    }

    pub(super) fn set_next(&self, next: Duration) {
        self.0.lock().next_order = next;
    }
}
