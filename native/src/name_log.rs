//! The log of other members that are live under the name of this node.
//!
//! Names of members should be unique: of two live members with one name, only one takes precedence where
//! members are looked up by name. After a restart, the generation before it is live for a few seconds.

use std::collections::BTreeSet;
use std::time::Duration;

use gossip_transport::gossip::Liveness;
use gossip_transport::message::ChitchatId;
use gossip_transport::rt;

use crate::node::Node;

/// The time between two looks, in gossip intervals. The generation before a restart is dead after one of
/// them, and a member that is found at the second look in a row is another one.
const LOOK: u32 = 20;
/// The shortest time between two looks.
const MIN_LOOK: Duration = Duration::from_secs(2);

/// Logs, once for each, the members that stay live under the name of this node, until the returned
/// task is dropped or the node leaves.
pub(crate) fn start(node: Node) -> rt::Task {
    rt::Task::spawn(async move {
        let interval = node.gossip_interval.saturating_mul(LOOK).max(MIN_LOOK);
        let mut namesakes = Namesakes::default();
        loop {
            rt::sleep(interval).await;
            let Some((me, members)) = node.with(|node| (node.id(), node.liveness_of_members()))
            else {
                return;
            };
            let live = members.into_iter();
            let live = live.filter(|(_, liveness)| *liveness == Liveness::Live);
            for other in namesakes.look(&me, live.map(|(id, _)| id)) {
                // The name is chosen by another node. Quoted, it cannot end the line.
                tracing::warn!(name = ?&*other.node_id, addr = %other.gossip_advertise_addr,
                    generation = other.generation_id, "another live member has the name of this node: give each \
                    node an --id of its own");
            }
        }
    })
}

/// The other live members with the name of this node.
#[derive(Debug, Default)]
struct Namesakes {
    /// The namesakes that were live at the last look.
    seen: BTreeSet<ChitchatId>,
    logged: BTreeSet<ChitchatId>,
}

impl Namesakes {
    /// Returns those of the members `live` that were live at the last look as well, each only once.
    fn look(&mut self, me: &ChitchatId, live: impl Iterator<Item = ChitchatId>) -> Vec<ChitchatId> {
        let now: BTreeSet<_> = live
            .filter(|id| id.node_id == me.node_id && id != me)
            .collect();
        self.logged.retain(|id| now.contains(id));
        let stayed = now.intersection(&self.seen);
        let new = stayed.filter(|id| self.logged.insert((*id).clone()));
        let new = new.cloned().collect();
        self.seen = now;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namesake_that_stays_live_is_reported_once() {
        let id =
            |name: &str, generation| ChitchatId::new(name, generation, ([127, 0, 0, 1], 1).into());
        let (me, other, earlier) = (id("a", 3), id("a", 2), id("a", 1));
        let mut namesakes = Namesakes::default();
        let mut look = |ids: &[&ChitchatId]| {
            let ids = ids.iter().map(|id| (*id).clone());
            namesakes.look(&me, ids)
        };
        assert_eq!(look(&[&me, &earlier, &id("b", 1)]), []);
        assert_eq!(look(&[&me, &other, &id("b", 1)]), []);
        assert_eq!(look(&[&other]), std::slice::from_ref(&other));
        assert_eq!(look(&[&other]), []);
        // It comes back.
        assert_eq!(look(&[]), []);
        assert_eq!(look(&[&other]), []);
        assert_eq!(look(&[&other]), std::slice::from_ref(&other));
    }
}
