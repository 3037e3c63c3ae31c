//! `/status`: what this node knows, as JSON.
//!
//! Plain values made from the participant's snapshot; no HTTP here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gossip_transport::Identity;
use gossip_transport::gossip::{Liveness, Member as Known};
use gossip_transport::transport_layer::{
    ConnectionInfo, Direction, DropCounts, PeerState, PeerStats, SocketStats,
};
use serde::Serialize;

use crate::member::Member;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    id: String,
    generation: u64,
    addr: SocketAddr,
    identity: String,
    cluster: String,
    members: Vec<MemberStatus>,
    stats: StatsStatus,
}

#[derive(Debug, Serialize)]
struct MemberStatus {
    id: String,
    generation: u64,
    addr: SocketAddr,
    live: bool,
    #[serde(rename = "self")]
    myself: bool,
    heartbeat: u64,
    keys: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct StatsStatus {
    total: CountersStatus,
    peers: BTreeMap<SocketAddr, CountersStatus>,
    connections: Vec<ConnectionStatus>,
    dials: u64,
    dials_failed: u64,
    accepted: u64,
    accept_failed: u64,
}

#[derive(Debug, Serialize)]
struct CountersStatus {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_dial_seconds: Option<f64>,
    submitted: u64,
    sent: u64,
    sent_bytes: u64,
    queued: u64,
    queued_bytes: u64,
    dropped: BTreeMap<&'static str, u64>,
    received: u64,
    received_bytes: u64,
    delivered: u64,
    incoming_queued: u64,
    incoming_dropped: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct ConnectionStatus {
    remote_addr: SocketAddr,
    local_addr: SocketAddr,
    identity: String,
    direction: &'static str,
    age_seconds: f64,
    silence_seconds: f64,
}

impl Status {
    /// What `participant` knows now.
    pub(crate) fn new(participant: &Member, identity: &str, cluster: &str) -> Self {
        let id = participant.id();
        Self {
            id: id.node_id.to_string(),
            generation: id.generation_id,
            addr: id.gossip_advertise_addr,
            identity: identity.to_owned(),
            cluster: cluster.to_owned(),
            members: participant.members().iter().map(Into::into).collect(),
            stats: (&participant.stats()).into(),
        }
    }
}

impl From<&Known> for MemberStatus {
    fn from(member: &Known) -> Self {
        Self {
            id: member.id.node_id.to_string(),
            generation: member.id.generation_id,
            addr: member.id.gossip_advertise_addr,
            live: member.liveness != Liveness::Dead,
            myself: member.liveness == Liveness::Myself,
            heartbeat: member.heartbeat,
            keys: member
                .key_values
                .iter()
                .map(|(key, value)| (key.clone(), value.value.clone()))
                .collect(),
        }
    }
}

impl From<&SocketStats> for StatsStatus {
    fn from(stats: &SocketStats) -> Self {
        Self {
            total: (&stats.total).into(),
            peers: stats
                .peers
                .iter()
                .map(|(addr, peer)| (*addr, peer.into()))
                .collect(),
            connections: stats.connections.iter().map(Into::into).collect(),
            dials: stats.dials,
            dials_failed: stats.dials_failed,
            accepted: stats.accepted,
            accept_failed: stats.accept_failed,
        }
    }
}

impl From<&PeerStats> for CountersStatus {
    fn from(peer: &PeerStats) -> Self {
        Self {
            state: match peer.state {
                PeerState::Connected => "connected",
                PeerState::Dialing => "dialing",
                PeerState::BackingOff => "backing_off",
                _ => "idle",
            },
            next_dial_seconds: peer.next_dial.map(|wait| wait.as_secs_f64()),
            submitted: peer.submitted,
            sent: peer.sent,
            sent_bytes: peer.sent_bytes,
            queued: peer.queued,
            queued_bytes: peer.queued_bytes,
            dropped: reasons(&peer.dropped),
            received: peer.received,
            received_bytes: peer.received_bytes,
            delivered: peer.delivered,
            incoming_queued: peer.incoming_queued,
            incoming_dropped: reasons(&peer.incoming_dropped),
        }
    }
}

/// Every reason is listed, those that never occurred with 0: a reader need not know the list.
fn reasons(counts: &DropCounts) -> BTreeMap<&'static str, u64> {
    counts
        .iter()
        .map(|(reason, count)| (reason.as_str(), count))
        .collect()
}

impl From<&ConnectionInfo> for ConnectionStatus {
    fn from(connection: &ConnectionInfo) -> Self {
        Self {
            remote_addr: connection.remote_addr,
            local_addr: connection.local_addr,
            identity: match connection.remote_identity {
                Identity::UNPROVED => "none: plaintext UDP".to_owned(),
                proved => proved.to_string(),
            },
            direction: match connection.direction {
                Direction::Outgoing => "outgoing",
                Direction::Incoming => "incoming",
            },
            age_seconds: connection.age.as_secs_f64(),
            silence_seconds: connection.silence.as_secs_f64(),
        }
    }
}
