//! The reserved keys in the states of members: those that are believed, and our own.
//!
//! Which of them are believed is decided elsewhere. Invariant: whenever our own keys or their versions change, our
//! reserved keys have MACs that are right for them.

use std::time::Duration;

use super::Cluster;
use crate::credential::ReservedKeys;
use crate::gossip::engine::presence::Departures;
use crate::gossip::engine::reserved::{ReservedKey, is_reserved, key_at, split};
use crate::gossip::engine::usage::Usage;
use crate::message::{ChitchatId, DeletionStatus, Version};

impl Cluster {
    /// Replaces the keys of the cluster secrets. Returns `None` if they are the same. Otherwise our reserved keys
    /// have changed, and those of all members are judged again: returns what they say about departures.
    pub(in crate::gossip::engine) fn set_reserved_keys(
        &mut self,
        keys: Option<ReservedKeys>,
    ) -> Option<Departures> {
        if !self.reserved.set_keys(keys) {
            return None;
        }
        self.renew_reserved();
        let mut departures = Departures::default();
        for (id, state) in self.nodes.iter().filter(|(id, _)| **id != self.self_id) {
            self.reserved.note(id, state, 0, &mut departures);
        }
        Some(departures)
    }

    /// Returns the reserved keys of all members, this one included, that core members have set.
    pub(in crate::gossip::engine) fn reserved(&self) -> impl Iterator<Item = ReservedKey<'_>> {
        self.reserved.versions().flat_map(|(id, versions)| {
            let state = self.nodes.get(id);
            let keys = versions.iter();
            keys.filter_map(move |version| key_at(id, state?, *version))
        })
    }

    /// Returns true if this member knows a cluster secret.
    pub(in crate::gossip::engine) fn has_secrets(&self) -> bool {
        self.reserved.has_keys()
    }

    /// Returns true if what is known of `id` proves that it is a core member.
    pub(in crate::gossip::engine) fn has_proved(&self, id: &ChitchatId) -> bool {
        let state = self.nodes.get(id);
        state.is_some_and(|state| self.reserved.proves_core(id, state))
    }

    /// Returns a number that rises with each change of a reserved key.
    pub(in crate::gossip::engine) fn reserved_changes(&self) -> u64 {
        self.reserved.changes
    }

    /// Returns the number of reserved keys that were not believed.
    pub(in crate::gossip::engine) fn refused_reserved(&self) -> u64 {
        self.reserved.refused
    }

    /// Returns the value of our reserved key with this payload, set at `version`.
    pub(in crate::gossip::engine) fn reserved_value(
        &self,
        key: &str,
        payload: &str,
        version: Version,
    ) -> String {
        self.reserved.value(&self.self_id, key, payload, version)
    }

    /// Notes that our own keys have changed above this version, if they have.
    pub(in crate::gossip::engine) fn note_own_reserved(&mut self, above: Option<Version>) {
        if let Some(above) = above
            && let Some(own) = self.nodes.get(&self.self_id)
        {
            let mut departures = Departures::default();
            self.reserved
                .note(&self.self_id, own, above, &mut departures);
        }
    }

    /// Starts afresh without the tombstones of this member. Peers then drop what they hold of it.
    pub(in crate::gossip::engine) fn drop_own_tombstones(&mut self) {
        self.own().drop_tombstones();
        self.collected = Usage::default();
        self.renew_reserved();
    }

    /// Sets our own reserved keys again, because our id, their versions or the secrets have changed.
    pub(super) fn renew_reserved(&mut self) {
        let own = self.own();
        let reserved = own.entries().filter(|entry| is_reserved(entry.key));
        let visible = reserved.filter(|entry| entry.is_visible());
        let keys = visible.map(|entry| (entry.key.to_owned(), split(entry.value).0.to_owned()));
        let keys: Vec<_> = keys.collect();
        for (key, payload) in keys {
            let version = self.own().max_version.saturating_add(1);
            let value = self.reserved_value(&key, &payload, version);
            // The time matters to keys that are collected only.
            let now = Duration::ZERO;
            self.own().set(&key, &value, DeletionStatus::Set, now);
        }
        self.note_own_reserved(Some(0));
    }
}
