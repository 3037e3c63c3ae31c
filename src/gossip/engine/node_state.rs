//! The known state of one member: its keys, their versions, and how far tombstones were collected.
//!
//! Deltas are applied by the rules of the published `chitchat` crate (its `state.rs`): the state
//! holds every key up to `max_version`, and every tombstone above `last_gc_version`. This file does
//! not know the length of anything on the wire, nor the state of any other member. Invariant:
//! `(last_gc_version, max_version)` never decreases, and the version of a key never decreases while
//! the key exists.

use std::time::Duration;

use super::entries::{Entries, Entry, entry_len};
use super::usage::Usage;
use crate::message::{
    DeletionStatus, KeyValueMutation, NodeDelta, NodeDigest, Version, is_harmless_key,
};

#[derive(Debug, Default)]
pub(super) struct NodeState {
    pub(super) heartbeat: u64,
    pub(super) max_version: Version,
    pub(super) last_gc_version: Version,
    /// The heartbeat with which the member has left, or 0. Up to there, a heartbeat shows nothing.
    pub(super) left_at: u64,
    entries: Entries,
}

/// The result of applying a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// The delta contains nothing new, or does not connect to the known state.
    Rejected,
    /// The delta was applied.
    Changed,
    /// The known state was dropped first, because tombstones were missed; then the delta was
    /// applied.
    Reset,
    /// The delta would exceed the limit. It was applied up to there.
    Truncated {
        /// Whether the applied part changed anything.
        changed: bool,
    },
}

/// Limits on the deltas that a state accepts from other members.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The size of all keys and values of one member, as [`entry_len`] counts it.
    pub(super) max_bytes: usize,
}

impl NodeState {
    pub(super) fn digest(&self) -> NodeDigest {
        NodeDigest {
            heartbeat: self.heartbeat,
            last_gc_version: self.last_gc_version,
            max_version: self.max_version,
        }
    }

    /// Notes a heartbeat. Returns true if it shows that the member is alive: it has risen, is
    /// not the first one, which may belong to a member that died long ago, and is above the one with which it
    /// has left.
    pub(super) fn note_heartbeat(&mut self, heartbeat: u64) -> bool {
        let first = self.heartbeat == 0;
        let rises = heartbeat > self.heartbeat;
        if rises {
            self.heartbeat = heartbeat;
        }
        rises && !first && heartbeat > self.left_at
    }

    /// Notes that the member has left with this heartbeat. Returns true unless a later one is known.
    pub(super) fn note_left(&mut self, heartbeat: u64) -> bool {
        self.left_at = self.left_at.max(heartbeat);
        self.left_at >= self.heartbeat
    }

