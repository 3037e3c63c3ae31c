//! The receiving direction of a channel: frames that wait to be taken, and the credit of the peer.
//!
//! Invariant: the cost of what waits, the credit that the peer has, and the credit that is owed to it are the window, which
//! the caller has taken from the pool.

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::cost;
use super::pool::Pool;

/// A frame that costs more than the credit that was left. It is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// The receiving direction of a channel.
#[derive(Debug)]
pub(super) struct Incoming {
    frames: VecDeque<Bytes>,
    window: u32,
    /// The credit that the peer has.
    left: u32,
    /// The cost of the frames that were taken and for which no new credit was given yet.
    owed: u32,
    /// Whether the peer has said that its window is too small, since the window was last enlarged.
    is_wanted_larger: bool,
}

impl Incoming {
    pub(super) fn new(window: u32) -> Self {
        Self {
            frames: VecDeque::new(),
            window,
            left: window,
            owed: 0,
            is_wanted_larger: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Keeps a frame that has arrived.
    pub(super) fn push(&mut self, frame: Bytes) -> Result<(), Overrun> {
        self.spend(&frame)?;
        self.frames.push_back(frame);
        Ok(())
    }

    /// Takes what `frame` costs from the credit of the peer.
    pub(super) fn spend(&mut self, frame: &[u8]) -> Result<(), Overrun> {
        self.left = self.left.checked_sub(cost(frame)).ok_or(Overrun)?;
        Ok(())
    }

    /// Returns the length of the frame that is taken next.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.frames.front().map(Bytes::len)
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.owed = self.owed.saturating_add(cost(&frame));
        if self.frames.is_empty() {
            // An idle channel holds no memory of a burst.
            self.frames = VecDeque::new();
        }
        Some(frame)
    }

    /// Notes that the peer wants a larger window.
    pub(super) fn want_larger(&mut self) {
        self.is_wanted_larger = true;
    }

    /// Returns whether enough was taken to be worth a message. Less than half of the window, and a frame of any length
    /// can still arrive.
    pub(super) fn is_grant_due(&self) -> bool {
        self.owed >= self.window / 2
    }

    /// Returns the credit to give now. The window is doubled, up to `max_window`, if the peer has asked for that, the user takes
    /// frames as fast as they arrive, and `pool` has room.
    pub(super) fn grant(&mut self, max_window: u32, pool: &mut Pool) -> u32 {
        let mut amount = std::mem::take(&mut self.owed);
        if self.is_wanted_larger && self.frames.is_empty() {
            self.is_wanted_larger = false;
            let growth = self.window.min(max_window.saturating_sub(self.window));
            if pool.take(growth) {
                self.window = self.window.saturating_add(growth);
                amount = amount.saturating_add(growth);
            }
        }
        self.left = self.left.saturating_add(amount);
        amount
    }

    /// Drops all frames as if they had been taken, and returns their number.
    pub(super) fn drop_frames(&mut self) -> usize {
        let mut dropped = 0;
        while self.take().is_some() {
            dropped += 1;
        }
        dropped
    }

    /// Drops all frames, and returns the window to `pool`. Returns the number of frames. What the peer sends until it
    /// learns of the end is counted against the credit that it has, or against `credit` if it has broken a rule.
    pub(super) fn end(&mut self, credit: Option<u32>, pool: &mut Pool) -> usize {
        pool.give_back(self.window);
        self.window = 0;
        self.left = credit.unwrap_or(self.left);
        std::mem::take(&mut self.frames).len()
    }

    #[cfg(test)]
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Returns the cost of the frames that wait.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.frames.iter().map(|frame| cost(frame) as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::config::{FRAME_COST, MAX_COST, MAX_FRAME_LEN};

    const WINDOW: u32 = 2 * MAX_COST;

    fn longest() -> Bytes {
        Bytes::from(vec![0; MAX_FRAME_LEN])
    }

    #[test]
    fn a_frame_beyond_the_credit_is_an_overrun_whatever_its_length() {
        let mut incoming = Incoming::new(WINDOW);
        incoming.push(longest()).unwrap();
        incoming.push(longest()).unwrap();
        assert_eq!(incoming.push(Bytes::new()), Err(Overrun));
        let mut incoming = Incoming::new(WINDOW);
        for _ in 0..WINDOW / FRAME_COST {
            incoming.push(Bytes::new()).unwrap();
        }
        assert_eq!(incoming.push(Bytes::new()), Err(Overrun));
    }

    #[test]
    fn credit_is_given_back_once_half_of_the_window_was_taken() {
        let mut pool = Pool::new(WINDOW as usize);
        assert!(pool.take(WINDOW));
        let mut incoming = Incoming::new(WINDOW);
        incoming.push(longest()).unwrap();
        incoming.push(longest()).unwrap();
        assert!(!incoming.is_grant_due());
        incoming.take().unwrap();
        assert!(incoming.is_grant_due());
        assert_eq!(incoming.grant(WINDOW, &mut pool), MAX_COST);
        assert!(!incoming.is_grant_due());
        incoming.push(longest()).unwrap();
        assert_eq!(incoming.push(Bytes::new()), Err(Overrun));
    }

    #[test]
    fn a_window_grows_if_the_peer_wants_that_the_user_keeps_up_and_there_is_room() {
        let mut pool = Pool::new(4 * WINDOW as usize);
        assert!(pool.take(WINDOW));
        let mut incoming = Incoming::new(WINDOW);
        let mut cycle = |wants: bool, keeps_up: bool, max_window: u32| {
            let before = incoming.window;
            if wants {
                incoming.want_larger();
            }
            incoming.push(longest()).unwrap();
            while !incoming.is_grant_due() {
                if incoming.take().is_none() {
                    incoming.push(longest()).unwrap();
                }
            }
            if !keeps_up {
                incoming.push(Bytes::new()).unwrap();
            }
            if keeps_up {
                while incoming.take().is_some() {}
            }
            let granted = incoming.grant(max_window, &mut pool);
            incoming.drop_frames();
            let grown = incoming.window - before;
            assert!(granted >= grown);
            grown
        };
        assert_eq!(cycle(false, true, 8 * WINDOW), 0);
        assert_eq!(cycle(true, false, 8 * WINDOW), 0);
        assert_eq!(cycle(true, true, WINDOW), 0);
        assert_eq!(cycle(true, true, WINDOW + 7), 7);
        assert_eq!(cycle(true, true, 8 * WINDOW), WINDOW + 7);
        assert_eq!(cycle(true, true, 8 * WINDOW), 0, "the pool is empty");
        assert_eq!(pool.taken(), 2 * (WINDOW as usize + 7));
    }
}
