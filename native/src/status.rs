//! `/status`: the node's view of the cluster and its counters, as JSON.
//!
//! Converts the participant's snapshot to serializable values; HTTP is elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use gossip_transport::Identity;
use gossip_transport::credential::Grounds;
use gossip_transport::transport_layer::{
    ConnectionInfo, Direction, DropCounts, PeerStats, SocketStats,
};
use serde::Serialize;

use crate::http_stats::HttpStats;
use crate::member_status::MemberStatus;
use crate::node::Node;
use crate::tls_status::TlsStatus;

/// The body of the response.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    id: String,
    generation: u64,
    addr: SocketAddr,
    identity: String,
    cluster: String,
    members: Vec<MemberStatus>,
    stats: StatsStatus,
    /// Parts of gossip messages that were not applied, by reason.
    denied: BTreeMap<&'static str, u64>,
    /// Revoked invites that have not expired.
    revoked_invites: usize,
    http: HttpStats,
    /// Nothing if the gossip port accepts no TLS.
    tls: Option<TlsStatus>,
}

#[derive(Debug, Serialize)]
struct StatsStatus {
    total: CountersStatus,
    peers: BTreeMap<SocketAddr, CountersStatus>,
    connections: Vec<ConnectionStatus>,
    /// Connected peers that hold an invite.
    leaves: u64,
    /// Connections of such peers that were closed for a quota.
    leaves_refused: u64,
    dials: u64,
    dials_failed: u64,
    accepted: u64,
    accept_failed: u64,
    accept_failures: BTreeMap<&'static str, u64>,
    partial_messages: PartialStatus,
    part_record_bytes: u64,
    shared_record_bytes: u64,
    rejected_records: u64,
}

/// Messages that have been received in part.
#[derive(Debug, Serialize)]
struct PartialStatus {
    bytes: u64,
    max_bytes: u64,
    evicted: u64,
    timed_out: u64,
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
    /// The id of the cluster secret that it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The id of the invite that it rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<String>,
    direction: &'static str,
    age_seconds: f64,
    silence_seconds: f64,
}

impl Status {
    /// Returns the status of `node`, or `None` if it has left.
    pub(crate) fn new(node: &Node, http: HttpStats) -> Option<Self> {
        node.with(|participant| {
            let id = participant.id();
            Self {
                id: id.node_id.to_string(),
                generation: id.generation_id,
                addr: id.addr(),
                identity: node.identity.to_string(),
                cluster: node.cluster.to_string(),
                members: participant.members().into_iter().map(Into::into).collect(),
                stats: (&participant.stats()).into(),
                denied: participant
                    .engine_counts()
                    .denied
                    .iter()
                    .map(|(denial, count)| (denial.as_str(), count))
                    .collect(),
                revoked_invites: node.trust.revoked().len(),
                http,
                tls: node.tls.status(),
            }
        })
    }
}

/// Returns the number of connected peers that hold an invite.
pub(crate) fn leaves(stats: &SocketStats) -> u64 {
    let leaves = stats.connections.iter().filter_map(|connection| {
        let is_leaf = matches!(connection.grounds, Grounds::Invite { .. });
        is_leaf.then_some(connection.remote_addr)
    });
    leaves.collect::<BTreeSet<_>>().len() as u64
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
            leaves: leaves(stats),
            leaves_refused: stats.leaves_refused,
            dials: stats.dials,
            dials_failed: stats.dials_failed,
            accepted: stats.accepted,
            accept_failed: stats.accept_failed,
            accept_failures: stats
                .accept_failures
                .iter()
                .map(|(reason, count)| (reason.as_str(), count))
                .collect(),
            partial_messages: PartialStatus {
                bytes: stats.partial.bytes,
                max_bytes: stats.partial.max_bytes,
                evicted: stats.partial.evicted,
                timed_out: stats.partial.timed_out,
            },
            part_record_bytes: stats.partial.part_record_bytes,
            shared_record_bytes: stats.partial.shared_record_bytes,
            rejected_records: stats.partial.rejected_records,
        }
    }
}

impl From<&PeerStats> for CountersStatus {
    fn from(peer: &PeerStats) -> Self {
        Self {
            state: peer.state.as_str(),
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

/// Returns the count of every reason, 0 included, so that a reader need not know the reasons.
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
            secret: match connection.grounds {
                Grounds::Secret(id) => Some(id.to_string()),
                _ => None,
            },
            invite: match connection.grounds {
                Grounds::Invite { id, .. } | Grounds::Core { invite: id } => Some(id.to_string()),
                _ => None,
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
