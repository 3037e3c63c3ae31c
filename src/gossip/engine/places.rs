//! The places of a member's entries, in the order of their keys.
//!
//! A list in pieces, so that a place is inserted without moving all that follow: a message may set a
//! hundred thousand keys in descending order. It knows no keys; the caller compares. Invariant: no piece
//! is empty, or longer than [`LONGEST`].

use std::cmp::Ordering;

/// The largest number of places in a piece.
const LONGEST: usize = 512;
/// The room that is spare although there are few places.
const SPARE: usize = 4;

/// The places, ascending by key.
#[derive(Debug, Default)]
pub(super) struct Places {
    pieces: Vec<Vec<u32>>,
    len: usize,
}

/// Where a place is in the order, or would be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    piece: usize,
    index: usize,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.pieces.iter().flatten().copied()
    }

    /// Returns the position of the place for which `compare` returns `Equal`, or the one at which it would
    /// be. `compare` compares the key of a place with the one that is searched.
    pub(super) fn find(&self, compare: impl Fn(u32) -> Ordering) -> Result<Position, Position> {
        let ends_before = |piece: &Vec<u32>| piece.last().is_some_and(|p| compare(*p).is_lt());
        let piece = self.pieces.partition_point(ends_before);
        let piece = piece.min(self.pieces.len().saturating_sub(1));
        let places = self.pieces.get(piece).map(Vec::as_slice);
        let found = places.unwrap_or_default();
        let found = found.binary_search_by(|place| compare(*place));
        let at = |index| Position { piece, index };
        found.map(at).map_err(at)
    }

    pub(super) fn get(&self, at: Position) -> Option<u32> {
        self.pieces.get(at.piece)?.get(at.index).copied()
    }

    /// Replaces a place, and returns the one that was there.
    pub(super) fn replace(&mut self, at: Position, place: u32) -> Option<u32> {
        let there = self.pieces.get_mut(at.piece)?.get_mut(at.index)?;
        Some(std::mem::replace(there, place))
    }

    /// Inserts a place at a position that [`find`](Self::find) has returned as an error.
    pub(super) fn insert(&mut self, at: Position, place: u32) {
        if self.pieces.is_empty() {
            self.pieces = vec![Vec::new()];
        }
        let Some(piece) = self.pieces.get_mut(at.piece) else {
            return;
        };
        if piece.len() == piece.capacity() {
            piece.reserve_exact(piece.len() / 8 + SPARE);
        }
        piece.insert(at.index, place);
        self.len += 1;
        if piece.len() > LONGEST {
            let mut second = piece.split_off(piece.len() / 2);
            shrink(piece);
            shrink(&mut second);
            if self.pieces.len() == self.pieces.capacity() {
                self.pieces.reserve_exact(self.pieces.len() / 8 + 1);
            }
            self.pieces.insert(at.piece + 1, second);
        }
    }

    /// Keeps the places for which `is_kept` returns true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        for piece in &mut self.pieces {
            piece.retain(|place| is_kept(*place));
        }
        self.pieces.retain(|piece| !piece.is_empty());
        self.len = self.pieces.iter().map(Vec::len).sum();
    }

    /// Changes each place to what `new` returns, and releases most of the spare room.
    pub(super) fn renumber(&mut self, new: impl Fn(u32) -> u32) {
        for piece in &mut self.pieces {
            piece.iter_mut().for_each(|place| *place = new(*place));
            shrink(piece);
        }
        self.pieces.shrink_to_fit();
    }
}

fn shrink(piece: &mut Vec<u32>) {
    piece.shrink_to(piece.len() + piece.len() / 8 + SPARE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_their_keys_whatever_the_order_of_insertion() {
        let mut rng = fastrand::Rng::with_seed(1);
        let ascending: Vec<u32> = (0..5_000).collect();
        let descending: Vec<u32> = ascending.iter().rev().copied().collect();
        let mut shuffled = ascending.clone();
        rng.shuffle(&mut shuffled);
        for order in [&ascending, &descending, &shuffled] {
            let mut places = Places::default();
            for place in order {
                let at = places.find(|other| other.cmp(place)).unwrap_err();
                places.insert(at, *place);
            }
            assert!(places.iter().eq(0..5_000));
            assert_eq!(places.len(), 5_000);
            assert!(places.pieces.iter().all(|piece| piece.len() <= LONGEST));
            for place in 0..5_000 {
                let at = places.find(|other| other.cmp(&place)).unwrap();
                assert_eq!(places.get(at), Some(place));
            }
            places.retain(|place| place % 1_000 == 7);
            places.renumber(|place| place + 1);
            assert!(places.iter().eq([8, 1_008, 2_008, 3_008, 4_008]));
            assert_eq!(places.len(), 5);
            let at = places.find(|other| other.cmp(&8)).unwrap();
            assert_eq!(places.replace(at, 9), Some(8));
            places.retain(|_| false);
            assert!(places.pieces.is_empty() && places.len() == 0);
        }
    }
}
