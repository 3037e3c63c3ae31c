//! The times at which the messages of a queue expire, in the order of the queue.

use std::collections::VecDeque;

use crate::rt::Instant;

/// One time of expiry for each message of a queue. Messages that were queued at the same time, such
/// as those of a burst, share one entry. `None` means never: the time is later than the clock can
/// express.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    runs: VecDeque<(Option<Instant>, usize)>,
    len: usize,
}

impl Expiries {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.runs.front().and_then(|(at, _)| *at)
    }

    pub(super) fn push_back(&mut self, at: Option<Instant>) {
        self.push_run(at, 1);
    }

    /// Adds a message that expires at `at`, or with the last message if that expires later.
    pub(super) fn push_back_in_order(&mut self, at: Option<Instant>) {
        let at = match self.runs.back() {
            Some((last, _)) => last.and_then(|last| at.map(|at| at.max(last))),
            None => at,
        };
        self.push_run(at, 1);
    }

    fn push_run(&mut self, at: Option<Instant>, count: usize) {
        self.len += count;
        match self.runs.back_mut() {
            Some((last, have)) if *last == at => *have += count,
            _ => self.runs.push_back((at, count)),
        }
    }

    /// Forgets the first `count` messages.
    pub(super) fn drop_front(&mut self, count: usize) {
        self.take_front(count, |_, _| {});
    }

    /// Forgets the last message.
    pub(super) fn drop_back(&mut self) {
        if let Some((_, have)) = self.runs.back_mut() {
            self.len -= 1;
            *have -= 1;
            if *have == 0 {
                self.runs.pop_back();
            }
        }
    }

    /// Moves the first `count` messages to the end of `to`.
    pub(super) fn move_front(&mut self, count: usize, to: &mut Self) {
        self.take_front(count, |at, count| to.push_run(at, count));
    }

    fn take_front(&mut self, count: usize, mut take: impl FnMut(Option<Instant>, usize)) {
        let mut missing = count.min(self.len);
        self.len -= missing;
        while missing > 0
            && let Some((at, have)) = self.runs.front_mut()
        {
            let taken = missing.min(*have);
            take(*at, taken);
            missing -= taken;
            *have -= taken;
            if *have == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Moves all messages of `from` to the end.
    pub(super) fn append(&mut self, from: &mut Self) {
        self.len += std::mem::take(&mut from.len);
        self.runs.append(&mut from.runs);
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    pub(super) fn shrink(&mut self) {
        self.runs.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_run_of_which_all_messages_were_dropped_is_gone() {
        let first = Instant::now();
        let later = first + Duration::from_secs(1);
        let mut expiries = Expiries::default();
        expiries.push_run(Some(first), 2);
        expiries.drop_back();
        expiries.drop_back();
        expiries.push_run(Some(later), 1);
        assert_eq!((expiries.len(), expiries.first()), (1, Some(later)));
    }
}
