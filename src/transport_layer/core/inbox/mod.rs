//! The messages of all peers that `recv` has not returned yet.
//!
//! It knows addresses and messages, and no connection. Invariants: received = delivered + queued +
//! dropped, for each peer and in all; no bound is exceeded; the messages of one peer are returned in
//! the order in which they came, and peers take turns; a message is evicted only from the peer that
//! has the most; one of a proved identity neither while there are others, nor for one without.

mod arrival;
mod in_hand;
mod ranking;
mod room;
mod round_robin;
mod share;
mod take;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::task::Waker;

use self::ranking::Ranking;
use self::room::{Bound, Load, Sizes, held, missing_room, most_of_one};
use self::round_robin::RoundRobin;
use self::share::{Counters, KEPT_ROOM, Share};
use crate::credential::Identity;
use crate::rt::Instant;
use crate::rt::sync::{Ticket, WaitList};
use crate::transport_layer::PeerMap;
use crate::transport_layer::config::{IncomingConfig, OverflowPolicy};
use crate::transport_layer::core::pool::Pool;
use crate::transport_layer::stats::{DropReason, PeerStats};

pub(in crate::transport_layer) use arrival::Origin;
pub(in crate::transport_layer) use in_hand::InHand;

/// Emptied queues that are kept for the next peer that needs one.
const SPARE_QUEUES: usize = 4;

/// The bounded, fair queue of received messages.
#[derive(Debug)]
pub(in crate::transport_layer) struct Inbox<M> {
    config: IncomingConfig,
    /// Returns the memory that a message takes, beyond its length or not.
    memory: fn(&M) -> usize,
    closed: bool,
    /// Boxed, since a table has more places than entries.
    peers: PeerMap<Box<Share<M>>>,
    /// The peers that have messages. A peer stays listed until its turn even if its messages have been
    /// dropped.
    turns: RoundRobin,
    /// The peers by size, to find the one that loses a message when the inbox is full.
    ranking: Ranking,
    load: Load,
    /// The peers whose messages a receiver has in hand.
    in_hand: Vec<SocketAddr>,
    /// Emptied queues, kept so that the memory of a burst does not stay with one peer.
    spare: Vec<VecDeque<(M, usize)>>,
    /// The counts of peers that are no longer listed.
    folded: PeerStats,
    pub(in crate::transport_layer) receivers: WaitList,
    /// Readers of proved peers that wait because the inbox as a whole is full.
    readers: WaitList,
    /// Readers of unproved peers that wait because their part of the inbox is full. In a line of their
    /// own, since the others may have room when they have none.
    unproved_readers: WaitList,
}

/// The place of a reader that waits for room.
#[derive(Debug, Default)]
pub(in crate::transport_layer) struct ReaderPlace {
    bound: Option<Bound>,
    pool: Pool,
    ticket: Ticket,
}

/// When a message arrived, and from which peer.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport_layer) struct Source {
    pub(in crate::transport_layer) from: SocketAddr,
    pub(in crate::transport_layer) origin: Origin,
    pub(in crate::transport_layer) at: Instant,
}

impl ReaderPlace {
    pub(in crate::transport_layer) fn is_taken(&self) -> bool {
        self.bound.is_some()
    }
}

impl<M> Inbox<M> {
    /// Creates an empty inbox. A message counts with its length, or with the `memory` that it takes if
    /// that is more.
    pub(in crate::transport_layer) fn new(config: IncomingConfig, memory: fn(&M) -> usize) -> Self {
        Self {
            config,
            memory,
            closed: false,
            peers: PeerMap::default(),
            turns: RoundRobin::default(),
            ranking: Ranking::default(),
            load: Load::default(),
            in_hand: Vec::new(),
            spare: Vec::new(),
            folded: PeerStats::default(),
            receivers: WaitList::default(),
            readers: WaitList::default(),
            unproved_readers: WaitList::default(),
        }
    }

    /// Adds `messages`, each with its length in bytes, according to the overflow policy. Under
    /// `Backpressure` the messages for which there is no room stay in `messages`.
    pub(in crate::transport_layer) fn push_many(
        &mut self,
        source: Source,
        messages: &mut VecDeque<(M, usize)>,
    ) {
        if self.push_all(source, messages) {
            return;
        }
        while let Some((message, len)) = messages.pop_front() {
            if let Err((message, _)) = self.push(source, message, len, &ReaderPlace::default()) {
                messages.push_front((message, len));
                break;
            }
        }
    }

