//! What the tasks of a participant share: the socket, the engine behind its lock, and the waiters.
//!
//! Passes events to the engine and performs its outputs. It has no task and no timer. Invariant: the
//! engine's lock is never held over an await, and sending never waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::engine::{Engine, Event, Output};
use super::error::ConnectedError;
use super::revocations;
use super::seeds::{Outlook, Seeds};
use super::watch::Changes;
use crate::message::ChitchatMessage;
use crate::net::NetTransport;
use crate::rt::Instant;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::transport_layer::{OutgoingConnection, TransportLayerSocket};

#[derive(Debug)]
pub(super) struct Shared<T: NetTransport> {
    pub(super) socket: TransportLayerSocket<T, ChitchatMessage>,
    pub(super) engine: Mutex<Engine>,
    pub(super) gossip_interval: Duration,
    // The zero of the engine's time.
    pub(super) start: Instant,
    pub(super) changes: Arc<Changes>,
    pub(super) seeds: Mutex<Seeds>,
    /// Advances with the first message of another member of the cluster.
    pub(super) first_heard: Arc<Epoch>,
    /// Advances when another task than the driver may have moved a deadline of the engine, so that
    /// the driver looks at it again.
    pub(super) deadlines: Epoch,
}

/// Part of a task: makes the participant count as left when it is dropped, and reports that to those who watch or
/// change keys, whether the task has finished, was dropped or has panicked.
pub(super) struct Ending<T: NetTransport>(pub(super) Arc<Shared<T>>);

impl<T: NetTransport> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.changes.leave();
        self.0.deadlines.advance();
    }
}

impl<T: NetTransport> Shared<T> {
    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock()
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn own_keys_changed(&self, changed: bool) {
        if changed {
            self.changes.notify();
            self.deadlines.advance();
        }
    }

    /// Passes the secrets of the socket's trust, and the quotas of its invite, to the engine.
    pub(super) fn follow_trust(&self) {
        let now = self.now();
        let trust = self.socket.trust();
        let (keyring, invite) = (trust.keyring(), trust.held_invite());
        let quotas = invite.map(|invite| invite.claims().quotas());
        let (changed, settled) = {
            let mut engine = self.engine();
            let changed = engine.set_secrets(keyring.as_deref(), now);
            (changed, engine.set_quotas(quotas, now))
        };
        let changed = changed | settled.as_ref().is_ok_and(|is_afresh| *is_afresh);
        if let Err(error) = settled {
            tracing::warn!(%error, "the invite of this member allows less than it has: until it has fewer, keys can be deleted and \
                 shortened only");
        }
        // Which members have left may have changed, too.
        self.own_keys_changed(changed);
    }

    /// Tells other members what the socket's trust revokes.
    pub(super) fn publish_revocations(&self) {
        let now = self.now();
        let changed = revocations::publish(&mut self.engine(), self.socket.trust(), now);
        self.own_keys_changed(changed);
    }

    /// Tells all connected members that this one leaves.
    pub(super) fn announce_leaving(&self) {
        // The driver may not have noticed a change yet, or be gone.
        self.follow_trust();
        let now = self.now();
        let farewell = self.engine().leave(now);
        self.perform(farewell);
    }

    /// Passes an event to the engine and performs its outputs. Returns true if the membership has changed.
    pub(super) fn handle(&self, event: Event) -> bool {
        let now = self.now();
        let outputs = self.engine().handle(event, now);
        self.perform(outputs)
    }

    /// Has the members dialled that the last round has selected and of which only datagrams are known, which someone may
    /// have forged.
    pub(super) fn dial_selected(&self) {
        let selected = self.engine().take_selected();
        for addr in selected {
            if self.socket.get_or_create_outgoing_connection(addr).is_err() {
                tracing::debug!(%addr, "not dialled: the socket is closed");
            }
        }
    }

    /// Performs outputs of the engine. Returns true if the membership has changed.
    pub(super) fn perform(&self, outputs: Vec<Output>) -> bool {
        let mut changed = false;
        for output in outputs {
            match output {
                Output::Send { to, message } => self.send(to, message),
                Output::SendToAll { to, message } => self.send_to_all(&to, message),
                Output::Refuse { to, reason } => self.socket.refuse_leaf(to, reason),
                Output::MembershipChanged => {
                    self.changes.notify();
                    changed = true;
                }
            }
        }
        changed
    }

    /// Returns the reason for which no other member was met, if a retry cannot change it.
    pub(super) fn hopeless(&self) -> Option<ConnectedError> {
        let seeds = self.seeds.lock();
        let outlook = seeds.outlook(|addr| self.socket.dial_failure(addr));
        drop(seeds);
        match outlook {
            Outlook::Open => None,
            Outlook::Reachable(seeds) => {
                let is_rejected = self.engine().is_rejected_by(seeds);
                is_rejected.then(|| self.wrong_cluster())
            }
            Outlook::Hopeless(error) => Some(error),
        }
    }

    /// Returns the error of a member whose seeds belong to another cluster. The name of its own may come from its invite.
    fn wrong_cluster(&self) -> ConnectedError {
        let cluster_id = self.engine().cluster_id().to_owned();
        match self.socket.trust().held_invite() {
            Some(invite) if invite.cluster_id() == cluster_id => {
                ConnectedError::InviteOfAnotherCluster { cluster_id }
            }
            _ => ConnectedError::WrongCluster,
        }
    }

    /// Returns the queues of all seeds, to dial them.
    pub(super) fn dials(&self) -> Vec<OutgoingConnection<ChitchatMessage>> {
        let seeds = self.seeds.lock().addrs();
        let peer = |seed| self.socket.get_or_create_outgoing_connection(seed).ok();
        seeds.into_iter().filter_map(peer).collect()
    }

    /// Queues a message without waiting. If the queue is full, the message is not sent; the next
    /// round repairs that.
    pub(super) fn send(&self, to: SocketAddr, message: ChitchatMessage) {
        match self.socket.send(to, message).now_or_never() {
            Some(Ok(())) => {}
            Some(Err(_closed)) => tracing::debug!(%to, "not sent: the socket is closed"),
            None => tracing::debug!(%to, "not sent: the queue is full"),
        }
    }

    /// Queues a message for several members, encoded once.
    pub(super) fn send_to_all(&self, to: &[SocketAddr], message: ChitchatMessage) {
        if self.socket.send_to_all(to, message).is_err() {
            tracing::debug!(?to, "not sent: the socket is closed");
        }
    }

    pub(super) fn is_lonely(&self) -> bool {
        !self.engine().has_live_members()
    }
}
