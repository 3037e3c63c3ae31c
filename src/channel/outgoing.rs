//! The sending direction of a channel: frames that wait to be sent, and the credit that the peer has given.
//!
//! Invariant: the cost of what waits is at most [`MAX_COST`], which the caller has taken from the pool for the channel, and what
//! was taken from the pool here.

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::{MAX_COST, MAX_CREDIT, cost, cost_of};
use super::pool::Pool;

/// The sending direction of a channel.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frames: VecDeque<Bytes>,
    /// The cost of the frames that wait.
    queued: u32,
    credit: u32,
    /// Whether the peer was told that its credit is too small, since it last gave some.
    has_told: bool,
    /// Whether a frame found no room.
    wants_room: bool,
}

/// Returns what is taken from the pool besides [`MAX_COST`] while frames that cost `queued` wait.
fn beyond_reserve(queued: u32) -> u32 {
    queued.saturating_sub(MAX_COST)
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Queues a frame, or returns it if there is no room: the frames would cost more than `max`, or `pool` has no room. The
    /// first frame always has room.
    pub(super) fn push(&mut self, frame: Bytes, max: u32, pool: &mut Pool) -> Result<(), Bytes> {
        let cost = cost(&frame);
        let queued = self.queued.saturating_add(cost);
        if queued > max || !pool.take(self.missing(cost)) {
            self.wants_room = true;
            return Err(frame);
        }
        self.queued = queued;
        self.frames.push_back(frame);
        Ok(())
    }

    /// Returns whether [`push`](Self::push) would take a frame of this length.
    pub(super) fn has_room(&self, len: usize, max: u32, pool: &Pool) -> bool {
        let cost = cost_of(len);
        self.queued.saturating_add(cost) <= max && pool.has(self.missing(cost))
    }

    /// Returns what must be taken from the pool to queue a frame that costs this much.
    fn missing(&self, cost: u32) -> u32 {
        let queued = self.queued.saturating_add(cost);
        beyond_reserve(queued).saturating_sub(beyond_reserve(self.queued))
    }

    /// Returns the cost of the first frame, if the credit is enough for it.
    pub(super) fn sendable(&self) -> Option<u32> {
        let cost = cost(self.frames.front()?);
        (cost <= self.credit).then_some(cost)
    }

    /// Takes the first frame, for which the credit must be enough.
    pub(super) fn pop(&mut self, pool: &mut Pool) -> Option<Bytes> {
        let cost = self.sendable()?;
        let frame = self.frames.pop_front()?;
        self.credit = self.credit.saturating_sub(cost);
        let queued = self.queued.saturating_sub(cost);
        pool.give_back(beyond_reserve(self.queued).saturating_sub(beyond_reserve(queued)));
        self.queued = queued;
        if self.frames.is_empty() {
            // An idle channel holds no memory of a burst.
            self.frames = VecDeque::new();
        }
        Some(frame)
    }

    /// Returns whether a frame had found no room and there is some now, once for each time that one had found none. While `max` and
    /// the pool are large enough it is room for the longest frame, and in any case if nothing waits.
    pub(super) fn take_has_room(&mut self, max: u32) -> bool {
        let has_room = self.is_empty() || self.queued.saturating_add(MAX_COST) <= max;
        has_room && std::mem::take(&mut self.wants_room)
    }

    /// Adds credit. Returns `false` if the peer has given more than it may.
    pub(super) fn add_credit(&mut self, amount: u32) -> bool {
        self.has_told = false;
        match self.credit.checked_add(amount) {
            Some(credit) if credit <= MAX_CREDIT => {
                self.credit = credit;
                true
            }
            _ => false,
        }
    }

    /// Returns whether the peer is to be told that its credit is too small.
    pub(super) fn must_tell(&self) -> bool {
        !self.has_told && !self.is_empty() && self.sendable().is_none()
    }

    pub(super) fn told(&mut self) {
        self.has_told = true;
    }

    /// Drops all frames, and returns what they have taken from `pool`. Returns the number of frames.
    pub(super) fn clear(&mut self, pool: &mut Pool) -> usize {
        pool.give_back(beyond_reserve(self.queued));
        self.queued = 0;
        self.wants_room = false;
        std::mem::take(&mut self.frames).len()
    }

    /// Returns the cost of the frames that wait.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.queued as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::config::{FRAME_COST, MAX_FRAME_LEN};

    fn frame(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    #[test]
    fn the_first_frame_has_room_and_others_up_to_the_limits() {
        let mut pool = Pool::new(MAX_COST as usize);
        assert!(pool.take(MAX_COST));
        let mut outgoing = Outgoing::default();
        outgoing
            .push(frame(MAX_FRAME_LEN), 4 * MAX_COST, &mut pool)
            .unwrap();
        assert!(outgoing.push(frame(0), 4 * MAX_COST, &mut pool).is_err());
        let mut pool = Pool::new(3 * MAX_COST as usize);
        assert!(pool.take(MAX_COST));
        outgoing
            .push(frame(MAX_FRAME_LEN), 2 * MAX_COST, &mut pool)
            .unwrap();
        assert!(outgoing.push(frame(0), 2 * MAX_COST, &mut pool).is_err());
        assert_eq!(pool.taken(), 2 * MAX_COST as usize);
        assert_eq!(outgoing.clear(&mut pool), 2);
        assert_eq!(pool.taken(), MAX_COST as usize);
    }

    #[test]
    fn a_frame_is_sent_within_the_credit_and_the_peer_is_told_once_that_it_is_too_small() {
        let mut pool = Pool::new(100_000);
        let mut outgoing = Outgoing::default();
        for len in [10, 20] {
            outgoing.push(frame(len), 100_000, &mut pool).unwrap();
        }
        assert!(outgoing.must_tell() && outgoing.pop(&mut pool).is_none());
        outgoing.told();
        assert!(!outgoing.must_tell());
        assert!(outgoing.add_credit(9 + FRAME_COST) && outgoing.must_tell());
        assert!(outgoing.add_credit(1) && !outgoing.must_tell());
        assert_eq!(outgoing.pop(&mut pool).unwrap().len(), 10);
        assert!(outgoing.must_tell() && outgoing.pop(&mut pool).is_none());
        assert!(outgoing.add_credit(20 + FRAME_COST));
        assert_eq!(outgoing.pop(&mut pool).unwrap().len(), 20);
        assert!(!outgoing.must_tell() && outgoing.is_empty());
    }

    #[test]
    fn credit_is_bounded() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.add_credit(MAX_CREDIT) && !outgoing.add_credit(1));
        assert!(!Outgoing::default().add_credit(u32::MAX));
    }

    #[test]
    fn room_is_reported_once_and_only_to_a_channel_that_has_missed_it() {
        let (max, mut pool) = (2 * MAX_COST, Pool::new(100_000));
        let mut outgoing = Outgoing::default();
        for _ in 0..2 {
            outgoing.push(frame(MAX_FRAME_LEN), max, &mut pool).unwrap();
        }
        assert!(!outgoing.take_has_room(max));
        assert!(outgoing.push(frame(0), max, &mut pool).is_err());
        assert!(!outgoing.take_has_room(max));
        assert!(outgoing.add_credit(MAX_COST));
        outgoing.pop(&mut pool).unwrap();
        assert!(outgoing.take_has_room(max) && !outgoing.take_has_room(max));
    }
}
