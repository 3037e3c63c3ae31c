//! The keys of one member with their values, in the order of their versions.
//!
//! The changes above a version are found without looking at those below it, however many there are,
//! and a key takes little more memory than its text. This file knows no rules about versions, except
//! that they rise. Invariants: a key has one entry, and its latest change is behind all others; at
//! most an eighth of the slots, and a few more, are empty or spare.

use std::time::Duration;

use super::places::{Places, Position};
use crate::message::{DeletionStatus, Version};

/// The approximate memory of an entry beside its key and value, in bytes: its slot, its place in the
/// order of keys, their spare room, and what an allocator adds. So the limits also bound many tiny
/// keys.
const OVERHEAD: usize = 64;
/// The slots that are spare although there are few entries.
const SPARE: usize = 4;

/// Returns the size of a key and its value as the limits count it, in bytes.
pub(super) fn entry_len(key: &str, value: &str) -> usize {
    key.len() + value.len() + OVERHEAD
}

/// The entries of a member.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Ascending by version. The slot of a change is emptied when the key changes again.
    log: Vec<Slot>,
    /// The places of all entries in `log`, ascending by key.
    by_key: Places,
    /// The number of entries that will be collected.
    mortal: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    /// The key and then the value, in one allocation.
    text: Box<str>,
    version: Version,
    /// When it was set or received, in microseconds of our own clock. The published crate counts from
    /// its receipt, too.
    since: u64,
    key_len: u32,
    /// `None` if the slot is empty.
    status: Option<DeletionStatus>,
}

/// An entry: a key with its value, or its tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    pub(super) version: Version,
    pub(super) status: DeletionStatus,
}

/// Where a key is, or would be, and the size of its entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct LookedUp {
    at: Result<Position, Position>,
    /// As the limits count it, in bytes. 0 if there is none.
    pub(super) len: usize,
}

/// The result of collecting entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    /// The highest version among those that were collected.
    pub(super) version: Version,
    /// True if one of them was visible.
    pub(super) was_visible: bool,
}

