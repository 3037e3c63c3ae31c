//! [`Cores`]: which members belong to core peers and which are leaves.
//!
//! A member is *core* if a peer with the role of a core member has sent a message from its address. It is a *leaf*
//! if it has the key address of an identity, which nobody can dial, and is not core. Of all others nothing is
//! proved: they are reached over UDP, or have not been met yet. Invariant: what others report makes no member core.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::credential::is_key_address;

/// The addresses from which core members have sent messages.
#[derive(Debug, Default)]
pub(super) struct Cores(BTreeSet<SocketAddr>);

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
        self.0.insert(addr);
    }

    /// Forgets `addr`, which is reached in another way now.
    pub(super) fn unmark(&mut self, addr: SocketAddr) {
        self.0.remove(&addr);
    }

    pub(super) fn contains(&self, addr: SocketAddr) -> bool {
        self.0.contains(&addr)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of addresses.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the addresses that are not among `kept`.
    pub(super) fn retain(&mut self, kept: &BTreeSet<SocketAddr>) {
        self.0.retain(|addr| kept.contains(addr));
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
