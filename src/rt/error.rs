//! The error of a time limit.

use std::time::Duration;

/// The time limit of [`timeout`](super::timeout) has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out after {0:?}")]
pub struct Elapsed(
    /// The limit.
    pub Duration,
);
