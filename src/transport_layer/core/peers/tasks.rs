//! The calls of a peer's task: next steps, and the results of dials and writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Peers, Phase};
use crate::net::{ConnectError, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::peer::{Decision, Dial, Failure, TaskState};
use crate::transport_layer::core::requests::Writer;
use crate::transport_layer::core::step::{Effects, EndedLink, PeerKey, Step};
use crate::transport_layer::stats::{Direction, DropReason};

/// A failed dial, for the log.
#[derive(Debug)]
pub(in crate::transport_layer) struct DialFailure {
    /// Failures in a row.
    pub(in crate::transport_layer) failures: u32,
    /// The wait before the next dial.
    pub(in crate::transport_layer) wait: Duration,
    /// Messages that were dropped because no retry can help.
    pub(in crate::transport_layer) dropped: u64,
}

impl<C: NetConnection> Peers<C> {
    /// Decides what the task of the peer does next. A batch to write is put into `batch`, which must
    /// be empty.
    pub(in crate::transport_layer) fn next_step(
        &mut self,
        key: PeerKey,
        batch: &mut VecDeque<Bytes>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Step<C> {
        let config = Arc::clone(&self.config);
        let draining = self.phase == Phase::Draining;
        let step = loop {
            let Some(peer) = self.get(key) else {
                return Step::Gone;
            };
            match peer.decide(key.addr, batch, now, &config) {
                Decision::Step(step) => break step,
                Decision::Close { link, code, why } => {
                    let age = self.disconnected(key.addr, link, Some(code), now, fx);
                    fx.ended.extend(age.map(|age| EndedLink {
                        addr: key.addr,
                        why,
                        age,
                    }));
                }
            }
        };
        if let Some(peer) = self.map.get(&key.addr) {
            // Expired messages may have made room.
            fx.wakers.extend(peer.queue.ready_sender());
            if draining && peer.queue.queued() == 0 {
                fx.wakers.extend(self.drained.all());
            }
        }
        match step {
            Step::Gone => {
                self.remove(key.addr, DropReason::Expired, fx);
            }
            Step::Dial => {
                self.make_room(now, fx);
                self.in_use += 1;
                self.folded.dials += 1;
                if let Some(peer) = self.get(key) {
                    peer.dial = Some(Dial { since: now });
                }
            }
            Step::Wait(_) | Step::Write { .. } | Step::Keepalive { .. } => {}
        }
        step
    }

    /// Returns whether a running dial is no longer needed: the peer is forgotten or has a
    /// connection, or the dial was abandoned to make room.
    pub(in crate::transport_layer) fn is_dial_pointless(&mut self, key: PeerKey) -> bool {
        self.get(key)
            .is_none_or(|peer| peer.dial.is_none() || !peer.links.is_empty())
    }

    /// Ends a dial. Returns `false` if it was abandoned earlier, and so is already counted as
    /// failed.
    pub(in crate::transport_layer) fn dial_ended(&mut self, key: PeerKey) -> bool {
        let counted = self.get(key).is_some_and(|peer| peer.dial.take().is_some());
        self.in_use -= usize::from(counted);
        counted
    }

    /// Ends a dial and takes its connection into service. Returns the id of the connection, or
    /// `None` if it is not needed any more.
    pub(in crate::transport_layer) fn dial_succeeded(
        &mut self,
        key: PeerKey,
        conn: C,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<u64> {
        if !self.dial_ended(key) {
            return None;
        }
        let dialled = Direction::Outgoing;
        self.connected(key.addr, conn, dialled, now, fx)
    }

    /// Ends a dial that has failed. If no retry can help, drops the queued messages. Returns `None`
    /// if the dial was abandoned earlier.
    pub(in crate::transport_layer) fn dial_failed(
        &mut self,
        key: PeerKey,
        error: &Arc<anyhow::Error>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<DialFailure> {
        if !self.dial_ended(key) {
            return None;
        }
        self.folded.dials_failed += 1;
        let permanent = matches!(
            error.downcast_ref(),
            Some(ConnectError::NotDialable { .. } | ConnectError::NotPermitted { .. })
        );
        let failure = Failure {
            id: self.next_id(),
            error: Arc::clone(error),
            permanent,
        };
        let (min, max) = (self.config.backoff_min, self.config.backoff_max);
        let peer = self.get(key)?;
        peer.failure = Some(failure);
        fx.wakers.extend(peer.observers.all());
        let dropped = if permanent {
            peer.queue.drop_waiting(DropReason::DialFailed)
        } else {
            0
        };
        fx.wakers.extend(peer.queue.ready_sender());
        let wait = peer.backoff.fail(now, min, max);
        let failures = peer.backoff.failures();
        Some(DialFailure {
            failures,
            wait,
            dropped,
        })
    }

    /// Records that the network does not take a batch at once, so that the task of the peer waits.
    pub(in crate::transport_layer) fn write_blocked(&mut self, key: PeerKey) {
        if let Some(peer) = self.get(key) {
            peer.task = TaskState::Blocked;
        }
    }

    /// Ends a batch, or a sender's own write, that began with `count` messages. Messages left in
    /// `batch` were not taken by the network and are queued again. `flushed` is false if the
    /// connection may hold bytes that the network has not taken yet.
    pub(in crate::transport_layer) fn written(
        &mut self,
        (key, link, writer): (PeerKey, u64, Writer),
        batch: &mut VecDeque<Bytes>,
        flushed: bool,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let draining = self.phase == Phase::Draining;
        let Some(peer) = self.get(key) else {
            // The peer was forgotten in the meantime, and its messages were counted then.
            batch.clear();
            return;
        };
        let took_some = peer.queue.finish_batch(batch, now) > 0;
        peer.used = now;
        if let Some(link) = peer.link(link) {
            link.unflushed = !flushed;
            if took_some {
                link.used = now;
                link.written = now;
            }
        }
        if writer == Writer::Task {
            peer.task = TaskState::Running(now);
        }
        // Without a connection, the task may wait without a deadline for the end of this write.
        if !flushed || !peer.queue.is_empty() || peer.links.is_empty() {
            peer.wake_task(now);
        }
        fx.wakers.extend(peer.queue.ready_sender());
        if draining && peer.queue.queued() == 0 {
            fx.wakers.extend(self.drained.all());
        }
    }

    /// Records that a keepalive was sent.
    pub(in crate::transport_layer) fn kept_alive(&mut self, key: PeerKey, link: u64, now: Instant) {
        if let Some(link) = self.get(key).and_then(|peer| peer.link(link)) {
            link.written = now;
        }
    }
}
