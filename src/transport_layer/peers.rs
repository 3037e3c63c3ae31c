//! The peers of a socket: their queues, their connections, and what to do about each next.
//!
//! Plain values behind one lock: nothing here waits, dials or writes, and time is an argument. One
//! lock for all, so that a snapshot is consistent and there is no order of locks to get wrong;
//! each operation under it is short. Invariant: connections and dials together never exceed
//! `max_connections`, peers never exceed `max_peers`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use super::backoff::Backoff;
use super::queue::OutgoingQueue;
use super::{
    ConnectionInfo, Direction, DropReason, PeerMap, PeerState, PeerStats, SocketStats,
    TransportLayerConfig,
};
use crate::net::{self, CloseCode, NetConnection};
use crate::rt::Instant;
use crate::rt::sync::{Signal, WaitList};

/// All peers.
pub(super) struct Peers<C> {
    pub(super) phase: Phase,
    pub(super) config: Arc<TransportLayerConfig>,
    pub(super) max_message_len: usize,
    pub(super) map: PeerMap<Peer<C>>,
    pub(super) next_id: u64,
    /// Live connections and running dials.
    pub(super) in_use: usize,
    /// Counts of peers that are no longer listed, and the four counts of [`SocketStats`].
    pub(super) folded: SocketStats,
    /// Shutdowns that wait for the queues to empty.
    pub(super) drained: WaitList,
}

/// The life of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Shutting down: nothing new is taken, what is queued still goes out.
    Draining,
    Closed {
        /// Messages that were still queued.
        unsent: u64,
    },
}

/// One address.
pub(super) struct Peer<C> {
    /// Tells this entry from an earlier one for the same address.
    pub(super) id: u64,
    pub(super) queue: OutgoingQueue,
    /// The first is the one to write to: changing it while it lives could reorder messages.
    pub(super) links: Vec<Link<C>>,
    pub(super) dial: Option<Dial>,
    pub(super) backoff: Backoff,
    /// Callers that wait for a connection, and want one dialled.
    pub(super) wanted: usize,
    pub(super) observers: WaitList,
    /// The last dial's error; cleared by a connection.
    pub(super) failure: Option<Failure>,
    /// Wakes the peer's task.
    pub(super) signal: Arc<Signal>,
    /// Since when there has been nothing to do.
    used: Instant,
}

/// A dial that is running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dial {
    pub(super) since: Instant,
}

/// Why the last dial failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Later failures have larger ones.
    pub(super) id: u64,
    pub(super) error: Arc<anyhow::Error>,
    /// No retry helps.
    pub(super) permanent: bool,
}

/// A live connection.
pub(super) struct Link<C> {
    pub(super) id: u64,
    pub(super) conn: C,
    pub(super) direction: Direction,
    pub(super) since: Instant,
    /// When the last message went either way.
    pub(super) used: Instant,
    /// When anything was last written.
    pub(super) written: Instant,
    /// Whether a message has come.
    pub(super) heard: bool,
    pub(super) reading: Reading,
    /// A time before which the peer's silence cannot be too long: asking the connection costs a
    /// look at the clock, and the time only moves away from us.
    pub(super) silent_before: Option<Instant>,
}

/// Whether the connection is being read: if it is not, its silence means nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    Since(Instant),
    Paused,
}

/// What a peer's task does next.
pub(super) enum Step<C> {
    /// The peer is forgotten: the task ends.
    Gone,
    /// Nothing, until the signal or this time.
    Wait(Option<Instant>),
    Dial,
    Write(u64, C),
    Keepalive(u64, C),
    Close(u64, CloseCode, &'static str),
}

/// What has to be done once the lock is released.
pub(super) struct Aftermath<C> {
    pub(super) wakers: Vec<Waker>,
    pub(super) hang_up: Vec<(C, CloseCode)>,
    /// Peers whose counters the incoming queue need not keep.
    pub(super) forgotten: Vec<SocketAddr>,
}

impl<C> Default for Aftermath<C> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            hang_up: Vec::new(),
            forgotten: Vec::new(),
        }
    }
}