impl Entries {
    pub(super) fn get(&self, key: &str) -> Option<Entry<'_>> {
        let place = self.find(key).ok()?;
        self.slot(place)?.entry()
    }

    /// Returns all entries, ascending by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let slots = self.by_key.iter().filter_map(|place| self.at(place));
        slots.filter_map(Slot::entry)
    }

    /// Returns the entries above `floor`, ascending by version.
    pub(super) fn above(&self, floor: Version) -> impl Iterator<Item = Entry<'_>> {
        let above = self.log.get(self.start(floor)..).unwrap_or_default();
        above.iter().filter_map(Slot::entry)
    }

    /// Returns the number of entries above `floor`, or a little more. It takes no longer if there are
    /// many.
    pub(super) fn count_above(&self, floor: Version) -> usize {
        self.log.len() - self.start(floor)
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns the size of all keys and values, as [`entry_len`] counts it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks up the place of a key, for [`put_at`](Self::put_at).
    pub(super) fn look_up(&self, key: &str) -> LookedUp {
        let at = self.find(key);
        let entry = at.ok().and_then(|at| self.slot(at)?.entry());
        LookedUp {
            len: entry.map_or(0, |entry| entry.len()),
            at,
        }
    }

    /// Sets a key. `entry.version` must be above all others.
    pub(super) fn put(&mut self, entry: Entry<'_>, since: Duration) {
        let looked_up = self.look_up(entry.key);
        self.put_at(looked_up, entry, since);
    }

    /// Sets a key that was looked up since the last change. `entry.version` must be above all others.
    pub(super) fn put_at(&mut self, looked_up: LookedUp, entry: Entry<'_>, since: Duration) {
        let Entry {
            key,
            value,
            version,
            status,
        } = entry;
        self.make_room();
        let place = u32::try_from(self.log.len()).unwrap_or(u32::MAX);
        // Empty slots have no place in the order of keys, so that it stays when they are removed.
        match looked_up.at {
            Ok(at) => {
                if let Some(before) = self.by_key.replace(at, place) {
                    self.vacate(before);
                }
            }
            Err(at) => self.by_key.insert(at, place),
        }
        let mut text = String::with_capacity(key.len() + value.len());
        text.push_str(key);
        text.push_str(value);
        self.log.push(Slot {
            text: text.into_boxed_str(),
            version,
            since: micros(since),
            key_len: u32::try_from(key.len()).unwrap_or(u32::MAX),
            status: Some(status),
        });
        self.mortal += usize::from(status != DeletionStatus::Set);
        self.bytes += entry_len(key, value);
    }

    /// Changes the versions of all entries to new ones above `floor`, in the same order. Returns the last
    /// one.
    pub(super) fn renumber_above(&mut self, floor: Version) -> Version {
        self.compact();
        let mut last = floor;
        for slot in &mut self.log {
            last = last.saturating_add(1);
            slot.version = last;
        }
        last
    }

    /// Removes tombstones and keys with a TTL that are older than `grace`.
    pub(super) fn collect(&mut self, grace: Duration, now: Duration) -> Collected {
        let (grace, now) = (micros(grace), micros(now));
        self.remove_mortal(|slot| now >= slot.since.saturating_add(grace))
    }

    /// Removes all tombstones.
    pub(super) fn remove_tombstones(&mut self) {
        self.remove_mortal(|slot| slot.status == Some(DeletionStatus::Deleted));
    }

    /// Removes the tombstones and keys with a TTL that `is_over` accepts.
    fn remove_mortal(&mut self, is_over: impl Fn(&Slot) -> bool) -> Collected {
        let mut collected = Collected::default();
        if self.mortal == 0 {
            return collected;
        }
        for place in 0..self.log.len() {
            let Some(slot) = self.log.get(place) else {
                break;
            };
            let stays = match slot.status {
                None | Some(DeletionStatus::Set) => true,
                Some(_) => !is_over(slot),
            };
            if stays {
                continue;
            }
            collected.version = collected.version.max(slot.version);
            collected.was_visible |= slot.status == Some(DeletionStatus::DeleteAfterTtl);
            self.vacate(u32::try_from(place).unwrap_or(u32::MAX));
        }
        let log = &self.log;
        let is_used = |place| log.get(to_usize(place)).is_some_and(Slot::is_used);
        self.by_key.retain(is_used);
        if self.are_many_empty() {
            self.compact();
        }
        collected
    }

    /// Returns the position of `key` in the order of keys, or the one at which it would be.
    fn find(&self, key: &str) -> Result<Position, Position> {
        let key_at = |place| self.at(place).map_or("", Slot::key);
        self.by_key.find(|place| key_at(place).cmp(key))
    }

    fn slot(&self, position: Position) -> Option<&Slot> {
        self.at(self.by_key.get(position)?)
    }

    fn at(&self, place: u32) -> Option<&Slot> {
        self.log.get(to_usize(place))
    }

    /// Returns the first place in the log with a version above `floor`.
    fn start(&self, floor: Version) -> usize {
        self.log.partition_point(|slot| slot.version <= floor)
    }

    /// Empties a slot. Its version stays, so that the log remains sorted.
    fn vacate(&mut self, place: u32) {
        let Some(slot) = self.log.get_mut(to_usize(place)) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(slot.text.len() + OVERHEAD);
        self.mortal -= usize::from(slot.status != Some(DeletionStatus::Set));
        slot.status = None;
        slot.text = Box::default();
    }

    /// Makes room for another slot: removes the empty ones if they are many, or adds an eighth.
    fn make_room(&mut self) {
        if self.log.len() == self.log.capacity() && self.are_many_empty() {
            self.compact();
        }
        grow(&mut self.log);
    }

    fn are_many_empty(&self) -> bool {
        let empty = self.log.len() - self.by_key.len();
        empty > SPARE && empty > self.log.len() / 8
    }

    /// Removes the empty slots, and most of the spare room.
    fn compact(&mut self) {
        // The new place of each slot.
        let mut next = 0;
        let places: Vec<u32> = self
            .log
            .iter()
            .map(|slot| {
                let place = next;
                next += u32::from(slot.is_used());
                place
            })
            .collect();
        self.by_key
            .renumber(|place| places.get(to_usize(place)).copied().unwrap_or(place));
        self.log.retain(Slot::is_used);
        self.log
            .shrink_to(self.log.len() + self.log.len() / 8 + SPARE);
    }
}

