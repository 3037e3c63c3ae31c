//! The limit on connections that have not authenticated yet.
//!
//! It decides which connection ends when there are too many, and ends those that nobody reads yet
//! itself. Invariant: each entry is one [`Admitted`] that exists and has not been evicted, and no host
//! without one takes memory.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::config::TcpConfig;
use super::opening::Opening;
use crate::host::{Host, one_to_end};
use crate::rt::sync::{Mutex, MutexGuard};

/// The unauthenticated connections, by age and by host. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    max_per_host: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    /// In the order in which they were admitted.
    by_age: BTreeMap<u64, Entry>,
    by_host: HashMap<Host, usize>,
}

#[derive(Debug)]
struct Entry {
    host: Host,
    place: Arc<Place>,
}

/// The place of one connection.
#[derive(Debug)]
struct Place {
    state: Mutex<State>,
    /// The task that authenticates the peer.
    task: AtomicWaker,
}

#[derive(Debug)]
enum State {
    /// Nobody reads the stream yet.
    Waiting(Opening),
    /// Somebody does.
    Begun,
    Evicted,
}

/// The place of one unauthenticated connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Admitted {
    shared: Arc<Shared>,
    id: u64,
    place: Arc<Place>,
}

/// Whether there was room for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Another connection has been ended for it.
    Made,
}

impl Admission {
    pub(super) fn new(config: &TcpConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                max: config.max_unauthenticated,
                max_per_host: config.max_unauthenticated_per_ip,
                entries: Mutex::default(),
            }),
        }
    }

    /// Takes a place for a connection from `ip`. If its host is at its limit, the oldest connection of
    /// that host ends; if the total is, the oldest of the host that has the most, this one included.
    pub(super) fn admit(&self, ip: IpAddr, stream: Opening) -> (Admitted, Room) {
        let host = Host::of(ip);
        let place = Arc::new(Place {
            state: Mutex::new(State::Waiting(stream)),
            task: AtomicWaker::new(),
        });
        let mut entries = self.shared.lock();
        let loser = if entries.count(host) >= self.shared.max_per_host {
            entries.oldest_of(host)
        } else if entries.by_age.len() >= self.shared.max {
            entries.one_to_end(host)
        } else {
            None
        };
        let evicted = loser.and_then(|loser| entries.remove(loser));
        entries.next += 1;
        let id = entries.next;
        *entries.by_host.entry(host).or_default() += 1;
        let entry = Entry {
            host,
            place: Arc::clone(&place),
        };
        entries.by_age.insert(id, entry);
        drop(entries);
        let room = match evicted {
            Some(entry) => {
                entry.place.evict();
                Room::Made
            }
            None => Room::Free,
        };
        let shared = Arc::clone(&self.shared);
        (Admitted { shared, id, place }, room)
    }
}

impl Place {
    fn evict(&self) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Evicted);
        // Outside of the lock. A stream that nobody reads yet is closed here.
        drop(before);
        self.task.wake();
    }
}

