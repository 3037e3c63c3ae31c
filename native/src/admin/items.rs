//! The objects in replies of the admin port, which `--json` prints as they are.
//!
//! The names of the fields are part of the interface, and README.md lists them.

use std::net::SocketAddr;

use gossip_transport::message::ChitchatId;
use serde::{Deserialize, Serialize};

use crate::member_status::MemberStatus;

/// Which member an object is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) id: String,
    pub(super) generation: u64,
    pub(super) addr: SocketAddr,
}

impl From<&ChitchatId> for Subject {
    fn from(id: &ChitchatId) -> Self {
        Self {
            id: id.node_id.to_string(),
            generation: id.generation_id,
            addr: id.addr(),
        }
    }
}

/// The value of a key of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) member: Subject,
    pub(super) live: bool,
    pub(super) key: String,
    pub(super) value: String,
}

/// A key that a member does not have any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deleted {
    #[serde(flatten)]
    pub(super) member: Subject,
    pub(super) key: String,
}

/// The state of a member, which has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(flatten)]
    pub(super) member: Subject,
    pub(super) live: bool,
    /// Nodes of earlier versions do not say it.
    #[serde(default)]
    pub(super) left: bool,
    pub(super) superseded: bool,
}

/// A cluster secret, named by its public id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Secret {
    /// Its id.
    pub(super) secret: String,
    pub(super) state: SecretState,
    /// The open connections that were made with it.
    pub(super) connections: u64,
    /// The open connections of peers with invites that were issued with it. Nodes of earlier versions do not say it.
    #[serde(default)]
    pub(super) leaves: u64,
}

/// What a node does with a cluster secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SecretState {
    /// It dials with it, and accepts it.
    Dials,
    /// It accepts it.
    Accepted,
    /// It does not accept it any more, and ends its connections.
    Removed,
}

/// An open connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Connection {
    /// The address under which the peer is known.
    pub(super) addr: SocketAddr,
    /// The other end on the network, which may be a proxy.
    pub(super) network_addr: SocketAddr,
    pub(super) local_addr: SocketAddr,
    /// The identity of the peer. None with plaintext UDP.
    pub(super) identity: Option<String>,
    /// `noise` (encrypted, over TCP or WebSocket) or `udp`.
    pub(super) protocol: String,
    /// The application protocol that both sides have agreed on. Nodes of earlier versions do not say it.
    #[serde(default)]
    pub(super) alpn: Option<String>,
    /// The id of the cluster secret that it was made with.
    pub(super) secret: Option<String>,
    /// The id of the invite that it rests on. Nodes of earlier versions do not say it.
    #[serde(default)]
    pub(super) invite: Option<String>,
    pub(super) direction: Side,
    pub(super) age_seconds: f64,
    /// The time since anything was received.
    pub(super) silence_seconds: f64,
    /// Messages that wait to be sent to the peer, over all its connections.
    pub(super) queued: u64,
    pub(super) queued_bytes: u64,
    /// Received messages of the peer that wait to be handled.
    pub(super) incoming_queued: u64,
}

/// An invite that was issued.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Issued {
    pub(super) id: String,
    /// The time in RFC 3339.
    pub(super) expires: String,
    /// What its holder needs.
    pub(super) word: String,
    pub(super) claims: ClaimsItem,
    pub(super) cluster: String,
    pub(super) seeds: Vec<String>,
}

impl std::fmt::Debug for Issued {
    /// Prints the id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({})", self.id)
    }
}

/// What an invite restricts, defaults included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimsItem {
    /// The prefix of the names of holders, which may be empty.
    pub(super) name: String,
    /// The identity of the only holder.
    pub(super) holder: Option<String>,
    pub(super) max_keys: u32,
    pub(super) max_bytes: u32,
    /// Per second.
    pub(super) max_changes: u32,
    pub(super) max_connections: u32,
}

/// An invite that was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revoked {
    pub(super) id: String,
    /// The time in RFC 3339 at which the invite expires, and its revocation with it.
    pub(super) expires: String,
    pub(super) kept: KeptWhere,
}

/// How long a node remembers a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeptWhere {
    /// Also over restarts.
    Disk,
    /// Until it ends: it has no state directory.
    Memory,
    /// Not at all, since the invite has expired.
    Nowhere,
}

/// The side that has dialled a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    /// The peer.
    Incoming,
    /// The node itself.
    Outgoing,
}

/// What a watch reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Event {
    /// A member that was there when the watch began, or is new.
    Member(MemberStatus),
    /// All members at the beginning of the watch have been reported. Changes follow.
    Current {},
    /// A member was found live or dead, has left, or takes precedence or not.
    State(State),
    /// A dead member was forgotten.
    Forgotten(Subject),
    /// A key has a new value.
    Set(Entry),
    /// A key was deleted.
    Delete(Deleted),
}
