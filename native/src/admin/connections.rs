//! What the command about connections does.

use gossip_transport::Identity;
use gossip_transport::credential::Grounds;
use gossip_transport::transport_layer::{ConnectionInfo, Direction, SocketStats};

use super::execute::with;
use super::items::{Connection, Side};
use super::protocol::Failure;
use crate::any_network::AnyParticipant;
use crate::node::Node;

/// Returns the open connections of the node, those of a peer together.
///
/// # Errors
///
/// Fails if the node is leaving.
pub(super) fn list(node: &Node) -> Result<Vec<Connection>, Failure> {
    let stats = with(node, AnyParticipant::stats)?;
    let open = stats.connections.iter();
    let mut connections: Vec<_> = open.map(|open| connection(open, &stats)).collect();
    connections.sort_by_key(|connection| (connection.addr, connection.network_addr));
    Ok(connections)
}

fn connection(open: &ConnectionInfo, stats: &SocketStats) -> Connection {
    let is_proved = open.remote_identity != Identity::UNPROVED;
    let peer = stats.peers.get(&open.remote_addr);
    Connection {
        addr: open.remote_addr,
        network_addr: open.network_addr,
        local_addr: open.local_addr,
        identity: is_proved.then(|| open.remote_identity.to_string()),
        protocol: if is_proved { "noise" } else { "udp" }.to_owned(),
        alpn: Some(open.alpn.to_string()),
        secret: match open.grounds {
            Grounds::Secret(id) => Some(id.to_string()),
            _ => None,
        },
        invite: match open.grounds {
            Grounds::Invite { id, .. } | Grounds::Core { invite: id } => Some(id.to_string()),
            _ => None,
        },
        direction: match open.direction {
            Direction::Outgoing => Side::Outgoing,
            Direction::Incoming => Side::Incoming,
        },
        age_seconds: open.age.as_secs_f64(),
        silence_seconds: open.silence.as_secs_f64(),
        queued: peer.map_or(0, |peer| peer.queued),
        queued_bytes: peer.map_or(0, |peer| peer.queued_bytes),
        incoming_queued: peer.map_or(0, |peer| peer.incoming_queued),
    }
}
