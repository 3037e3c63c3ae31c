//! Looking up peers by address, by alias, and by the key address of their identity.
//!
//! Invariants: an identity owns at most one entry; an alias leads to an entry with a connection; an
//! address that has an entry is no alias.

use std::net::SocketAddr;

use super::Peers;
#[cfg(test)]
use super::tasks::MAX_EXTRA_DIALS;
#[cfg(test)]
use crate::credential::Identity;
use crate::credential::is_key_address;
use crate::net::{NetConnection, canonical, is_dialable};
use crate::rt::Instant;
#[cfg(test)]
use crate::transport_layer::core::link::LinkRole;
use crate::transport_layer::core::names::Own;
#[cfg(test)]
use crate::transport_layer::core::peer::ActiveReader;
#[cfg(test)]
use crate::transport_layer::core::peer::DialPlace;
use crate::transport_layer::core::step::{Effects, PeerKey};
use crate::transport_layer::stats::DropReason;

/// A peer that is known under more addresses than this loses the oldest ones, since it may state as many
/// as it likes.
const MAX_ALIASES: usize = 16;

impl<C: NetConnection> Peers<C> {
    /// Returns the address under which the peer at `addr` is registered: the canonical form of `addr`
    /// itself, unless it is an alias or the key address of a connected peer.
    pub(super) fn resolve(&self, addr: SocketAddr) -> SocketAddr {
        let addr = canonical(addr);
        if self.map.contains_key(&addr) {
            return addr;
        }
        if let Some(registered) = self.names.aliases.get(&addr) {
            return *registered;
        }
        let connected =
            |home: &&SocketAddr| self.map.get(home).is_some_and(|p| p.active().is_some());
        match self.names.identities.get(&addr).filter(connected) {
            Some(home) => *home,
            None => addr,
        }
    }

    /// Returns the present address of an entry, unless it is forgotten.
    pub(super) fn locate(&self, key: PeerKey) -> Option<SocketAddr> {
        let is_it = |addr: &SocketAddr| self.map.get(addr).is_some_and(|peer| peer.id == key.id);
        if is_it(&key.addr) {
            return Some(key.addr);
        }
        self.names.moved(key.id).filter(is_it)
    }

    /// Returns a number that rises when readers have to look at their peer again: it has moved, or another
    /// of its connections has gone out of service before its reader has ended.
    pub(in crate::transport_layer) fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the present address of an entry for its reader.
    pub(in crate::transport_layer) fn address_of(&self, key: PeerKey) -> SocketAddr {
        self.locate(key).unwrap_or(key.addr)
    }

    /// Returns the address that the peer of `conn` states, or `None` if it states none or one that it
    /// cannot have, which is counted.
    pub(super) fn stated(&mut self, conn: &C) -> Option<SocketAddr> {
        let stated = canonical(conn.stated_addr()?);
        let is_possible = self.may_have(conn, stated);
        self.naming.stated_addrs_ignored += u64::from(!is_possible);
        is_possible.then_some(stated)
    }

    /// Returns whether the peer of `conn` may have `stated`, an address in its canonical form.
    pub(super) fn may_have(&self, conn: &C, stated: SocketAddr) -> bool {
        let key = conn.remote_identity().address();
        if conn.claims().is_some() && stated != key {
            // A leaf is known by its key alone.
            return false;
        }
        let Own {
            identity,
            local_addr,
            advertised_addr,
        } = self.own;
        let ours = [local_addr, advertised_addr, identity.address()];
        !ours.contains(&stated)
            && (stated == key || (is_dialable(stated) && !is_key_address(stated)))
            && (!stated.ip().is_loopback() || conn.is_local())
    }

    /// Returns whether the other end of `conn` is this socket itself, or cannot be told from it: it has our
    /// key and no address of its own. Another socket with the same key is a peer like any other.
    pub(super) fn is_own(&self, conn: &C) -> bool {
        let own = &self.own;
        let stated = conn.stated_addr();
        conn.remote_identity() == own.identity
            && stated.is_none_or(|stated| {
                let ours = [own.local_addr, own.advertised_addr];
                let stated = canonical(stated);
                ours.contains(&stated) || is_key_address(stated)
            })
    }

