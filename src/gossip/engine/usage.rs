//! What a member uses of its limits: its keys and their bytes, with and without its tombstones.
//!
//! This file knows no limit, and not which entries count. Invariant: sums saturate.

use super::entries::Entry;

/// A number of keys, and their size with their values as [`entry_len`](super::entries::entry_len) counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

/// What the entries of a member use, or may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Holds {
    /// Without tombstones.
    pub(super) visible: Usage,
    /// With them.
    pub(super) all: Usage,
}

/// A limit that is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// More keys than `max`.
    Keys { max: usize },
    /// `len` bytes, which is more than `max`.
    Bytes { len: usize, max: usize },
}

impl Usage {
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            keys: self.keys.saturating_add(other.keys),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self {
            keys: self.keys.saturating_sub(other.keys),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    pub(super) fn times(self, factor: usize) -> Self {
        Self {
            keys: self.keys.saturating_mul(factor),
            bytes: self.bytes.saturating_mul(factor),
        }
    }

    /// Returns the smaller number of keys, and the smaller size.
    pub(super) fn min(self, other: Self) -> Self {
        Self {
            keys: self.keys.min(other.keys),
            bytes: self.bytes.min(other.bytes),
        }
    }

    /// Returns the larger number of keys, and the larger size.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            keys: self.keys.max(other.keys),
            bytes: self.bytes.max(other.bytes),
        }
    }

    /// Returns what exceeds `most`.
    pub(super) fn excess(self, most: Self) -> Option<Excess> {
        if self.keys > most.keys {
            let max = most.keys;
            return Some(Excess::Keys { max });
        }
        let (len, max) = (self.bytes, most.bytes);
        (len > max).then_some(Excess::Bytes { len, max })
    }
}

impl Holds {
    /// Returns what these entries use.
    pub(super) fn of<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Self {
        entries.fold(Self::default(), |sum, entry| {
            sum.with(Self::of_one(entry.len(), entry.is_visible()))
        })
    }

    /// Returns what an entry of this size uses.
    pub(super) fn of_one(bytes: usize, is_visible: bool) -> Self {
        let all = Usage { keys: 1, bytes };
        let visible = if is_visible { all } else { Usage::default() };
        Self { visible, all }
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self {
            visible: self.visible.with(other.visible),
            all: self.all.with(other.all),
        }
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self {
            visible: self.visible.without(other.visible),
            all: self.all.without(other.all),
        }
    }

    pub(super) fn times(self, factor: usize) -> Self {
        Self {
            visible: self.visible.times(factor),
            all: self.all.times(factor),
        }
    }

    pub(super) fn min(self, other: Self) -> Self {
        Self {
            visible: self.visible.min(other.visible),
            all: self.all.min(other.all),
        }
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            visible: self.visible.max(other.visible),
            all: self.all.max(other.all),
        }
    }

    /// Returns what exceeds `most`.
    pub(super) fn excess(self, most: Self) -> Option<Excess> {
        let of_visible = self.visible.excess(most.visible);
        of_visible.or_else(|| self.all.excess(most.all))
    }
}
