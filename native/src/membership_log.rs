//! Logs who joins, dies and comes back: one line a change, no keys.

use std::collections::BTreeMap;

use gossip_transport::gossip::{Liveness, Member, MembershipWatch};
use gossip_transport::message::ChitchatId;
use gossip_transport::rt;

use crate::node::Node;

/// Logs until the returned task is dropped or the node leaves.
pub(crate) fn start(node: Node, mut watch: MembershipWatch) -> rt::Task {
    rt::Task::spawn(async move {
        let mut known = BTreeMap::new();
        while let Some(members) = node.with(|participant| participant.members()) {
            for change in changes(&mut known, &members) {
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
    Joined(ChitchatId),
    Live(ChitchatId),
    Dead(ChitchatId),
    Forgotten(ChitchatId),
}

impl Change {
    fn log(&self) {
        let (id, what) = match self {
            Self::Joined(id) => (id, "heard of"),
            Self::Live(id) => (id, "live"),
            Self::Dead(id) => (id, "dead"),
            Self::Forgotten(id) => (id, "forgotten"),
        };
        tracing::info!(member = %id.node_id, addr = %id.gossip_advertise_addr,
            generation = id.generation_id, "{what}");
    }
}

/// What is new in `members`, and brings `known` up to date.
fn changes(known: &mut BTreeMap<ChitchatId, Liveness>, members: &[Member]) -> Vec<Change> {
    let mut changes = Vec::new();
    let now: BTreeMap<_, _> = members
        .iter()
        .filter(|member| member.liveness != Liveness::Myself)
        .map(|member| (member.id.clone(), member.liveness))
        .collect();
    for (id, liveness) in &now {
        match (known.get(id), liveness) {
            (before, Liveness::Live) if before != Some(&Liveness::Live) => {
                changes.push(Change::Live(id.clone()));
            }
            (Some(Liveness::Live), Liveness::Dead) => changes.push(Change::Dead(id.clone())),
            // Before its first heartbeats a member counts as dead: it is not news that it died.
            (None, _) => changes.push(Change::Joined(id.clone())),
            _ => {}
        }
    }
    for id in known.keys().filter(|id| !now.contains_key(id)) {
        changes.push(Change::Forgotten(id.clone()));
    }
    *known = now;
    changes
}
