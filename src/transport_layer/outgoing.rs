//! A handle to one peer's queue, and the task that empties it.
//!
//! The queue is in `queue`, the decisions are in `peers`; here is the waiting, the dialling and the
//! writing. Invariant: one task a peer, so that a peer that is slow or unreachable delays nobody
//! else, and its messages leave in the order in which they were queued.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};

use super::peers::{Dial, Failure, Phase, Step};
use super::queue::BATCH_BYTES;
use super::shared::Shared;
use super::submit::{self, Hub};
use super::{ConnectionInfo, Direction, DropReason, SendError};
use crate::message::Message;
use crate::net::{CloseCode, ConnectError, NetConnection, NetTransport};
use crate::rt::sync::{Signal, Timer, yield_now};
use crate::rt::{self, Instant};

/// Batches written in a row before other tasks get their turn.
const YIELD_AFTER: u32 = 16;

/// A handle to one peer's queue.
///
/// It names the address and keeps nothing alive: the queue is made again when it is needed, and
/// after the socket is gone every call says so.
pub struct OutgoingConnection<M> {
    hub: Arc<dyn Hub>,
    addr: SocketAddr,
    message: PhantomData<fn() -> M>,
}

impl<M> OutgoingConnection<M> {
    pub(super) fn new(hub: Arc<dyn Hub>, addr: SocketAddr) -> Self {
        Self {
            hub,
            addr,
            message: PhantomData,
        }
    }

    /// Whose queue this is.
    pub fn peer_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Dials if there is no live connection, and waits until there is one. Cancel-safe.
    ///
    /// A peer whose last dials failed is dialled when its backoff ends, not at once.
    ///
    /// # Errors
    ///
    /// No connection within `limit`, or a failure that no retry can mend (the last dial's error is
    /// in the chain of sources); or [`ClosedError`](super::ClosedError), if the socket is closed.
    pub async fn connected(&self, limit: Duration) -> anyhow::Result<ConnectionInfo> {
        submit::connected(&*self.hub, self.addr, limit).await
    }
}

impl<M: Message> OutgoingConnection<M> {
    /// Queues `message` for this peer, as
    /// [`TransportLayerSocket::send`](super::TransportLayerSocket::send) does. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The socket is closed; the message is given back.
    pub async fn send(&self, message: M) -> Result<(), SendError<M>> {
        submit::submit(&*self.hub, self.addr, message).await
    }
}

impl<M> Clone for OutgoingConnection<M> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.hub), self.addr)
    }
}

impl<M> std::fmt::Debug for OutgoingConnection<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingConnection")
            .field("peer_addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Serves the peer `addr` until it is forgotten: dials when there is something to send and no
/// connection, writes, keeps connections alive and closes those that are idle or dead.
pub(super) async fn handle_outgoing_connection<T: NetTransport, M: Message>(
    shared: Arc<Shared<T, M>>,
    addr: SocketAddr,
    id: u64,
    signal: Arc<Signal>,
) {
    let mut batch = VecDeque::new();
    let mut timer = Timer::default();
    let mut in_a_row = 0;
    loop {
        match next_step(&shared, addr, id, &mut batch) {
            Next::Write { link, conn, bytes } => {
                write(&shared, addr, id, link, conn, &mut batch, bytes).await;
                in_a_row += 1;
                if in_a_row >= YIELD_AFTER {
                    in_a_row = 0;
                    yield_now().await;
                }
                continue;
            }
            Next::Step(Step::Gone) => return,
            Next::Step(Step::Wait(deadline)) => signal.wait(&mut timer, deadline).await,
            // Boxed: a handshake's state is 13 KB, which this task would keep as long as it lives.
            Next::Step(Step::Dial) => Box::pin(dial(&shared, addr, id, &signal)).await,
            Next::Step(Step::Write(..)) => {}
            Next::Step(Step::Keepalive(link, conn)) => {
                // Nothing to send for a while: a good time to give back what a burst has taken.
                batch = VecDeque::new();
                keepalive(&shared, addr, link, conn).await;
            }
            Next::Step(Step::Close(link, code, why)) => shared.hang_up(addr, link, code, why),
        }
        in_a_row = 0;
    }
}

/// What the task does next, with its batch.
enum Next<C> {
    Write { link: u64, conn: C, bytes: usize },
    Step(Step<C>),
}

/// Decides, and begins a batch if it is to be written: all under one lock.
fn next_step<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    id: u64,
    batch: &mut VecDeque<Bytes>,
) -> Next<T::Connection> {
    shared.with(|peers, after| {
        let draining = peers.phase == Phase::Draining;
        let Some(peer) = peers.get(addr, id) else {
            return Next::Step(Step::Gone);
        };
        let now = Instant::now();
        let step = match peer.next_step(addr, now, &shared.config) {
            Step::Write(link, conn) => {
                let bytes = peer.queue.begin_batch(batch, now);
                Next::Write { link, conn, bytes }
            }
            step => Next::Step(step),
        };
        // Purging may have made room.
        after.wakers.extend(peer.queue.ready_sender());
        if draining && peer.queue.queued() == 0 {
            after.wakers.extend(peers.drained.all());
        }
        if matches!(step, Next::Step(Step::Gone)) {
            peers.remove(addr, DropReason::Expired, after);
        }
        step
    })
}

