//! Limits the bytes that rumours cost.

use std::time::Duration;

/// A token bucket that counts bytes, and holds at most those of a second.
#[derive(Debug)]
pub(super) struct Budget {
    a_second: usize,
    bytes: usize,
    at: Duration,
}

impl Budget {
    pub(super) fn new(a_second: usize) -> Self {
        Self {
            a_second,
            bytes: a_second,
            at: Duration::ZERO,
        }
    }

    /// Returns the bytes that may be spent now.
    pub(super) fn refill(&mut self, now: Duration) -> usize {
        let passed = now.saturating_sub(self.at).min(Duration::from_secs(1));
        let earned = (self.a_second as u128).saturating_mul(passed.as_micros()) / 1_000_000;
        if earned > 0 {
            self.bytes = self
                .bytes
                .saturating_add(usize::try_from(earned).unwrap_or(usize::MAX))
                .min(self.a_second);
            self.at = now;
        }
        self.bytes
    }

    /// Returns the bytes that could be spent at the last refill.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refills_in_a_second_however_often_it_is_asked() {
        let mut budget = Budget::new(1_000);
        budget.refill(Duration::from_secs(1));
        budget.spend(1_000);
        // A byte is earned in a millisecond.
        for micros in (0..=1_000_000).step_by(100) {
            budget.refill(Duration::from_secs(1) + Duration::from_micros(micros));
        }
        assert_eq!(budget.bytes(), 1_000);
    }
}
