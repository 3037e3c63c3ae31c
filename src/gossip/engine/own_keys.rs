//! The keys that we have ourselves: set, read, deleted.

use std::time::Duration;

use super::Engine;
use crate::gossip::member::{DeleteError, SetError};
use crate::gossip::node_state::entry_len;
use crate::message::{DeletionStatus, DeltaBuilder, is_harmless_key};

impl Engine {
    /// Sets a key of our own; true if that changes anything.
    ///
    /// # Errors
    ///
    /// See [`SetError`].
    pub fn set(&mut self, key: &str, value: &str, now: Duration) -> Result<bool, SetError> {
        self.set_with(key, value, DeletionStatus::Set, now)
    }

    /// Sets a key of our own that goes away everywhere after the grace period.
    ///
    /// # Errors
    ///
    /// See [`SetError`].
    pub fn set_with_ttl(
        &mut self,
        key: &str,
        value: &str,
        now: Duration,
    ) -> Result<bool, SetError> {
        self.set_with(key, value, DeletionStatus::DeleteAfterTtl, now)
    }

    fn set_with(
        &mut self,
        key: &str,
        value: &str,
        status: DeletionStatus,
        now: Duration,
    ) -> Result<bool, SetError> {
        if !is_harmless_key(key) {
            return Err(SetError::KeyNotAscii {
                key: key.to_owned(),
            });
        }
        let len = DeltaBuilder::len_bound_alone(self.id(), key, value);
        let max = self.delta_room(0);
        if len > max || key.len() > usize::from(u16::MAX) || value.len() > usize::from(u16::MAX) {
            return Err(SetError::TooLong { len, max });
        }
        let max = self.config.max_bytes_per_member;
        let own = self.cluster.own();
        let replaced = own.entry(key).map_or(0, |e| entry_len(key, &e.value));
        let len = own.bytes().saturating_sub(replaced) + entry_len(key, value);
        if len > max {
            return Err(SetError::StateTooLarge { len, max });
        }
        let above = own.max_version;
        let changed = own.set(key, value, status, now);
        if changed {
            self.rumours.note(self.cluster.self_id(), above, now);
        }
        Ok(changed)
    }

    /// Deletes a key of our own: invisible at once, collected everywhere after the grace period.
    ///
    /// # Errors
    ///
    /// There is no such key.
    pub fn delete(&mut self, key: &str, now: Duration) -> Result<(), DeleteError> {
        let own = self.cluster.own();
        if own.get(key).is_none() {
            return Err(DeleteError::NoSuchKey {
                key: key.to_owned(),
            });
        }
        let above = own.max_version;
        own.set(key, "", DeletionStatus::Deleted, now);
        self.rumours.note(self.cluster.self_id(), above, now);
        Ok(())
    }

    /// A key of our own.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.cluster.own_ref()?.get(key)
    }
}
