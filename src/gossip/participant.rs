//! The engine on a socket.
//!
//! One task receives, and gossips when a round is due; another resolves the seeds from time to
//! time, so that a slow name server holds up nobody. What a message means is the engine's affair.
//! Invariant: the engine's lock is never held over an await, and sending never waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};

use super::watch::{Changes, MembershipWatch};
use super::{
    DeleteError, Engine, EngineCounts, Event, GossipConfig, JoinError, Liveness, Member, Output,
    SetError, join,
};
use crate::message::{ChitchatId, ChitchatMessage};
use crate::net::NetTransport;
use crate::rt::sync::{Epoch, Mutex, MutexGuard};
use crate::rt::{self, Instant, Task};
use crate::transport_layer::{SocketStats, TransportLayerSocket};

/// How often the seeds are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);
/// How often, while no other member is live.
const LONELY_RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// A member of a cluster.
///
/// Every method but [`leave`](Self::leave) takes `&self` and returns at once; share it in an
/// [`Arc`]. Dropping it leaves without a goodbye and frees its port before `drop` returns.
#[derive(Debug)]
pub struct Participant<T: NetTransport> {
    // The tasks first: they end before what they use is dropped.
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
    // The engine's time is counted from here.
    start: Instant,
    changes: Arc<Changes>,
    /// Our own keys have changed: the driver has something to tell.
    news: Epoch,
}

impl<T: NetTransport> Participant<T> {
    /// Joins the cluster over `socket`. Where the own address is not known (see
    /// [`GossipConfig::advertise_addr`]), waits for the first seed that answers, for as long as it
    /// takes; otherwise returns at once, and finds the others in the background.
    ///
    /// Dropping the future drops the socket.
    ///
    /// # Errors
    ///
    /// [`JoinError`] inside: the configuration is invalid, or the socket is closed.
    pub async fn join(
        socket: TransportLayerSocket<T, ChitchatMessage>,
        config: GossipConfig,
    ) -> anyhow::Result<Self> {
        join::check(&config)?;
        let addr = join::advertise_addr(&socket, &config).await?;
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
            news: Epoch::default(),
        });
        Ok(Self {
            driver: Some(Task::spawn(drive(Arc::clone(&shared)))),
            seeds: Some(Task::spawn(keep_resolving(Arc::clone(&shared), seeds))),
            shared,
        })
    }

    /// Who we are.
    pub fn id(&self) -> &ChitchatId {
        &self.shared.id
    }

    /// Sets a key of our own. Others are told at once; whoever misses that learns of it within a
    /// few rounds.
    ///
    /// # Errors
    ///
    /// See [`SetError`].
    pub fn set(&self, key: &str, value: &str) -> Result<(), SetError> {
        if self.shared.changes.has_left() {
            return Err(SetError::Left);
        }
        let now = self.shared.now();
        let changed = self.shared.engine().set(key, value, now)?;
        self.shared.own_keys_changed(changed);
        Ok(())
    }

    /// Sets a key that goes away everywhere after
    /// [`marked_for_deletion_grace_period`](GossipConfig::marked_for_deletion_grace_period).
    ///
    /// # Errors
    ///
    /// See [`SetError`].
    pub fn set_with_ttl(&self, key: &str, value: &str) -> Result<(), SetError> {
        if self.shared.changes.has_left() {
            return Err(SetError::Left);
        }
        let now = self.shared.now();
        let changed = self.shared.engine().set_with_ttl(key, value, now)?;
        self.shared.own_keys_changed(changed);
        Ok(())
    }

    /// A key of our own.
    pub fn get(&self, key: &str) -> Option<String> {
        self.shared.engine().get(key).map(str::to_owned)
    }

    /// Deletes a key of our own.
    ///
    /// # Errors
    ///
    /// See [`DeleteError`].
    pub fn delete(&self, key: &str) -> Result<(), DeleteError> {
        if self.shared.changes.has_left() {
            return Err(DeleteError::Left);
        }
        let now = self.shared.now();
        self.shared.engine().delete(key, now)?;
        self.shared.own_keys_changed(true);
        Ok(())
    }

    /// A key of `member`; `None` if either is not known.
    pub fn member_value(&self, member: &ChitchatId, key: &str) -> Option<String> {
        let engine = self.shared.engine();
        engine.member_value(member, key).map(str::to_owned)
    }

    /// Every member known, ourselves included, in the order of their ids.
    pub fn members(&self) -> Vec<Member> {
        self.shared.engine().members()
    }

    /// Tells when members, their liveness or their keys have changed from now on.
    pub fn watch(&self) -> MembershipWatch {
        MembershipWatch::new(Arc::clone(&self.shared.changes))
    }

    /// The silence after which `id` would be found dead, as things stand; `None` if that cannot be
    /// told yet.
    pub fn failure_detection_timeout(&self, id: &ChitchatId) -> Option<Duration> {
        self.shared.engine().failure_detection_timeout(id)
    }

    /// The socket's counters.
    pub fn stats(&self) -> SocketStats {
        self.shared.socket.stats()
    }

    /// The engine's counters.
    pub fn engine_counts(&self) -> EngineCounts {
        self.shared.engine().counts()
    }

    /// Tells a few live peers our latest state, closes every connection within `deadline`, and
    /// stops. The protocol has no goodbye: others find us dead by our silence.
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
        // Before the tasks' drop, which is what frees the socket.
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
            self.news.advance();
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
                Output::MembershipChanged => self.changes.notify(),
            }
        }
    }

    /// Queues a message. A queue that would make us wait is full: the next round says it anew.
    fn send(&self, to: SocketAddr, message: ChitchatMessage) {
        match self.socket.send(to, message).now_or_never() {
            Some(Ok(())) => {}
            Some(Err(_closed)) => tracing::debug!(%to, "not sent: the socket is closed"),
            None => tracing::debug!(%to, "not sent: the queue is full"),
        }
    }

    fn is_lonely(&self) -> bool {
        let members = self.engine().members();
        !members.iter().any(|m| m.liveness == Liveness::Live)
    }
}

/// Receives, gossips when a round is due, and tells news.
async fn drive<T: NetTransport>(shared: Arc<Shared<T>>) {
    loop {
        let epoch = shared.news.current();
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
        // Also looked at after each message: a hidden tab's timers may fire once a minute only,
        // but its messages arrive.
        let timer = std::pin::pin!(rt::sleep(wait));
        let news = std::pin::pin!(shared.news.later_than(epoch));
        let message = std::pin::pin!(shared.socket.recv());
        match select(message, select(timer, news)).await {
            Either::Left((Ok((from, message)), _)) => {
                shared.handle(Event::Message { from, message });
            }
            Either::Left((Err(_closed), _)) => break,
            Either::Right(_) => {}
        }
    }
    shared.changes.leave();
}

/// Keeps the engine's seeds up to date.
async fn keep_resolving<T: NetTransport>(shared: Arc<Shared<T>>, seeds: Vec<String>) {
    if seeds.is_empty() {
        return;
    }
    loop {
        let addrs = join::resolve(shared.socket.transport(), &seeds).await;
        // A name server that fails for a while does not make us forget the seeds.
        if !addrs.is_empty() {
            shared.handle(Event::Seeds(addrs));
        }
        let pause = if shared.is_lonely() {
            LONELY_RESOLVE_INTERVAL.max(shared.gossip_interval)
        } else {
            RESOLVE_INTERVAL
        };
        rt::sleep(pause).await;
    }
}

/// Now, in microseconds since 1970: higher after each restart.
fn start_time() -> u64 {
    u64::try_from(rt::unix_time().as_micros()).unwrap_or(u64::MAX)
}
