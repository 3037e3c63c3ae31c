//! The addresses of peers: under which one each is registered, and which others lead to it.
//!
//! | map | from | to |
//! |---|---|---|
//! | that of all peers | the address under which a peer is registered | its entry |
//! | `aliases` | another address at which a connected peer was dialled or known | the registered one |
//! | `identities` | the key address of an identity | the registered address of the entry that it owns |
//! | `moved` | the id of an entry that was renamed | its present address |
//!
//! It holds the maps; `peers` keeps them in line with the entries.

use std::net::SocketAddr;

use super::peer::Peer;
use crate::credential::Identity;
use crate::transport_layer::PeerMap;

/// This socket as peers may name it.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport_layer) struct Own {
    pub(in crate::transport_layer) identity: Identity,
    pub(in crate::transport_layer) local_addr: SocketAddr,
    pub(in crate::transport_layer) advertised_addr: SocketAddr,
}

/// An index of the addresses that lead to entries, beside the registered ones.
#[derive(Debug, Default)]
pub(super) struct AddressIndex {
    pub(super) aliases: PeerMap<SocketAddr>,
    pub(super) identities: PeerMap<SocketAddr>,
    /// Few entries, since few are renamed.
    moved: Vec<(u64, SocketAddr)>,
}

impl AddressIndex {
    /// Records that the entry `id` has moved to `addr`.
    pub(super) fn note_move(&mut self, id: u64, addr: SocketAddr) {
        self.moved.retain(|(moved, _)| *moved != id);
        self.moved.push((id, addr));
    }

    /// Returns the address to which the entry `id` has moved, if it has.
    pub(super) fn moved(&self, id: u64) -> Option<SocketAddr> {
        let moved = self.moved.iter().find(|(moved, _)| *moved == id);
        moved.map(|(_, addr)| *addr)
    }

    /// Forgets the names of an entry that is removed.
    pub(super) fn forget<C>(&mut self, addr: SocketAddr, peer: &Peer<C>) {
        self.forget_aliases(addr, &peer.aliases);
        self.moved.retain(|(id, _)| *id != peer.id);
        if let Some(owner) = peer.owner
            && self.identities.get(&owner.address()) == Some(&addr)
        {
            self.identities.remove(&owner.address());
        }
    }

    /// Forgets the aliases of the entry at `addr`.
    pub(super) fn forget_aliases(&mut self, addr: SocketAddr, aliases: &[SocketAddr]) {
        for alias in aliases {
            if self.aliases.get(alias) == Some(&addr) {
                self.aliases.remove(alias);
            }
        }
    }
}
