//! The calls of a peer's task: next steps, and the results of dials and writes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::connections::Need;
use super::registration::VERIFY_EVERY;
use super::{Peers, Phase};
use crate::credential::Identity;
use crate::net::{CloseCode, ConnectError, NetConnection};
use crate::rt::Instant;
use crate::rt::sync::Signal;
use crate::transport_layer::core::peer::{
    Decision, Dial, DialPlace, Failure, TaskState, Verification,
};
use crate::transport_layer::core::pool::Pool;
use crate::transport_layer::core::requests::Writer;
use crate::transport_layer::core::step::{DialKey, Effects, NewDial, PeerKey, Step};
use crate::transport_layer::stats::DropReason;

/// The number of dials of contested addresses that run beside `max_connections` while all of these places
/// are in use, of which no two are for peers of one host, so that it cannot take all of them.
pub(super) const MAX_EXTRA_DIALS: usize = 8;

/// The shortest and longest wait for room for a dial that replaces a connection. The longest is short beside
/// the second in which a connection must be replaced whose secret was removed.
const WAIT_TO_RENEW: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

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
        let (min, max) = (config.backoff_min, config.backoff_max);
        let draining = self.phase == Phase::Draining;
        self.claim_again(key, now, fx);
        let step = loop {
            let is_full = self.in_use() >= config.max_connections;
            let Some(addr) = self.locate(key) else {
                return Step::Gone;
            };
            let Some(peer) = self.map.get_mut(&addr) else {
                return Step::Gone;
            };
            match peer.decide(addr, batch, now, &config) {
                Decision::Step(step) => break step,
                // What is sent to a peer without a proved identity takes no place from a connection.
                Decision::Dial(_) if is_full && peer.owner == Some(Identity::UNPROVED) => {
                    peer.backoff.postpone(now, min, max);
                }
                Decision::Dial(to) => {
                    let need = match peer.backoff.failures() {
                        0 => Need::FirstDial(peer.host(addr)),
                        _ => Need::Redial(peer.host(addr)),
                    };
                    if self.make_room(Pool::Proved, need, now, fx) {
                        break Step::Dial(self.start_dial((key, to), DialPlace::Ordinary, now));
                    }
                    if let Some(peer) = self.map.get_mut(&addr) {
                        peer.backoff.postpone(now, min, max);
                    }
                }
                Decision::Renew(to) => {
                    let may_renew = self.may_renew(addr);
                    if let Some(peer) = self.map.get_mut(&addr)
                        && !may_renew
                    {
                        let (min, max) = WAIT_TO_RENEW;
                        let wait = peer.renewal.get_or_insert_default();
                        wait.postpone(now, min, max);
                        continue;
                    }
                    let dial = self.start_dial((key, to), DialPlace::Ordinary, now);
                    if let Some(dial) = self.get(key).and_then(|peer| peer.dial.as_mut()) {
                        dial.renews = true;
                        self.renewing += 1;
                    }
                    break Step::Dial(dial);
                }
                Decision::Leave(link) => {
                    self.leave((addr, link), CloseCode::UNTRUSTED, now, fx);
                }
                Decision::Verify => {
                    let place = self.place_to_verify(addr);
                    let Some(peer) = self.map.get_mut(&addr) else {
                        return Step::Gone;
                    };
                    let Some(place) = place else {
                        let check = peer.verification.get_or_insert_default();
                        check.due = Some(now + VERIFY_EVERY);
                        continue;
                    };
                    let last = Some(now);
                    peer.verification = Some(Box::new(Verification { due: None, last }));
                    break Step::Dial(self.start_dial((key, addr), place, now));
                }
                Decision::Close { link, code, why } => {
                    self.close_link((addr, link), code, why, now, fx);
                }
                Decision::Settle { answered } => self.settle(addr, answered, now, fx),
            }
        };
        if let Some(addr) = self.locate(key)
            && let Some(peer) = self.map.get_mut(&addr)
        {
            self.backlog.settle(&mut peer.queue);
            // Expired messages may have made room.
            fx.wakers.extend(peer.queue.ready_sender());
            if draining && peer.queue.queued() == 0 {
                fx.wakers.extend(self.drained.all());
            }
            self.relieve(None, fx);
        }
        if matches!(step, Step::Gone)
            && let Some(addr) = self.locate(key)
        {
            self.remove(addr, DropReason::Expired, fx);
        }
        step
    }

    /// Returns a place for a dial of `addr`, to see who answers there, or `None` if there is none now. A claim
    /// takes no place from a connection, and needs none of theirs: whoever owns the address would otherwise
    /// have it while there are `max_connections`, whether it answers there or not.
    fn place_to_verify(&self, addr: SocketAddr) -> Option<DialPlace> {
        if self.in_use() < self.config.max_connections {
            return Some(DialPlace::Ordinary);
        }
        let peers = self.map.iter();
        let extra = peers.filter(|(_, peer)| peer.dial_in(DialPlace::Extra).is_some());
        let hosts: Vec<_> = extra.map(|(addr, peer)| peer.host(*addr)).collect();
        let own = self.map.get(&addr)?.host(addr);
        let has_room = hosts.len() < MAX_EXTRA_DIALS && !hosts.contains(&own);
        has_room.then_some(DialPlace::Extra)
    }

    /// Records a dial, for which there must be room.
    fn start_dial(
        &mut self,
        (key, to): (PeerKey, SocketAddr),
        place: DialPlace,
        now: Instant,
    ) -> NewDial {
        self.dialling += usize::from(place == DialPlace::Ordinary);
        self.folded.dials += 1;
        let id = self.next_id();
        let given_up = Arc::new(Signal::default());
        if let Some(peer) = self.get(key) {
            peer.dial = Some(Box::new(Dial {
                id,
                since: now,
                to,
                place,
                renews: false,
                given_up: Arc::clone(&given_up),
                waker: None,
                has_waited: false,
            }));
        }
        NewDial {
            key: DialKey { peer: key, id },
            to,
            given_up,
        }
    }

    /// Takes a dial out of the books. Returns the present address of its peer and the dial, or `None` if it
    /// was given up earlier, and so is already counted as failed.
    fn end_dial(&mut self, key: DialKey) -> Option<(SocketAddr, Box<Dial>)> {
        let addr = self.locate(key.peer)?;
        let peer = self.map.get_mut(&addr)?;
        let dial = peer.dial.take_if(|dial| dial.id == key.id)?;
        peer.signal.raise();
        self.uncount(&dial);
        Some((addr, dial))
    }

    /// Counts a dial no more, which has ended or was given up.
    pub(super) fn uncount(&mut self, dial: &Dial) {
        self.dialling -= usize::from(dial.place == DialPlace::Ordinary);
        self.renewing -= usize::from(dial.renews);
    }

    /// Ends a dial and takes its connection into service.
    pub(in crate::transport_layer) fn dial_succeeded(
        &mut self,
        key: DialKey,
        conn: C,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        match self.end_dial(key) {
            Some((addr, dial)) => self.dialled((addr, dial.to), conn, now, fx),
            None => fx.close.push((conn, CloseCode::NORMAL)),
        }
    }

    /// Ends a dial that has failed. If no retry can help, drops the queued messages. Returns `None`
    /// if the dial was given up earlier, or the peer has connected in the meantime.
    pub(in crate::transport_layer) fn dial_failed(
        &mut self,
        key: DialKey,
        error: &Arc<anyhow::Error>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Option<DialFailure> {
        let (addr, dial) = self.end_dial(key)?;
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
        let peer = self.map.get_mut(&addr)?;
        if peer.active().is_some() {
            if dial.renews {
                peer.renewal.get_or_insert_default().fail(now, min, max);
            }
            return None;
        }
        peer.failure = Some(Box::new(failure));
        fx.wakers.extend(peer.observers.all());
        let dropped = if permanent {
            peer.queue.drop_waiting(DropReason::DialFailed)
        } else {
            0
        };
        self.backlog.settle(&mut peer.queue);
        fx.wakers.extend(peer.queue.ready_sender());
        let wait = peer.backoff.fail(now, min, max);
        let failures = peer.backoff.failures();
        self.relieve(None, fx);
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
        let addr = self.locate(key);
        let Some(peer) = addr.and_then(|addr| self.map.get_mut(&addr)) else {
            // The peer was forgotten in the meantime, and its messages were counted then.
            batch.clear();
            return;
        };
        let took_some = peer.queue.finish_batch(batch, now) > 0;
        self.backlog.settle(&mut peer.queue);
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
        if !flushed || !peer.queue.is_empty() || peer.active().is_none() {
            peer.wake_task(now);
        }
        fx.wakers.extend(peer.queue.ready_sender());
        if draining && peer.queue.queued() == 0 {
            fx.wakers.extend(self.drained.all());
        }
        self.relieve(addr, fx);
    }

    /// Records that a keepalive was sent.
    pub(in crate::transport_layer) fn kept_alive(&mut self, key: PeerKey, link: u64, now: Instant) {
        if let Some(link) = self.get(key).and_then(|peer| peer.link(link)) {
            link.written = now;
        }
    }
}