async fn dial<T: NetTransport, M: Message>(
    shared: &Arc<Shared<T, M>>,
    addr: SocketAddr,
    id: u64,
    signal: &Signal,
) {
    shared.with(|peers, after| {
        let now = Instant::now();
        peers.make_room(now, after);
        if let Some(peer) = peers.get(addr, id) {
            peer.dial = Some(Dial { since: now });
            peers.in_use += 1;
            peers.folded.dials += 1;
        }
    });
    let attempt = pin!(rt::timeout(
        shared.config.dial_timeout,
        shared.transport.connect_from(
            shared.local_addr,
            addr,
            &shared.config.alpn,
            &shared.credential,
        ),
    ));
    // The peer may dial us meanwhile, and its connection serves as well.
    let pointless = pin!(poll_fn(|cx| {
        while signal.poll(cx).is_ready() {
            let mut peers = shared.lock();
            let peer = peers.get(addr, id);
            if peer.is_none_or(|peer| peer.dial.is_none() || !peer.links.is_empty()) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }));
    let outcome = match select(attempt, pointless).await {
        Either::Left((Ok(Ok(conn)), _)) => Some(Ok(conn)),
        Either::Left((Ok(Err(error)), _)) => Some(Err(error)),
        Either::Left((Err(late), _)) => Some(Err(ConnectError::Timeout {
            addr,
            after: late.0,
        }
        .into())),
        Either::Right(_) => None,
    };
    let counted = shared.with(|peers, _| {
        let counted = peers
            .get(addr, id)
            .is_some_and(|peer| peer.dial.take().is_some());
        peers.in_use -= usize::from(counted);
        counted
    });
    // Not counted: to make room, the dial was given up and noted as failed.
    match outcome {
        Some(Ok(conn)) if counted => shared.register(addr, conn, Direction::Outgoing),
        Some(Err(error)) if counted => note_failure(shared, addr, id, error),
        _ => {}
    }
}

fn note_failure<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    id: u64,
    error: anyhow::Error,
) {
    let permanent = matches!(
        error.downcast_ref(),
        Some(ConnectError::NotDialable { .. } | ConnectError::NotPermitted { .. })
    );
    let error = Arc::new(error);
    let noted = shared.with(|peers, after| {
        peers.folded.dials_failed += 1;
        let failure = Failure {
            id: peers.next_id(),
            error: Arc::clone(&error),
            permanent,
        };
        let peer = peers.get(addr, id)?;
        peer.failure = Some(failure);
        after.wakers.extend(peer.observers.all());
        let dropped = if permanent {
            peer.queue.drop_all(DropReason::DialFailed)
        } else {
            0
        };
        after.wakers.extend(peer.queue.ready_sender());
        let config = &shared.config;
        let wait = peer
            .backoff
            .fail(Instant::now(), config.backoff_min, config.backoff_max);
        Some((peer.backoff.failures(), wait, dropped))
    });
    let Some((failures, wait, dropped)) = noted else {
        return;
    };
    if failures.is_power_of_two() {
        let error = format_args!("{error:#}");
        tracing::info!(%addr, failures, ?wait, dropped, error, "dial failed, backing off");
    }
}

/// Hands over `batch`, which has `bytes` bytes, and leaves it empty.
async fn write<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    id: u64,
    link: u64,
    conn: T::Connection,
    batch: &mut VecDeque<Bytes>,
    bytes: usize,
) {
    if batch.is_empty() {
        return;
    }
    let count = batch.len();
    let chunks = u32::try_from(bytes.div_ceil(BATCH_BYTES).max(1)).unwrap_or(u32::MAX);
    let limit = shared.config.write_timeout.saturating_mul(chunks);
    let outcome = rt::timeout(limit, conn.send_many(batch)).await;
    let left = batch.len();
    shared.with(|peers, after| {
        let now = Instant::now();
        let Some(peer) = peers.get(addr, id) else {
            // Forgotten meanwhile, and counted then.
            batch.clear();
            return;
        };
        peer.queue.finish_batch(batch, now);
        peer.touch(now);
        if left < count
            && let Some(link) = peer.link(link)
        {
            link.used = now;
            link.written = now;
        }
        after.wakers.extend(peer.queue.ready_sender());
    });
    match outcome {
        Ok(Ok(())) if left < count => {
            tracing::trace!(%addr, count, bytes, "sent");
        }
        Ok(Ok(())) => shared.hang_up(addr, link, CloseCode::PROTOCOL, "it takes nothing"),
        Ok(Err(error)) => shared.lost(addr, link, &format_args!("{error:#}")),
        Err(_) => shared.hang_up(addr, link, CloseCode::GOING_AWAY, "the peer does not read"),
    }
}

async fn keepalive<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    link: u64,
    conn: T::Connection,
) {
    match rt::timeout(shared.config.write_timeout, conn.keepalive()).await {
        Ok(Ok(())) => {
            let mut peers = shared.lock();
            let peer = peers.map.get_mut(&addr);
            if let Some(link) = peer.and_then(|peer| peer.link(link)) {
                link.written = Instant::now();
            }
        }
        Ok(Err(error)) => shared.lost(addr, link, &format_args!("{error:#}")),
        Err(_) => shared.hang_up(addr, link, CloseCode::GOING_AWAY, "the peer does not read"),
    }
}
