//! A leaf that lies about all members of the demo's cluster.
//!
//! Invariant: the check fails if no lie has arrived, and not only if one is believed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::demo::cluster::Cluster;
use crate::demo::node::MemberStatus;
use crate::host::http::Client;
use crate::host::workspace::Workspace;
use crate::host::{command, wait};

/// The reasons for which a node refuses the lies of the lying leaf: one for each kind.
const REASONS: [&str; 3] = ["heartbeat", "new_member", "changes"];
/// The time in which what a node believes spreads to all others: more than ten rounds.
const SPREAD_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Has a leaf lie about all members, and checks that the node which it tells has refused each kind of lie, and that no
/// node believes any of them.
pub(super) fn change_nothing(
    workspace: &Workspace,
    cluster: &Cluster,
    client: &Client,
) -> anyhow::Result<()> {
    let told = cluster.nodes().last().context("no nodes")?;
    let before = members(cluster, client)?;
    let denied_before = told.status(client)?.denied;
    let mut leaf = workspace.cargo(&["run", "--quiet", "--example", "lying_leaf", "--"]);
    leaf.args([&cluster.secret.invite.word, &told.gossip.to_string()]);
    let lies = command::run_for_output(&mut leaf)?;
    let start = Instant::now();
    while start.elapsed() < SPREAD_WITHIN {
        check_unchanged(&before, &members(cluster, client)?)?;
        wait::pause(LOOK_EVERY)?;
    }
    let denied = told.status(client)?.denied;
    let mut refused = Vec::new();
    for reason in REASONS {
        let [before, now] =
            [&denied_before, &denied].map(|denied| denied.get(reason).copied().unwrap_or(0));
        ensure!(now > before, "{} has refused no lie as {reason}", told.id);
        refused.push(format!("{reason}: {}", now - before));
    }
    println!("     {} lies, refused: {}", lies.trim(), refused.join(", "));
    Ok(())
}

/// Returns all members as each node sees them.
fn members(cluster: &Cluster, client: &Client) -> anyhow::Result<Vec<Vec<MemberStatus>>> {
    let nodes = cluster.nodes().iter();
    nodes.map(|node| Ok(node.status(client)?.members)).collect()
}

/// Fails if a node sees a member otherwise than before, or one more. Of those that are not live, some may be forgotten
/// meanwhile.
fn check_unchanged(before: &[Vec<MemberStatus>], now: &[Vec<MemberStatus>]) -> anyhow::Result<()> {
    for (before, now) in before.iter().zip(now) {
        for member in now {
            ensure!(
                before.contains(member),
                "{member:?} was not among {before:#?}"
            );
        }
        let mut live = before.iter().filter(|member| member.live);
        let lost = live.find(|member| !now.contains(member));
        ensure!(lost.is_none(), "{lost:?} is not known any more");
    }
    Ok(())
}
