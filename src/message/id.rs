//! The id of a member.

use std::fmt;
use std::net::SocketAddr;

use super::node_id::NodeId;
use crate::net::canonical;

/// The id of a member. It is unique in the cluster and changes with every restart.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChitchatId {
    /// The member's name, which must be unique in the cluster.
    pub node_id: NodeId,
    /// A number that rises with every restart, usually the time of the start.
    pub generation_id: u64,
    /// The address to which peers send gossip for this member. A message has no room for the scope and
    /// the flow label of an IPv6 address.
    pub gossip_advertise_addr: SocketAddr,
}

impl ChitchatId {
    /// Creates an id from its name, generation and address, without what a message has no room for. So
    /// it equals what others read of it.
    pub fn new(
        node_id: impl Into<NodeId>,
        generation_id: u64,
        gossip_advertise_addr: SocketAddr,
    ) -> Self {
        let addr = gossip_advertise_addr;
        Self {
            node_id: node_id.into(),
            generation_id,
            gossip_advertise_addr: SocketAddr::new(addr.ip(), addr.port()),
        }
    }

    /// Returns the address to which peers send gossip for this member, in its
    /// [canonical](crate::net::canonical) form: that under which a transport layer knows its connections.
    /// The address in the id itself stays as its owner has written it, since it is a part of its name.
    pub fn addr(&self) -> SocketAddr {
        canonical(self.gossip_advertise_addr)
    }
}

impl fmt::Debug for ChitchatId {
    /// Writes `NAME:GENERATION:ADDRESS`. Control characters of the name are escaped, and a name with spaces,
    /// equals signs or quotes is quoted, since another node has chosen it: it must not look like other
    /// fields of a line of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ambiguous = |c: char| c.is_whitespace() || matches!(c, '=' | '"');
        if self.node_id.chars().any(is_ambiguous) {
            write!(f, "{:?}", self.node_id.as_str())?;
        } else {
            write!(f, "{}", self.node_id.escape_debug())?;
        }
        write!(f, ":{}:{}", self.generation_id, self.gossip_advertise_addr)
    }
}
