//! What is known of the software of a peer, on which depends what it is told.

use std::net::SocketAddr;

use super::Engine;
use crate::gossip::engine::cores::Owner;

/// The software of a member, as far as it matters to what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Software {
    /// This crate, which omits dead members as well.
    Ours,
    /// This crate, and the holder of an invite, which learns of others only from core members.
    Leaf,
    /// Perhaps the published crate, which sends the state of a dead member to everyone that does not
    /// mention it.
    Unknown,
    /// Perhaps the published crate, and it may be reached over UDP: it is told of few leaves.
    Udp,
    /// Perhaps the published crate, or a core member that was not met yet: how its address is reached is not known.
    Stranger,
}

impl Software {
    /// Returns true if a peer with it may be reached over UDP, and is told of few leaves.
    pub(super) fn may_be_over_udp(self) -> bool {
        matches!(self, Self::Udp | Self::Stranger)
    }
}

impl Engine {
    /// Returns `addrs`, which have not asked, divided by their software, without empty parts.
    pub(super) fn by_software(&self, addrs: &[SocketAddr]) -> Vec<(Software, Vec<SocketAddr>)> {
        let order = [
            Software::Udp,
            Software::Stranger,
            Software::Unknown,
            Software::Leaf,
            Software::Ours,
        ];
        let all = addrs
            .iter()
            .map(|addr| (self.software_unasked(*addr), *addr));
        let all: Vec<_> = all.collect();
        let parts = order.into_iter().map(|software| {
            let to = all.iter().filter(|(of, _)| *of == software);
            (software, to.map(|(_, addr)| *addr).collect::<Vec<_>>())
        });
        parts.filter(|(_, to)| !to.is_empty()).collect()
    }

    /// Returns the software of the member at `addr`, which has not asked.
    fn software_unasked(&self, addr: SocketAddr) -> Software {
        let cores = &self.cluster.cores;
        // A member that expects no peer with an identity reaches everyone over UDP.
        let is_alone = cores.is_empty() && !self.cluster.has_secrets();
        match self.software(addr) {
            Software::Udp if !is_alone && !cores.is_over_udp(addr) => Software::Stranger,
            software => software,
        }
    }

    /// Returns the software of the peer at `addr`.
    pub(super) fn software(&self, addr: SocketAddr) -> Software {
        if self.routes.is_ours(addr) {
            match self.cluster.cores.owner(addr) {
                Owner::Leaf => Software::Leaf,
                Owner::Core | Owner::Unproved => Software::Ours,
            }
        } else if self.may_be_udp(addr) {
            Software::Udp
        } else {
            Software::Unknown
        }
    }
}
