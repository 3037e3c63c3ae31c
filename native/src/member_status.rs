//! A member as `/status` and the admin port report it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gossip_transport::gossip::{Liveness, Member};
use serde::{Deserialize, Serialize};

/// A member and its keys. The names of the fields are part of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberStatus {
    pub(crate) id: String,
    pub(crate) generation: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) live: bool,
    /// Nodes of earlier versions do not say it.
    #[serde(default)]
    pub(crate) left: bool,
    pub(crate) superseded: bool,
    #[serde(rename = "self")]
    pub(crate) myself: bool,
    pub(crate) heartbeat: u64,
    pub(crate) keys: BTreeMap<String, String>,
}

impl From<Member> for MemberStatus {
    fn from(member: Member) -> Self {
        let keys = member.key_values.into_iter();
        Self {
            id: member.id.node_id.to_string(),
            generation: member.id.generation_id,
            addr: member.id.addr(),
            live: member.liveness.is_live(),
            left: member.liveness == Liveness::Left,
            superseded: member.superseded,
            myself: member.liveness == Liveness::Myself,
            heartbeat: member.heartbeat,
            keys: keys.map(|(key, value)| (key, value.value)).collect(),
        }
    }
}