    /// Adds one message. If there is no room, returns it and keeps `waker` in line at `place`.
    pub(in crate::transport_layer) fn push_or_wait(
        &mut self,
        source: Source,
        (message, len): (M, usize),
        place: &mut ReaderPlace,
        waker: &Waker,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), M> {
        match self.push(source, message, len, place) {
            Ok(()) => {
                self.leave(source.from, place, wakers);
                wakers.extend(self.receivers.first());
                Ok(())
            }
            Err((message, bound)) => {
                let moves = |held: Bound| (held == Bound::Peer) != (bound == Bound::Peer);
                if place.bound.is_some_and(moves) {
                    self.leave(source.from, place, wakers);
                }
                place.bound = Some(bound);
                place.pool = source.origin.pool();
                let readers = match bound {
                    Bound::Peer => &mut self.peers.entry(source.from).or_default().readers,
                    Bound::Messages | Bound::Bytes => self.line_mut(place.pool),
                };
                readers.join(&mut place.ticket, waker);
                Err(message)
            }
        }
    }

    /// Gives up the place of a reader, and passes its turn on if it was the first in line.
    pub(in crate::transport_layer) fn leave(
        &mut self,
        from: SocketAddr,
        place: &mut ReaderPlace,
        wakers: &mut Vec<Waker>,
    ) {
        let readers = match place.bound.take() {
            None => return,
            Some(Bound::Peer) => match self.peers.get_mut(&from) {
                Some(peer) => &mut peer.readers,
                None => return,
            },
            Some(Bound::Messages | Bound::Bytes) => self.line_mut(place.pool),
        };
        if readers.leave(&mut place.ticket) {
            wakers.extend(readers.first());
        }
        self.fold_if_done(from);
    }

    /// Counts `len` bytes from `from` that did not decode to a message. Returns the count of this
    /// peer.
    pub(in crate::transport_layer) fn count_undecodable(
        &mut self,
        from: SocketAddr,
        len: usize,
    ) -> u64 {
        let counters = self.refuse(from, len, DropReason::DecodeFailed);
        let count = counters.incoming_dropped.count(DropReason::DecodeFailed);
        self.fold_if_done(from);
        count
    }

    /// Counts messages, by their lengths in bytes, that found no room and are dropped.
    pub(in crate::transport_layer) fn count_dropped(
        &mut self,
        from: SocketAddr,
        lens: impl Iterator<Item = usize>,
    ) {
        for len in lens {
            self.refuse(from, len, DropReason::Overflow);
        }
        self.fold_if_done(from);
    }

    /// Keeps the counters of `peer` until [`forget`](Self::forget).
    pub(in crate::transport_layer) fn remember(&mut self, peer: SocketAddr) {
        self.peers.entry(peer).or_default().known = true;
    }

    /// Returns whether messages of `peer` are queued that `identity` has sent.
    pub(in crate::transport_layer) fn has_messages_of(
        &self,
        peer: SocketAddr,
        identity: Identity,
    ) -> bool {
        let share = self.peers.get(&peer);
        share.is_some_and(|share| share.has_messages_of(identity))
    }

    /// Adds the counters of `peer` to the total once its messages have been taken.
    pub(in crate::transport_layer) fn forget(&mut self, peer: SocketAddr) {
        if let Some(share) = self.peers.get_mut(&peer) {
            share.known = false;
        }
        self.fold_if_done(peer);
    }

    /// Ends receiving once the queued messages have been taken, and wakes receivers that wait.
    pub(in crate::transport_layer) fn close(&mut self, wakers: &mut Vec<Waker>) {
        self.closed = true;
        wakers.extend(self.receivers.all());
    }

    /// Returns whether no peer is in line for a turn, so no message is queued.
    pub(in crate::transport_layer) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(in crate::transport_layer) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Adds the counters to `peers`, and those of peers that are no longer listed to `total`.
    /// `in_hand` are the messages that a receiver has taken and not returned yet.
    pub(in crate::transport_layer) fn stats(
        &self,
        in_hand: &InHand<M>,
        total: &mut PeerStats,
        peers: &mut BTreeMap<SocketAddr, PeerStats>,
    ) {
        total.merge(&self.folded);
        for (addr, share) in &self.peers {
            let mut counters = share.counters.stats();
            counters.incoming_queued = share.messages.len() as u64;
            if share.in_hand > 0 {
                let left = in_hand.count_from(*addr);
                counters.incoming_queued += left as u64;
                counters.delivered += share.in_hand.saturating_sub(left) as u64;
            }
            peers.entry(*addr).or_default().merge(&counters);
        }
    }