    /// Returns every key with its entry, tombstones included, sorted by key.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries.iter()
    }

    /// Returns the value of `key`, unless it is deleted.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let entry = self.entries.get(key)?;
        entry.is_visible().then_some(entry.value)
    }

    pub(super) fn entry(&self, key: &str) -> Option<Entry<'_>> {
        self.entries.get(key)
    }

    /// Returns the entry whose latest change has this version.
    pub(super) fn at_version(&self, version: Version) -> Option<Entry<'_>> {
        let first = self.stale_entries(version.checked_sub(1)?).next();
        first.filter(|entry| entry.version == version)
    }

    /// Returns the entries with a version above `floor`, sorted by version.
    pub(super) fn stale_entries(&self, floor: Version) -> impl Iterator<Item = Entry<'_>> {
        self.entries.above(floor)
    }

    /// Returns the number of entries with a version above `floor`, or a little more.
    pub(super) fn stale_count(&self, floor: Version) -> usize {
        self.entries.count_above(floor)
    }

    /// Returns true if `key` has this value and status.
    pub(super) fn has(&self, key: &str, value: &str, status: DeletionStatus) -> bool {
        let entry = self.entries.get(key);
        entry.is_some_and(|entry| entry.status == status && entry.value == value)
    }

    /// Sets `key` at the next version. Returns false, and keeps the version, if that would change
    /// nothing.
    pub(super) fn set(
        &mut self,
        key: &str,
        value: &str,
        status: DeletionStatus,
        now: Duration,
    ) -> bool {
        if self.has(key, value, status) {
            return false;
        }
        self.max_version = self.max_version.saturating_add(1);
        let entry = Entry {
            key,
            value,
            version: self.max_version,
            status,
        };
        self.entries.put(entry, now);
        true
    }

    /// Raises the versions of all entries above `floor`, keeping their order, and declares every
    /// tombstone up to there collected. A peer then drops whatever it holds of this member and
    /// takes the present entries.
    pub(super) fn start_afresh_above(&mut self, floor: Version) {
        self.max_version = floor.max(self.max_version).saturating_add(1);
        self.last_gc_version = self.max_version;
        self.max_version = self.entries.renumber_above(self.max_version);
    }

    /// Removes all tombstones before their time. Since peers may hold them, they have to drop what they hold, and take
    /// the entries that are left.
    pub(super) fn drop_tombstones(&mut self) {
        self.entries.remove_tombstones();
        self.start_afresh_above(self.max_version);
    }

    /// Returns the number of entries, and their size as [`bytes`](Self::bytes) has it.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            keys: self.entries.len(),
            bytes: self.entries.bytes(),
        }
    }

    /// Returns the size of all keys and values, tombstones included, as [`entry_len`] counts it.
    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// Applies a delta that a peer sent about this member.
    pub(super) fn apply(&mut self, delta: NodeDelta, limits: Limits, now: Duration) -> Applied {
        let applied = self.judge(&delta);
        if applied == Applied::Rejected {
            return applied;
        }
        if applied == Applied::Reset {
            *self = Self {
                heartbeat: self.heartbeat,
                left_at: self.left_at,
                last_gc_version: delta.last_gc_version,
                ..Self::default()
            };
        }
        let mut changed = applied == Applied::Reset;
        for mutation in delta.key_values {
            let KeyValueMutation {
                key,
                value,
                version,
                status,
            } = mutation;
            // This also skips changes that are out of order within the delta. Honest deltas are
            // sorted by version, and two keys of the same version could not be passed on.
            if version <= self.max_version {
                continue;
            }
            if status != DeletionStatus::Set && version <= self.last_gc_version {
                // Collected already.
                continue;
            }
            if !is_harmless_key(&key) {
                // It would crash members of the published crate to which we pass it on.
                continue;
            }
            let looked_up = self.entries.look_up(&key);
            let bytes = self.bytes().saturating_sub(looked_up.len) + entry_len(&key, &value);
            // What makes room is accepted even if there is too little.
            if bytes > limits.max_bytes.max(self.bytes()) {
                // `max_version` stays below what was left out, so that we do not claim to know it.
                return Applied::Truncated { changed };
            }
            changed = true;
            self.max_version = version;
            let entry = Entry {
                key: &key,
                value: &value,
                version,
                status,
            };
            self.entries.put_at(looked_up, entry, now);
        }
        self.max_version = self.max_version.max(delta.max_version);
        applied
    }

    /// Returns whether [`apply`](Self::apply) leaves out some of the changes of `delta` whatever is known: those
    /// whose versions do not rise, and keys that would crash members of the published crate.
    pub(super) fn is_faulty(delta: &NodeDelta) -> bool {
        let changes = &delta.key_values;
        let rise = changes.is_sorted_by(|a, b| a.version < b.version);
        !rise || !changes.iter().all(|change| is_harmless_key(&change.key))
    }

    /// Returns what [`apply`](Self::apply) would do, as far as limits allow.
    pub(super) fn judge(&self, delta: &NodeDelta) -> Applied {
        if delta.from_version_excluded > self.max_version {
            // Changes in between are missing: the state was reset since the peer read our digest.
            return Applied::Rejected;
        }
        let tombstones_known = delta.last_gc_version <= self.last_gc_version
            || delta.last_gc_version <= self.max_version;
        if !tombstones_known {
            // A delta without any change would drop the known state and put nothing in its place.
            return if delta.from_version_excluded == 0 && delta.max_version > 0 {
                Applied::Reset
            } else {
                Applied::Rejected
            };
        }
        if self.max_version < delta.max_version {
            Applied::Changed
        } else {
            Applied::Rejected
        }
    }

    /// Removes tombstones and keys with a TTL that are older than `grace`. Returns true if one of
    /// them was visible.
    pub(super) fn collect_garbage(&mut self, grace: Duration, now: Duration) -> bool {
        let collected = self.entries.collect(grace, now);
        self.last_gc_version = self.last_gc_version.max(collected.version);
        collected.was_visible
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ChitchatId;

    const NOW: Duration = Duration::from_secs(100);
    const LIMITS: Limits = Limits { max_bytes: 1128 };

    fn state(keys: &[(&str, &str)]) -> NodeState {
        let mut state = NodeState::default();
        for (key, value) in keys {
            state.set(key, value, DeletionStatus::Set, NOW);
        }
        state
    }

    fn delta(from: Version, gc: Version, changes: &[(&str, &str, Version)]) -> NodeDelta {
        NodeDelta {
            chitchat_id: ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into()),
            last_gc_version: gc,
            from_version_excluded: from,
            key_values: changes
                .iter()
                .map(|(key, value, version)| KeyValueMutation {
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                    version: *version,
                    status: if value.is_empty() {
                        DeletionStatus::Deleted
                    } else {
                        DeletionStatus::Set
                    },
                })
                .collect(),
            max_version: changes.last().map_or(0, |change| change.2),
        }
    }

    #[test]
    fn setting_the_same_value_again_changes_nothing() {
        let mut state = state(&[("k", "v")]);
        assert!(!state.set("k", "v", DeletionStatus::Set, NOW));
        assert!(state.set("k", "v", DeletionStatus::DeleteAfterTtl, NOW));
        assert_eq!(state.max_version, 2);
    }

    #[test]
    fn a_deleted_key_is_invisible_until_it_is_collected() {
        let mut state = state(&[("k", "v")]);
        state.set("k", "", DeletionStatus::Deleted, NOW);
        assert_eq!(state.get("k"), None);
        let grace = Duration::from_secs(10);
        state.collect_garbage(grace, NOW + Duration::from_secs(9));
        assert!(state.entry("k").is_some() && state.last_gc_version == 0);
        assert!(!state.collect_garbage(grace, NOW + grace));
        assert!(state.entry("k").is_none());
        assert_eq!(state.last_gc_version, 2);
        assert_eq!(state.bytes(), 0);
    }

    #[test]
    fn a_key_with_a_ttl_is_visible_until_it_is_collected() {
        let mut state = state(&[]);
        state.set("k", "v", DeletionStatus::DeleteAfterTtl, NOW);
        assert_eq!(state.get("k"), Some("v"));
        assert!(state.collect_garbage(Duration::from_secs(10), NOW + Duration::from_secs(10)));
        assert_eq!(state.get("k"), None);
    }

    #[test]
    fn a_delta_after_a_gap_is_rejected() {
        let mut state = state(&[("k", "v")]);
        let applied = state.apply(delta(5, 0, &[("l", "w", 6)]), LIMITS, NOW);
        assert_eq!(applied, Applied::Rejected);
        assert_eq!(state.max_version, 1);
    }

    #[test]
    fn a_delta_without_anything_new_is_rejected() {
        let mut state = state(&[("k", "v"), ("l", "w")]);
        let applied = state.apply(delta(0, 0, &[("k", "old", 1)]), LIMITS, NOW);
        assert_eq!(applied, Applied::Rejected);
        assert_eq!(state.get("k"), Some("v"));
    }

    #[test]
    fn missed_tombstones_reset_the_state_if_the_delta_starts_at_zero() {
        let mut state = state(&[("gone", "v")]);
        let rejected = state.apply(delta(1, 7, &[("l", "w", 8)]), LIMITS, NOW);
        assert_eq!(rejected, Applied::Rejected);
        let reset = state.apply(delta(0, 7, &[("l", "w", 8)]), LIMITS, NOW);
        assert_eq!(reset, Applied::Reset);
        assert_eq!(state.get("gone"), None);
        assert_eq!(state.get("l"), Some("w"));
        assert_eq!((state.last_gc_version, state.max_version), (7, 8));
    }

    #[test]
    fn a_reset_without_changes_is_rejected() {
        let mut state = state(&[("k", "v")]);
        assert_eq!(
            state.apply(delta(0, 7, &[]), LIMITS, NOW),
            Applied::Rejected
        );
        assert_eq!(state.get("k"), Some("v"));
    }

    #[test]
    fn a_tombstone_that_was_collected_here_does_not_return() {
        let mut state = NodeState {
            last_gc_version: 5,
            ..NodeState::default()
        };
        state.apply(delta(0, 0, &[("k", "", 4), ("l", "w", 6)]), LIMITS, NOW);
        assert!(state.entry("k").is_none());
        assert_eq!(state.max_version, 6);
    }

    #[test]
    fn a_key_that_would_crash_an_upstream_peer_is_left_out() {
        let mut state = NodeState::default();
        let changes = [("é", "v", 1), ("e", "w", 2)];
        assert_eq!(
            state.apply(delta(0, 0, &changes), LIMITS, NOW),
            Applied::Changed
        );
        assert!(state.entry("é").is_none());
        assert_eq!(state.get("e"), Some("w"));
    }

    #[test]
    fn changes_that_do_not_fit_are_not_claimed_to_be_known() {
        let mut state = NodeState::default();
        let large = "x".repeat(998);
        let changes = [("a", "v", 1), ("b", &large, 2), ("c", "w", 3)];
        state.apply(delta(0, 0, &changes), LIMITS, NOW);
        assert_eq!(state.max_version, 1);
        assert_eq!(state.entries().count(), 1);
        // The same again reports no change.
        let changed = false;
        assert_eq!(
            state.apply(delta(0, 0, &changes), LIMITS, NOW),
            Applied::Truncated { changed }
        );
    }

    #[test]
    fn a_change_that_takes_no_more_room_is_applied_even_if_there_is_too_much() {
        let mut state = state(&[("a", "vv"), ("b", "vv")]);
        let limits = Limits { max_bytes: 70 };
        let changes = [("a", "", 3), ("b", "ww", 4), ("b", "www", 5)];
        let applied = state.apply(delta(2, 0, &changes), limits, NOW);
        assert_eq!(applied, Applied::Truncated { changed: true });
        assert_eq!((state.get("a"), state.get("b")), (None, Some("ww")));
    }

    #[test]
    fn changes_that_fill_the_limit_are_applied() {
        let mut state = NodeState::default();
        let large = "x".repeat(997);
        state.apply(delta(0, 0, &[("a", "v", 1), ("b", &large, 2)]), LIMITS, NOW);
        assert_eq!((state.max_version, state.bytes()), (2, LIMITS.max_bytes));
    }

    #[test]
    fn a_key_is_invisible_once_its_deletion_was_received() {
        let mut state = state(&[("k", "v"), ("l", "w")]);
        let applied = state.apply(delta(2, 0, &[("k", "", 3)]), LIMITS, NOW);
        assert_eq!(applied, Applied::Changed);
        assert_eq!((state.get("k"), state.get("l")), (None, Some("w")));
        assert_eq!(state.entry("k").map(|entry| entry.version), Some(3));
    }

    #[test]
    fn a_value_that_replaces_another_reuses_its_room() {
        let mut state = NodeState::default();
        let [first, second] = ["x".repeat(800), "y".repeat(900)];
        state.apply(delta(0, 0, &[("k", &first, 1)]), LIMITS, NOW);
        state.apply(delta(1, 0, &[("k", &second, 2)]), LIMITS, NOW);
        assert_eq!(state.get("k"), Some(second.as_str()));
        assert_eq!(state.bytes(), entry_len("k", &second));
    }

    #[test]
    fn changes_that_are_not_sorted_by_version_are_left_out() {
        let mut state = NodeState::default();
        let changes = [("a", "1", 3), ("b", "2", 3), ("c", "3", 2), ("d", "4", 4)];
        state.apply(delta(0, 0, &changes), LIMITS, NOW);
        let keys: Vec<_> = state.entries().map(|entry| entry.key).collect();
        assert_eq!(keys, ["a", "d"]);
    }

    #[test]
    fn starting_afresh_resets_every_peer_and_keeps_the_order_of_the_keys() {
        let mut ours = state(&[("b", "1"), ("a", "2")]);
        ours.start_afresh_above(40);
        assert_eq!(ours.last_gc_version, 41);
        assert_eq!(ours.entry("b").unwrap().version, 42);
        assert_eq!(ours.entry("a").unwrap().version, 43);

        let mut known = state(&[("old", "v")]);
        known.max_version = 40;
        let afresh = delta(0, 41, &[("b", "1", 42), ("a", "2", 43)]);
        assert_eq!(known.apply(afresh, LIMITS, NOW), Applied::Reset);
        assert_eq!(known.get("old"), None);
    }

    #[test]
    fn starting_afresh_uses_no_version_a_second_time() {
        let mut ours = state(&[("b", "1"), ("a", "2"), ("c", "3")]);
        assert_eq!(ours.max_version, 3);
        ours.start_afresh_above(1);
        assert_eq!((ours.last_gc_version, ours.max_version), (4, 7));
        let versions: Vec<_> = ours.entries().map(|entry| entry.version).collect();
        assert!(versions.iter().all(|version| *version > 4), "{versions:?}");
    }

    #[test]
    fn the_first_heartbeat_does_not_show_that_a_member_is_alive() {
        let mut state = NodeState::default();
        assert!(!state.note_heartbeat(7));
        assert!(!state.note_heartbeat(7));
        assert!(state.note_heartbeat(8));
        assert!(!state.note_heartbeat(3));
        assert_eq!(state.heartbeat, 8);
    }

    #[test]
    fn a_reset_keeps_the_heartbeat_and_that_the_member_has_left() {
        let mut state = state(&[("a", "v")]);
        state.heartbeat = 7;
        assert!(state.note_left(8));
        let reset = delta(0, 9, &[("b", "v", 10)]);
        assert_eq!(state.apply(reset, LIMITS, NOW), Applied::Reset);
        assert_eq!((state.heartbeat, state.left_at), (7, 8));
    }

    #[test]
    fn a_tombstone_that_is_known_here_may_have_been_collected_elsewhere() {
        let mut state = state(&[("a", "v"), ("a", "")]);
        let applied = state.apply(delta(2, 2, &[("b", "v", 3)]), LIMITS, NOW);
        assert_eq!(applied, Applied::Changed);
        assert_eq!(state.get("b"), Some("v"));
    }
}
