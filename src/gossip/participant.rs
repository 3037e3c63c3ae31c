//! [`Participant`]: runs an engine on a socket.
//!
//! One task receives messages and passes in the rounds and rumours that are due. Another resolves
//! the seeds from time to time, so that a slow name server does not delay the first. This file does
//! not look into messages; the engine does. Invariant: the engine's lock is never held over an
//! await, and sending never waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};

use super::engine::{
    Connection, Engine, EngineCounts, Event, GossipConfig, Liveness, Member, Output,
};
use super::error::{ConnectedError, DeleteError, JoinError, SetError};
use super::seeds::{self, Outlook};
use super::watch::{Changes, MembershipWatch};
use crate::message::{ALPN_V1, ChitchatId, ChitchatMessage};
use crate::net::NetTransport;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::rt::{self, Instant, Task};
use crate::transport_layer::{OutgoingConnection, SocketStats, TransportLayerSocket};

/// The time after which the seeds are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);
/// The time after which [`Participant::connected`] looks at the seeds again.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The time after which the seeds are resolved again while no other member is live.
const LONELY_RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// A member of a cluster.
///
/// All methods except [`join`](Self::join) and [`leave`](Self::leave) take `&self` and return
/// immediately; share a participant in an [`Arc`]. Dropping it leaves the cluster without a last
/// message, and frees its port before `drop` returns.
#[derive(Debug)]
pub struct Participant<T: NetTransport> {
    // The tasks come first, so that they end before what they use is dropped.
    driver: Option<Task>,
    seeds: Option<Task>,
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T: NetTransport> {
    socket: TransportLayerSocket<T, ChitchatMessage>,
    engine: Mutex<Engine>,
    id: ChitchatId,
    gossip_interval: Duration,
    // The zero of the engine's time.
    start: Instant,
    changes: Arc<Changes>,
    /// The addresses of the seeds, `None` until they are resolved for the first time.
    seeds: Mutex<Option<Vec<SocketAddr>>>,
    /// Advances with the first message of another member of the cluster.
    first_heard: Arc<Epoch>,
    /// Advances when another task than the driver may have moved a deadline of the engine, so that
    /// the driver looks at it again.
    deadlines: Epoch,
}

impl<T: NetTransport> Participant<T> {
    /// Joins a cluster over `socket`. Returns at once, before anything is dialled, and finds the
    /// other members in the background; [`connected`](Self::connected) waits for the first of them.
    ///
    /// # Errors
    ///
    /// Fails if a configuration value is out of bounds ([`ConfigError`](crate::ConfigError)), or if
    /// an initial key is refused ([`JoinError`]). Both can be downcast from the returned error.
    pub async fn join(
        socket: TransportLayerSocket<T, ChitchatMessage>,
        config: GossipConfig,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        let addr = config.advertise_addr;
        let addr = addr.unwrap_or_else(|| socket.advertised_addr());
        let generation = config.generation_id.unwrap_or_else(start_time);
        let id = ChitchatId::new(config.node_id.as_str(), generation, addr);
        let gossip_interval = config.gossip_interval;
        let seeds = config.seeds.clone();
        let engine =
            Engine::new(config, id.clone(), Duration::ZERO).map_err(JoinError::InitialKey)?;
        tracing::info!(?id, "joining");
        let shared = Arc::new(Shared {
            socket,
            engine: Mutex::new(engine),
            id,
            gossip_interval,
            start: Instant::now(),
            changes: Arc::default(),
            seeds: Mutex::new(None),
            first_heard: Arc::default(),
            deadlines: Epoch::default(),
        });
        Ok(Self {
            driver: Some(Task::spawn(drive(Arc::clone(&shared)))),
            seeds: Some(Task::spawn(keep_resolving(Arc::clone(&shared), seeds))),
            shared,
        })
    }

    /// Returns the id of this member.
    pub fn id(&self) -> &ChitchatId {
        &self.shared.id
    }

    /// Waits for the first message of another member of the cluster. Returns at once if there was
    /// one, even if all connections have broken since.
    ///
    /// Without seeds, it waits until another member dials this one. Seeds that cannot be resolved or
    /// reached are tried again and again. While it waits, all seeds are dialled, each as often as its
    /// backoff allows. Cancel-safe, and may be called several times, also concurrently.
    ///
    /// # Errors
    ///
    /// Fails if no seed has let this member in at its last dial, and one of them for a reason that a
    /// retry cannot change. The participant keeps trying, so a later call succeeds once the reason
    /// is gone. Fails once the participant has left.
    pub fn connected(&self) -> impl Future<Output = Result<(), ConnectedError>> + use<T> {
        // The future must not keep the socket open after the participant is dropped.
        let shared = Arc::downgrade(&self.shared);
        let first_heard = Arc::clone(&self.shared.first_heard);
        async move {
            loop {
                let epoch = first_heard.current();
                let dials = {
                    let shared = shared.upgrade().ok_or(ConnectedError::Left)?;
                    if shared.engine().counts().heard > 0 {
                        return Ok(());
                    }
                    if let Some(error) = shared.hopeless() {
                        return Err(error);
                    }
                    shared.dials()
                };
                let dialling = dials.iter().map(|peer| peer.connected(CHECK_INTERVAL));
                let dialling = futures::future::join_all(dialling);
                let wait = async { futures::join!(rt::sleep(CHECK_INTERVAL), dialling) };
                let heard = std::pin::pin!(first_heard.later_than(epoch));
                select(heard, std::pin::pin!(wait)).await;
            }
        }
    }

