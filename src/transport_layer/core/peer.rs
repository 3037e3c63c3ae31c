//! One peer: its queue, its connections, its dial, and the next step of its task.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backoff::Backoff;
use super::link::{Link, sooner};
use super::queue::OutgoingQueue;
use super::step::Step;
use crate::net::{self, CloseCode, NetConnection};
use crate::rt::Instant;
use crate::rt::sync::{Signal, WaitList};
use crate::transport_layer::config::TransportLayerConfig;
use crate::transport_layer::stats::{DropReason, PeerState};

/// A sender writes to the connection itself only if nothing was written for this long. Messages
/// that come faster are cheaper in the batches of the peer's task: one system call for many of
/// them. A loop that only sends takes a tenth of this time for a message, and an answer takes
/// several times as long to arrive, even on loopback.
const DIRECT_AFTER: Duration = Duration::from_micros(2);
/// A sender writes only messages of at most this many bytes itself. A longer one would keep the
/// sender busy for so long that waking the peer's task is worth its cost.
const DIRECT_LEN: usize = 8 << 10;

/// The state of one peer address: its queue, connections and dial.
pub(super) struct Peer<C> {
    /// Distinguishes this entry from earlier ones for the same address.
    pub(super) id: u64,
    pub(super) queue: OutgoingQueue,
    /// The live connections. The first one is written to; switching to another while it lives could
    /// reorder messages.
    pub(super) links: Vec<Link<C>>,
    pub(super) dial: Option<Dial>,
    pub(super) backoff: Backoff,
    /// The number of callers that want a connection and wait for it.
    pub(super) wanted: usize,
    pub(super) observers: WaitList,
    /// The error of the last dial. A connection clears it.
    pub(super) failure: Option<Failure>,
    /// Wakes the task of the peer.
    pub(super) signal: Arc<Signal>,
    pub(super) task: TaskState,
    /// When this peer was last used.
    pub(super) used: Instant,
}

/// A dial in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dial {
    pub(super) since: Instant,
}

/// The failure of the last dial.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Later failures have larger ids.
    pub(super) id: u64,
    pub(super) error: Arc<anyhow::Error>,
    /// No retry can help.
    pub(super) permanent: bool,
}

/// The activity of a peer's task. While the task runs, which is never for long, its last reading of
/// the clock is good enough for the expiry of a message, so most senders need not read the clock.
#[derive(Debug, Clone, Copy)]
pub(super) enum TaskState {
    /// It waits for its signal.
    Waiting,
    /// It runs, or is about to, since this time.
    Running(Instant),
    /// It waits for the network: a dial, a keepalive, or a write that the network does not take.
    Blocked,
}

/// The next step of a peer's task, or a connection to close first.
pub(super) enum Decision<C> {
    Step(Step<C>),
    /// A connection must be closed first.
    Close {
        link: u64,
        code: CloseCode,
        why: &'static str,
    },
}

impl<C: NetConnection> Peer<C> {
    pub(super) fn new(id: u64, queue: OutgoingQueue, signal: Arc<Signal>, now: Instant) -> Self {
        Self {
            id,
            queue,
            links: Vec::new(),
            dial: None,
            backoff: Backoff::default(),
            wanted: 0,
            observers: WaitList::default(),
            failure: None,
            signal,
            task: TaskState::Waiting,
            used: now,
        }
    }

    pub(super) fn state(&self, now: Instant) -> PeerState {
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

    /// Makes the task of the peer check for work.
    pub(super) fn wake_task(&mut self, now: Instant) {
        if matches!(self.task, TaskState::Waiting) {
            self.task = TaskState::Running(now);
        }
        self.signal.raise();
    }

    /// Returns the connection to which a sender may write a message of `len` bytes itself.
    pub(super) fn direct_link(&mut self, len: usize, now: Instant) -> Option<&mut Link<C>> {
        if len > DIRECT_LEN || !matches!(self.task, TaskState::Waiting) {
            return None;
        }
        let link = self.links.first_mut()?;
        let rested = now.saturating_duration_since(link.written) >= DIRECT_AFTER;
        (rested && !link.unflushed).then_some(link)
    }

    /// Decides what the task of the peer does next, and starts a batch if it is to write. The
    /// caller must carry out [`Step::Gone`] and [`Step::Dial`].
    pub(super) fn decide(
        &mut self,
        addr: SocketAddr,
        batch: &mut VecDeque<Bytes>,
        now: Instant,
        config: &TransportLayerConfig,
    ) -> Decision<C> {
        self.queue.purge(now);
        let busy = self.queue.queued() > 0;
        let mut deadline = None;
        for link in &mut self.links {
            match link.check(now, config, busy) {
                Ok(at) => deadline = sooner(deadline, at),
                Err((code, why)) => {
                    let link = link.id;
                    return Decision::Close { link, code, why };
                }
            }
        }
        if let Some(link) = self.links.first() {
            // A batch in flight belongs to a sender, which reports when it is done.
            let writable = !self.queue.is_in_flight();
            if writable && (link.unflushed || !self.queue.is_empty()) {
                let (link, conn) = (link.id, link.conn.clone());
                let bytes = self.queue.begin_batch(batch, now);
                self.task = TaskState::Running(now);
                return Decision::Step(Step::Write { link, conn, bytes });
            }
        } else if !net::is_dialable(addr) {
            self.queue.drop_waiting(DropReason::Unroutable);
        } else if !self.queue.is_empty() || self.wanted > 0 {
            let Some(until) = self.backoff.pending(now) else {
                self.task = TaskState::Blocked;
                return Decision::Step(Step::Dial);
            };
            deadline = sooner(deadline, Some(until));
            deadline = sooner(deadline, self.queue.next_expiry());
        }
        for link in &self.links {
            let keepalive = link.written.checked_add(config.keepalive_interval);
            if keepalive.is_some_and(|at| at <= now) {
                self.queue.shrink();
                self.task = TaskState::Blocked;
                let (link, conn) = (link.id, link.conn.clone());
                return Decision::Step(Step::Keepalive { link, conn });
            }
            deadline = sooner(deadline, keepalive);
        }
        if self.is_at_rest() {
            let forget_at = self.used.checked_add(config.peer_linger);
            if forget_at.is_some_and(|at| at <= now) {
                return Decision::Step(Step::Gone);
            }
            deadline = sooner(deadline, forget_at);
        } else {
            self.used = now;
        }
        self.task = TaskState::Waiting;
        Decision::Step(Step::Wait(deadline))
    }

    /// Returns whether the peer has no connection, no messages and no callers that wait.
    fn is_at_rest(&self) -> bool {
        self.links.is_empty() && !self.is_needed()
    }

    /// Returns whether messages or callers wait for this peer.
    pub(super) fn is_needed(&self) -> bool {
        self.queue.queued() > 0 || self.wanted > 0 || !self.queue.senders.is_empty()
    }
}
