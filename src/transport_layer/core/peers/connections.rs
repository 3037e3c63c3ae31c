//! Connections: adding them, ending them, and evicting some when there are too many.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Peers;
use crate::credential::Identity;
use crate::host::{Counts, Host};
use crate::net::{CloseCode, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::conflict::{Conflict, Kind};
use crate::transport_layer::core::link::{Link, LinkEnd, LinkRole, Reading};
use crate::transport_layer::core::peer::{ActiveReader, DialPlace, Failure, Peer};
use crate::transport_layer::core::pool::Pool;
use crate::transport_layer::core::step::{Effects, EndedLink, LinkLife, NewReader, PeerKey};
use crate::transport_layer::error::{DuplicateIdentity, Refused};
use crate::transport_layer::stats::Direction;

/// The loss of a dialled connection counts as a failed dial if the connection lived for less than
/// this and no message was received on it.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What needs a place, and so what may be ended for it. Nothing is known of the peer that is dialled, so
/// a dial takes little from peers that are connected. A dial counts against the host of its peer, which may
/// have stated as many addresses as it likes; that of another host which has more dials gives way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A connection, for which anything may be ended.
    Connection,
    /// A dial of an address that has not failed: dials that are worth less, or a connection whose peer has
    /// no messages queued, unless another dial counts against this host.
    FirstDial(Host),
    /// A dial of an address that has failed: the dial of a peer that is connected.
    Redial(Host),
}

/// The rank of a leaf's connection: less than that of dials which are of no use, more than any number of connections.
const LEAF: usize = usize::MAX - 3;

/// What occupies one of the `max_connections` places: a connection with this id, or a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupant {
    Link(u64),
    Dial,
}

impl<C: NetConnection> Peers<C> {
    /// Probes every connection, and ends every wait before a dial: this side has slept, so connections
    /// may be gone without a sign, and what made dials fail may be over.
    pub(in crate::transport_layer) fn woken(&mut self, now: Instant) {
        for peer in self.map.values_mut() {
            peer.backoff.reset();
            peer.links.iter_mut().for_each(Link::raise_doubt);
            peer.wake_task(now);
        }
    }

    /// Probes the connections of a peer that seems to be gone, if nothing was heard on them for `silence`. A
    /// peer without a proved identity answers no probe, so its silence of some length says nothing.
    pub(in crate::transport_layer) fn suspected(
        &mut self,
        addr: SocketAddr,
        silence: Duration,
        now: Instant,
    ) {
        let addr = self.resolve(addr);
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let silent = |link: &&mut Link<C>| {
            let conn = &link.conn;
            let answers_probes = conn.remote_identity() != Identity::UNPROVED;
            let unheard = now.saturating_duration_since(conn.last_heard());
            silence.is_zero() || (answers_probes && unheard >= silence)
        };
        let mut silent = peer.links.iter_mut().filter(silent).peekable();
        if silent.peek().is_some() {
            silent.for_each(Link::raise_doubt);
            peer.wake_task(now);
        }
    }

    /// Takes a live connection into the service of the peer at `addr`, evicting others if there are too
    /// many.
    pub(super) fn enter(
        &mut self,
        addr: SocketAddr,
        conn: C,
        direction: Direction,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        if conn.remote_identity() != Identity::UNPROVED && self.is_contested(addr) {
            let code = self.refusal(direction);
            fx.close.push((conn, code));
            return;
        }
        let id = self.next_id();
        let mut link = Link::new(id, conn, direction, now);
        if !self.has_room_beside(addr, &link, now, fx) {
            let code = self.refusal(direction);
            fx.close.push((link.conn, code));
            return;
        }
        if !self.has_room_for_leaf(addr, &link, now, fx) || !self.make_room_for(&link, now, fx) {
            self.folded.leaves_refused += 1;
            // The place that is missing may be that of a connection which this leaf has lost.
            self.suspected(addr, Duration::ZERO, now);
            fx.close.push((link.conn, CloseCode::QUOTA));
            return;
        }
        self.ensure(addr, now, fx);
        self.admit(addr, &mut link, now, fx);
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let identity = link.conn.remote_identity();
        peer.owner = Some(identity);
        let key = identity.address();
        if identity != Identity::UNPROVED {
            self.names.identities.insert(key, addr);
        }
        peer.host = Some(link.host);
        self.census.add(link.owner, link.host, link.invite());
        self.connections += 1;
        // A network gives an address to one connection at a time, so of two connections without
        // authentication that came from one address, the peer has lost the older.
        let supersedes = identity == Identity::UNPROVED
            && direction == Direction::Incoming
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
        self.start_readers(addr, fx);
        if identity != Identity::UNPROVED && key != addr {
            // An entry without an owner, which would hide this one.
            self.merge(key, addr, fx);
        }
    }

