//! Counts of connections, by identity, by host and by invite.
//!
//! Connections with and without a proved identity are counted apart, so that those without take no place
//! of those with one. Invariant: an owner and a host without connections take no memory.

use std::net::SocketAddr;

use litemap::LiteMap;

use crate::credential::{Identity, InviteId};
use crate::host::Host;
use crate::transport_layer::core::pool::Pool;

/// The peer that a connection counts against: its identity, or its host if it has proved none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Identity(Identity),
    Host(Host),
}

impl Owner {
    pub(super) fn of(identity: Identity, addr: SocketAddr) -> Self {
        if identity == Identity::UNPROVED {
            Self::Host(Host::of(addr.ip()))
        } else {
            Self::Identity(identity)
        }
    }

    pub(super) fn pool(self) -> Pool {
        match self {
            Self::Identity(_) => Pool::Proved,
            Self::Host(_) => Pool::Unproved,
        }
    }
}

/// Counts connections by owner and by host.
#[derive(Debug, Default)]
pub(super) struct Census {
    owners: Counts<Owner>,
    hosts: Counts<(Pool, Host)>,
    invites: Counts<InviteId>,
    leaves: usize,
    proved: usize,
    unproved: usize,
}

impl Census {
    /// Counts a connection. `invite` is that of its peer, if it holds one.
    pub(super) fn add(&mut self, owner: Owner, host: Host, invite: Option<InviteId>) {
        self.owners.add(owner);
        self.hosts.add((owner.pool(), host));
        *self.pool(owner.pool()) += 1;
        if let Some(invite) = invite {
            self.invites.add(invite);
            self.leaves += 1;
        }
    }

    pub(super) fn remove(&mut self, owner: Owner, host: Host, invite: Option<InviteId>) {
        self.owners.remove(owner);
        self.hosts.remove((owner.pool(), host));
        *self.pool(owner.pool()) -= 1;
        if let Some(invite) = invite {
            self.invites.remove(invite);
            self.leaves -= 1;
        }
    }

    fn pool(&mut self, pool: Pool) -> &mut usize {
        match pool {
            Pool::Proved => &mut self.proved,
            Pool::Unproved => &mut self.unproved,
        }
    }

    pub(super) fn of_owner(&self, owner: Owner) -> usize {
        self.owners.count(owner)
    }

    pub(super) fn of_host(&self, pool: Pool, host: Host) -> usize {
        self.hosts.count((pool, host))
    }

    pub(super) fn of_invite(&self, invite: InviteId) -> usize {
        self.invites.count(invite)
    }

    /// Returns the number of connections of peers that hold invites.
    pub(super) fn leaves(&self) -> usize {
        self.leaves
    }

    pub(super) fn of_pool(&self, pool: Pool) -> usize {
        match pool {
            Pool::Proved => self.proved,
            Pool::Unproved => self.unproved,
        }
    }
}

/// The count of each key that has one. A sorted vector: a hash map of keys that are longer than an
/// address costs 2 kB more in a browser's module, and connections come and go seldom.
#[derive(Debug)]
struct Counts<K>(LiteMap<K, usize>);

impl<K: Ord> Default for Counts<K> {
    fn default() -> Self {
        Self(LiteMap::new())
    }
}

impl<K: Ord> Counts<K> {
    fn add(&mut self, key: K) {
        match self.0.get_mut(&key) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(key, 1);
            }
        }
    }

    fn remove(&mut self, key: K) {
        if let Some(count) = self.0.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&key);
            }
        }
    }

    fn count(&self, key: K) -> usize {
        self.0.get(&key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_and_a_host_without_connections_take_no_memory() {
        let mut census = Census::default();
        let lifetime = std::time::Duration::from_secs(60);
        let invite = InviteId::generate(lifetime, lifetime).unwrap();
        let addr = ([10, 0, 0, 1], 7000).into();
        let (owner, host) = (Owner::of(Identity::UNPROVED, addr), Host::of(addr.ip()));
        let invite = Some(invite);
        census.add(owner, host, None);
        census.add(owner, host, invite);
        assert_eq!(census.leaves(), 1);
        census.remove(owner, host, invite);
        let of_host = |census: &Census, pool| census.of_host(pool, host);
        assert_eq!(census.of_owner(owner), 1);
        assert_eq!(of_host(&census, Pool::Unproved), 1);
        assert_eq!(of_host(&census, Pool::Proved), 0);
        assert_eq!(census.of_pool(Pool::Unproved), 1);
        census.remove(owner, host, None);
        assert_eq!(census.of_pool(Pool::Unproved), 0);
        assert!(census.owners.0.is_empty() && census.hosts.0.is_empty());
        assert!(census.invites.0.is_empty() && census.leaves() == 0);
    }
}
