//! One peer: its queue, its connections, its dial, and the next step of its task.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::backoff::Backoff;
use super::conflict::{Conflict, ConflictStep, Kind};
use super::link::{Link, LinkRole, sooner};
use super::queue::OutgoingQueue;
use super::step::Step;
use crate::credential::Identity;
use crate::host::Host;
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

/// The state of one peer: its queue, connections and dial.
pub(super) struct Peer<C> {
    /// Distinguishes this entry from earlier ones for the same address.
    pub(super) id: u64,
    /// The identity that the messages of the queue are for: the one that was connected last, or
    /// [`Identity::UNPROVED`] for a peer without authentication. `None` until something has answered.
    pub(super) owner: Option<Identity>,
    /// The address to dial instead of that of the entry, because the peer was reached there: a URL, a
    /// proxy or a name. Boxed because it is rare: each peer would hold the room for it otherwise.
    pub(super) via: Option<Box<SocketAddr>>,
    /// The host from or at which it was connected last. What is kept and dialled for the peer counts against
    /// that host, since it may have stated any address.
    pub(super) host: Option<Host>,
    /// Further addresses of this peer while it is connected.
    pub(super) aliases: Vec<SocketAddr>,
    /// Boxed because it is rare.
    pub(super) verification: Option<Box<Verification>>,
    pub(super) claim: Option<Box<Claim>>,
    pub(super) conflict: Option<Box<Conflict>>,
    pub(super) queue: OutgoingQueue,
    /// The live connections. The first active one is written to; of an authenticated peer there is at
    /// most one.
    pub(super) links: Vec<Link<C>>,
    /// The connections whose readers run: first those that are out of service, in the order in which they
    /// went out of it, and then the others. A reader hands in nothing before those in front of it that are
    /// out of service have ended.
    pub(super) readers: Vec<ActiveReader>,
    /// Boxed, since most peers are connected and not being dialled.
    pub(super) dial: Option<Box<Dial>>,
    pub(super) backoff: Backoff,
    /// The wait before the next dial that replaces a connection, if one has failed.
    pub(super) renewal: Option<Box<Backoff>>,
    /// The number of callers that want a connection and wait for it.
    pub(super) wanted: usize,
    pub(super) observers: WaitList,
    /// The error of the last dial. A connection clears it. Boxed, since most peers have none.
    pub(super) failure: Option<Box<Failure>>,
    /// Wakes the task of the peer.
    pub(super) signal: Arc<Signal>,
    pub(super) task: TaskState,
    /// When this peer was last used.
    pub(super) used: Instant,
    /// When a connection of this peer last went out of service.
    pub(super) connected_until: Instant,
}

/// The reader of a connection.
#[derive(Debug)]
pub(super) struct ActiveReader {
    pub(super) link: u64,
    /// Wakes the reader. It is registered when the reader has begun.
    pub(super) waker: Option<Waker>,
}

/// Whether the address of a connected peer is dialled, to see who answers there: another identity has stated it as well,
/// or the peer has proved none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verification {
    /// When the address is to be dialled although the peer is connected.
    pub(super) due: Option<Instant>,
    /// When it was last dialled for this.
    pub(super) last: Option<Instant>,
}

/// An address that a connected peer has stated, and that belongs to another identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) addr: SocketAddr,
    /// When to look whether the other identity has left it.
    pub(super) due: Instant,
}

/// A dial in progress.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) id: u64,
    pub(super) since: Instant,
    pub(super) to: SocketAddr,
    pub(super) place: DialPlace,
    /// Whether it replaces a connection.
    pub(super) renews: bool,
    /// Raised when the dial is given up.
    pub(super) given_up: Arc<Signal>,
    /// Wakes the task of the dial.
    pub(super) waker: Option<Waker>,
    /// Whether the dial was polled, and still pending, after the peer's own connection arrived.
    pub(super) has_waited: bool,
}

/// The place that a dial takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DialPlace {
    /// One of the `max_connections` places.
    Ordinary,
    /// One of the places beside them, for contested addresses while there is no other.
    Extra,
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
    /// It waits for the network: a keepalive, a probe, or a write that the network does not take.
    Blocked,
}

