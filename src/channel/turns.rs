//! Which channel sends next: deficit round robin (Shreedhar and Varghese, 1995) by the cost of frames.
//!
//! Only channels that can send have a place. Invariant: between two turns of a channel that could send all the time, every other
//! channel sends at most two of the longest frames.

use std::collections::VecDeque;

use super::config::MAX_COST;
use super::number::ChannelNumber;

/// The allowance that a channel gets with each turn, in bytes. As much as the longest frame costs, so that a turn always sends
/// something.
const QUANTUM: u32 = MAX_COST;

/// The part of a channel in the order of turns.
#[derive(Debug, Default)]
pub(super) struct Place {
    is_waiting: bool,
    /// What the channel may still send in this turn, or has left over from the last one.
    allowance: u32,
}

/// What a carrier has written last.
#[derive(Debug, Default)]
pub(super) struct LastTurn {
    pub(super) was_control: bool,
    /// Whether channel 0 had a turn since the last frame of another channel.
    pub(super) zero_had_turn: bool,
}

/// The order in which channels send.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: VecDeque<ChannelNumber>,
    /// Whether the first channel has got its allowance for this turn.
    has_begun: bool,
}

impl Turns {
    /// Adds a channel that can send, unless it has a place already.
    pub(super) fn enter(&mut self, number: ChannelNumber, place: &mut Place) {
        if !std::mem::replace(&mut place.is_waiting, true) {
            self.waiting.push_back(number);
        }
    }

    /// Returns the channel that sends next, if it can.
    pub(super) fn first(&self) -> Option<ChannelNumber> {
        self.waiting.front().copied()
    }

    /// Returns whether the first channel, whose `place` this is, may send a frame of this cost now. If not, its turn has ended.
    pub(super) fn may_send(&mut self, place: &mut Place, cost: u32) -> bool {
        if !std::mem::replace(&mut self.has_begun, true) {
            place.allowance = place.allowance.saturating_add(QUANTUM);
        }
        if let Some(left) = place.allowance.checked_sub(cost) {
            place.allowance = left;
            return true;
        }
        self.has_begun = false;
        if let Some(number) = self.waiting.pop_front() {
            self.waiting.push_back(number);
        }
        false
    }

    /// Removes the first channel, which cannot send.
    pub(super) fn leave(&mut self, place: &mut Place) {
        self.has_begun = false;
        self.waiting.pop_front();
        *place = Place::default();
    }

    /// Removes a channel that is over, so that no place is left of it.
    pub(super) fn remove(&mut self, number: ChannelNumber, place: &Place) {
        if !place.is_waiting {
            return;
        }
        if self.first() == Some(number) {
            self.has_begun = false;
        }
        self.waiting.retain(|waiting| *waiting != number);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::channel::config::FRAME_COST;

    #[test]
    fn channels_with_frames_of_different_lengths_send_the_same_number_of_bytes() {
        let costs = [FRAME_COST, 1000, MAX_COST / 2 + 1, MAX_COST];
        let mut turns = Turns::default();
        let mut places: BTreeMap<ChannelNumber, Place> = BTreeMap::new();
        for number in 0..4 {
            let number = ChannelNumber(number);
            let place = places.entry(number).or_default();
            turns.enter(number, place);
            turns.enter(number, place);
        }
        let mut sent = [0_u64; 4];
        let mut steps = 0;
        while sent.iter().sum::<u64>() < 1000 * u64::from(MAX_COST) {
            steps += 1;
            let number = turns.first().unwrap();
            let cost = costs[number.0 as usize];
            if turns.may_send(places.get_mut(&number).unwrap(), cost) {
                sent[number.0 as usize] += u64::from(cost);
            }
            let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
            assert!(most - least <= 2 * u64::from(MAX_COST), "{sent:?}");
        }
        assert!(steps < 100_000);
        assert_eq!(turns.waiting.len(), 4);
    }

    #[test]
    fn a_channel_that_leaves_takes_no_allowance_with_it() {
        let (mut turns, mut place) = (Turns::default(), Place::default());
        let number = ChannelNumber(1);
        turns.enter(number, &mut place);
        assert!(turns.may_send(&mut place, FRAME_COST));
        turns.leave(&mut place);
        assert_eq!(turns.first(), None);
        turns.enter(number, &mut place);
        assert!(turns.may_send(&mut place, MAX_COST) && !turns.may_send(&mut place, 1));
        turns.remove(number, &Place::default());
        assert_eq!(turns.len(), 1);
        turns.remove(number, &place);
        assert_eq!(turns.len(), 0);
    }
}
