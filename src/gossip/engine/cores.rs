//! [`Cores`]: which members belong to core peers and which are leaves.
//!
//! A member is *core* if a peer with the role of a core member has sent a message from its address. It is a *leaf*
//! if it has the key address of an identity, which nobody can dial, and is not core. Of all others nothing is
//! proved: they are reached over UDP, or have not been met yet. What a core member was the first to report may be either,
//! and nobody over UDP speaks for it until it has sent a datagram itself. Invariant: what others report makes no member
//! core.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::credential::is_key_address;

/// The addresses of core members, and of those that may be.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// Core members have sent messages from these.
    met: BTreeSet<SocketAddr>,
    /// Core members were the first to report members at these.
    reported: BTreeSet<SocketAddr>,
}

/// What is known about the owner of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Core,
    Leaf,
    /// It is reached over UDP, or not met yet.
    Unproved,
}

impl Cores {
    /// Notes that a core member has sent a message from `addr`.
    pub(super) fn mark(&mut self, addr: SocketAddr) {
        self.met.insert(addr);
        self.reported.remove(&addr);
    }

    /// Notes that a core member has reported a member at `addr`, of which nobody had before.
    pub(super) fn note_reported(&mut self, addr: SocketAddr) {
        if self.owner(addr) == Owner::Unproved {
            self.reported.insert(addr);
        }
    }

    /// Notes a plain datagram from `addr`.
    pub(super) fn note_datagram(&mut self, addr: SocketAddr) {
        self.reported.remove(&addr);
    }

    /// Returns true if only core members have reported members at `addr`, and none has sent anything from there.
    pub(super) fn is_reported(&self, addr: SocketAddr) -> bool {
        self.reported.contains(&addr)
    }

    /// Forgets `addr`, which is reached in another way now.
    pub(super) fn unmark(&mut self, addr: SocketAddr) {
        self.met.remove(&addr);
    }

    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        self.met.contains(&addr)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.met.is_empty() && self.reported.is_empty()
    }

    /// Returns the number of addresses.
    pub(super) fn len(&self) -> usize {
        self.met.len() + self.reported.len()
    }

    /// Forgets the addresses that are not among `kept`.
    pub(super) fn retain(&mut self, kept: &BTreeSet<SocketAddr>) {
        self.met.retain(|addr| kept.contains(addr));
        self.reported.retain(|addr| kept.contains(addr));
    }

    pub(super) fn owner(&self, addr: SocketAddr) -> Owner {
        if self.contains(addr) {
            Owner::Core
        } else if is_key_address(addr) {
            Owner::Leaf
        } else {
            Owner::Unproved
        }
    }
}

/// The number of members that can be added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) all: usize,
    pub(super) leaves: usize,
}

impl Room {
    /// Takes the room of one member. Returns false if there is none.
    pub(super) fn take(&mut self, owner: Owner) -> bool {
        let is_leaf = owner == Owner::Leaf;
        if self.all == 0 || is_leaf && self.leaves == 0 {
            return false;
        }
        self.all -= 1;
        self.leaves -= usize::from(is_leaf);
        true
    }
}
