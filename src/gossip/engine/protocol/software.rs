//! What is known of the software of a peer, on which depends what it is told.

use std::net::SocketAddr;

use super::Engine;

/// The software of a member, as far as it matters to what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Software {
    /// This crate, which omits dead members as well.
    Ours,
    /// Perhaps the published crate, which sends the state of a dead member to everyone that does not
    /// mention it.
    Unknown,
    /// The same, and it may be reached over UDP: it is told of few leaves.
    Udp,
}

impl Engine {
    /// Returns the software of the peer at `addr`.
    pub(super) fn software(&self, addr: SocketAddr) -> Software {
        if self.routes.is_ours(addr) {
            Software::Ours
        } else if self.may_be_udp(addr) {
            Software::Udp
        } else {
            Software::Unknown
        }
    }
}