    /// Sets a key of this member. The change is pushed to other members immediately; members that
    /// miss that learn of it within a few rounds.
    ///
    /// # Errors
    ///
    /// Fails if the key or the value breaks a limit, or the participant has left. See [`SetError`].
    pub fn set(&self, key: &str, value: &str) -> Result<(), SetError> {
        if self.shared.changes.has_left() {
            return Err(SetError::Left);
        }
        let now = self.shared.now();
        let changed = self.shared.engine().set(key, value, now)?;
        self.shared.own_keys_changed(changed);
        Ok(())
    }

    /// Sets a key of this member that all members remove after
    /// [`marked_for_deletion_grace_period`](GossipConfig::marked_for_deletion_grace_period).
    ///
    /// # Errors
    ///
    /// Fails if the key or the value breaks a limit, or the participant has left. See [`SetError`].
    pub fn set_with_ttl(&self, key: &str, value: &str) -> Result<(), SetError> {
        if self.shared.changes.has_left() {
            return Err(SetError::Left);
        }
        let now = self.shared.now();
        let changed = self.shared.engine().set_with_ttl(key, value, now)?;
        self.shared.own_keys_changed(changed);
        Ok(())
    }

    /// Returns the value of a key of this member.
    pub fn get(&self, key: &str) -> Option<String> {
        self.shared.engine().get(key).map(str::to_owned)
    }

    /// Deletes a key of this member. The change is pushed to other members immediately.
    ///
    /// # Errors
    ///
    /// Fails if there is no such key, or the participant has left.
    pub fn delete(&self, key: &str) -> Result<(), DeleteError> {
        if self.shared.changes.has_left() {
            return Err(DeleteError::Left);
        }
        let now = self.shared.now();
        self.shared.engine().delete(key, now)?;
        self.shared.own_keys_changed(true);
        Ok(())
    }

    /// Returns the value of a key of `member`, or `None` if either is unknown.
    pub fn member_value(&self, member: &ChitchatId, key: &str) -> Option<String> {
        let engine = self.shared.engine();
        engine.member_value(member, key).map(str::to_owned)
    }

    /// Returns a snapshot of all known members, this one included, sorted by id.
    pub fn members(&self) -> Vec<Member> {
        self.shared.engine().members()
    }

    /// Returns a watch that waits for changes of members, their liveness or their keys from now on.
    pub fn watch(&self) -> MembershipWatch {
        MembershipWatch::new(Arc::clone(&self.shared.changes))
    }

    /// Returns the silence after which `id` would be found dead, given the heartbeats so far.
    /// `None` if they are too few, and for this member itself.
    pub fn failure_detection_timeout(&self, id: &ChitchatId) -> Option<Duration> {
        self.shared.engine().failure_detection_timeout(id)
    }

    /// Returns the counters of the socket.
    pub fn stats(&self) -> SocketStats {
        self.shared.socket.stats()
    }

    /// Returns the counters of the engine.
    pub fn engine_counts(&self) -> EngineCounts {
        self.shared.engine().counts()
    }

    /// Pushes the latest state of this member to a few live members, closes every connection within
    /// `deadline`, and stops. The protocol has no message for leaving: other members find this one
    /// dead by its silence.
    pub async fn leave(mut self, deadline: Duration) {
        self.driver.take();
        self.seeds.take();
        let now = self.shared.now();
        let farewell = self.shared.engine().farewell(now);
        self.shared.perform(farewell);
        self.shared.socket.shutdown(deadline).await;
    }
}

impl<T: NetTransport> Drop for Participant<T> {
    fn drop(&mut self) {
        // Watchers end before the tasks do, whose end frees the socket.
        self.shared.changes.leave();
    }
}

impl<T: NetTransport> Shared<T> {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn own_keys_changed(&self, changed: bool) {
        if changed {
            self.changes.notify();
            self.deadlines.advance();
        }
    }

    fn handle(&self, event: Event) {
        let now = self.now();
        let outputs = self.engine().handle(event, now);
        self.perform(outputs);
    }