impl<C: NetConnection> Peers<C> {
    pub(super) fn new(config: Arc<TransportLayerConfig>, max_message_len: usize) -> Self {
        Self {
            phase: Phase::Open,
            config,
            max_message_len,
            map: PeerMap::default(),
            next_id: 0,
            in_use: 0,
            folded: SocketStats::default(),
            drained: WaitList::default(),
        }
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The entry of `addr` if it is still the one that `id` names.
    pub(super) fn get(&mut self, addr: SocketAddr, id: u64) -> Option<&mut Peer<C>> {
        self.map.get_mut(&addr).filter(|peer| peer.id == id)
    }

    /// A new entry for `addr`, which has none; the caller starts its task.
    pub(super) fn insert(
        &mut self,
        addr: SocketAddr,
        now: Instant,
        after: &mut Aftermath<C>,
    ) -> (u64, Arc<Signal>) {
        while self.map.len() >= self.config.max_peers {
            let oldest = self
                .map
                .iter()
                .filter(|(_, peer)| peer.links.is_empty() && peer.dial.is_none())
                .min_by_key(|(_, peer)| (peer.queue.queued() > 0, peer.used))
                .map(|(addr, _)| *addr);
            let Some(oldest) = oldest else { break };
            self.remove(oldest, DropReason::Overflow, after);
        }
        let id = self.next_id();
        let signal = Arc::new(Signal::default());
        let peer = Peer {
            id,
            queue: OutgoingQueue::new(self.config.outgoing.clone(), self.max_message_len),
            links: Vec::new(),
            dial: None,
            backoff: Backoff::default(),
            wanted: 0,
            observers: WaitList::default(),
            failure: None,
            signal: Arc::clone(&signal),
            used: now,
        };
        self.map.insert(addr, peer);
        (id, signal)
    }

    /// Forgets a peer: what is queued is dropped for `reason`, its counters go to the total.
    pub(super) fn remove(
        &mut self,
        addr: SocketAddr,
        reason: DropReason,
        after: &mut Aftermath<C>,
    ) -> u64 {
        let Some(mut peer) = self.map.remove(&addr) else {
            return 0;
        };
        self.in_use -= peer.links.len() + usize::from(peer.dial.is_some());
        let dropped = peer.queue.drop_all(reason);
        self.folded.total.merge(&peer.queue.stats());
        after.wakers.extend(peer.queue.senders.all());
        after.wakers.extend(peer.observers.all());
        let links = peer.links.drain(..);
        after
            .hang_up
            .extend(links.map(|link| (link.conn, CloseCode::GOING_AWAY)));
        after.forgotten.push(addr);
        peer.signal.raise();
        dropped
    }

    /// Makes room for one more connection or dial.
    pub(super) fn make_room(&mut self, now: Instant, after: &mut Aftermath<C>) {
        while self.in_use >= self.config.max_connections {
            let Some((addr, link)) = self.least_recently_used() else {
                return;
            };
            let config = Arc::clone(&self.config);
            let Some(peer) = self.map.get_mut(&addr) else {
                return;
            };
            peer.used = now;
            match link {
                Some(id) => {
                    let Some(index) = peer.links.iter().position(|link| link.id == id) else {
                        return;
                    };
                    let link = peer.links.remove(index);
                    after.hang_up.push((link.conn, CloseCode::EVICTED));
                }
                None => {
                    // The dialling task sees that its dial is gone.
                    peer.dial = None;
                    peer.backoff
                        .fail(now, config.backoff_min, config.backoff_max);
                    self.folded.dials_failed += 1;
                }
            }
            peer.signal.raise();
            self.in_use -= 1;
            tracing::debug!(%addr, "too many connections: the least recently used one goes");
        }
    }

    /// The peer, and its connection; without one it is its dial.
    fn least_recently_used(&self) -> Option<(SocketAddr, Option<u64>)> {
        let candidates = self.map.iter().flat_map(|(addr, peer)| {
            let busy = peer.queue.queued() > 0;
            let links = peer
                .links
                .iter()
                .map(move |link| ((busy, link.used), (*addr, Some(link.id))));
            let dial = peer.dial.map(|dial| ((true, dial.since), (*addr, None)));
            links.chain(dial)
        });
        candidates.min_by_key(|(rank, _)| *rank).map(|(_, who)| who)
    }

    /// Takes a connection off; `None` if it was taken off before.
    pub(super) fn unlink(
        &mut self,
        addr: SocketAddr,
        link: u64,
        now: Instant,
    ) -> Option<(Link<C>, &mut Peer<C>)> {
        let peer = self.map.get_mut(&addr)?;
        let index = peer.links.iter().position(|known| known.id == link)?;
        let link = peer.links.remove(index);
        peer.used = now;
        peer.signal.raise();
        self.in_use -= 1;
        Some((link, peer))
    }

    /// Whether nothing is left to send.
    pub(super) fn is_drained(&self) -> bool {
        self.map.values().all(|peer| peer.queue.queued() == 0)
    }

    /// All of the outgoing counters.
    pub(super) fn stats(&self, now: Instant) -> SocketStats {
        let mut stats = SocketStats {
            total: self.folded.total.clone(),
            // Nobody is listed there.
            peers: BTreeMap::new(),
            connections: Vec::new(),
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
}

impl<C: NetConnection> Peer<C> {
    fn state(&self, now: Instant) -> PeerState {
        if !self.links.is_empty() {
            PeerState::Connected
        } else if self.dial.is_some() {
            PeerState::Dialing
        } else if self.backoff.pending(now).is_some() {
            PeerState::BackingOff
        } else {
            PeerState::Idle
        }
    }

    pub(super) fn link(&mut self, id: u64) -> Option<&mut Link<C>> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// Decides what the peer's task does next. `Gone` has to be carried out by the caller.
    pub(super) fn next_step(
        &mut self,
        addr: SocketAddr,
        now: Instant,
        config: &TransportLayerConfig,
    ) -> Step<C> {
        self.queue.purge(now);
        if let Some((id, code, why)) = self.links.iter_mut().find_map(|link| {
            let (code, why) = link.overdue(now, config, self.queue.queued() > 0)?;
            Some((link.id, code, why))
        }) {
            return Step::Close(id, code, why);
        }
        let mut deadline = None;
        if let Some(link) = self.links.first() {
            if !self.queue.is_empty() {
                return Step::Write(link.id, link.conn.clone());
            }
        } else if !net::is_dialable(addr) {
            self.queue.drop_all(DropReason::Unroutable);
        } else if !self.queue.is_empty() || self.wanted > 0 {
            let Some(until) = self.backoff.pending(now) else {
                return Step::Dial;
            };
            sooner(&mut deadline, Some(until));
            sooner(&mut deadline, self.queue.next_expiry());
        }
        for link in &mut self.links {
            let keepalive = link.written.checked_add(config.keepalive_interval);
            if keepalive.is_some_and(|at| at <= now) {
                self.queue.shrink();
                return Step::Keepalive(link.id, link.conn.clone());
            }
            sooner(&mut deadline, keepalive);
            sooner(&mut deadline, link.used.checked_add(config.idle_timeout));
            sooner(&mut deadline, link.silent_at(now, config));
        }
        let at_rest = self.links.is_empty()
            && self.queue.queued() == 0
            && self.wanted == 0
            && self.queue.senders.is_empty();
        if at_rest {
            let rested = self.used.checked_add(config.peer_linger);
            if rested.is_some_and(|at| at <= now) {
                return Step::Gone;
            }
            sooner(&mut deadline, rested);
        } else {
            self.used = now;
        }
        Step::Wait(deadline)
    }

    /// Notes that something was done for this peer.
    pub(super) fn touch(&mut self, now: Instant) {
        self.used = now;
    }
}

impl<C: NetConnection> Link<C> {
    pub(super) fn info(&self, addr: SocketAddr, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            remote_addr: addr,
            local_addr: self.conn.local_addr(),
            remote_identity: self.conn.remote_identity(),
            direction: self.direction,
            age: now.saturating_duration_since(self.since),
            silence: self.conn.silence(),
        }
    }

    /// Why the connection has to be closed now, if so.
    fn overdue(
        &mut self,
        now: Instant,
        config: &TransportLayerConfig,
        busy: bool,
    ) -> Option<(CloseCode, &'static str)> {
        let idle = now.saturating_duration_since(self.used) >= config.idle_timeout;
        if idle && !busy {
            Some((CloseCode::IDLE, "idle"))
        } else if self.silent_at(now, config).is_some_and(|at| at <= now) {
            Some((CloseCode::GOING_AWAY, "the peer is silent"))
        } else {
            None
        }
    }

    /// When the peer's silence becomes too long, or an earlier time at which to ask again.
    fn silent_at(&mut self, now: Instant, config: &TransportLayerConfig) -> Option<Instant> {
        let Reading::Since(reading) = self.reading else {
            self.silent_before = None;
            return None;
        };
        if self.silent_before.is_none_or(|at| at <= now) {
            let unread = now.saturating_duration_since(reading);
            let silence = self.conn.silence().min(unread);
            self.silent_before = now.checked_add(config.silence_timeout.saturating_sub(silence));
        }
        self.silent_before
    }
}

fn sooner(deadline: &mut Option<Instant>, other: Option<Instant>) {
    *deadline = match (*deadline, other) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// What an outgoing message counts as, that never reached a peer's queue.
pub(super) fn count_refused(total: &mut PeerStats, reason: DropReason) {
    total.submitted += 1;
    total.dropped.add(reason, 1);
}
