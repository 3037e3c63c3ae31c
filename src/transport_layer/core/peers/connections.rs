//! Connections: adding them, ending them, and evicting some when there are too many.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Peers, Phase};
use crate::net::{CloseCode, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::link::{Link, Reading};
use crate::transport_layer::core::step::{Effects, EndedLink};
use crate::transport_layer::stats::Direction;

/// The loss of a dialled connection counts as a failed dial if the connection lived for less than
/// this and no message was received on it.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// A use of one of the `max_connections` places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Link(u64),
    Dial,
}

impl<C: NetConnection> Peers<C> {
    /// Takes a live connection into service, evicting others if there are too many. Returns its id,
    /// or `None` if the socket is closing and does not need it.
    pub(in crate::transport_layer) fn connected(
        &mut self,
        addr: SocketAddr,
        conn: C,
        direction: Direction,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<u64> {
        let wanted = match self.phase {
            Phase::Open => true,
            Phase::Draining => direction == Direction::Outgoing,
            Phase::Closed { .. } => false,
        };
        if !wanted {
            return None;
        }
        let id = self.next_id();
        let link = Link::new(id, conn, addr, direction, now);
        self.make_room_for(&link, now, fx);
        self.ensure(addr, now, fx);
        let peer = self.map.get_mut(&addr)?;
        self.census.add(link.owner, link.host);
        self.in_use += 1;
        self.connections += 1;
        // A network gives an address to one connection at a time, so of two connections that were
        // accepted from one address, the peer has lost the older.
        let supersedes = direction == Direction::Incoming
            && peer
                .links
                .iter()
                .any(|link| link.direction == Direction::Incoming);
        let place = if supersedes { 0 } else { peer.links.len() };
        peer.links.insert(place, link);
        peer.failure = None;
        peer.used = now;
        peer.signal.raise();
        fx.wakers.extend(peer.observers.all());
        if direction == Direction::Incoming {
            self.folded.accepted += 1;
        }
        Some(id)
    }

    /// Takes a connection out of service. `code` is the reason if this side closes it; `None` means
    /// that the connection has failed or was closed by the peer. Returns its age, or `None` if it
    /// was out of service already.
    pub(in crate::transport_layer) fn disconnected(
        &mut self,
        addr: SocketAddr,
        link: u64,
        code: Option<CloseCode>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<Duration> {
        let (min, max) = (self.config.backoff_min, self.config.backoff_max);
        let link = self.take_link(addr, link, now)?;
        let age = now.saturating_duration_since(link.since);
        if let Some(peer) = self.map.get_mut(&addr) {
            let dialled = link.direction == Direction::Outgoing;
            if link.heard || age >= STABLE_AFTER {
                peer.backoff.reset();
            } else if dialled && matches!(code, None | Some(CloseCode::PROTOCOL)) {
                // Without this, a peer that accepts and hangs up, or whose network takes nothing, would
                // be dialled in a tight loop.
                peer.backoff.fail(now, min, max);
            }
        }
        // If only one direction has failed, the other would go on reading.
        fx.close
            .push((link.conn, code.unwrap_or(CloseCode::NORMAL)));
        Some(age)
    }

    fn take_link(&mut self, addr: SocketAddr, link: u64, now: Instant) -> Option<Link<C>> {
        let peer = self.map.get_mut(&addr)?;
        let index = peer.links.iter().position(|known| known.id == link)?;
        let link = peer.links.remove(index);
        peer.used = now;
        peer.signal.raise();
        self.census.remove(link.owner, link.host);
        self.in_use -= 1;
        self.connections += 1;
        Some(link)
    }

    /// Makes room for `link`: by the limit of its identity first, then by that of its host, then by
    /// that of the socket.
    fn make_room_for(&mut self, link: &Link<C>, now: Instant, fx: &mut Effects<C>) {
        let (owner, host) = (link.owner, link.host);
        while self.census.of_owner(owner) >= self.config.max_connections_per_identity {
            let own = self.least_recently_used(&|link| link.owner == owner);
            let Some((addr, Place::Link(id))) = own else {
                break;
            };
            self.evict_link(addr, id, "its identity has too many connections", now, fx);
        }
        while self.census.of_host(host) >= self.config.max_connections_per_host {
            let own = self.least_recently_used(&|link| link.host == host);
            let Some((addr, Place::Link(id))) = own else {
                break;
            };
            self.evict_link(addr, id, "its host has too many connections", now, fx);
        }
        self.make_room(now, fx);
    }

    /// Makes room for one more connection or dial within `max_connections`.
    pub(super) fn make_room(&mut self, now: Instant, fx: &mut Effects<C>) {
        while self.in_use >= self.config.max_connections {
            match self.first_to_evict() {
                None => return,
                Some((addr, Place::Link(id))) => {
                    self.evict_link(addr, id, "there are too many connections", now, fx);
                }
                Some((addr, Place::Dial)) => self.give_up_dial(addr, now),
            }
        }
    }

    fn evict_link(
        &mut self,
        addr: SocketAddr,
        link: u64,
        why: &'static str,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let Some(link) = self.take_link(addr, link, now) else {
            return;
        };
        let age = now.saturating_duration_since(link.since);
        fx.close.push((link.conn, CloseCode::EVICTED));
        fx.ended.push(EndedLink { addr, why, age });
    }

    /// Abandons a dial. The task that dials notices it at its next check.
    fn give_up_dial(&mut self, addr: SocketAddr, now: Instant) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        peer.used = now;
        peer.dial = None;
        peer.backoff
            .fail(now, self.config.backoff_min, self.config.backoff_max);
        peer.signal.raise();
        self.folded.dials_failed += 1;
        self.in_use -= 1;
    }

