//! Counts of connections, by identity and by host.
//!
//! Invariant: an owner and a host without connections take no memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;

use super::host::Host;
use crate::credential::Identity;

/// The peer that a connection counts against: its identity, or its host if it has proved none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    Identity(Identity),
    Host(Host),
}

impl Owner {
    pub(super) fn of(identity: Identity, addr: SocketAddr) -> Self {
        if identity == Identity::UNPROVED {
            Self::Host(Host::of(addr))
        } else {
            Self::Identity(identity)
        }
    }
}

/// Counts connections by owner and by host.
#[derive(Debug, Default)]
pub(super) struct Census {
    owners: Counts<Owner>,
    hosts: Counts<Host>,
}

impl Census {
    pub(super) fn add(&mut self, owner: Owner, host: Host) {
        self.owners.add(owner);
        self.hosts.add(host);
    }

    pub(super) fn remove(&mut self, owner: Owner, host: Host) {
        self.owners.remove(owner);
        self.hosts.remove(host);
    }

    pub(super) fn of_owner(&self, owner: Owner) -> usize {
        self.owners.count(owner)
    }

    pub(super) fn of_host(&self, host: Host) -> usize {
        self.hosts.count(host)
    }
}

/// The hasher is seeded at random because peers choose their identities and addresses.
#[derive(Debug)]
struct Counts<K>(HashMap<K, usize, foldhash::fast::RandomState>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Hash + Eq> Counts<K> {
    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
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
