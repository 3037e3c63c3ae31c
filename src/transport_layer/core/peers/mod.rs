//! All peers of a socket.
//!
//! One value holds them all, so that a snapshot is consistent and locks have no order to get wrong;
//! each operation is short. Invariant: connections with a proved identity and dials together never exceed
//! `max_connections`, apart from a few dials of contested addresses; those without never exceed
//! `max_unauthenticated_connections`, those of one identity or host never exceed their own limits, and peers
//! exceed `max_peers` only while so many are connected. The backlog counts what waits in the queues.

mod conflicts;
mod connections;
mod intake;
mod leaves;
mod names;
mod order;
mod overflow;
mod registration;
mod tasks;
mod trusted;
mod unproved;

pub(in crate::transport_layer) use trusted::{Judged, Of};

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::backlog::Backlog;
use super::census::Census;
use super::names::{AddressIndex, Own};
use super::peer::{DialPlace, Peer};
use super::pool::Pool;
use super::queue::OutgoingQueue;
#[cfg(test)]
use super::step::DialKey;
use super::step::{Effects, NewPeer, PeerKey};
use crate::credential::Identity;
use crate::host::Counts;
use crate::net::{AcceptFailure, CloseCode, NetConnection, canonical};
use crate::rt::Instant;
use crate::rt::sync::{Signal, Ticket, WaitList};
use crate::transport_layer::PeerMap;
use crate::transport_layer::config::{QueueConfig, TransportLayerConfig};
use crate::transport_layer::received::ConnectedPeer;
use crate::transport_layer::stats::{DropReason, NamingStats, PeerState, SocketStats};

/// A host whose peers without a connection are more than one in this many of `max_peers` loses them first.
const HOST_SHARE: usize = 4;

/// All peers of a socket, and every decision about them.
pub(in crate::transport_layer) struct Peers<C> {
    phase: Phase,
    config: Arc<TransportLayerConfig>,
    /// The configuration of each queue.
    queues: Arc<QueueConfig>,
    max_message_len: usize,
    own: Own,
    /// Boxed, since a table has more places than entries.
    map: PeerMap<Box<Peer<C>>>,
    names: AddressIndex,
    naming: NamingStats,
    backlog: Backlog,
    next_id: u64,
    /// Live connections by identity and host.
    census: Census,
    /// Number of running dials, without those in extra places.
    dialling: usize,
    /// Number of running dials that replace a connection.
    renewing: usize,
    /// The counts of peers that are no longer listed, and the four counts of [`SocketStats`].
    folded: SocketStats,
    /// Shutdowns that wait for the queues to empty.
    drained: WaitList,
    /// Rises when a connection comes into service or goes out of it.
    connections: u64,
    /// Rises when readers have to look at their peer again.
    revision: u64,
}

/// The phases in the life of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) enum Phase {
    Open,
    /// Shutting down: no new message is taken, and what is queued is still sent.
    Draining,
    Closed {
        /// Messages that were still queued.
        unsent: u64,
    },
}

impl<C: NetConnection> Peers<C> {
    pub(in crate::transport_layer) fn new(
        config: Arc<TransportLayerConfig>,
        max_message_len: usize,
        own: Own,
    ) -> Self {
        Self {
            phase: Phase::Open,
            queues: Arc::new(config.outgoing.clone()),
            backlog: Backlog::new(&config),
            max_message_len: max_message_len.min(config.max_outgoing_bytes),
            config,
            own,
            map: PeerMap::default(),
            names: AddressIndex::default(),
            naming: NamingStats::default(),
            next_id: 0,
            census: Census::default(),
            dialling: 0,
            renewing: 0,
            folded: SocketStats::default(),
            drained: WaitList::default(),
            connections: 1,
            revision: 0,
        }
    }

    /// Stops taking new messages. Waiting senders and observers fail because the socket is closed.
    pub(in crate::transport_layer) fn start_draining(&mut self, fx: &mut Effects<C>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
        for peer in self.map.values() {
            fx.wakers.extend(peer.queue.senders.all());
            fx.wakers.extend(peer.observers.all());
        }
    }