    fn perform(&self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, message } => self.send(to, message),
                Output::SendToAll { to, message } => self.send_to_all(&to, message),
                Output::MembershipChanged => self.changes.notify(),
            }
        }
    }

    /// Passes the connections to the engine if they have changed since `seen`.
    fn note_connections(&self, seen: &mut u64) {
        let Some(peers) = self.socket.connected_peers(seen) else {
            return;
        };
        let connections = peers.into_iter().map(|peer| Connection {
            addr: peer.addr,
            reads_v1: peer.alpn == ALPN_V1,
        });
        self.handle(Event::Connections(connections.collect()));
    }

    /// Returns the reason for which no other member was met, if a retry cannot change it.
    fn hopeless(&self) -> Option<ConnectedError> {
        if self.changes.has_left() {
            return Some(ConnectedError::Left);
        }
        let seeds = self.seeds.lock().clone()?;
        let failures = seeds
            .into_iter()
            .map(|seed| (seed, self.socket.dial_failure(seed)));
        match seeds::outlook(failures) {
            Outlook::Open => None,
            Outlook::Reachable(seeds) => {
                let is_rejected = self.engine().is_rejected_by(seeds);
                is_rejected.then_some(ConnectedError::WrongCluster)
            }
            Outlook::Hopeless(error) => Some(error),
        }
    }

    /// Returns the queues of all seeds, to dial them.
    fn dials(&self) -> Vec<OutgoingConnection<ChitchatMessage>> {
        let seeds = self.seeds.lock().clone().unwrap_or_default();
        let peer = |seed| self.socket.get_or_create_outgoing_connection(seed).ok();
        seeds.into_iter().filter_map(peer).collect()
    }

    /// Queues a message without waiting. If the queue is full, the message is not sent; the next
    /// round repairs that.
    fn send(&self, to: SocketAddr, message: ChitchatMessage) {
        match self.socket.send(to, message).now_or_never() {
            Some(Ok(())) => {}
            Some(Err(_closed)) => tracing::debug!(%to, "not sent: the socket is closed"),
            None => tracing::debug!(%to, "not sent: the queue is full"),
        }
    }

    /// Queues a message for several members, encoded once.
    fn send_to_all(&self, to: &[SocketAddr], message: ChitchatMessage) {
        if self.socket.send_to_all(to, message).is_err() {
            tracing::debug!(?to, "not sent: the socket is closed");
        }
    }

    fn is_lonely(&self) -> bool {
        let members = self.engine().members();
        !members.iter().any(|m| m.liveness == Liveness::Live)
    }
}

/// Receives messages, and passes in connections, rounds and rumours.
async fn drive<T: NetTransport>(shared: Arc<Shared<T>>) {
    let mut connections = 0;
    let mut has_heard = false;
    loop {
        shared.note_connections(&mut connections);
        let epoch = shared.deadlines.current();
        let (event, due) = {
            let engine = shared.engine();
            let round = engine.next_round();
            match engine.next_rumours() {
                Some(due) if due < round => (Event::Rumours, due),
                _ => (Event::Round, round),
            }
        };
        let wait = due.saturating_sub(shared.now());
        if wait.is_zero() {
            shared.handle(event);
            continue;
        }
        // Deadlines are checked after each message as well: the timers of a hidden tab may fire
        // only once a minute, but its messages arrive.
        let timer = std::pin::pin!(rt::sleep(wait));
        let changed = std::pin::pin!(shared.deadlines.later_than(epoch));
        let received = std::pin::pin!(shared.socket.recv_detailed());
        match select(received, select(timer, changed)).await {
            Either::Left((Ok(received), _)) => {
                // The engine knows of a connection before it hears from the peer.
                shared.note_connections(&mut connections);
                shared.handle(Event::Message {
                    from: received.from,
                    identity: received.identity,
                    role: received.role,
                    message: received.message,
                });
                if !has_heard && shared.engine().counts().heard > 0 {
                    has_heard = true;
                    shared.first_heard.advance();
                }
            }
            Either::Left((Err(_closed), _)) => break,
            Either::Right(_) => {}
        }
    }
    shared.changes.leave();
}

/// Resolves the seeds from time to time and passes their addresses to the engine.
async fn keep_resolving<T: NetTransport>(shared: Arc<Shared<T>>, seeds: Vec<String>) {
    if seeds.is_empty() {
        return;
    }
    loop {
        let addrs = seeds::resolve(shared.socket.transport(), &seeds).await;
        // If the name server fails, the previous addresses are kept.
        if !addrs.is_empty() {
            *shared.seeds.lock() = Some(addrs.clone());
            shared.handle(Event::Seeds(addrs));
            shared.deadlines.advance();
        }
        let pause = if shared.is_lonely() {
            LONELY_RESOLVE_INTERVAL.max(shared.gossip_interval)
        } else {
            RESOLVE_INTERVAL
        };
        rt::sleep(pause).await;
    }
}

/// Returns the present time in microseconds since 1970, which is higher after each restart.
fn start_time() -> u64 {
    u64::try_from(rt::unix_time().as_micros()).unwrap_or(u64::MAX)
}
