//! [`Driver`]: the task that runs the engine of a participant.
//!
//! It does not look into messages; the engine does. Invariant: whatever is due, a message is handled
//! between two rounds, and other tasks run; however it ends, the participant counts as left.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};

use super::engine::{Connection, Event};
use super::revocations;
use super::shared::{Ending, Shared};
use crate::credential::{InviteId, RevokeError, Role};
use crate::message::{ALPN_V1, ChitchatMessage};
use crate::net::NetTransport;
use crate::rt;
use crate::rt::sync::yield_now;
use crate::transport_layer::{ClosedError, Received};

/// Messages are handled in a row for at least this time before other tasks run: those of peers that flood this
/// member are refused quickly, and others wait behind some of them.
const YIELD_AFTER: Duration = Duration::from_millis(1);
/// All revocations that are known are published at least so often.
const PUBLISH_EVERY: Duration = Duration::from_secs(60);
/// What others have revoked and could not be revoked here is tried again after this time.
const ADOPT_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Differs from every number of changes.
const NOTHING_SEEN: u64 = u64::MAX;
/// At least so many messages are handled in a row, however long they take. If the machine is so busy that a round is due
/// whenever this task has its turn, fewer would never catch up with what arrives.
const FEWEST_IN_A_ROW: u32 = 16;

/// The task that receives messages, and passes in connections, rounds and rumours.
pub(super) struct Driver<T: NetTransport> {
    shared: Arc<Shared<T>>,
    _ending: Ending<T>,
    /// The epoch of the connections that the engine knows.
    connections: u64,
    /// The changes of the socket's trust up to which the engine knows its secrets.
    trust: u64,
    /// The time at which all revocations were published last.
    published: Duration,
    /// The revocations of other members since then.
    heard: BTreeSet<InviteId>,
    /// The changes of reserved keys that were looked at, when that was, and why a revocation among them could not be
    /// applied.
    reserved: u64,
    adopted: Duration,
    refused: Option<RevokeError>,
    has_heard: bool,
    /// The members that were live after the last round.
    live: BTreeSet<SocketAddr>,
    /// The membership has changed since `live` was determined.
    is_stale: bool,
    rounds: Rest,
    rumours: Rest,
}