/// The next step of a peer's task, or a connection to close first.
pub(super) enum Decision<C> {
    Step(Step<C>),
    /// Dial this address.
    Dial(SocketAddr),
    /// Dial the address of the entry, to see who answers there.
    Verify,
    /// Dial this address, to replace the active connection.
    Renew(SocketAddr),
    /// Say goodbye on a connection that is not trusted any more.
    Leave(u64),
    /// A connection must be closed first.
    Close {
        link: u64,
        code: CloseCode,
        why: &'static str,
    },
    /// The conflict of two connections must be settled first.
    Settle {
        answered: bool,
    },
}

impl<C: NetConnection> Peer<C> {
    pub(super) fn new(id: u64, queue: OutgoingQueue, signal: Arc<Signal>, now: Instant) -> Self {
        Self {
            id,
            owner: None,
            via: None,
            host: None,
            aliases: Vec::new(),
            verification: None,
            claim: None,
            conflict: None,
            queue,
            // Two connections at a time are rare, and by itself the vector would make room for four.
            links: Vec::with_capacity(1),
            readers: Vec::with_capacity(1),
            dial: None,
            backoff: Backoff::default(),
            renewal: None,
            wanted: 0,
            observers: WaitList::default(),
            failure: None,
            signal,
            task: TaskState::Waiting,
            used: now,
            connected_until: now,
        }
    }

    pub(super) fn state(&self, now: Instant) -> PeerState {
        if self.active().is_some() {
            PeerState::Connected
        } else if self.dial.is_some() {
            PeerState::Dialing
        } else if self.backoff.pending(now).is_some() {
            PeerState::BackingOff
        } else {
            PeerState::Idle
        }
    }

    /// Returns the dial, if there is one and it takes a place of `place`.
    pub(super) fn dial_in(&self, place: DialPlace) -> Option<&Dial> {
        self.dial.as_deref().filter(|dial| dial.place == place)
    }

    /// Returns whether an identity owns this entry.
    pub(super) fn is_proved(&self) -> bool {
        self.owner.is_some_and(|owner| owner != Identity::UNPROVED)
    }

    pub(super) fn link(&mut self, id: u64) -> Option<&mut Link<C>> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// Returns the connection that messages are written to.
    pub(super) fn active(&self) -> Option<&Link<C>> {
        self.links.iter().find(|link| link.role == LinkRole::Active)
    }

    /// Returns whether a connection that is alive was dialled at `addr`.
    pub(super) fn was_dialled_at(&self, addr: SocketAddr) -> bool {
        let mut links = self.links.iter();
        links.any(|link| link.was_dialled_at(addr))
    }

    /// Returns whether a connection that was dialled at `addr` is in use, which one that waits is not yet.
    pub(super) fn was_reached_at(&self, addr: SocketAddr) -> bool {
        let mut links = self.links.iter();
        links.any(|link| link.role != LinkRole::Waiting && link.was_dialled_at(addr))
    }

    /// Returns the connection that can be spared best if there are two: the newer one while it is open
    /// which one stays, and then the one that does not.
    pub(super) fn spare_link(&self) -> Option<u64> {
        let newer = self.conflict.as_ref().map(|conflict| conflict.newer);
        let is_newer = |link: &&Link<C>| newer == Some(link.id);
        let spare = |link: &&Link<C>| link.role != LinkRole::Active;
        let links = || self.links.iter();
        let link = links().find(is_newer).or_else(|| links().find(spare));
        link.map(|link| link.id)
    }

    /// Returns whether a connection must not be read yet.
    pub(super) fn has_to_wait(&self, link: &Link<C>) -> bool {
        let has_older = || self.links.iter().any(|older| Some(older.id) == link.after);
        match link.role {
            LinkRole::Waiting => true,
            LinkRole::Active | LinkRole::Leaving(..) => has_older(),
            // The peer may not write to the other one before this one has answered.
            LinkRole::Draining(_) => false,
            // Otherwise the goodbye of a peer that refuses it would not be read.
            LinkRole::Standby => false,
        }
    }

    /// Returns whether the reader of a connection must not hand in anything yet, since that of another one
    /// which went out of service before has not ended.
    pub(super) fn is_behind_another_reader(&self, id: u64) -> bool {
        let first = self.readers.first();
        first.is_some_and(|first| first.link != id && !self.is_in_service(first.link))
    }