    /// Starts to read the connections of a peer that are not read yet and need not wait. They begin
    /// when the readers of connections that are out of service have ended, so that messages are
    /// received in the order in which they were sent.
    pub(super) fn start_readers(&mut self, addr: SocketAddr, fx: &mut Effects<C>) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let mut readers = peer.readers.iter();
        if !readers.all(|reader| peer.is_in_service(reader.link)) {
            return;
        }
        for link in &peer.links {
            if !peer.has_to_wait(link) && !peer.is_read(link.id) {
                peer.readers.push(ActiveReader {
                    link: link.id,
                    waker: None,
                });
                fx.readers.push(NewReader {
                    key: PeerKey { addr, id: peer.id },
                    link: link.id,
                    conn: link.conn.clone(),
                    direction: link.direction,
                });
            }
        }
    }

    /// Records that the reader of a connection has ended.
    pub(in crate::transport_layer) fn reader_ended(
        &mut self,
        key: PeerKey,
        link: u64,
        fx: &mut Effects<C>,
    ) {
        if let Some(addr) = self.locate(key) {
            if let Some(peer) = self.map.get_mut(&addr) {
                peer.readers.retain(|reader| reader.link != link);
                // It may be forgotten now.
                peer.signal.raise();
            }
            self.start_readers(addr, fx);
        }
    }

    /// Takes a connection out of service. Returns `None` if it was out of service already.
    pub(in crate::transport_layer) fn disconnected(
        &mut self,
        key: PeerKey,
        link: u64,
        end: &LinkEnd,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<LinkLife> {
        let addr = self.locate(key)?;
        self.disconnected_at(addr, link, end, now, fx)
    }

    pub(super) fn disconnected_at(
        &mut self,
        addr: SocketAddr,
        link: u64,
        end: &LinkEnd,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<LinkLife> {
        let (min, max) = (self.config.backoff_min, self.config.backoff_max);
        let link = self.take_link(addr, link, now, fx)?;
        let age = now.saturating_duration_since(link.since);
        let refused = match end {
            LinkEnd::Remote(CloseCode::DUPLICATE) => Some(DuplicateIdentity { addr }.into()),
            LinkEnd::Remote(code) => Refused::from_code(addr, *code).map(Into::into),
            _ => None,
        };
        let is_refused_renewal = link.role == LinkRole::Standby;
        let failure = refused.map(|error| Failure {
            id: self.next_id(),
            error: Arc::new(error),
            permanent: false,
        });
        if let Some(peer) = self.map.get_mut(&addr) {
            let dialled = link.direction == Direction::Outgoing;
            let alone = peer.links.is_empty();
            if is_refused_renewal {
                peer.renewal.get_or_insert_default().fail(now, min, max);
            }
            if dialled && alone && failure.is_some() {
                peer.failure = failure.map(Box::new);
                peer.backoff.refuse(now, min, max);
                fx.wakers.extend(peer.observers.all());
            } else if link.heard || age >= STABLE_AFTER {
                peer.backoff.reset();
            } else if dialled && alone && end.is_failure() {
                // Without this, a peer that accepts and hangs up, or whose network takes nothing, would
                // be dialled in a tight loop.
                peer.backoff.fail(now, min, max);
            }
        }
        // If only one direction has failed, the other would go on reading.
        let code = match end {
            LinkEnd::Local(code) => *code,
            LinkEnd::Remote(_) | LinkEnd::Lost => CloseCode::NORMAL,
        };
        let identity = link.conn.remote_identity();
        fx.close.push((link.conn, code));
        Some(LinkLife { identity, age })
    }

    fn take_link(
        &mut self,
        addr: SocketAddr,
        link: u64,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<Link<C>> {
        let peer = self.map.get_mut(&addr)?;
        let index = peer.links.iter().position(|known| known.id == link)?;
        let link = peer.links.remove(index);
        if peer.note_out_of_service(link.id) {
            self.revision += 1;
        }
        peer.used = now;
        peer.connected_until = now;
        peer.signal.raise();
        if peer.links.is_empty() {
            peer.claim = None;
            let aliases = std::mem::take(&mut peer.aliases);
            self.names.forget_aliases(addr, &aliases);
        }
        self.census.remove(link.owner, link.host, link.invite());
        self.connections += 1;
        self.link_lost(addr, &link, now, fx);
        Some(link)
    }

    /// Returns whether there is room for `link` beside the active connection of the peer at `addr`, if it has
    /// one, after evicting those that this peer does not need. If there is none, the active one is probed:
    /// it must not be given up for the new one before it is known to be dead, since messages that were
    /// written to it could arrive after later ones.
    fn has_room_beside(
        &mut self,
        addr: SocketAddr,
        link: &Link<C>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> bool {
        let pool = link.owner.pool();
        if pool == Pool::Unproved {
            return true;
        }
        loop {
            let config = &self.config;
            let is_full = self.in_use() >= config.max_connections
                || self.census.of_owner(link.owner) >= config.max_connections_per_identity
                || self.census.of_host(pool, link.host) >= config.max_connections_per_host;
            let Some(peer) = self.map.get_mut(&addr) else {
                return true;
            };
            let Some(active) = peer.active().filter(|_| is_full).map(|link| link.id) else {
                return true;
            };
            let Some(spare) = peer.spare_link() else {
                peer.conflict = Some(Box::new(Conflict::new(Kind::Duplicate, active, 0)));
                peer.wake_task(now);
                return false;
            };
            self.evict_link(addr, spare, "the peer has connected again", now, fx);
        }
    }

    /// Makes room for `link`: by the limit of its identity first, then by that of its host, then by
    /// that of the socket for connections with, or without, a proved identity. Returns false if `link` is that of a
    /// leaf, whose host has as many connections as it may, all of members.
    fn make_room_for(&mut self, link: &Link<C>, now: Instant, fx: &mut Effects<C>) -> bool {
        let (owner, host) = (link.owner, link.host);
        let pool = owner.pool();
        while self.census.of_owner(owner) >= self.config.max_connections_per_identity {
            let own = self.least_recently_used(&|link| link.owner == owner);
            let Some((addr, Occupant::Link(id))) = own else {
                break;
            };
            self.evict_link(addr, id, "its identity has too many connections", now, fx);
        }
        while self.census.of_host(pool, host) >= self.config.max_connections_per_host {
            let is_leaf = link.invite().is_some();
            let is_own = |own: &Link<C>| {
                own.host == host && own.owner.pool() == pool && (!is_leaf || own.invite().is_some())
            };
            let own = self.least_recently_used(&is_own);
            let Some((addr, Occupant::Link(id))) = own else {
                return !is_leaf;
            };
            self.evict_link(addr, id, "its host has too many connections", now, fx);
        }
        self.make_room(pool, Need::Connection, now, fx);
        true
    }

    /// Makes room for one more connection of `pool`, or dial, within its limit. Returns whether there is
    /// room now.
    pub(super) fn make_room(
        &mut self,
        pool: Pool,
        need: Need,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> bool {
        let is_full = |peers: &Self| match pool {
            Pool::Proved => peers.in_use() >= peers.config.max_connections,
            Pool::Unproved => {
                peers.census.of_pool(pool) >= peers.config.max_unauthenticated_connections
            }
        };
        while is_full(self) {
            match self.first_to_evict(pool, need) {
                None => return false,
                Some((addr, Occupant::Link(id))) => {
                    self.evict_link(addr, id, "there are too many connections", now, fx);
                }
                Some((addr, Occupant::Dial)) => self.give_up_dial(addr, now),
            }
        }
        true
    }

    pub(super) fn evict_link(
        &mut self,
        addr: SocketAddr,
        link: u64,
        why: &'static str,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        // Of two connections, the peer may not have received yet what was written to the other one.
        let spare = self.map.get(&addr).and_then(|peer| peer.spare_link());
        let Some(link) = self.take_link(addr, spare.unwrap_or(link), now, fx) else {
            return;
        };
        let age = now.saturating_duration_since(link.since);
        let identity = link.conn.remote_identity();
        let life = LinkLife { identity, age };
        fx.close.push((link.conn, CloseCode::EVICTED));
        fx.ended.push(EndedLink { addr, why, life });
    }

    /// Abandons the dial of the peer at `addr`, if there is one.
    pub(super) fn give_up_dial(&mut self, addr: SocketAddr, now: Instant) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let Some(dial) = peer.dial.take() else {
            return;
        };
        peer.used = now;
        dial.given_up.raise();
        let (min, max) = (self.config.backoff_min, self.config.backoff_max);
        if peer.active().is_none() {
            peer.backoff.fail(now, min, max);
        } else if dial.renews {
            peer.renewal.get_or_insert_default().fail(now, min, max);
        }
        peer.signal.raise();
        self.folded.dials_failed += 1;
        self.uncount(&dial);
    }

    /// Returns the least recently used of the connections that `filter` accepts. Those of leaves come first, then those
    /// that wait or drain, and those whose peer has messages queued last. Without a proved identity, those that this
    /// side has dialled come after those that have come by themselves: someone may forge these.
    fn least_recently_used(
        &self,
        filter: &dyn Fn(&Link<C>) -> bool,
    ) -> Option<(SocketAddr, Occupant)> {
        let links = self.map.iter().flat_map(|(addr, peer)| {
            let busy = peer.queue.queued() > 0;
            let own = peer.links.iter().filter(|link| filter(link));
            own.map(move |link| {
                let active = link.role == LinkRole::Active;
                let is_member = link.invite().is_none();
                let is_unproved = link.owner.pool() == Pool::Unproved;
                let is_chosen = is_unproved && link.direction == Direction::Outgoing;
                let rank = (is_member, active, is_chosen, busy, link.used);
                (rank, (*addr, Occupant::Link(link.id)))
            })
        });
        links.min_by_key(|(rank, _)| *rank).map(|(_, found)| found)
    }

    /// Returns the connection or dial to evict for `need` when there are too many in `pool`: the dial of a
    /// connected peer, for a dial one of a host that has more, for a first dial one that repeats a failed dial,
    /// or else the least recently used connection of a leaf, or of the identity that has the most, and then of the host
    /// that has the most, so that those which exceed the limit pay for it. Those whose peer has messages queued come
    /// last. Without a proved identity, peers that this side has dialled come after those that have come by
    /// themselves, which may be as many as someone forges addresses.
    fn first_to_evict(&self, pool: Pool, need: Need) -> Option<(SocketAddr, Occupant)> {
        let is_dialled = |peer: &Peer<C>| peer.dial_in(DialPlace::Ordinary).is_some();
        let dialling = self.map.iter().filter(|(_, peer)| is_dialled(peer));
        let dialling = dialling.take(self.dialling);
        let dials = Counts::of_hosts(dialling.map(|(addr, peer)| peer.host(*addr)));
        let own = match need {
            Need::Connection => None,
            Need::FirstDial(host) | Need::Redial(host) => Some(host),
        };
        let of_own = own.map_or(0, |host| dials.count(host));
        let candidates = self.map.iter().flat_map(|(addr, peer)| {
            let busy = peer.queue.queued() > 0;
            let links = peer.links.iter();
            let links = links.filter(move |link| {
                let may_end = match need {
                    Need::Connection => true,
                    Need::FirstDial(_) => !busy && of_own == 0,
                    Need::Redial(_) => false,
                };
                link.owner.pool() == pool && may_end
            });
            let links = links.map(move |link| {
                let most = match link.invite() {
                    Some(_) => LEAF,
                    None => self.census.of_owner(link.owner),
                };
                let of_host = self.census.of_host(pool, link.host);
                let is_chosen = pool == Pool::Unproved && link.direction == Direction::Outgoing;
                let rank = (Reverse((most, of_host)), is_chosen, busy, link.used);
                (rank, (*addr, Occupant::Link(link.id)))
            });
            let dial = peer.dial_in(DialPlace::Ordinary);
            let dial = dial.filter(|_| pool == Pool::Proved);
            let dial = dial.and_then(|dial| {
                let host = peer.host(*addr);
                let of_host = dials.count(host);
                let is_near = of_own == 0 || own == Some(host);
                let most = match need {
                    _ if peer.active().is_some() => usize::MAX,
                    // It may be the peer that is being dialled, which has accepted the dial already.
                    Need::Connection => 1,
                    _ if of_host > of_own + 1 => usize::MAX - 1,
                    Need::FirstDial(_) if peer.backoff.failures() > 0 && is_near => usize::MAX - 2,
                    Need::FirstDial(_) | Need::Redial(_) => return None,
                };
                let of_host = self.census.of_host(pool, host) + of_host;
                let rank = (Reverse((most, of_host)), false, true, dial.since);
                Some((rank, (*addr, Occupant::Dial)))
            });
            links.chain(dial)
        });
        let first = candidates.min_by_key(|(rank, _)| *rank);
        first.map(|(_, found)| found)
    }

    /// Records that messages have arrived on a connection.
    pub(in crate::transport_layer) fn heard(&mut self, key: PeerKey, link: u64, now: Instant) {
        if let Some(peer) = self.get(key)
            && let Some(link) = peer.link(link)
        {
            link.used = now;
            if !link.heard {
                link.heard = true;
                if !peer.backoff.is_refused() {
                    peer.backoff.reset();
                }
            }
        }
    }

    /// Records whether a connection is being read.
    pub(in crate::transport_layer) fn reading(
        &mut self,
        key: PeerKey,
        link: u64,
        reading: Reading,
    ) {
        if let Some(peer) = self.get(key) {
            if let Some(link) = peer.link(link) {
                link.set_reading(reading);
            }
            peer.signal.raise();
        }
    }
}
