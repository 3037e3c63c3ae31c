//! The log of members that join, die and come back. One line for each change; keys are not logged.

use std::collections::BTreeMap;

use gossip_transport::gossip::{Liveness, MembershipWatch};
use gossip_transport::message::ChitchatId;
use gossip_transport::rt;

use crate::node::Node;

/// Logs changes until the returned task is dropped or the node leaves.
pub(crate) fn start(node: Node, mut watch: MembershipWatch) -> rt::Task {
    rt::Task::spawn(async move {
        let mut known = BTreeMap::new();
        while let Some(members) = node.with(|participant| participant.members()) {
            let others = members
                .into_iter()
                .filter(|member| member.liveness != Liveness::Myself)
                .map(|member| (member.id, member.liveness));
            for change in changes(&mut known, others.collect()) {
                change.log();
            }
            if !watch.changed().await {
                break;
            }
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Discovered(ChitchatId),
    Live(ChitchatId),
    Dead(ChitchatId),
    Forgotten(ChitchatId),
}

impl Change {
    fn log(&self) {
        let (id, change) = match self {
            Self::Discovered(id) => (id, "discovered"),
            Self::Live(id) => (id, Liveness::Live.as_str()),
            Self::Dead(id) => (id, Liveness::Dead.as_str()),
            Self::Forgotten(id) => (id, "forgotten"),
        };
        tracing::info!(member = %id.node_id, addr = %id.gossip_advertise_addr,
            generation = id.generation_id, "{change}");
    }
}

/// Returns the differences between `known` and `now`, and replaces `known` with `now`.
fn changes(
    known: &mut BTreeMap<ChitchatId, Liveness>,
    now: BTreeMap<ChitchatId, Liveness>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (id, liveness) in &now {
        match (known.get(id), liveness) {
            (before, Liveness::Live) if before != Some(&Liveness::Live) => {
                changes.push(Change::Live(id.clone()));
            }
            (Some(Liveness::Live), Liveness::Dead) => changes.push(Change::Dead(id.clone())),
            // A member counts as dead until its first heartbeats, but it has not died.
            (None, _) => changes.push(Change::Discovered(id.clone())),
            _ => {}
        }
    }
    for id in known.keys().filter(|id| !now.contains_key(id)) {
        changes.push(Change::Forgotten(id.clone()));
    }
    *known = now;
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_a_member_is_reported_once() {
        let id = ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into());
        let mut known = BTreeMap::new();
        let mut step = |now: Option<Liveness>| {
            let now = now.map(|liveness| (id.clone(), liveness));
            changes(&mut known, now.into_iter().collect())
        };
        assert_eq!(step(Some(Liveness::Dead)), [Change::Discovered(id.clone())]);
        assert_eq!(step(Some(Liveness::Live)), [Change::Live(id.clone())]);
        assert_eq!(step(Some(Liveness::Live)), []);
        assert_eq!(step(Some(Liveness::Dead)), [Change::Dead(id.clone())]);
        assert_eq!(step(Some(Liveness::Dead)), []);
        assert_eq!(step(Some(Liveness::Live)), [Change::Live(id.clone())]);
        assert_eq!(step(None), [Change::Forgotten(id.clone())]);
        assert_eq!(step(None), []);
    }
}