    /// Adds one message according to the overflow policy. `place` is that of a reader that has
    /// waited.
    fn push(
        &mut self,
        source: Source,
        message: M,
        len: usize,
        place: &ReaderPlace,
    ) -> Result<(), (M, Bound)> {
        let (from, pool) = (source.from, source.origin.pool());
        let most = most_of_one(&self.config, pool);
        if len > most {
            self.refuse(from, len, DropReason::TooLarge);
            self.fold_if_done(from);
            return Ok(());
        }
        let new = Sizes {
            messages: 1,
            bytes: held((self.memory)(&message), len, most),
        };
        let share = self.peers.get(&from);
        let is_closed = share.is_some_and(|share| share.is_closed_to(pool));
        let missing = if is_closed {
            Some(Bound::Peer)
        } else {
            self.missing_room(from, pool, new)
        };
        match (self.config.overflow, missing) {
            (OverflowPolicy::Backpressure, Some(bound)) => return Err((message, bound)),
            (OverflowPolicy::Backpressure, None) => {
                if let Some(bound) = self.others_first(from, pool, place) {
                    return Err((message, bound));
                }
            }
            (OverflowPolicy::DropOldest, _) if !is_closed => {}
            (_, None) => {}
            (OverflowPolicy::DropNewest | OverflowPolicy::DropOldest, Some(_)) => {
                self.refuse(from, len, DropReason::Overflow);
                self.fold_if_done(from);
                return Ok(());
            }
        }
        self.claim(from, pool);
        let share = self.peers.entry(from).or_default();
        share.arrived(source.origin, source.at, 1, len);
        share.bytes += new.bytes;
        share.messages.push_back((message, new.bytes));
        self.appended(from, new);
        // The new message is counted, so that the peer with the most loses one; that may be its
        // sender.
        while let Some(bound) = self.missing_room(from, pool, Sizes::default()) {
            let victim = match bound {
                Bound::Peer => Some(from),
                Bound::Messages | Bound::Bytes => self.largest(bound, from, pool),
            };
            let evicted = victim.is_some_and(|victim| self.evict_from(victim));
            if !evicted {
                break;
            }
        }
        Ok(())
    }

    /// Adds all of `messages` if they fit, which is the common case. Otherwise adds none and
    /// returns `false`.
    fn push_all(&mut self, source: Source, messages: &mut VecDeque<(M, usize)>) -> bool {
        let (from, pool) = (source.from, source.origin.pool());
        let (memory, most) = (self.memory, most_of_one(&self.config, pool));
        let count = messages.len();
        let (mut received, mut bytes) = (0_usize, 0_usize);
        for (message, len) in &*messages {
            received = received.saturating_add(*len);
            bytes = bytes.saturating_add(held(memory(message), *len, most));
        }
        if count == 0 {
            return true;
        }
        let new = Sizes {
            messages: count,
            bytes,
        };
        let peers = self.peers.len();
        let share = self.peers.entry(from).or_default();
        if share.is_idle() && !share.in_turn {
            share.pool = pool;
        }
        let line = match pool {
            Pool::Proved => &self.readers,
            Pool::Unproved => &self.unproved_readers,
        };
        if share.pool != pool
            || missing_room(&self.config, pool, (share.held(), self.load), new).is_some()
            || !share.readers.is_empty()
            || !line.is_empty()
        {
            self.fold_if_done(from);
            return false;
        }
        if bytes > received {
            for (message, len) in &mut *messages {
                *len = held(memory(message), *len, most);
            }
        }
        share.arrived(source.origin, source.at, count, received);
        share.bytes += bytes;
        if count > share.messages.capacity().max(KEPT_ROOM)
            && share.messages.is_empty()
            && let Some(spare) = self.spare.pop()
        {
            share.messages = spare;
        }
        if share.messages.capacity() == 0 {
            // By itself, the queue would make room for four, and many peers send one at a time.
            share.messages.reserve_exact(count);
        }
        share.messages.append(messages);
        self.load.add(pool, new);
        if !std::mem::replace(&mut share.in_turn, true) {
            self.turns.push(pool, from);
        }
        if !std::mem::replace(&mut share.noted, true) && self.ranking.note(from, peers) {
            self.update_ranking();
        }
        true
    }

    /// Puts a peer that has changed from one pool to the other, with what is left of its messages, into
    /// its new one.
    fn claim(&mut self, from: SocketAddr, pool: Pool) {
        let share = self.peers.entry(from).or_default();
        let old = std::mem::replace(&mut share.pool, pool);
        if old == pool {
            return;
        }
        self.load.remove(old, share.held());
        self.load.add(pool, share.held());
        if std::mem::take(&mut share.in_turn) {
            self.turns.remove(from);
        }
    }

