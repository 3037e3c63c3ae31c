//! [`Participant`]: runs an engine on a socket.
//!
//! One task receives messages and passes in the rounds and rumours that are due. Another resolves
//! the seeds from time to time, so that a slow name server does not delay the first. This file does
//! not look into messages; the engine does. Invariant: if one of the tasks panics, the participant counts
//! as left, and the first one ends.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select;

use super::driver::Driver;
use super::engine::{Engine, EngineCounts, Event, GossipConfig, Liveness, Member};
use super::error::{ConnectedError, DeleteError, JoinError, LeaveError, SetError};
use super::seeds::{self, SeedStatus, Seeds};
use super::shared::{Ending, Shared};
use super::watch::MembershipWatch;
use crate::message::{ChitchatId, ChitchatMessage};
use crate::net::{NetTransport, canonical};
use crate::rt::sync::{Epoch, Mutex};
use crate::rt::{self, Instant, MaybeSend, Task};
use crate::transport_layer::{SocketStats, TransportLayerSocket};

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
    pub(super) shared: Arc<Shared<T>>,
}

impl<T: NetTransport> Participant<T> {
    /// Joins a cluster over `socket`. Returns at once, before anything is dialled, and finds the
    /// other members in the background; [`connected`](Self::connected) waits for the first of them.
    ///
    /// # Errors
    ///
    /// Fails if a configuration value is out of bounds ([`ConfigError`](crate::ConfigError)), or if
    /// an initial key, the form of a seed or the name of the member is refused ([`JoinError`]). Both can be downcast from the
    /// returned error.
    pub async fn join(
        socket: TransportLayerSocket<T, ChitchatMessage>,
        config: GossipConfig,
    ) -> anyhow::Result<Self> {
        config.validate()?;
        for seed in &config.seeds {
            let checked = socket.transport().check_name(seed);
            checked.map_err(|error| JoinError::Seed {
                seed: seed.clone(),
                reason: format!("{error:#}"),
            })?;
        }
        let invite = socket.trust().held_invite();
        if let Some(invite) = &invite {
            let (node_id, prefix) = (&config.node_id, invite.claims().name_prefix());
            if !prefix.allows(node_id) {
                let (node_id, prefix) = (node_id.clone(), prefix.as_str().to_owned());
                return Err(JoinError::Name { node_id, prefix }.into());
            }
            config.validate_for_invite()?;
        }
        let addr = config.advertise_addr;
        let addr = addr.map_or_else(|| socket.advertised_addr(), canonical);
        let generation = config.generation_id.unwrap_or_else(start_time);
        let id = ChitchatId::new(config.node_id.as_str(), generation, addr);
        let gossip_interval = config.gossip_interval;
        let seeds = config.seeds.clone();
        let mut engine = Engine::new(config, id, Duration::ZERO).map_err(JoinError::InitialKey)?;
        let quotas = invite.map(|invite| invite.claims().quotas());
        engine
            .set_quotas(quotas, Duration::ZERO)
            .map_err(JoinError::InitialKey)?;
        tracing::info!(id = ?engine.id(), "joining");
        let shared = Arc::new(Shared {
            socket,
            engine: Mutex::new(engine),
            gossip_interval,
            start: Instant::now(),
            changes: Arc::default(),
            seeds: Mutex::new(Seeds::new(&seeds)),
            first_heard: Arc::default(),
            deadlines: Epoch::default(),
        });
        let driver = Driver::new(Arc::clone(&shared));
        Ok(Self {
            driver: Some(Task::spawn(driver.run())),
            seeds: Some(Task::spawn(keep_resolving(Arc::clone(&shared), seeds))),
            shared,
        })
    }

