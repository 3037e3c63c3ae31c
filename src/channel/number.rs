//! The numbers of channels, and which side of a carrier may use which.
//!
//! Values only. Invariant: [`Numbers`] returns a number once, in rising order.

use std::fmt;

/// The number of a channel on its carrier: 1 to 2^32 - 1, odd if the dialler of the carrier has opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelNumber(pub(super) u32);

impl ChannelNumber {
    /// Returns the number as frames and control messages carry it.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A side of a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that has dialled the carrier. It opens channels with odd numbers.
    Dialler,
    /// The side that has accepted the carrier. It opens channels with even numbers.
    Acceptor,
}

impl Side {
    /// Returns the other side.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    /// Returns whether this side opens the channels with this number.
    pub(super) fn opens(self, number: ChannelNumber) -> bool {
        (number.0 % 2 == 1) == (self == Self::Dialler)
    }
}

/// The numbers that one side has not used yet.
#[derive(Debug)]
pub(super) struct Numbers {
    /// `None` once all have been used.
    next: Option<u32>,
}

impl Numbers {
    pub(super) fn of(side: Side) -> Self {
        let first = match side {
            Side::Dialler => 1,
            Side::Acceptor => 2,
        };
        Self { next: Some(first) }
    }

    /// Returns the number that the side uses next, or `None` if it has none left.
    pub(super) fn next(&self) -> Option<ChannelNumber> {
        self.next.map(ChannelNumber)
    }

    /// Marks the next number as used.
    pub(super) fn advance(&mut self) {
        self.next = self.next.and_then(|next| next.checked_add(2));
    }

    /// Returns whether `number`, which must be one of this side, has been used.
    pub(super) fn has_used(&self, number: ChannelNumber) -> bool {
        self.next.is_none_or(|next| number.0 < next)
    }

    /// Skips all numbers before the last `left` ones.
    #[cfg(test)]
    pub(super) fn skip_to_last(&mut self, left: u32) {
        let last = match self.next {
            Some(next) if next % 2 == 1 => u32::MAX,
            _ => u32::MAX - 1,
        };
        self.next = Some(last - 2 * (left - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_half_and_zero_is_in_neither() {
        for side in [Side::Dialler, Side::Acceptor] {
            let mut numbers = Numbers::of(side);
            for _ in 0..10 {
                let number = numbers.next().unwrap();
                assert!(side.opens(number) && !side.other().opens(number));
                assert!(number.get() > 0 && !numbers.has_used(number));
                numbers.advance();
                assert!(numbers.has_used(number));
            }
        }
    }

    #[test]
    fn numbers_end_instead_of_beginning_again() {
        for (side, last) in [(Side::Dialler, u32::MAX), (Side::Acceptor, u32::MAX - 1)] {
            let mut numbers = Numbers::of(side);
            numbers.skip_to_last(2);
            numbers.advance();
            assert_eq!(numbers.next(), Some(ChannelNumber(last)));
            numbers.advance();
            assert_eq!(numbers.next(), None);
            numbers.advance();
            assert_eq!(numbers.next(), None);
            assert!(numbers.has_used(ChannelNumber(last)));
        }
    }
}
