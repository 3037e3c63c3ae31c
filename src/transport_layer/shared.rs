//! What a socket and its tasks have in common.
//!
//! It joins the peers, the incoming queue and the tasks; what the tasks do is in `listener`,
//! `incoming` and `outgoing`. Invariants: the lock of the peers is never held over an await nor
//! while foreign code is woken; no task owns the listener but the one that accepts, so ending that
//! task frees the port.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::incoming::handle_incoming_connection;
use super::incoming_queue::IncomingQueue;
use super::outgoing::handle_outgoing_connection;
use super::peers::{Aftermath, Link, Peer, Peers, Phase, Reading, count_refused};
use super::queue::Offer;
use super::submit::{Hub, Submission};
use super::tasks::TaskSet;
use super::{ClosedError, Direction, DropReason, SocketStats, TransportLayerConfig};
use crate::credential::NetCredential;
use crate::message::Message;
use crate::net::{self, CloseCode, NetConnection, NetTransport};
use crate::rt::sync::{Mutex, MutexGuard, Signal, Ticket};
use crate::rt::{Instant, Task};

/// A dialled connection that lived so long was worth dialling: its loss is no failed dial.
const STABLE_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// See the module.
pub(super) struct Shared<T: NetTransport, M: Message> {
    me: Weak<Self>,
    pub(super) transport: T,
    pub(super) credential: NetCredential,
    pub(super) config: Arc<TransportLayerConfig>,
    pub(super) local_addr: SocketAddr,
    open: AtomicBool,
    peers: Mutex<Peers<T::Connection>>,
    pub(super) incoming: IncomingQueue<M>,
    /// Readers, writers and goodbyes.
    pub(super) tasks: TaskSet,
    /// Handshakes of peers that knocked.
    pub(super) handshakes: TaskSet,
    /// The accept loop, which owns the listener. Dropped under the lock, so that whoever finds
    /// it gone knows that the port is free.
    listener: Mutex<Option<Task>>,
}