    /// Returns the id of this member. Its generation rises if an authenticated peer lists a later one,
    /// for example because this member has restarted after its clock was set back.
    pub fn id(&self) -> ChitchatId {
        self.shared.engine().id().clone()
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
    /// is gone. Fails once the participant has left, or one of its tasks has panicked.
    pub fn connected(&self) -> impl Future<Output = Result<(), ConnectedError>> + use<T> {
        // The future must not keep the socket open after the participant is dropped.
        let shared = Arc::downgrade(&self.shared);
        let first_heard = Arc::clone(&self.shared.first_heard);
        async move {
            loop {
                let epoch = first_heard.current();
                let dials = {
                    let shared = shared.upgrade().ok_or(ConnectedError::Left)?;
                    if shared.changes.has_left() {
                        return Err(ConnectedError::Left);
                    }
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

    /// Returns how far this member has come with each address of each seed, for those who wait for
    /// [`connected`](Self::connected).
    pub fn seeds(&self) -> Vec<SeedStatus> {
        let socket = &self.shared.socket;
        let stats = socket.stats();
        let seeds = self.shared.seeds.lock();
        seeds.status(&stats, |addr| socket.dial_failure(addr))
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

    /// Returns the ids of all known members, this one included, and whether each is live, sorted by id.
    /// Costs much less than [`members`](Self::members), which copies all keys.
    pub fn liveness_of_members(&self) -> Vec<(ChitchatId, Liveness)> {
        self.shared.engine().liveness_of_members()
    }

    /// Returns a snapshot of the members that follow `after` in the order of ids, or of the first ones:
    /// one, and further ones as long as the keys and values of all those before are fewer than
    /// `max_bytes`. Empty at the end. Whoever goes through all members this way holds few at a time.
    pub fn members_after(&self, after: Option<&ChitchatId>, max_bytes: usize) -> Vec<Member> {
        self.shared.engine().members_after(after, max_bytes)
    }

    /// Returns a snapshot of the members with this name, sorted by id: more than one if it has been
    /// restarted a short time ago, or if several use the name. Copies the keys of these only.
    pub fn members_named(&self, name: &str) -> Vec<Member> {
        self.shared.engine().members_named(name)
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

    /// Tells all connected members that this one leaves, and returns at once: what the connections take is sent
    /// before that. For a page that is closed, which has no time to [`leave`](Self::leave). If this member
    /// goes on nevertheless, it is live again with its next round.
    pub fn announce_leaving(&self) {
        self.shared.announce_leaving();
    }

    /// Tells all connected members that this one leaves, closes every connection within `deadline`, and stops. What
    /// the connections take at once is sent before the future is returned. It does not wait for members that are
    /// not connected.
    /// Members of this crate show it as [`Liveness::Left`] at once. Those of the published crate find it
    /// dead by its silence.
    ///
    /// # Errors
    ///
    /// Fails if the participant had stopped by itself. Its connections are closed in any case.
    pub fn leave(
        mut self,
        deadline: Duration,
    ) -> impl Future<Output = Result<(), LeaveError>> + MaybeSend {
        let had_stopped = self.shared.changes.has_left();
        self.driver.take();
        self.seeds.take();
        self.shared.announce_leaving();
        // Nothing that is queued for others is worth a dial any more.
        self.shared.socket.drop_unconnected();
        async move {
            self.shared.socket.shutdown(deadline).await;
            if had_stopped {
                return Err(LeaveError::Stopped);
            }
            Ok(())
        }
    }
}

impl<T: NetTransport> Drop for Participant<T> {
    fn drop(&mut self) {
        // Watchers end before the tasks do, whose end frees the socket.
        self.shared.changes.leave();
    }
}

/// Resolves the seeds from time to time and passes their addresses to the engine.
async fn keep_resolving<T: NetTransport>(shared: Arc<Shared<T>>, seeds: Vec<String>) {
    if seeds.is_empty() {
        return;
    }
    // Without addresses of the seeds, the driver would look for other members in vain.
    let _ending = Ending(Arc::clone(&shared));
    loop {
        let resolved = seeds::resolve(shared.socket.transport(), &seeds).await;
        let addrs = {
            let mut seeds = shared.seeds.lock();
            seeds.update(resolved);
            seeds.addrs()
        };
        if !addrs.is_empty() {
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
