//! The task of a peer: it dials, writes, and keeps connections alive.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;

use super::dial::Dialler;
use super::shared::Shared;
use crate::message::Message;
use crate::net::{CloseCode, NetConnection, NetTransport};
use crate::rt::sync::{Signal, Timer, yield_now};
use crate::rt::{self, Instant, MaybeSend};
use crate::transport_layer::core::{BATCH_BYTES, LinkEnd, PeerKey, Step, Writer};

/// After this many steps in a row without a wait, other tasks get their turn.
const YIELD_AFTER: u32 = 16;

/// The time in which the network must take a probe, and in which a write that it does not take looks
/// whether the peer has connected again.
const PROBE_WRITE_TIME: Duration = Duration::from_millis(500);

/// Serves a peer until it is forgotten.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function keeps what it is passed twice"
)]
pub(super) fn handle_outgoing_connection<T: NetTransport, M: Message>(
    task: PeerTask<T, M>,
) -> impl Future<Output = ()> + MaybeSend {
    async move { task.run().await }
}

/// Serves one peer: carries out the steps that the core decides. There is one task for each peer, so
/// that a peer that is slow or unreachable delays no other, and its messages leave in order.
pub(super) struct PeerTask<T: NetTransport, M: Message> {
    pub(super) shared: Arc<Shared<T, M>>,
    pub(super) key: PeerKey,
    pub(super) signal: Arc<Signal>,
}

impl<T: NetTransport, M: Message> PeerTask<T, M> {
    async fn run(&self) {
        let mut batch = VecDeque::new();
        let mut timer = Timer::default();
        let mut in_a_row = 0;
        loop {
            let step = self
                .shared
                .with(|peers, fx| peers.next_step(self.key, &mut batch, Instant::now(), fx));
            in_a_row += 1;
            match step {
                Step::Gone => return,
                Step::Wait(deadline) => {
                    // Senders on other threads may raise the signal faster than it is looked at.
                    if self.signal.wait(&mut timer, deadline).await {
                        in_a_row = 0;
                    }
                }
                Step::Dial(dial) => Dialler::start(&self.shared, dial),
                // What takes long is boxed: this task would otherwise hold the room for it for all its
                // life.
                Step::Write { link, conn, bytes } => {
                    self.write(link, conn, &mut batch, bytes).await;
                }
                Step::Keepalive { link, conn } => {
                    // Nothing was sent for a while, so this is the time to release what a burst has
                    // taken.
                    batch = VecDeque::new();
                    Box::pin(self.keep_alive(link, conn)).await;
                }
                Step::Probe { link, conn } => Box::pin(self.probe(link, conn)).await,
            }
            if in_a_row >= YIELD_AFTER {
                in_a_row = 0;
                yield_now().await;
            }
        }
    }

    /// Hands `batch`, which has `bytes` bytes, to the connection, and leaves it empty.
    async fn write(
        &self,
        link: u64,
        conn: T::Connection,
        batch: &mut VecDeque<Bytes>,
        bytes: usize,
    ) {
        let (addr, count) = (self.key.addr, batch.len());
        let chunks = u32::try_from(bytes.div_ceil(BATCH_BYTES).max(1)).unwrap_or(u32::MAX);
        let limit = self.shared.config.write_timeout.saturating_mul(chunks);
        let at_once = conn.send_many(batch).now_or_never();
        let outcome = match at_once {
            Some(outcome) => Some(outcome),
            None => {
                self.shared.with(|peers, _| peers.write_blocked(self.key));
                // Boxed because it is rare.
                Box::pin(self.patiently(limit, link, conn.send_many(batch))).await
            }
        };
        let took_none = count > 0 && batch.len() == count;
        self.shared.with(|peers, fx| {
            let flushed = matches!(outcome, Some(Ok(())));
            let write = (self.key, link, Writer::Task);
            peers.written(write, batch, flushed, Instant::now(), fx);
        });
        match outcome {
            Some(Ok(())) if took_none => {
                self.close(link, CloseCode::PROTOCOL, "it takes nothing");
            }
            Some(Ok(())) => tracing::trace!(%addr, count, bytes, "sent"),
            Some(Err(error)) => self.lost(link, &error),
            None => {}
        }
    }

    /// Waits for the network to take what `writing` writes to a connection, which is closed if that takes
    /// longer than `limit`. Returns `None` then, and also when the peer has connected again, so that the
    /// task can probe this connection, or write to another.
    async fn patiently<R>(
        &self,
        limit: Duration,
        link: u64,
        writing: impl Future<Output = R>,
    ) -> Option<R> {
        let mut writing = pin!(writing);
        let mut left = limit;
        while !left.is_zero() {
            let part = left.min(PROBE_WRITE_TIME);
            left -= part;
            if let Ok(outcome) = rt::timeout(part, writing.as_mut()).await {
                return Some(outcome);
            }
            if self
                .shared
                .with(|peers, _| peers.must_leave(self.key, link))
            {
                return None;
            }
        }
        self.close(link, CloseCode::GOING_AWAY, "the peer does not read");
        None
    }

    async fn keep_alive(&self, link: u64, conn: T::Connection) {
        let limit = self.shared.config.write_timeout;
        match self.patiently(limit, link, conn.keepalive()).await {
            Some(Ok(())) => self
                .shared
                .with(|peers, _| peers.kept_alive(self.key, link, Instant::now())),
            Some(Err(error)) => self.lost(link, &error),
            None => {}
        }
    }

    async fn probe(&self, link: u64, conn: T::Connection) {
        // A probe that cannot be sent is one that is not answered.
        if let Ok(Err(error)) = rt::timeout(PROBE_WRITE_TIME, conn.probe()).await {
            self.lost(link, &error);
        }
    }

    fn lost(&self, link: u64, error: &anyhow::Error) {
        let why = format_args!("{error:#}");
        self.shared
            .disconnected(self.key, link, LinkEnd::Lost, &why);
    }

    fn close(&self, link: u64, code: CloseCode, why: &'static str) {
        self.shared
            .disconnected(self.key, link, LinkEnd::Local(code), &why);
    }
}
