//! A value that is made at most once in a second, however many requests ask for it.
//!
//! For what everyone may ask for and what takes locks that gossip needs. Invariant: between two times at which a value is
//! made, there is a second, unless there was none to keep. Whether the node has left meanwhile is the caller's question.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gossip_transport::rt::Instant;

/// The age up to which a value serves further requests.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// A value that is kept for a second. Clones share it.
#[derive(Debug)]
pub(super) struct Kept<T>(Arc<Mutex<Option<(Instant, T)>>>);

impl<T: Clone> Kept<T> {
    /// Returns the value that was kept, or what `make` returns now. `None` is not kept.
    pub(super) fn get(&self, now: Instant, make: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let young = kept.as_ref().filter(|(since, _)| {
            let age = now.saturating_duration_since(*since);
            age < KEPT_FOR
        });
        if let Some((_, value)) = young {
            return Some(value.clone());
        }
        let made = make()?;
        *kept = Some((now, made.clone()));
        Some(made)
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_in_a_second_and_none_is_not_kept() {
        let (kept, start) = (Kept::default(), Instant::now());
        let at = |millis, value| kept.get(start + Duration::from_millis(millis), || value);
        assert_eq!(at(0, None), None);
        assert_eq!(at(0, Some(1)), Some(1));
        assert_eq!(at(999, Some(2)), Some(1));
        assert_eq!(at(1_000, Some(3)), Some(3));
        assert_eq!(at(1_999, None), Some(3));
        assert_eq!(at(2_000, None), None);
    }
}