    /// Completes once no message is left to send. While pending, keeps `waker` in line with
    /// `ticket`.
    pub(in crate::transport_layer) fn poll_drained(
        &mut self,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<()> {
        if self.map.values().all(|peer| peer.queue.queued() == 0) {
            self.drained.leave(ticket);
            Poll::Ready(())
        } else {
            self.drained.join(ticket, waker);
            Poll::Pending
        }
    }

    /// Gives up a place taken by [`poll_drained`](Self::poll_drained).
    pub(in crate::transport_layer) fn stop_waiting_for_drain(&mut self, ticket: &mut Ticket) {
        self.drained.leave(ticket);
    }

    /// Drops what is queued for peers without a connection, so that a shutdown does not wait for dials.
    pub(in crate::transport_layer) fn drop_unconnected(&mut self, fx: &mut Effects<C>) {
        let peers = self.map.iter().filter(|(_, peer)| peer.links.is_empty());
        let addrs: Vec<_> = peers.map(|(addr, _)| *addr).collect();
        for addr in addrs {
            self.remove(addr, DropReason::Closed, fx);
        }
    }

    /// Drops every queued message and ends every connection. Returns the number of messages that
    /// were dropped, by this call or by an earlier one that closed the socket.
    pub(in crate::transport_layer) fn close(&mut self, fx: &mut Effects<C>) -> u64 {
        if let Phase::Closed { unsent } = self.phase {
            return unsent;
        }
        let addrs: Vec<_> = self.map.keys().copied().collect();
        let unsent = addrs
            .into_iter()
            .map(|addr| self.remove(addr, DropReason::Closed, fx))
            .sum();
        self.phase = Phase::Closed { unsent };
        fx.wakers.extend(self.drained.all());
        unsent
    }

    /// Counts an incoming connection whose handshake has failed. Returns the count for its reason.
    pub(in crate::transport_layer) fn accept_failed(&mut self, reason: AcceptFailure) -> u64 {
        self.folded.accept_failed += u64::from(reason.is_failure());
        self.folded.accept_failures.add(reason);
        self.folded.accept_failures.count(reason)
    }

    /// Returns a snapshot of the outgoing counters and the connections.
    pub(in crate::transport_layer) fn stats(&self, now: Instant) -> SocketStats {
        let mut stats = SocketStats {
            total: self.folded.total.clone(),
            peers: BTreeMap::new(),
            connections: Vec::new(),
            naming: self.naming,
            ..self.folded
        };
        for (addr, peer) in &self.map {
            let mut counters = peer.queue.stats();
            counters.state = peer.state(now);
            if counters.state == PeerState::BackingOff {
                counters.next_dial = peer.backoff.pending(now).map(|until| until - now);
            }
            *stats.peers.entry(*addr).or_default() = counters;
            stats
                .connections
                .extend(peer.links.iter().map(|link| link.info(*addr, now)));
        }
        stats
    }

    /// Returns the peers with a live connection if they have changed since `seen`, and updates it.
    pub(in crate::transport_layer) fn connected_peers(
        &self,
        seen: &mut u64,
    ) -> Option<Vec<ConnectedPeer>> {
        if *seen == self.connections {
            return None;
        }
        *seen = self.connections;
        let peers = self.map.iter().filter_map(|(addr, peer)| {
            let conn = &peer.active()?.conn;
            let identity = conn.remote_identity();
            Some(ConnectedPeer {
                addr: *addr,
                identity,
                role: conn.grounds().role(&identity),
                invite: conn.claims().cloned(),
                alpn: conn.alpn_negotiated().clone(),
            })
        });
        Some(peers.collect())
    }

    /// Returns the id of the newest connection.
    #[cfg(test)]
    pub(in crate::transport_layer::core) fn newest_link(&self) -> u64 {
        let links = self.map.values().flat_map(|peer| &peer.links);
        links.map(|link| link.id).max().unwrap_or(0)
    }

    /// Returns the id of the entry at `addr`.
    #[cfg(test)]
    pub(in crate::transport_layer::core) fn id_at(&self, addr: SocketAddr) -> Option<u64> {
        self.map.get(&addr).map(|peer| peer.id)
    }

    /// Returns the name of the dial of the entry at `addr`; of no dial if there is none.
    #[cfg(test)]
    pub(in crate::transport_layer::core) fn dial_at(&self, addr: SocketAddr) -> DialKey {
        let peer = self.map.get(&addr);
        let id = peer.map_or(0, |peer| peer.id);
        DialKey {
            peer: PeerKey { addr, id },
            id: peer
                .and_then(|peer| peer.dial.as_ref())
                .map_or(0, |dial| dial.id),
        }
    }

    /// Calls `action` with each connection of a peer, which tests can then change.
    #[cfg(test)]
    pub(in crate::transport_layer::core) fn each_conn(
        &mut self,
        addr: SocketAddr,
        action: impl FnMut(&mut C),
    ) {
        let links = self
            .map
            .get_mut(&addr)
            .into_iter()
            .flat_map(|p| &mut p.links);
        links.map(|link| &mut link.conn).for_each(action);
    }

    /// Returns the number of failed dials in a row of `addr`, and the error of the last one.
    pub(in crate::transport_layer) fn dial_failure(
        &self,
        addr: SocketAddr,
    ) -> Option<(u32, Arc<anyhow::Error>)> {
        let addr = canonical(addr);
        let registered = self.map.get(&self.resolve(addr));
        let peer = registered.or_else(|| {
            // A peer that was reached there is dialled there again.
            self.map.values().find(|peer| peer.is_reached_by(addr))
        })?;
        let failure = peer.failure.as_ref()?;
        Some((peer.backoff.failures(), Arc::clone(&failure.error)))
    }

    /// Returns the number of places of `max_connections` that are in use: connections with a proved identity,
    /// and dials.
    fn in_use(&self) -> usize {
        self.census.of_pool(Pool::Proved) + self.dialling
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Returns the entry that `key` names, unless it is forgotten.
    fn get(&mut self, key: PeerKey) -> Option<&mut Peer<C>> {
        let addr = self.locate(key)?;
        self.map.get_mut(&addr).map(Box::as_mut)
    }

    /// Creates an entry for `addr` if there is none.
    fn ensure(&mut self, addr: SocketAddr, now: Instant, fx: &mut Effects<C>) {
        if self.map.contains_key(&addr) {
            return;
        }
        while self.map.len() >= self.config.max_peers {
            let Some(oldest) = self.first_to_forget() else {
                break;
            };
            self.give_up_dial(oldest, now);
            self.remove(oldest, DropReason::Overflow, fx);
        }
        let id = self.next_id();
        let key = PeerKey { addr, id };
        let signal = Arc::new(Signal::default());
        let queue = OutgoingQueue::new(Arc::clone(&self.queues), self.max_message_len);
        let peer = Peer::new(id, queue, Arc::clone(&signal), now);
        self.map.insert(addr, Box::new(peer));
        self.names.aliases.remove(&addr);
        fx.new_peers.push(NewPeer { key, signal });
    }

    /// Returns the peer to forget for another one: one without a proved identity, or else one of a host that
    /// has more than its share, since a host may have as many identities as it likes. Those that are needed come
    /// last; among them, those of the host that has the most come first, and then those that were used least
    /// recently.
    fn first_to_forget(&self) -> Option<SocketAddr> {
        let idle = || {
            let peers = self.map.iter();
            peers.filter(|(_, peer)| {
                peer.links.is_empty() && peer.dial_in(DialPlace::Ordinary).is_none()
            })
        };
        let is_read = |peer: &Peer<C>| !peer.readers.is_empty();
        let unproved = idle().filter(|(_, peer)| peer.owner == Some(Identity::UNPROVED));
        let unproved =
            unproved.min_by_key(|(_, peer)| (is_read(peer), peer.is_needed(), peer.used));
        if let Some((addr, _)) = unproved {
            return Some(*addr);
        }
        let hosts = Counts::of_hosts(idle().map(|(addr, peer)| peer.host(*addr)));
        let first = idle().min_by_key(|(addr, peer)| {
            let of_host = hosts.count(peer.host(**addr));
            let is_in_share = of_host <= self.config.max_peers / HOST_SHARE;
            let is_needed = peer.is_needed();
            let most = Reverse(if is_needed { of_host } else { 0 });
            (is_read(peer), is_in_share, is_needed, most, peer.used)
        });
        first.map(|(addr, _)| *addr)
    }

    /// Forgets a peer. Drops its queue for `reason`, and adds its counters to the total. Returns
    /// the number of messages that were dropped.
    fn remove(&mut self, addr: SocketAddr, reason: DropReason, fx: &mut Effects<C>) -> u64 {
        let Some(mut peer) = self.map.remove(&addr) else {
            return 0;
        };
        self.connections += 1;
        self.names.forget(addr, &peer);
        let dropped = peer.queue.drop_all(reason);
        self.backlog.settle(&mut peer.queue);
        self.folded.total.merge(&peer.queue.stats());
        fx.wakers.extend(peer.queue.senders.all());
        fx.wakers.extend(peer.observers.all());
        for link in peer.links.drain(..) {
            self.census.remove(link.owner, link.host, link.invite());
            fx.close.push((link.conn, CloseCode::GOING_AWAY));
        }
        if let Some(dial) = &peer.dial {
            dial.given_up.raise();
            self.uncount(dial);
        }
        fx.forgotten.push(addr);
        peer.signal.raise();
        self.relieve(None, fx);
        dropped
    }
}
