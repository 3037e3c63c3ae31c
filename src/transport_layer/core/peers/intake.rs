//! What users ask for: messages to send, and connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Peers, Phase};
use crate::net::{self, ConnectError, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::peer::TaskState;
use crate::transport_layer::core::queue::Offer;
use crate::transport_layer::core::requests::{DirectWrite, Offered, Submission, Wanted};
use crate::transport_layer::core::step::{Effects, PeerKey};
use crate::transport_layer::error::{ClosedError, NotConnected};
use crate::transport_layer::stats::{ConnectionInfo, DropReason};

impl<C: NetConnection> Peers<C> {
    /// Makes sure that `addr` has an entry.
    pub(in crate::transport_layer) fn touch(
        &mut self,
        addr: SocketAddr,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Result<(), ClosedError> {
        if self.phase != Phase::Open {
            return Err(ClosedError);
        }
        self.ensure(addr, now, fx);
        if let Some(peer) = self.map.get_mut(&addr) {
            peer.used = now;
        }
        Ok(())
    }

    /// Queues or drops a message, or lets its sender write it. `clock` is read only if the time is not
    /// known. Waiting, it keeps `waker` in line.
    pub(in crate::transport_layer) fn offer(
        &mut self,
        submission: &mut Submission,
        clock: impl FnOnce() -> Instant,
        waker: &Waker,
        fx: &mut Effects<C>,
    ) -> Offered<C> {
        if self.phase != Phase::Open {
            return Offered::Closed;
        }
        let Some(bytes) = submission.bytes.take() else {
            return Offered::Done;
        };
        let to = submission.to;
        let known = self.map.get(&to).map(|peer| peer.task);
        let now = match known {
            Some(TaskState::Running(now)) => now,
            Some(TaskState::Waiting | TaskState::Blocked) => clock(),
            None => {
                let now = clock();
                self.ensure(to, now, fx);
                now
            }
        };
        let Some(peer) = self.map.get_mut(&to) else {
            return Offered::Closed;
        };
        peer.used = now;
        if submission.entry != peer.id {
            // The entry in which it had a place is gone.
            submission.entry = peer.id;
            submission.ticket = None;
        }
        let offer = if peer.links.is_empty() && !net::is_dialable(to) {
            peer.queue.refuse(DropReason::Unroutable)
        } else {
            let direct = peer
                .direct_link(bytes.len(), now)
                .map(|link| (link.id, link.conn.clone()));
            let bytes = match direct {
                None => bytes,
                Some((link, conn)) => match peer.queue.begin_direct(bytes, now) {
                    Err(bytes) => bytes,
                    Ok(bytes) => {
                        let key = PeerKey {
                            addr: to,
                            id: peer.id,
                        };
                        return Offered::Write(DirectWrite {
                            key,
                            link,
                            conn,
                            bytes,
                        });
                    }
                },
            };
            peer.queue.offer(bytes, now, submission.ticket)
        };
        match offer {
            Offer::Full(bytes) => {
                submission.bytes = Some(bytes);
                peer.queue.senders.join(&mut submission.ticket, waker);
                return Offered::Waiting;
            }
            Offer::Queued => peer.wake_task(now),
            Offer::Dropped(_) => {}
        }
        if !peer.queue.senders.is_empty() {
            peer.queue.senders.leave(&mut submission.ticket);
            fx.wakers.extend(peer.queue.ready_sender());
        }
        Offered::Done
    }

    /// Gives up the place of a sender that waits.
    pub(in crate::transport_layer) fn withdraw(
        &mut self,
        submission: &mut Submission,
        fx: &mut Effects<C>,
    ) {
        let key = PeerKey {
            addr: submission.to,
            id: submission.entry,
        };
        if let Some(peer) = self.get(key) {
            peer.queue.senders.leave(&mut submission.ticket);
            fx.wakers.extend(peer.queue.ready_sender());
            // There may be nothing left to do for the peer.
            peer.signal.raise();
        }
    }

    /// Counts a message that was given to `send` and cannot be queued.
    pub(in crate::transport_layer) fn refuse(
        &mut self,
        to: SocketAddr,
        reason: DropReason,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        if self.touch(to, now, fx).is_ok()
            && let Some(peer) = self.map.get_mut(&to)
        {
            peer.queue.refuse(reason);
        } else {
            self.folded.total.submitted += 1;
            self.folded.total.dropped.add(reason, 1);
        }
    }

    /// Asks for a connection. Ready with it, or with an error that waiting cannot mend; pending, it
    /// keeps `waker` in line.
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
        let since = self.next_id();
        self.ensure(addr, now, fx);
        let Some(peer) = self.map.get_mut(&addr) else {
            return Poll::Ready(Err(ClosedError.into()));
        };
        if let Some(link) = peer.links.first() {
            return Poll::Ready(Ok(link.info(addr, now)));
        }
        if !net::is_dialable(addr) {
            return Poll::Ready(Err(ConnectError::NotDialable { addr }.into()));
        }
        if wanted.entry != peer.id {
            wanted.entry = peer.id;
            wanted.ticket = None;
            wanted.since = since;
            peer.wanted += 1;
            peer.used = now;
            peer.wake_task(now);
        }
        if let Some(failure) = &peer.failure {
            wanted.cause = Some(Arc::clone(&failure.error));
            if failure.permanent && failure.id > wanted.since {
                let error = NotConnected {
                    addr,
                    limit: None,
                    cause: wanted.cause.clone(),
                };
                return Poll::Ready(Err(error.into()));
            }
        }
        peer.observers.join(&mut wanted.ticket, waker);
        Poll::Pending
    }

    /// Ends what [`poll_connected`](Self::poll_connected) began.
    pub(in crate::transport_layer) fn stop_wanting(&mut self, wanted: &mut Wanted) {
        let key = PeerKey {
            addr: wanted.addr,
            id: wanted.entry,
        };
        if let Some(peer) = self.get(key) {
            peer.wanted = peer.wanted.saturating_sub(1);
            peer.observers.leave(&mut wanted.ticket);
            peer.signal.raise();
        }
    }
}
