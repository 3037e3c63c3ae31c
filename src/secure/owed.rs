//! Control words that are owed to the peer: probes and answers that no record holds yet.
//!
//! They are bits, so their memory is bounded however many are asked for. Whoever has the writing lock
//! seals them; while nobody has it, the task in `recv` does, between two reads. Nothing is sealed or
//! written here. Invariant: while a bit is set, the lock is held by a caller that looks at the bits
//! after releasing it, or the task in `recv` has been woken since the bit was set.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use futures::task::AtomicWaker;

/// A set of control words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words(u8);

impl Words {
    /// A question for a sign of life.
    pub(super) const PROBE: Self = Self(1);
    /// The answer to a probe.
    pub(super) const ANSWER: Self = Self(2);
    /// No word. A record with control words has been sealed, and the call that was writing it was
    /// dropped or did not wait.
    pub(super) const UNWRITTEN: Self = Self(4);

    pub(super) fn contains(self, words: Self) -> bool {
        self.0 & words.0 == words.0
    }
}

/// The control words that are owed, and the task in `recv`.
#[derive(Debug, Default)]
pub(super) struct Owed {
    words: AtomicU8,
    receiver: AtomicWaker,
}

// Every access that decides something is a read-modify-write with acquire and release order. Of two
// such accesses the later one sees what happened before the earlier one. So a caller that adds a word
// and then finds the lock held knows that the holder has not looked at the bits yet.
impl Owed {
    pub(super) fn add(&self, words: Words) {
        self.words.fetch_or(words.0, Ordering::AcqRel);
    }

    /// Removes and returns all words. May miss words that another thread is adding.
    pub(super) fn take(&self) -> Words {
        // Called for every batch of messages, and there is rarely anything to take.
        match self.words.load(Ordering::Relaxed) {
            0 => Words(0),
            _ => Words(self.words.swap(0, Ordering::AcqRel)),
        }
    }

    /// Returns whether anything is owed.
    pub(super) fn any(&self) -> bool {
        self.words.fetch_or(0, Ordering::AcqRel) != 0
    }

    /// Registers the task in `recv`. There is at most one: the one that has the reading lock.
    pub(super) fn register(&self, receiver: &Waker) {
        self.receiver.register(receiver);
    }

    /// Wakes the task in `recv` if anything is owed. Call it after the writing lock is released.
    pub(super) fn pass_on(&self) {
        if self.any() {
            self.receiver.wake();
        }
    }
}