    /// Makes `alias` lead to the entry at `addr` while it is connected.
    pub(super) fn add_alias(&mut self, alias: SocketAddr, addr: SocketAddr) {
        if alias == addr || self.map.contains_key(&alias) {
            return;
        }
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        if !peer.aliases.contains(&alias) {
            if peer.aliases.len() >= MAX_ALIASES {
                let oldest = peer.aliases.remove(0);
                self.names.forget_aliases(addr, &[oldest]);
            }
            peer.aliases.push(alias);
        }
        self.names.aliases.insert(alias, addr);
    }

    /// Moves the entry at `from` to `to`. An entry without an owner at `to` becomes part of it: its
    /// messages and callers are for whoever is at that address. If it is being dialled, so is the moved
    /// entry.
    pub(super) fn rename(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        if from == to {
            return;
        }
        let dialled = self.map.get(&to).is_some_and(|peer| peer.dial.is_some());
        self.merge(to, from, fx);
        let Some(mut peer) = self.map.remove(&from) else {
            return;
        };
        // Some of its aliases may lead elsewhere by now.
        let aliases = &mut self.names.aliases;
        aliases.remove(&to);
        peer.aliases
            .retain(|alias| aliases.get(alias) == Some(&from));
        for alias in &peer.aliases {
            aliases.insert(*alias, to);
        }
        self.names.note_move(peer.id, to);
        self.revision += 1;
        // It was the former address that was contested.
        peer.cancel_verification();
        peer.claim.take_if(|claim| claim.addr == to);
        if let Some(owner) = peer.owner {
            self.names.identities.insert(owner.address(), to);
        }
        self.connections += 1;
        fx.forgotten.push(from);
        fx.moved_to.push(to);
        self.map.insert(to, peer);
        if dialled {
            self.verify(to, now);
        }
    }

    /// Moves the messages of the entry at `from`, if there is one, to the entry at `into`, and forgets
    /// it. Callers that wait at `from` look again, and find the other.
    pub(super) fn merge(&mut self, from: SocketAddr, into: SocketAddr, fx: &mut Effects<C>) {
        let Some(mut peer) = self.map.remove(&from) else {
            return;
        };
        if let Some(target) = self.map.get_mut(&into) {
            target.queue.absorb(&mut peer.queue);
            self.backlog.settle(&mut target.queue);
            target.signal.raise();
        }
        self.map.insert(from, peer);
        self.remove(from, DropReason::IdentityChanged, fx);
    }
}

#[cfg(test)]
impl<C: NetConnection> Peers<C> {
    /// Returns the identity that a message to `to` would be queued for.
    pub(in crate::transport_layer::core) fn owner_of(&self, to: SocketAddr) -> Option<Identity> {
        let owner = self.map.get(&self.resolve(to))?.owner;
        owner.filter(|owner| *owner != Identity::UNPROVED)
    }

    /// Returns whether the peer at `to` is connected, and whether its queue has room and a sender that
    /// waits, and not for the queues of others, at which address it is registered.
    pub(in crate::transport_layer::core) fn outlook(&self, to: SocketAddr) -> (bool, bool) {
        let peer = self.map.get(&self.resolve(to));
        (
            peer.is_some_and(|peer| peer.active().is_some()),
            peer.is_some_and(|peer| {
                let is_ready = peer.queue.ready_sender().is_some();
                is_ready && !self.backlog.is_held_back(peer.id)
            }),
        )
    }

