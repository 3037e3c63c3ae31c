//! A number of bytes that the channels of a carrier share.
//!
//! Invariant: what has been taken is at most the maximum.

/// A bounded number of bytes.
#[derive(Debug)]
pub(super) struct Pool {
    max: usize,
    taken: usize,
}

impl Pool {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: 0 }
    }

    /// Returns whether `bytes` can be taken.
    pub(super) fn has(&self, bytes: u32) -> bool {
        bytes as usize <= self.max.saturating_sub(self.taken)
    }

    /// Takes `bytes`. Returns `false`, and takes none, if they are not there.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        let has = self.has(bytes);
        if has {
            self.taken = self.taken.saturating_add(bytes as usize);
        }
        has
    }

    /// Returns bytes that have been taken.
    pub(super) fn give_back(&mut self, bytes: u32) {
        self.taken = self.taken.saturating_sub(bytes as usize);
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut pool = Pool::new(10);
        assert!(pool.take(7) && !pool.take(4) && pool.take(3) && !pool.take(1));
        pool.give_back(5);
        assert!(!pool.take(6) && pool.take(5) && pool.take(0));
        assert_eq!(pool.taken(), 10);
    }
}
