//! `/config.json`: the configuration with which a page joins the cluster. Nothing in it is secret, unless visitors are
//! invited: then it has an invite.

use std::net::SocketAddr;

use gossip_transport::gossip::{Liveness, Member};
use gossip_transport::net::is_dialable;
use serde::Serialize;

use crate::kind;
use crate::node::Node;

/// The cluster's name, the members that a page can dial, and the gossip interval.
#[derive(Debug, Serialize)]
pub(crate) struct PageConfig {
    cluster: String,
    /// This node, followed by the other live nodes.
    seeds: Vec<SocketAddr>,
    gossip_interval_ms: u64,
    /// The word of an invite for this page.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<String>,
}

impl PageConfig {
    /// Returns the configuration for a page that `node` serves, or `None` if the node has left.
    pub(crate) fn new(node: &Node) -> Option<Self> {
        let mut members = node.with(|participant| participant.members())?;
        members.sort_by_key(|member| member.liveness != Liveness::Myself);
        Some(Self {
            cluster: node.cluster.to_string(),
            seeds: members
                .iter()
                .filter(|member| accepts_pages(member))
                .map(|member| member.id.addr())
                .collect(),
            gossip_interval_ms: u64::try_from(node.gossip_interval.as_millis()).unwrap_or(u64::MAX),
            invite: None,
        })
    }

    /// Adds the word of an invite.
    pub(crate) fn with_invite(self, word: String) -> Self {
        Self {
            invite: Some(word),
            ..self
        }
    }
}

/// Returns whether a page can dial a member: it is live, it listens, and it speaks WebSocket. A tab
/// does not listen, and a member without a kind may use another transport.
fn accepts_pages(member: &Member) -> bool {
    match member.liveness {
        Liveness::Myself => true,
        Liveness::Live => kind::is_node(member) && is_dialable(member.id.addr()),
        Liveness::Left | Liveness::Dead => false,
    }
}
