//! What the task has done, for those who watch it.

use std::collections::BTreeMap;
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
    /// The number of failures of each kind ([`AcmeError::KINDS`]): of attempts, and of writing a certificate.
    pub failures: BTreeMap<&'static str, u64>,
    /// The error of the last attempt, `None` if it has succeeded or there was none; or that of writing the certificate.
    pub last_error: Option<Arc<AcmeError>>,
    /// The time since 1970-01-01 UTC of the next order: a renewal, or another attempt.
    pub next_order: Duration,
}

/// The status, which the task changes.
#[derive(Debug)]
pub(super) struct Shared(Mutex<AcmeStatus>);

impl Default for Shared {
    fn default() -> Self {
        let failures = AcmeError::KINDS.iter().map(|kind| (*kind, 0));
        Self(Mutex::new(AcmeStatus {
            failures: failures.collect(),
            ..AcmeStatus::default()
        }))
    }
}

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
        if matches!(error, AcmeError::AlreadyDue { is_used: true }) {
            status.issued += 1;
        }
        status.failed += 1;
        *status.failures.entry(error.kind()).or_default() += 1;
        status.last_error = Some(Arc::new(error));
    }

    /// Notes that the certificate in use could not be written, as long as nothing else is reported.
    pub(super) fn not_saved(&self, error: AcmeError) {
        let mut status = self.0.lock();
        *status.failures.entry(error.kind()).or_default() += 1;
        status.last_error.get_or_insert_with(|| Arc::new(error));
    }

    /// Notes that it was written later.
    pub(super) fn saved(&self) {
        let mut status = self.0.lock();
        let error = status.last_error.as_deref();
        if matches!(error, Some(AcmeError::Store { .. })) {
            status.last_error = None;
        }
    }

    pub(super) fn set_next(&self, next: Duration) {
        self.0.lock().next_order = next;
    }
}