    /// Returns when the address is to be dialled although the peer is connected.
    pub(super) fn verification_due(&self) -> Option<Instant> {
        self.verification.as_ref().and_then(|check| check.due)
    }

    pub(super) fn cancel_verification(&mut self) {
        if let Some(check) = &mut self.verification {
            check.due = None;
        }
    }

    /// Returns the reader of a connection, if it is being read.
    pub(super) fn reader(&mut self, link: u64) -> Option<&mut ActiveReader> {
        self.readers.iter_mut().find(|reader| reader.link == link)
    }

    /// Returns whether a connection is being read.
    pub(super) fn is_read(&self, id: u64) -> bool {
        self.readers.iter().any(|reader| reader.link == id)
    }

    /// Returns whether this side has said goodbye on a connection that is read to its end, so that a new one would
    /// come too early.
    pub(super) fn is_leaving(&self) -> bool {
        self.links.iter().any(Link::is_leaving)
    }

    /// Returns the connection that becomes the active one if there is none.
    pub(super) fn next_in_service(&self) -> Option<u64> {
        let mut links = self.links.iter().rev();
        let next = links.find(|link| matches!(link.role, LinkRole::Waiting | LinkRole::Standby));
        next.map(|link| link.id)
    }

    /// Ends the conflict of two connections, if this is one of them.
    pub(super) fn end_conflict_of(&mut self, link: u64) {
        self.conflict
            .take_if(|conflict| conflict.older == link || conflict.newer == link);
    }

    /// Returns whether a connection is in service.
    pub(super) fn is_in_service(&self, id: u64) -> bool {
        self.links.iter().any(|link| link.id == id)
    }

    /// Puts the reader of a connection that is no longer in service before those of the others. Returns
    /// whether any of them has to wait for it.
    pub(super) fn note_out_of_service(&mut self, id: u64) -> bool {
        let Some(index) = self.readers.iter().position(|reader| reader.link == id) else {
            return false;
        };
        let reader = self.readers.remove(index);
        let is_before = |reader: &&ActiveReader| !self.is_in_service(reader.link);
        let place = self.readers.iter().take_while(is_before).count();
        self.readers.insert(place, reader);
        place + 1 < self.readers.len()
    }

    /// Returns the address to dial.
    pub(super) fn target(&self, addr: SocketAddr) -> SocketAddr {
        self.via.as_deref().copied().unwrap_or(addr)
    }

    /// Notes that the peer, which is registered at `addr`, was reached at `dialled`.
    pub(super) fn note_way(&mut self, addr: SocketAddr, dialled: SocketAddr) {
        self.via = (dialled != addr).then(|| Box::new(dialled));
    }

    /// Returns whether the peer was reached at `dialled` instead of the address of its entry.
    pub(super) fn is_reached_by(&self, dialled: SocketAddr) -> bool {
        self.via.as_deref() == Some(&dialled)
    }

    /// Returns the host that this peer, which is registered at `addr`, counts against.
    pub(super) fn host(&self, addr: SocketAddr) -> Host {
        self.host
            .unwrap_or_else(|| Host::of(self.target(addr).ip()))
    }

    /// Returns whether nothing may be written, because the peer has not received everything that was
    /// written to an earlier connection.
    fn is_held(&self) -> bool {
        let kind = self.conflict.as_ref().map(|conflict| conflict.kind);
        kind == Some(Kind::KeepNewer)
    }

    /// Makes the task of the peer check for work.
    pub(super) fn wake_task(&mut self, now: Instant) {
        if matches!(self.task, TaskState::Waiting) {
            self.task = TaskState::Running(now);
        }
        self.signal.raise();
    }

    /// Returns the connection to which a sender may write a message of `len` bytes itself.
    /// Reads `clock` only if the peer was not heard since [`DIRECT_AFTER`] had passed, which is
    /// enough to know, and usual where messages are answered.
    pub(super) fn direct_link(
        &self,
        len: usize,
        clock: impl FnOnce() -> Instant,
    ) -> Option<&Link<C>> {
        if len > DIRECT_LEN || !matches!(self.task, TaskState::Waiting) || self.is_held() {
            return None;
        }
        let link = self.active().filter(|link| !link.unflushed)?;
        let rested = |now: Instant| now.saturating_duration_since(link.written) >= DIRECT_AFTER;
        (rested(link.conn.last_heard()) || rested(clock())).then_some(link)
    }