impl<T: NetTransport, M: Message> Shared<T, M> {
    pub(super) fn new(
        transport: T,
        credential: NetCredential,
        local_addr: SocketAddr,
        config: TransportLayerConfig,
    ) -> Arc<Self> {
        let config = Arc::new(config);
        let peers = Peers::new(Arc::clone(&config), transport.max_message_len());
        let incoming = IncomingQueue::new(config.incoming.clone());
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            transport,
            credential,
            config,
            local_addr,
            open: AtomicBool::new(true),
            peers: Mutex::new(peers),
            incoming,
            tasks: TaskSet::default(),
            handshakes: TaskSet::default(),
            listener: Mutex::new(None),
        })
    }

    pub(super) fn keep_listener(&self, task: Task) {
        *self.lock_listener() = Some(task);
    }

    /// Runs `action` under the lock, and afterwards what it asks for.
    pub(super) fn with<R>(
        &self,
        action: impl FnOnce(&mut Peers<T::Connection>, &mut Aftermath<T::Connection>) -> R,
    ) -> R {
        let mut after = Aftermath::default();
        let result = {
            let mut peers = self.lock();
            let result = action(&mut peers, &mut after);
            self.forget(&mut after);
            result
        };
        self.settle(after);
        result
    }

    /// Under the lock of the peers.
    fn forget(&self, after: &mut Aftermath<T::Connection>) {
        for addr in after.forgotten.drain(..) {
            self.incoming.forget(addr);
        }
    }

    /// Once the lock is released.
    fn settle(&self, after: Aftermath<T::Connection>) {
        after.wakers.into_iter().for_each(Waker::wake);
        for (conn, code) in after.hang_up {
            self.tasks.spawn(async move { conn.close(code).await });
        }
    }

    /// The entry of `addr`, made and given a task if there is none.
    fn peer<'a>(
        &self,
        peers: &'a mut Peers<T::Connection>,
        addr: SocketAddr,
        now: Instant,
        after: &mut Aftermath<T::Connection>,
    ) -> Result<&'a mut Peer<T::Connection>, ClosedError> {
        if !peers.map.contains_key(&addr) {
            let me = self.me.upgrade().ok_or(ClosedError)?;
            let (id, signal) = peers.insert(addr, now, after);
            self.incoming.remember(addr);
            self.tasks
                .spawn(handle_outgoing_connection(me, addr, id, signal));
        }
        peers.map.get_mut(&addr).ok_or(ClosedError)
    }

    /// Makes sure that `addr` has an entry.
    pub(super) fn ensure_peer(&self, addr: SocketAddr) -> Result<(), ClosedError> {
        self.with(|peers, after| {
            if peers.phase != Phase::Open {
                return Err(ClosedError);
            }
            let now = Instant::now();
            self.peer(peers, addr, now, after)
                .map(|peer| peer.touch(now))
        })
    }

    /// Takes a live connection into service: it is written to and read from now on. A closing
    /// socket drops it, which ends it.
    pub(super) fn register(&self, addr: SocketAddr, conn: T::Connection, direction: Direction) {
        let Some(me) = self.me.upgrade() else { return };
        let identity = conn.remote_identity();
        let refused = self.with(|peers, after| {
            let now = Instant::now();
            let wanted = match peers.phase {
                Phase::Open => true,
                Phase::Draining => direction == Direction::Outgoing,
                Phase::Closed { .. } => false,
            };
            if !wanted {
                return Some(conn);
            }
            peers.make_room(now, after);
            let id = peers.next_id();
            let Ok(peer) = self.peer(peers, addr, now, after) else {
                return Some(conn);
            };
            let link = Link {
                id,
                conn: conn.clone(),
                direction,
                since: now,
                used: now,
                written: now,
                heard: false,
                reading: Reading::Since(now),
                silent_before: None,
            };
            // Accepted twice from one address: the peer has lost the older connection, since a
            // network gives an address to one connection at a time.
            let supersedes = direction == Direction::Incoming
                && peer
                    .links
                    .iter()
                    .any(|l| l.direction == Direction::Incoming);
            peer.links
                .insert(if supersedes { 0 } else { peer.links.len() }, link);
            peer.failure = None;
            peer.touch(now);
            peer.signal.raise();
            after.wakers.extend(peer.observers.all());
            peers.in_use += 1;
            if direction == Direction::Incoming {
                peers.folded.accepted += 1;
            }
            self.tasks
                .spawn(handle_incoming_connection(me, addr, id, conn));
            None
        });
        if refused.is_none() {
            tracing::info!(%addr, ?direction, identity = %identity.short(), "connected");
        }
    }

    /// Takes a connection that has failed out of service. Only the first report counts.
    pub(super) fn lost(&self, addr: SocketAddr, link: u64, why: &dyn std::fmt::Display) {
        self.unlink(addr, link, None, why);
    }

    /// Ends a connection with `code`.
    pub(super) fn hang_up(&self, addr: SocketAddr, link: u64, code: CloseCode, why: &str) {
        self.unlink(addr, link, Some(code), &why);
    }

    fn unlink(
        &self,
        addr: SocketAddr,
        link: u64,
        code: Option<CloseCode>,
        why: &dyn std::fmt::Display,
    ) {
        let ended = self.with(|peers, after| {
            let now = Instant::now();
            let config = Arc::clone(&peers.config);
            let (link, peer) = peers.unlink(addr, link, now)?;
            let age = now.saturating_duration_since(link.since);
            let dialled = link.direction == Direction::Outgoing;
            if link.heard || age >= STABLE_AFTER {
                peer.backoff.reset();
            } else if code.is_none() && dialled {
                // Else a peer that accepts and hangs up would be dialled in a tight loop.
                peer.backoff
                    .fail(now, config.backoff_min, config.backoff_max);
            }
            // One that broke only in the writing direction would go on reading.
            let code = code.unwrap_or(CloseCode::NORMAL);
            after.hang_up.push((link.conn, code));
            Some(age)
        });
        if let Some(age) = ended {
            tracing::info!(%addr, %why, ?age, "connection ended");
        }
    }

    /// A snapshot in which all sums hold.
    pub(super) fn stats(&self) -> SocketStats {
        let peers = self.lock();
        let mut stats = peers.stats(Instant::now());
        let mut total = std::mem::take(&mut stats.total);
        self.incoming.stats(&mut total, &mut stats.peers);
        drop(peers);
        for peer in stats.peers.values() {
            total.merge(peer);
        }
        stats.total = total;
        stats
    }

    /// Frees the port and takes nothing new.
    pub(super) fn stop_accepting(&self) {
        self.open.store(false, Ordering::Release);
        drop(self.lock_listener().take());
        self.handshakes.close();
        self.with(|peers, after| {
            if peers.phase == Phase::Open {
                peers.phase = Phase::Draining;
            }
            for peer in peers.map.values() {
                after.wakers.extend(peer.queue.senders.all());
                after.wakers.extend(peer.observers.all());
            }
        });
    }

    /// Ready once nothing is left to send.
    pub(super) fn poll_drained(&self, ticket: &mut Ticket, cx: &mut Context<'_>) -> Poll<()> {
        let mut peers = self.lock();
        if peers.is_drained() {
            peers.drained.leave(ticket);
            Poll::Ready(())
        } else {
            peers.drained.join(ticket, cx.waker());
            Poll::Pending
        }
    }

    pub(super) fn stop_waiting_for_drain(&self, ticket: &mut Ticket) {
        self.lock().drained.leave(ticket);
    }

    /// Drops all that is queued and gives back the connections, for goodbyes. The number is what
    /// was queued, also when somebody else has closed before.
    pub(super) fn close_peers(&self) -> (Vec<T::Connection>, u64) {
        self.open.store(false, Ordering::Release);
        let mut after = Aftermath::default();
        let mut peers = self.lock();
        let unsent = match peers.phase {
            Phase::Closed { unsent } => unsent,
            Phase::Open | Phase::Draining => {
                let addrs: Vec<_> = peers.map.keys().copied().collect();
                let unsent = addrs
                    .into_iter()
                    .map(|addr| peers.remove(addr, DropReason::Closed, &mut after))
                    .sum();
                peers.phase = Phase::Closed { unsent };
                after.wakers.extend(peers.drained.all());
                unsent
            }
        };
        self.forget(&mut after);
        drop(peers);
        after.wakers.into_iter().for_each(Waker::wake);
        let conns = after.hang_up.into_iter().map(|(conn, _)| conn);
        (conns.collect(), unsent)
    }

    /// Closes connections, all at once, and waits for it. Cancelled, it goes on closing.
    pub(super) async fn say_goodbye(&self, conns: Vec<T::Connection>) {
        /// Tells the one who waits when the last goodbye is said, or dropped.
        struct Said(Arc<Signal>);
        impl Drop for Said {
            fn drop(&mut self) {
                self.0.raise();
            }
        }
        let all_said = Arc::new(Signal::default());
        let said = Arc::new(Said(Arc::clone(&all_said)));
        for conn in conns {
            let said = Arc::clone(&said);
            self.tasks.spawn(async move {
                conn.close(CloseCode::GOING_AWAY).await;
                drop(said);
            });
        }
        drop(said);
        poll_fn(|cx| all_said.poll(cx)).await;
    }

    /// Ends every task before it returns; `recv` gives what has arrived, and ends.
    pub(super) fn close_tasks(&self) {
        drop(self.lock_listener().take());
        self.handshakes.close();
        self.tasks.close();
        self.incoming.close();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Peers<T::Connection>> {
        self.peers.lock()
    }

    fn lock_listener(&self) -> MutexGuard<'_, Option<Task>> {
        self.listener.lock()
    }
}