impl Slot {
    fn is_used(&self) -> bool {
        self.status.is_some()
    }

    fn key(&self) -> &str {
        self.text.get(..to_usize(self.key_len)).unwrap_or_default()
    }

    fn entry(&self) -> Option<Entry<'_>> {
        let (key, value) = self.text.split_at_checked(to_usize(self.key_len))?;
        Some(Entry {
            key,
            value,
            version: self.version,
            status: self.status?,
        })
    }
}

impl Entry<'_> {
    pub(super) fn is_visible(&self) -> bool {
        self.status != DeletionStatus::Deleted
    }

    /// Returns true if it is collected some day: a tombstone, or a key with a TTL.
    pub(super) fn is_mortal(&self) -> bool {
        self.status != DeletionStatus::Set
    }

    /// Returns its size as the limits count it, in bytes.
    pub(super) fn len(&self) -> usize {
        entry_len(self.key, self.value)
    }
}

/// Makes room for another value. A vector that grows by itself doubles, and half of it may be spare.
fn grow<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        values.reserve_exact(values.len() / 8 + SPARE);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn to_usize(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SET: DeletionStatus = DeletionStatus::Set;

    fn put(entries: &mut Entries, key: &str, value: &str, version: Version) {
        let status = if value.is_empty() {
            DeletionStatus::Deleted
        } else {
            SET
        };
        let entry = Entry {
            key,
            value,
            version,
            status,
        };
        entries.put(entry, Duration::from_secs(version));
    }

    #[test]
    fn entries_are_those_of_a_map_whatever_is_set_and_collected() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut entries, mut model) = (Entries::default(), BTreeMap::new());
        for version in 1..5_000_u64 {
            let key = format!("k{}", rng.u32(0..300));
            let value = "v".repeat(rng.usize(0..4));
            put(&mut entries, &key, &value, version);
            model.insert(key, (value, version));
            if version % 97 == 0 {
                let grace = Duration::from_secs(50);
                let collected = entries.collect(grace, Duration::from_secs(version));
                let is_old = |(value, set): &(String, u64)| value.is_empty() && set + 50 <= version;
                let old = model.values().filter(|entry| is_old(entry));
                let newest = old.map(|(_, version)| *version).max();
                assert_eq!(collected.version, newest.unwrap_or(0));
                model.retain(|_, entry| !is_old(entry));
            }
            assert_eq!(entries.by_key.len(), model.len());
            let mortal = model.values().filter(|(value, _)| value.is_empty());
            assert_eq!(entries.mortal, mortal.count());
            let spare = entries.log.capacity() - model.len();
            assert!(spare <= model.len() / 3 + 3 * SPARE, "{spare} spare slots");
            if version % 50 != 0 {
                continue;
            }
            let all = model.iter().map(|(k, (v, n))| (k.as_str(), v.as_str(), *n));
            let ours = entries.iter().map(|e| (e.key, e.value, e.version));
            assert!(ours.eq(all.clone()));
            let bytes = all.clone().map(|(key, value, _)| entry_len(key, value));
            assert_eq!(entries.bytes(), bytes.sum::<usize>());
            let floor = rng.u64(0..version);
            let mut above: Vec<_> = all.filter(|(_, _, n)| *n > floor).collect();
            above.sort_by_key(|(_, _, n)| *n);
            let ours = entries.above(floor).map(|e| (e.key, e.value, e.version));
            assert!(ours.eq(above.iter().copied()));
            assert!(entries.count_above(floor) >= above.len());
        }
        let order: Vec<_> = entries.above(0).map(|e| e.key.to_owned()).collect();
        assert_eq!(entries.renumber_above(9_000), 9_000 + order.len() as u64);
        let after = entries.above(9_000).map(|e| e.key);
        assert!(after.eq(order.iter().map(String::as_str)));
    }

    #[test]
    fn a_key_that_changes_again_and_again_takes_no_more_room() {
        let mut entries = Entries::default();
        for version in 1..10_000 {
            put(
                &mut entries,
                if version % 2 == 0 { "a" } else { "b" },
                "v",
                version,
            );
        }
        assert!(entries.log.capacity() <= 16, "{}", entries.log.capacity());
        assert_eq!(entries.iter().count(), 2);
    }
}