impl Admitted {
    /// Returns the stream, or `None` if the connection has been evicted or its stream was taken before.
    pub(super) fn take_stream(&self) -> Option<Opening> {
        let mut state = self.place.state.lock();
        match std::mem::replace(&mut *state, State::Begun) {
            State::Waiting(stream) => Some(stream),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Completes when the connection has been evicted.
    pub(super) fn poll_evicted(&self, cx: &Context<'_>) -> Poll<()> {
        self.place.task.register(cx.waker());
        match *self.place.state.lock() {
            State::Evicted => Poll::Ready(()),
            State::Waiting(_) | State::Begun => Poll::Pending,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }
}

impl Entries {
    fn count(&self, host: Host) -> usize {
        self.by_host.get(&host).copied().unwrap_or(0)
    }

    /// Chooses the connection to end if there are too many in all.
    fn one_to_end(&self, newcomer: Host) -> Option<u64> {
        let running: Vec<_> = self.by_age.values().map(|entry| entry.host).collect();
        let index = one_to_end(&running, newcomer)?;
        self.by_age.keys().nth(index).copied()
    }

    fn oldest_of(&self, host: Host) -> Option<u64> {
        let mut entries = self.by_age.iter();
        let oldest = entries.find(|(_, entry)| entry.host == host);
        oldest.map(|(id, _)| *id)
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.by_age.remove(&id)?;
        if let Some(of_host) = self.by_host.get_mut(&entry.host) {
            *of_host -= 1;
            if *of_host == 0 {
                self.by_host.remove(&entry.host);
            }
        }
        Some(entry)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    struct World {
        admission: Admission,
        listener: TcpListener,
    }

    impl World {
        async fn new(max: usize, max_per_host: usize) -> Self {
            let config = TcpConfig::default()
                .with_max_unauthenticated(max)
                .with_max_unauthenticated_per_ip(max_per_host);
            Self::with_config(&config).await
        }

        async fn with_config(config: &TcpConfig) -> Self {
            Self {
                admission: Admission::new(config),
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            }
        }

        async fn admit(&self, ip: &str) -> Admitted {
            let addr = self.listener.local_addr().unwrap();
            let stream = TcpStream::connect(addr).await.unwrap();
            let opening = Opening::new(stream);
            self.admission.admit(ip.parse().unwrap(), opening).0
        }
    }

    fn is_evicted(admitted: &Admitted) -> bool {
        let cx = Context::from_waker(std::task::Waker::noop());
        admitted.poll_evicted(&cx).is_ready()
    }

    #[tokio::test]
    async fn a_host_at_its_limit_loses_its_oldest_connection() {
        let world = World::new(9, 2).await;
        let first = world.admit("10.0.0.1").await;
        let other = world.admit("10.0.0.2").await;
        let second = world.admit("10.0.0.1").await;
        assert!(!is_evicted(&first));
        let third = world.admit("10.0.0.1").await;
        assert!(is_evicted(&first));
        assert!(first.take_stream().is_none());
        for admitted in [&other, &second, &third] {
            assert!(!is_evicted(admitted));
            assert!(admitted.take_stream().is_some());
        }
    }

    #[tokio::test]
    async fn by_default_a_host_has_64_places_of_256() {
        let world = World::with_config(&TcpConfig::default()).await;
        assert_eq!(world.admission.shared.max, 256);
        let mut flood = Vec::new();
        for _ in 0..64 {
            flood.push(world.admit("10.0.0.1").await);
        }
        assert!(!flood.iter().any(is_evicted));
        let _other = world.admit("10.0.0.2").await;
        assert!(!flood.iter().any(is_evicted));
        let _one_more = world.admit("10.0.0.1").await;
        assert!(is_evicted(&flood[0]));
        assert!(!flood[1..].iter().any(is_evicted));
    }

    #[tokio::test]
    async fn the_host_with_the_most_pays_for_the_total() {
        let world = World::new(4, 9).await;
        let quiet = world.admit("10.0.0.1").await;
        let flood = [
            world.admit("10.0.0.2").await,
            world.admit("10.0.0.2").await,
            world.admit("10.0.0.2").await,
        ];
        let newcomer = world.admit("10.0.0.3").await;
        assert_eq!(flood.each_ref().map(is_evicted), [true, false, false]);
        // The newcomer counts, and it would have as many: the oldest of such a host ends.
        let again = world.admit("10.0.0.1").await;
        assert!(is_evicted(&quiet) && !is_evicted(&again) && !is_evicted(&newcomer));
    }

    #[tokio::test]
    async fn all_addresses_of_one_host_are_counted_together() {
        let world = World::new(9, 1).await;
        let first = world.admit("2001:db8:0:1::1").await;
        let _same = world.admit("2001:db8:0:1:ffff::2").await;
        assert!(is_evicted(&first));
        let second = world.admit("2001:db8:0:2::1").await;
        let mapped = world.admit("::ffff:10.0.0.1").await;
        let _same = world.admit("10.0.0.1").await;
        assert!(is_evicted(&mapped) && !is_evicted(&second));
    }

    #[tokio::test]
    async fn a_host_without_connections_takes_no_memory() {
        let world = World::new(3, 1).await;
        let first = world.admit("10.0.0.1").await;
        let second = world.admit("10.0.0.1").await;
        drop((first, second));
        let entries = world.admission.shared.lock();
        assert!(entries.by_host.is_empty() && entries.by_age.is_empty());
    }
}