impl<T: NetTransport, M: Message> Hub for Shared<T, M> {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn poll_offer(
        &self,
        submission: &mut Submission,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClosedError>> {
        self.with(|peers, after| {
            let to = submission.to;
            if peers.phase != Phase::Open {
                return Poll::Ready(Err(ClosedError));
            }
            let Some(bytes) = submission.bytes.take() else {
                return Poll::Ready(Ok(()));
            };
            let now = Instant::now();
            let peer = self.peer(peers, to, now, after)?;
            peer.touch(now);
            if submission.peer != peer.id {
                // The entry in which it had a place is gone.
                submission.peer = peer.id;
                submission.ticket = None;
            }
            let offer = if peer.links.is_empty() && !net::is_dialable(to) {
                peer.queue.refuse(DropReason::Unroutable)
            } else {
                peer.queue.offer(bytes, now, submission.ticket)
            };
            match offer {
                Offer::Full(bytes) => {
                    submission.bytes = Some(bytes);
                    peer.queue.senders.join(&mut submission.ticket, cx.waker());
                    return Poll::Pending;
                }
                Offer::Queued => peer.signal.raise(),
                Offer::Dropped(reason) => tracing::trace!(%to, ?reason, "message dropped"),
            }
            peer.queue.senders.leave(&mut submission.ticket);
            after.wakers.extend(peer.queue.ready_sender());
            Poll::Ready(Ok(()))
        })
    }

    fn withdraw(&self, submission: &mut Submission) {
        if submission.ticket.is_none() {
            return;
        }
        self.with(|peers, after| {
            if let Some(peer) = peers.get(submission.to, submission.peer) {
                peer.queue.senders.leave(&mut submission.ticket);
                after.wakers.extend(peer.queue.ready_sender());
                // The peer may be at rest now.
                peer.signal.raise();
            }
        });
    }

    fn refuse(&self, to: SocketAddr, reason: DropReason) {
        self.with(|peers, after| {
            let now = Instant::now();
            if peers.phase == Phase::Open
                && let Ok(peer) = self.peer(peers, to, now, after)
            {
                peer.touch(now);
                peer.queue.refuse(reason);
            } else {
                count_refused(&mut peers.folded.total, reason);
            }
        });
    }

    fn poll_connected(
        &self,
        wanted: &mut super::submit::Wanted,
        cx: &mut Context<'_>,
    ) -> Poll<anyhow::Result<super::ConnectionInfo>> {
        self.with(|peers, after| {
            if peers.phase != Phase::Open {
                return Poll::Ready(Err(ClosedError.into()));
            }
            let now = Instant::now();
            let addr = wanted.addr;
            let since = peers.next_id();
            let peer = self.peer(peers, addr, now, after)?;
            if let Some(link) = peer.links.first() {
                return Poll::Ready(Ok(link.info(addr, now)));
            }
            if !net::is_dialable(addr) {
                let error = net::ConnectError::NotDialable { addr };
                return Poll::Ready(Err(error.into()));
            }
            if wanted.peer != peer.id {
                wanted.peer = peer.id;
                wanted.ticket = None;
                wanted.since = since;
                peer.wanted += 1;
                peer.touch(now);
                peer.signal.raise();
            }
            if let Some(failure) = &peer.failure {
                wanted.cause = Some(Arc::clone(&failure.error));
                if failure.permanent && failure.id > wanted.since {
                    return Poll::Ready(Err(wanted.failed(None)));
                }
            }
            peer.observers.join(&mut wanted.ticket, cx.waker());
            Poll::Pending
        })
    }

    fn give_up(&self, wanted: &mut super::submit::Wanted) {
        self.with(|peers, _| {
            if let Some(peer) = peers.get(wanted.addr, wanted.peer) {
                peer.wanted = peer.wanted.saturating_sub(1);
                peer.observers.leave(&mut wanted.ticket);
                peer.signal.raise();
            }
        });
    }
}