    /// Decides what the task of the peer does next, and starts a batch if it is to write. The
    /// caller must carry out [`Step::Gone`].
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
        if let Some(link) = self.links.iter_mut().find_map(|link| {
            let is_due = link.doubt.take_probe(now);
            is_due.then_some(link)
        }) {
            let (link, conn) = (link.id, link.conn.clone());
            self.task = TaskState::Blocked;
            return Decision::Step(Step::Probe { link, conn });
        }
        for link in &self.links {
            let at = link.leave_at();
            if at.is_some_and(|at| at <= now) {
                return Decision::Leave(link.id);
            }
            deadline = sooner(deadline, at);
        }
        match self.next_of_conflict(now) {
            None => {}
            Some(Ok(decision)) => return decision,
            Some(Err(at)) => deadline = sooner(deadline, Some(at)),
        }
        deadline = sooner(deadline, self.claim.as_ref().map(|claim| claim.due));
        let target = self.target(addr);
        if let Some(due) = self.verification_due()
            && self.dial.is_none()
        {
            if self.is_proved() && self.was_dialled_at(addr) {
                self.cancel_verification();
            } else if due <= now {
                return Decision::Verify;
            } else {
                deadline = sooner(deadline, Some(due));
            }
        }
        if self.active().is_some_and(Link::should_be_renewed)
            && self.dial.is_none()
            && self.conflict.is_none()
            && net::may_be_dialled(target)
        {
            match self.renewal.as_ref().and_then(|wait| wait.pending(now)) {
                None => return Decision::Renew(target),
                Some(due) => deadline = sooner(deadline, Some(due)),
            }
        }
        if let Some(link) = self.active() {
            // A batch in flight belongs to a sender, which reports when it is done.
            let writable = !self.queue.is_in_flight() && !self.is_held();
            if writable && (link.unflushed || !self.queue.is_empty()) {
                let (link, conn) = (link.id, link.conn.clone());
                let bytes = self.queue.begin_batch(batch, now);
                self.task = TaskState::Running(now);
                return Decision::Step(Step::Write { link, conn, bytes });
            }
        } else if self.is_leaving() {
            // What is queued goes over the next connection.
            deadline = sooner(deadline, self.queue.next_expiry());
        } else if !net::may_be_dialled(target) {
            self.queue.drop_waiting(DropReason::Unroutable);
        } else if !self.queue.is_empty() || self.wanted > 0 {
            if self.dial.is_none() {
                let Some(until) = self.backoff.pending(now) else {
                    return Decision::Dial(target);
                };
                deadline = sooner(deadline, Some(until));
            }
            deadline = sooner(deadline, self.queue.next_expiry());
        }
        for link in &self.links {
            if link.role != LinkRole::Active {
                continue;
            }
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

    /// Returns what to do about two connections of this peer, if there are two, or when to look again.
    fn next_of_conflict(&mut self, now: Instant) -> Option<Result<Decision<C>, Instant>> {
        let conflict = self.conflict.as_mut()?;
        if conflict.kind == Kind::Renewal {
            return None;
        }
        let Some(older) = self.links.iter().find(|link| link.id == conflict.older) else {
            return Some(Ok(Decision::Settle { answered: false }));
        };
        let conn = &older.conn;
        match conflict.next(conn.last_answer(), conn.last_heard(), now) {
            ConflictStep::Probe => {
                let (link, conn) = (older.id, conn.clone());
                self.task = TaskState::Blocked;
                Some(Ok(Decision::Step(Step::Probe { link, conn })))
            }
            ConflictStep::LookAgain(at) => Some(Err(at)),
            ConflictStep::Settled { answered } => Some(Ok(Decision::Settle { answered })),
        }
    }

    /// Returns whether the peer has no connection, no reader, no dial, no messages and no callers that wait.
    fn is_at_rest(&self) -> bool {
        let is_read = !self.readers.is_empty();
        self.links.is_empty() && !is_read && self.dial.is_none() && !self.is_needed()
    }

    /// Returns whether messages or callers wait for this peer.
    pub(super) fn is_needed(&self) -> bool {
        self.queue.queued() > 0 || self.wanted > 0 || !self.queue.senders.is_empty()
    }
}
