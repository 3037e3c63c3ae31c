//! The calls of users: messages to send, and requests for a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::{Peers, Phase};
use crate::net::{self, ConnectError, NetConnection};
use crate::rt::Instant;
use crate::rt::sync::Ticket;
use crate::transport_layer::core::backlog::Backlog;
use crate::transport_layer::core::peer::{Peer, TaskState};
use crate::transport_layer::core::queue::OfferOutcome;
use crate::transport_layer::core::requests::{DirectWrite, Offered, SenderPlace, Wanted};
use crate::transport_layer::core::step::{Effects, PeerKey};
use crate::transport_layer::error::{ClosedError, NotConnected};
use crate::transport_layer::stats::{ConnectionInfo, DropReason};

impl<C: NetConnection> Peers<C> {
    /// Notes that the application asks for the peer at `addr`: creates an entry for it if there is none, and has it
    /// dialled if it is connected and has proved no identity.
    pub(in crate::transport_layer) fn ask_for(
        &mut self,
        addr: SocketAddr,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Result<(), ClosedError> {
        self.touch(addr, now, fx)?;
        self.dial_unproved(self.resolve(addr), now);
        Ok(())
    }

    /// Creates an entry for `addr` if there is none.
    pub(in crate::transport_layer) fn touch(
        &mut self,
        addr: SocketAddr,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Result<(), ClosedError> {
        if self.phase != Phase::Open {
            return Err(ClosedError);
        }
        let addr = self.resolve(addr);
        self.ensure(addr, now, fx);
        if let Some(peer) = self.map.get_mut(&addr) {
            peer.used = now;
        }
        Ok(())
    }

    /// Queues a message in the common case of a busy connection: the peer is connected, its task
    /// runs, no other sender waits, and there is room. Returns the message in every other case, for
    /// [`offer`](Self::offer). Most messages of a burst take this path, which has no effects.
    pub(in crate::transport_layer) fn offer_to_busy(
        &mut self,
        to: SocketAddr,
        bytes: Bytes,
    ) -> Result<(), Bytes> {
        match self.map.get_mut(&to) {
            Some(peer)
                if self.phase == Phase::Open
                    && self.backlog.is_calm(bytes.len())
                    && peer.active().is_some() =>
            {
                let TaskState::Running(now) = peer.task else {
                    return Err(bytes);
                };
                // The task checks the queue again before it waits, so it need not be woken.
                peer.queue.offer_if_room(bytes, now)?;
                self.backlog.settle(&mut peer.queue);
                Ok(())
            }
            _ => Err(bytes),
        }
    }

    /// Queues or drops a message, or lets its sender write it. Reads `clock` only if the time is
    /// not known already.
    pub(in crate::transport_layer) fn offer(
        &mut self,
        to: SocketAddr,
        bytes: Bytes,
        clock: impl FnMut() -> Instant,
        fx: &mut Effects<C>,
    ) -> Offered<C> {
        if self.backlog.is_calm(bytes.len()) {
            // The common case. The result is large, and is not moved.
            return self.enqueue(to, bytes, clock, fx);
        }
        let offered = self.enqueue(to, bytes, clock, fx);
        self.relieve(Some(self.resolve(to)), fx);
        offered
    }

    fn enqueue(
        &mut self,
        to: SocketAddr,
        bytes: Bytes,
        mut clock: impl FnMut() -> Instant,
        fx: &mut Effects<C>,
    ) -> Offered<C> {
        if self.phase != Phase::Open {
            return Offered::Closed(bytes);
        }
        let to = self.resolve(to);
        let Some(peer) = self.map.get_mut(&to) else {
            self.ensure(to, clock(), fx);
            return match self.map.get_mut(&to) {
                Some(peer) => {
                    let now = peer.used;
                    offer_to((peer, &mut self.backlog), to, bytes, now, None, fx)
                }
                None => Offered::Closed(bytes),
            };
        };
        let mut now = match peer.task {
            TaskState::Running(now) => Some(now),
            TaskState::Waiting | TaskState::Blocked => None,
        };
        if let Some(link) = peer.direct_link(bytes.len(), || *now.get_or_insert_with(&mut clock)) {
            let (link, conn) = (link.id, link.conn.clone());
            let key = PeerKey {
                addr: to,
                id: peer.id,
            };
            return match peer.queue.begin_direct(bytes) {
                Ok(batch) => Offered::Write(DirectWrite {
                    key,
                    link,
                    conn,
                    batch,
                }),
                Err(bytes) => {
                    let now = now.unwrap_or_else(clock);
                    offer_to((peer, &mut self.backlog), to, bytes, now, None, fx)
                }
            };
        }
        let now = now.unwrap_or_else(clock);
        offer_to((peer, &mut self.backlog), to, bytes, now, None, fx)
    }

    /// Offers again a message for which there was no room. If there still is none, keeps `waker` in
    /// line at `place`.
    pub(in crate::transport_layer) fn offer_again(
        &mut self,
        bytes: Bytes,
        place: &mut SenderPlace,
        now: Instant,
        waker: &Waker,
        fx: &mut Effects<C>,
    ) -> Offered<C> {
        if self.phase != Phase::Open {
            return Offered::Closed(bytes);
        }
        let to = self.resolve(place.to);
        self.ensure(to, now, fx);
        let entry = self.map.get(&to).map(|peer| PeerKey {
            addr: to,
            id: peer.id,
        });
        if entry.is_some_and(|entry| entry.id != place.entry.id) {
            // The entry in which the sender had its place is forgotten, or the address leads to another.
            self.withdraw(place, fx);
        }
        let Some(peer) = self.map.get_mut(&to) else {
            return Offered::Closed(bytes);
        };
        place.entry = PeerKey {
            addr: to,
            id: peer.id,
        };
        let books = (&mut **peer, &mut self.backlog);
        let offered = offer_to(books, to, bytes, now, place.ticket, fx);
        if matches!(offered, Offered::Full(_)) {
            peer.queue.senders.join(&mut place.ticket, waker);
        } else {
            peer.queue.senders.leave(&mut place.ticket);
            fx.wakers.extend(peer.queue.ready_sender());
            // There may be nothing left to do for the peer.
            peer.signal.raise();
        }
        self.relieve(Some(to), fx);
        offered
    }

    /// Gives up the place of a sender that waits.
    pub(in crate::transport_layer) fn withdraw(
        &mut self,
        place: &mut SenderPlace,
        fx: &mut Effects<C>,
    ) {
        if place.ticket.is_some()
            && let Some(peer) = self.get(place.entry)
        {
            peer.queue.senders.leave(&mut place.ticket);
            fx.wakers.extend(peer.queue.ready_sender());
            // The peer may be at rest now, so its task must check.
            peer.signal.raise();
        }
        place.ticket = None;
    }

    /// Counts a message that was passed to `send` and cannot be queued.
    pub(in crate::transport_layer) fn refuse(
        &mut self,
        to: SocketAddr,
        reason: DropReason,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let to = self.resolve(to);
        if self.touch(to, now, fx).is_ok()
            && let Some(peer) = self.map.get_mut(&to)
        {
            peer.queue.refuse(reason);
        } else {
            self.folded.total.submitted += 1;
            self.folded.total.dropped.add(reason, 1);
        }
    }

    /// Polls for a connection with a peer, which is dialled if there is none. Fails with an error
    /// that waiting cannot fix. Keeps `waker` in line while pending.
    pub(in crate::transport_layer) fn poll_connected(
        &mut self,
        wanted: &mut Wanted,
        now: Instant,
        waker: &Waker,
        fx: &mut Effects<C>,
    ) -> Poll<anyhow::Result<ConnectionInfo>> {
        if self.phase != Phase::Open {
            return Poll::Ready(Err(ClosedError.into()));
        }
        let addr = wanted.addr;
        let not_connected = |cause: &Option<Arc<anyhow::Error>>| {
            let cause = cause.clone();
            let limit = None;
            Poll::Ready(Err(NotConnected { addr, limit, cause }.into()))
        };
        let home = self.resolve(addr);
        if let Some(link) = self.map.get(&home).and_then(|peer| peer.active()) {
            return Poll::Ready(Ok(link.info(home, now)));
        }
        let known = self.map.get(&home).is_some_and(|p| p.id == wanted.entry.id);
        if wanted.entry.id != 0 && !known {
            if self.locate(wanted.entry).is_none() && !self.map.contains_key(&home) {
                // Other peers have taken its place. To take it back would cost them theirs, and so on.
                return not_connected(&wanted.cause);
            }
            // The address leads to another entry now.
            self.stop_wanting(wanted);
        }
        let since = self.next_id();
        self.ensure(home, now, fx);
        let Some(peer) = self.map.get_mut(&home) else {
            return Poll::Ready(Err(ClosedError.into()));
        };
        if !net::may_be_dialled(peer.target(home)) {
            return Poll::Ready(Err(ConnectError::NotDialable { addr }.into()));
        }
        if wanted.entry.id != peer.id {
            wanted.entry = PeerKey {
                addr: home,
                id: peer.id,
            };
            wanted.since = since;
            peer.wanted += 1;
            peer.used = now;
            peer.wake_task(now);
        }
        if let Some(failure) = &peer.failure {
            wanted.cause = Some(Arc::clone(&failure.error));
            if failure.permanent && failure.id > wanted.since {
                return not_connected(&wanted.cause);
            }
        }
        peer.observers.join(&mut wanted.ticket, waker);
        Poll::Pending
    }

    /// Withdraws a request that was made by [`poll_connected`](Self::poll_connected).
    pub(in crate::transport_layer) fn stop_wanting(&mut self, wanted: &mut Wanted) {
        if let Some(peer) = self.get(wanted.entry) {
            peer.wanted = peer.wanted.saturating_sub(1);
            peer.observers.leave(&mut wanted.ticket);
            peer.signal.raise();
        }
        wanted.ticket = None;
        wanted.entry.id = 0;
    }
}

/// Queues or drops a message for a peer, and notes that in the backlog.
fn offer_to<C: NetConnection>(
    (peer, backlog): (&mut Peer<C>, &mut Backlog),
    to: SocketAddr,
    bytes: Bytes,
    now: Instant,
    ticket: Ticket,
    fx: &mut Effects<C>,
) -> Offered<C> {
    peer.used = now;
    let (own, len) = (peer.queue.waiting_bytes(), bytes.len());
    let key = PeerKey {
        addr: to,
        id: peer.id,
    };
    let is_connected = peer.active().is_some() || peer.is_leaving();
    let offer = if !is_connected && !net::may_be_dialled(peer.target(to)) {
        peer.queue.refuse(DropReason::Unroutable)
    } else if !peer.queue.is_too_long(len) && backlog.holds_back(key, own, len) {
        OfferOutcome::Full(bytes)
    } else {
        peer.queue.offer(bytes, now, ticket)
    };
    backlog.settle(&mut peer.queue);
    match offer {
        OfferOutcome::Full(bytes) => {
            if ticket.is_none() {
                // Expired messages may have made room for those that came first.
                fx.wakers.extend(peer.queue.ready_sender());
            }
            return Offered::Full(bytes);
        }
        OfferOutcome::Queued => peer.wake_task(now),
        OfferOutcome::Dropped(_) => {}
    }
    Offered::Done
}