    /// Returns the peer that loses a message to one from a peer of `pool`: the one that has the most of
    /// what `bound` limits, among the unproved ones, or if these have nothing and `pool` is that of the
    /// others, among those. Ties go to `from`.
    fn largest(&mut self, bound: Bound, from: SocketAddr, pool: Pool) -> Option<SocketAddr> {
        self.update_ranking();
        let (losers, most) = match self.ranking.most(Pool::Unproved, bound) {
            Some(most) => (Pool::Unproved, most),
            None => (pool, self.ranking.most(pool, bound)?),
        };
        let own = self.peers.get(&from).map(|share| share.sizes());
        let own = own.unwrap_or_default();
        let own = match bound {
            Bound::Bytes => own.bytes,
            Bound::Peer | Bound::Messages => own.messages,
        };
        Some(if losers == pool && own >= most.0 {
            from
        } else {
            most.1
        })
    }

    fn update_ranking(&mut self) {
        let peers = &mut self.peers;
        self.ranking.update(|addr| match peers.get_mut(&addr) {
            Some(share) => {
                share.noted = false;
                (share.pool, share.sizes())
            }
            None => Default::default(),
        });
    }

    /// Returns the bound that `more` from `from` would exceed.
    fn missing_room(&self, from: SocketAddr, pool: Pool, more: Sizes) -> Option<Bound> {
        let held = self.peers.get(&from).map(|share| share.held());
        let have = (held.unwrap_or_default(), self.load);
        missing_room(&self.config, pool, have, more)
    }

    /// Returns whether readers that came earlier go first, and the bound for which they wait.
    fn others_first(&self, from: SocketAddr, pool: Pool, place: &ReaderPlace) -> Option<Bound> {
        let ticket = |of_peer: bool| {
            let held = place.bound.filter(|held| (*held == Bound::Peer) == of_peer);
            held.and(place.ticket)
        };
        let own = self.peers.get(&from).map(|share| &share.readers);
        if own.is_some_and(|readers| !readers.may_pass(ticket(true))) {
            Some(Bound::Peer)
        } else if !self.line(pool).may_pass(ticket(false)) {
            Some(Bound::Messages)
        } else {
            None
        }
    }

    /// Returns the line of readers that wait because the part of the inbox for `pool` is full.
    fn line(&self, pool: Pool) -> &WaitList {
        match pool {
            Pool::Proved => &self.readers,
            Pool::Unproved => &self.unproved_readers,
        }
    }

    fn line_mut(&mut self, pool: Pool) -> &mut WaitList {
        match pool {
            Pool::Proved => &mut self.readers,
            Pool::Unproved => &mut self.unproved_readers,
        }
    }

    /// Wakes the first in each line, since there may be room. The pool that has fewer messages goes
    /// first, so that neither keeps the other out.
    fn wake_readers(&self, wakers: &mut Vec<Waker>) {
        let (first, second) = match self.load.smaller() {
            Pool::Unproved => (&self.unproved_readers, &self.readers),
            Pool::Proved => (&self.readers, &self.unproved_readers),
        };
        wakers.extend(first.first());
        wakers.extend(second.first());
    }

    fn refuse(&mut self, from: SocketAddr, len: usize, reason: DropReason) -> &Counters {
        let counters = &mut self.peers.entry(from).or_default().counters;
        counters.received += 1;
        counters.received_bytes += len as u64;
        counters.incoming_dropped.add(reason, 1);
        counters
    }

    fn appended(&mut self, from: SocketAddr, new: Sizes) {
        let Some(share) = self.peers.get_mut(&from) else {
            return;
        };
        self.load.add(share.pool, new);
        if !share.in_turn {
            share.in_turn = true;
            self.turns.push(share.pool, from);
        }
        self.sizes_changed(from);
    }

    /// Notes in the ranking that the sizes of `from` change, at most once until its next update.
    fn sizes_changed(&mut self, from: SocketAddr) {
        let Some(share) = self.peers.get_mut(&from) else {
            return;
        };
        if !std::mem::replace(&mut share.noted, true) && self.ranking.note(from, self.peers.len()) {
            self.update_ranking();
        }
    }

    /// Drops the oldest message of `from`. Returns whether there was one.
    fn evict_from(&mut self, from: SocketAddr) -> bool {
        let Some(share) = self.peers.get_mut(&from) else {
            return false;
        };
        let Some((_, len)) = share.pop(from) else {
            return false;
        };
        share.counters.incoming_dropped.add(DropReason::Overflow, 1);
        let evicted = Sizes {
            messages: 1,
            bytes: len,
        };
        self.load.remove(share.pool, evicted);
        self.sizes_changed(from);
        self.fold_if_done(from);
        true
    }

    fn fold_if_done(&mut self, addr: SocketAddr) {
        let share = self.peers.get(&addr);
        if share.is_some_and(|share| !share.known && share.is_idle())
            && let Some(share) = self.peers.remove(&addr)
        {
            if share.in_turn {
                self.turns.remove(addr);
            }
            self.folded.merge(&share.counters.stats());
        }
    }
}
