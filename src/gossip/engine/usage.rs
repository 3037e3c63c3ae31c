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

    /// Returns what exceeds `most`, unless it was there `before`: whoever has too much may still change what it has, and
    /// reduce it.
    pub(super) fn excess(self, most: Self, before: Self) -> Option<Excess> {
        if self.keys > most.keys.max(before.keys) {
            let max = most.keys;
            return Some(Excess::Keys { max });
        }
        let (len, max) = (self.bytes, most.bytes);
        (len > max.max(before.bytes)).then_some(Excess::Bytes { len, max })
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

    /// Returns what exceeds `most`, as [`Usage::excess`] does.
    pub(super) fn excess(self, most: Self, before: Self) -> Option<Excess> {
        let of_visible = self.visible.excess(most.visible, before.visible);
        of_visible.or_else(|| self.all.excess(most.all, before.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_no_excess_and_more_of_it_is() {
        let usage = |keys, bytes| Usage { keys, bytes };
        let keys = Some(Excess::Keys { max: 2 });
        let bytes = |len| Some(Excess::Bytes { len, max: 10 });
        for (now, before, expected) in [
            (usage(2, 10), usage(0, 0), None),
            (usage(3, 10), usage(0, 0), keys),
            (usage(2, 11), usage(0, 0), bytes(11)),
            (usage(5, 30), usage(5, 30), None),
            (usage(4, 31), usage(5, 30), bytes(31)),
            (usage(6, 20), usage(5, 30), keys),
        ] {
            assert_eq!(now.excess(usage(2, 10), before), expected, "{now:?}");
        }
    }
}