    /// Checks what must hold when the tasks of all peers, except for those that `busy` accepts by their
    /// ids, wait for their signals or for `deadline`.
    pub(in crate::transport_layer::core) fn assert_at_rest(
        &self,
        now: Instant,
        deadline: impl Fn(u64) -> Option<Option<Instant>>,
    ) {
        for (addr, peer) in &self.map {
            let Some(deadline) = deadline(peer.id) else {
                continue;
            };
            assert!(deadline.is_none_or(|at| at > now), "{addr} is late");
            let in_flight = peer.queue.is_in_flight();
            if deadline.is_none() {
                let wakes = in_flight
                    || peer.dial.is_some()
                    || !peer.queue.senders.is_empty()
                    || !peer.readers.is_empty();
                assert!(peer.links.is_empty() && wakes, "{addr} is never woken");
            }
            if peer.active().is_some() && peer.conflict.is_none() && !in_flight {
                assert!(
                    peer.queue.is_empty(),
                    "{addr} has messages and a connection"
                );
            }
            for link in &peer.links {
                let waits = link.role == LinkRole::Waiting;
                let soon = now + std::time::Duration::from_millis(100);
                assert!(!waits || deadline.is_some_and(|at| at <= soon), "{addr}");
                assert!(!waits || peer.conflict.is_some(), "{addr} waits for ever");
            }
        }
    }

    /// Returns the number of aliases.
    pub(in crate::transport_layer::core) fn alias_count(&self) -> usize {
        self.names.aliases.len()
    }

    /// Checks the invariants of this file and of `registration`.
    pub(in crate::transport_layer::core) fn assert_named_consistently(&self) {
        let mut owners = std::collections::BTreeSet::new();
        let dials = |place| {
            self.map
                .values()
                .filter_map(move |peer| peer.dial_in(place))
        };
        assert_eq!(self.dialling, dials(DialPlace::Ordinary).count());
        let renewals = dials(DialPlace::Ordinary).filter(|dial| dial.renews);
        assert_eq!(self.renewing, renewals.count());
        assert!(dials(DialPlace::Extra).count() <= MAX_EXTRA_DIALS);
        let waiting = self.map.values().map(|peer| peer.queue.waiting_bytes());
        assert_eq!(self.backlog.bytes(), waiting.sum::<usize>());
        assert_eq!(self.backlog.excess(), 0);
        assert!(self.in_use() <= self.config.max_connections);
        let links = || self.map.values().flat_map(|peer| &peer.links);
        for link in links() {
            let (owner, host) = (link.owner, link.host);
            let of_owner = links().filter(|other| other.owner == owner);
            assert_eq!(self.census.of_owner(owner), of_owner.count());
            let pool = owner.pool();
            let of_pool = || links().filter(|other| other.owner.pool() == pool);
            assert_eq!(self.census.of_pool(pool), of_pool().count());
            let of_host = of_pool().filter(|other| other.host == host);
            assert_eq!(self.census.of_host(pool, host), of_host.count());
        }
        for (addr, peer) in &self.map {
            assert!(!self.names.aliases.contains_key(addr), "{addr} is an alias");
            for link in &peer.links {
                assert_eq!(peer.owner, Some(link.conn.remote_identity()), "{addr}");
            }
            for link in &peer.links {
                let mut readers = peer.readers.iter();
                let waits = peer.has_to_wait(link)
                    || readers.any(|reader| !peer.is_in_service(reader.link));
                let is_of_link = |reader: &&ActiveReader| reader.link == link.id;
                let read = peer.readers.iter().filter(is_of_link).count();
                assert!(
                    read == 1 || (read == 0 && waits),
                    "{addr} is read {read} times"
                );
            }
            let proved = peer.owner.filter(|owner| *owner != Identity::UNPROVED);
            if let Some(owner) = proved {
                assert!(owners.insert(owner), "{owner} owns two entries");
                assert_eq!(self.names.identities.get(&owner.address()), Some(addr));
                let active = peer.links.iter();
                let active = active.filter(|link| link.role == LinkRole::Active);
                assert!(active.count() <= 1, "{addr} has two active connections");
            }
        }
        assert_eq!(self.names.identities.len(), owners.len());
        for (alias, addr) in &self.names.aliases {
            let peer = self.map.get(addr).unwrap();
            assert!(!peer.links.is_empty(), "{alias} leads to {addr}");
            assert!(peer.aliases.contains(alias));
        }
    }
}
