//! Remembers forgotten members, so that a peer that still lists them does not bring them back.
//!
//! Only their last heartbeats are kept, nothing of their state. Invariant: at most
//! [`FORGOTTEN_HISTORY`] members are remembered.

use std::collections::VecDeque;

use super::order::Members;
use crate::message::ChitchatId;

/// The number of members that are remembered, which is that of the published crate.
const FORGOTTEN_HISTORY: usize = 5_000;

/// The last heartbeats of forgotten members. The ones forgotten first are dropped first.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    heartbeats: Members<u64>,
    order: VecDeque<ChitchatId>,
}

impl Forgotten {
    /// Returns the heartbeat that `id` had when it was forgotten.
    pub(super) fn last_heartbeat(&self, id: &ChitchatId) -> Option<u64> {
        self.heartbeats.get(id).copied()
    }

    /// Removes `id`, which is a member again.
    pub(super) fn take(&mut self, id: &ChitchatId) {
        if self.heartbeats.remove(id).is_some() {
            self.order.retain(|other| other != id);
        }
    }

    /// Adds `id` with its last heartbeat, and drops the oldest entry if there is no room.
    pub(super) fn put(&mut self, id: ChitchatId, heartbeat: u64) {
        if self.heartbeats.insert(id.clone(), heartbeat).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > FORGOTTEN_HISTORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.heartbeats.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(generation: u64) -> ChitchatId {
        ChitchatId::new("node", generation, ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn the_members_forgotten_first_are_dropped_first() {
        let mut forgotten = Forgotten::default();
        for generation in 0..=FORGOTTEN_HISTORY as u64 {
            forgotten.put(id(generation), 7);
        }
        assert_eq!(forgotten.last_heartbeat(&id(0)), None);
        assert_eq!(forgotten.last_heartbeat(&id(1)), Some(7));
        assert_eq!(forgotten.heartbeats.len(), FORGOTTEN_HISTORY);
    }

    #[test]
    fn a_member_that_is_taken_is_no_longer_remembered() {
        let mut forgotten = Forgotten::default();
        forgotten.put(id(1), 7);
        forgotten.put(id(1), 8);
        assert_eq!(forgotten.last_heartbeat(&id(1)), Some(8));
        forgotten.take(&id(1));
        assert_eq!(forgotten.last_heartbeat(&id(1)), None);
        assert!(forgotten.order.is_empty());
    }
}