impl<T: NetTransport> Driver<T> {
    /// Returns the task, after it has passed the secrets to the engine.
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        let mut driver = Self {
            _ending: Ending(Arc::clone(&shared)),
            shared,
            connections: 0,
            trust: NOTHING_SEEN,
            published: Duration::ZERO,
            heard: BTreeSet::new(),
            reserved: 0,
            adopted: Duration::ZERO,
            refused: None,
            has_heard: false,
            live: BTreeSet::new(),
            is_stale: false,
            rounds: Rest::default(),
            rumours: Rest::default(),
        };
        driver.note_trust();
        driver
    }

    /// Runs until the socket is closed, or the participant counts as left.
    pub(super) async fn run(mut self) {
        let (mut in_a_row, mut since) = (0, self.shared.now());
        self.shared.handle(Event::UnixTime(rt::unix_time()));
        loop {
            self.note_reserved();
            self.note_trust();
            self.note_connections();
            let epoch = self.shared.deadlines.current();
            if self.shared.changes.has_left() {
                break;
            }
            let (event, due) = self.next_deadline();
            let now = self.shared.now();
            let wait = due.saturating_sub(now);
            let is_due = wait.is_zero();
            if is_due {
                self.handle_deadline(event);
            }
            // Without a timer, if there is a message already.
            match self.shared.socket.recv_detailed().now_or_never() {
                Some(Ok(received)) => {
                    self.receive(received);
                    in_a_row += 1;
                    let has_had_turn =
                        in_a_row >= FEWEST_IN_A_ROW && now.saturating_sub(since) >= YIELD_AFTER;
                    if !has_had_turn {
                        continue;
                    }
                    yield_now().await;
                }
                Some(Err(_closed)) => break,
                None if is_due => yield_now().await,
                None => match self.wait(wait, epoch).await {
                    Some(Ok(received)) => self.receive(received),
                    Some(Err(_closed)) => break,
                    None => {}
                },
            }
            (in_a_row, since) = (0, self.shared.now());
        }
    }

    /// Waits for a message, at most for `limit` and until a deadline may have moved since `epoch`.
    async fn wait(
        &self,
        limit: Duration,
        epoch: u64,
    ) -> Option<Result<Received<ChitchatMessage>, ClosedError>> {
        // Deadlines are checked after each message as well: the timers of a hidden tab may fire only
        // once a minute, but its messages arrive.
        let timer = std::pin::pin!(rt::sleep(limit));
        let moved = std::pin::pin!(self.shared.deadlines.later_than(epoch));
        let trust = self.shared.socket.trust();
        let trust_changed = std::pin::pin!(trust.changed_since(self.trust));
        let changed = select(moved, trust_changed);
        let received = std::pin::pin!(self.shared.socket.recv_detailed());
        match select(received, select(timer, changed)).await {
            Either::Left((received, _)) => Some(received),
            Either::Right(_) => None,
        }
    }

    /// Returns the event that is due next, and when.
    fn next_deadline(&self) -> (Event, Duration) {
        let engine = self.shared.engine();
        let round = self.rounds.postpone(engine.next_round());
        let rumours = engine.next_rumours();
        match rumours.map(|due| self.rumours.postpone(due)) {
            Some(due) if due < round => (Event::Rumours, due),
            _ => (Event::Round, round),
        }
    }

    fn handle_deadline(&mut self, event: Event) {
        let is_round = matches!(event, Event::Round);
        let rest = match event {
            Event::Rumours => &mut self.rumours,
            _ => &mut self.rounds,
        };
        let start = self.shared.now();
        if is_round {
            self.shared.handle(Event::UnixTime(rt::unix_time()));
        }
        self.is_stale |= self.shared.handle(event);
        rest.note(start, self.shared.now());
        if is_round {
            self.shared.dial_selected();
            self.suspect_overdue();
            if std::mem::take(&mut self.is_stale) {
                self.suspect_dead();
            }
        }
    }

    /// Has the connections probed over which nothing comes although an answer is overdue. The member may be
    /// live by the reports of others, or be a seed of which nothing is known yet.
    fn suspect_overdue(&self) {
        let now = self.shared.now();
        let (overdue, silence) = self.shared.engine().take_overdue(now);
        for addr in overdue {
            self.shared.socket.suspect_if_silent(addr, silence);
        }
    }

    /// Has the connections of members probed that have died: the network may have lost them without a
    /// sign, while the members live.
    fn suspect_dead(&mut self) {
        let live = self.shared.engine().live_addrs();
        for addr in self.live.difference(&live) {
            self.shared.socket.suspect(*addr);
        }
        self.live = live;
    }

    /// Passes the secrets to the engine if they may have changed, and publishes revocations: those of this member
    /// at once, and those of others, and what has expired, now and then.
    fn note_trust(&mut self) {
        let trust = self.shared.socket.trust();
        let (changes, now) = (trust.changes(), self.shared.now());
        let is_changed = std::mem::replace(&mut self.trust, changes) != changes;
        if is_changed {
            self.shared.follow_trust();
        }
        let is_due = now.saturating_sub(self.published) >= PUBLISH_EVERY;
        let is_news =
            || is_changed && revocations::is_news(&self.shared.engine(), trust, &self.heard);
        if is_due || is_news() {
            self.published = now;
            self.heard.clear();
            self.shared.publish_revocations();
        }
    }

    /// Applies what other core members have revoked, if their reserved keys have changed, or not all of it could be
    /// applied the last time.
    fn note_reserved(&mut self) {
        let now = self.shared.now();
        let engine = self.shared.engine();
        let changes = engine.reserved_changes();
        let is_changed = std::mem::replace(&mut self.reserved, changes) != changes;
        let is_due =
            || self.refused.is_some() && now.saturating_sub(self.adopted) >= ADOPT_AGAIN_AFTER;
        if is_changed || is_due() {
            let (heard, refused) = (&mut self.heard, &mut self.refused);
            revocations::adopt(&engine, self.shared.socket.trust(), heard, refused);
            self.adopted = now;
        }
    }

    /// Passes the connections to the engine if they have changed.
    fn note_connections(&mut self) {
        let Some(peers) = self.shared.socket.connected_peers(&mut self.connections) else {
            return;
        };
        let connections = peers.into_iter().map(|peer| Connection {
            addr: peer.addr,
            reads_v1: peer.alpn == ALPN_V1,
            invite: peer.invite,
        });
        let event = Event::Connections(connections.collect());
        self.is_stale |= self.shared.handle(event);
    }

    fn receive(&mut self, received: Received<ChitchatMessage>) {
        // The engine knows of a connection, and of the secret that was used, before it hears from the peer.
        self.note_trust();
        self.note_connections();
        if received.role == Role::Leaf {
            // The clock may have been set since the last round, or the machine may have slept.
            self.shared.handle(Event::UnixTime(rt::unix_time()));
        }
        self.is_stale |= self.shared.handle(Event::Message {
            from: received.from,
            identity: received.identity,
            role: received.role,
            message: received.message,
        });
        if !self.has_heard && self.shared.engine().counts().heard > 0 {
            self.has_heard = true;
            self.shared.first_heard.advance();
        }
    }
}

/// Spaces events whose handling takes long: after each of them, at least as much time is left to
/// messages as it has taken.
#[derive(Debug, Default)]
struct Rest {
    until: Duration,
}

impl Rest {
    /// Notes that an event was handled from `start` to `end`.
    fn note(&mut self, start: Duration, end: Duration) {
        self.until = end.saturating_add(end.saturating_sub(start));
    }

    /// Returns when the next event may be handled, if it is due at `due`.
    fn postpone(&self, due: Duration) -> Duration {
        due.max(self.until)
    }
}