    /// Returns the least recently used of the connections that `filter` accepts. Those whose peer has
    /// messages queued come last.
    fn least_recently_used(
        &self,
        filter: &dyn Fn(&Link<C>) -> bool,
    ) -> Option<(SocketAddr, Place)> {
        let links = self.map.iter().flat_map(|(addr, peer)| {
            let busy = peer.queue.queued() > 0;
            let own = peer.links.iter().filter(|link| filter(link));
            own.map(move |link| ((busy, link.used), (*addr, Place::Link(link.id))))
        });
        links.min_by_key(|(rank, _)| *rank).map(|(_, found)| found)
    }

    /// Returns the connection or dial to evict when there are too many in all: the least recently
    /// used one of the identity that has the most, so that an identity which exceeds the limit pays
    /// for it. Those whose peer has messages queued come last.
    fn first_to_evict(&self) -> Option<(SocketAddr, Place)> {
        let candidates = self.map.iter().flat_map(|(addr, peer)| {
            let busy = peer.queue.queued() > 0;
            let links = peer.links.iter().map(move |link| {
                let most = Reverse(self.census.of_owner(link.owner));
                ((most, busy, link.used), (*addr, Place::Link(link.id)))
            });
            let dial = peer
                .dial
                .map(|dial| ((Reverse(1), true, dial.since), (*addr, Place::Dial)));
            links.chain(dial)
        });
        let first = candidates.min_by_key(|(rank, _)| *rank);
        first.map(|(_, found)| found)
    }

    /// Records that messages have arrived on a connection.
    pub(in crate::transport_layer) fn heard(&mut self, addr: SocketAddr, link: u64, now: Instant) {
        if let Some(peer) = self.map.get_mut(&addr)
            && let Some(link) = peer.link(link)
        {
            link.used = now;
            if !link.heard {
                link.heard = true;
                peer.backoff.reset();
            }
        }
    }

    /// Records whether a connection is being read.
    pub(in crate::transport_layer) fn reading(
        &mut self,
        addr: SocketAddr,
        link: u64,
        reading: Reading,
    ) {
        if let Some(peer) = self.map.get_mut(&addr) {
            if let Some(link) = peer.link(link) {
                link.set_reading(reading);
            }
            peer.signal.raise();
        }
    }
}
