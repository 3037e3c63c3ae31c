//! Remembers forgotten members, so that a peer that still lists them does not bring them back.
//!
//! Only their last heartbeats are kept, nothing of their state. A member for which there is no room
//! is remembered here as well: if its heartbeat rises, it is alive. Invariant: at most
//! [`FORGOTTEN_HISTORY`] members are remembered.

use std::collections::{BTreeMap, VecDeque};

use crate::message::{ChitchatId, NodeDigest};

/// The number of members that are remembered, which is that of the published crate.
const FORGOTTEN_HISTORY: usize = 5_000;

/// The last heartbeats of forgotten members. The ones forgotten first are dropped first.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// Last heartbeat of each member. The version field stores its number in `order`. The map is that of a digest:
    /// another type would be code of its own.
    heartbeats: BTreeMap<ChitchatId, NodeDigest>,
    /// The members in the order in which they were added. Those whose number has changed are stale.
    order: VecDeque<(u64, ChitchatId)>,
    next: u64,
}

impl Forgotten {
    /// Returns the heartbeat that `id` had when it was forgotten.
    pub(super) fn last_heartbeat(&self, id: &ChitchatId) -> Option<u64> {
        self.heartbeats.get(id).map(|known| known.heartbeat)
    }

    /// Removes `id`, which is a member again.
    pub(super) fn take(&mut self, id: &ChitchatId) {
        self.heartbeats.remove(id);
    }

    /// Adds `id` with its last heartbeat, and drops the oldest entry if there is no room.
    pub(super) fn put(&mut self, id: ChitchatId, heartbeat: u64) {
        self.next += 1;
        let entry = NodeDigest {
            heartbeat,
            max_version: self.next,
            ..NodeDigest::default()
        };
        self.heartbeats.insert(id.clone(), entry);
        self.order.push_back((self.next, id));
        if self.order.len() > FORGOTTEN_HISTORY
            && let Some((number, oldest)) = self.order.pop_front()
            && self.heartbeats.get(&oldest).map(|known| known.max_version) == Some(number)
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
    }

    #[test]
    fn a_member_that_is_forgotten_again_is_remembered_from_then_on() {
        let mut forgotten = Forgotten::default();
        forgotten.put(id(0), 7);
        forgotten.take(&id(0));
        for generation in 1..=10 {
            forgotten.put(id(generation), 7);
        }
        forgotten.put(id(0), 9);
        for generation in 11..FORGOTTEN_HISTORY as u64 {
            forgotten.put(id(generation), 7);
        }
        assert_eq!(forgotten.last_heartbeat(&id(0)), Some(9));
        assert!(forgotten.order.len() <= FORGOTTEN_HISTORY);
    }
}
