//! The known ways to reach each address.
//!
//! It stores answers and dials; it dials nothing. Invariants: an address that was reached over the first
//! network keeps that until dials of the first network have failed for longer than [`HEAD_START`],
//! whatever arrives over the second; each table is bounded by [`MAX_ADDRS`], apart from addresses that are in
//! use, which nothing forgets; the second network forgets nothing of the first, and an address that is not in
//! use is forgotten after those of hosts that have more; at most one dial of the first network is kept for each
//! address.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::counts::{Counters, EitherCounts};
use super::takeover::Takeover;
use crate::credential::Identity;
use crate::host::Host;
use crate::rt::sync::{Mutex, MutexGuard};
use crate::rt::{Instant, Task};

/// The time in which the first network alone dials an unknown peer. Dials to a peer that was reached
/// over the first network must have failed for longer before the second network is used.
pub(super) const HEAD_START: Duration = Duration::from_millis(250);
/// At most this many addresses are remembered for each network. One more forgets the oldest; of those that
/// were reached over the first, the oldest that is not in use of the host that has the most. If all are in use,
/// there are as many as connections.
const MAX_ADDRS: usize = 10_000;
/// A dial of the second network that was answered keeps the peer from being dialled over the first until this long after
/// it, however many answers come: someone may forge them.
const SECOND_VALID_FOR: Duration = Duration::from_secs(60);

/// An address from which the second network is refused is dialled over the first at most once in this
/// time, to see whether it has failed.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// No address is checked while this many dials run beside connections of the second network, since
/// forged datagrams cause checks. Nor is one whose host has as many of them as are left for others.
const MAX_BESIDE_CHECKS: usize = 64;

/// The network over which an address is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Nothing is known, so the first network is tried, and then the second.
    Unknown,
    /// It was reached over the first network, which alone is used.
    First,
    /// It was reached over the first network, which has failed for longer than [`HEAD_START`] since.
    FirstFails,
    /// It has answered over the second network, and was never reached over the first.
    Second,
}

/// The dials of an address by one socket. Another socket of the same network has another identity or
/// states another address, so it cannot use their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DialName {
    pub(super) addr: SocketAddr,
    pub(super) local_addr: SocketAddr,
    pub(super) identity: Identity,
}

/// The network over which each address is reached. `C` is a connection of the first network.
pub(super) struct Routes<C> {
    state: Mutex<State<C>>,
    pub(super) counters: Counters,
}

struct State<C> {
    /// Addresses that were reached over the first network.
    reached: HashMap<SocketAddr, Reached>,
    /// When each other address was dialled over the second network, if it has answered since.
    answered: HashMap<SocketAddr, Instant>,
    /// Connections of the first network that were established late and wait to be used.
    late: HashMap<DialName, (u64, C)>,
    /// Rises with each connection that was established late.
    late_count: u64,
    /// Dials of the first network that continue beside a connection of the second.
    late_dials: HashMap<DialName, Task>,
}

/// An address that was reached over the first network.
#[derive(Debug)]
struct Reached {
    at: Instant,
    /// Alive as long as the connection.
    in_use: Weak<InUse>,
    /// When the first dial began that has failed since.
    failing_since: Option<Instant>,
    /// When it was last dialled only to see whether the first network has failed.
    checked: Option<Instant>,
    /// Shared by the connections of the second network that are used meanwhile.
    fallback: Weak<Takeover>,
    /// Whether their use was logged.
    is_logged: bool,
}

/// Whether the second network is in use already for an address that was reached over the first.
pub(super) enum FallBack {
    First(Arc<Takeover>),
    Again(Arc<Takeover>),
}

/// Held by a connection of the first network to an address that was reached. While it exists, the first
/// network has not failed.
#[derive(Debug, Default)]
pub(super) struct InUse;

impl<C> Routes<C> {
    /// Returns the network over which `addr` is to be reached.
    pub(super) fn route(&self, addr: SocketAddr) -> Route {
        self.route_at(addr, Instant::now())
    }

    fn route_at(&self, addr: SocketAddr, now: Instant) -> Route {
        let state = self.lock();
        if let Some(reached) = state.reached.get(&addr) {
            let fails = reached
                .failing_since
                .is_some_and(|since| now.saturating_duration_since(since) > HEAD_START);
            return if fails && reached.in_use.strong_count() == 0 {
                Route::FirstFails
            } else {
                Route::First
            };
        }
        match state.answered.get(&addr).filter(|at| is_valid(**at, now)) {
            Some(_) => Route::Second,
            None => Route::Unknown,
        }
    }

    /// Remembers that `addr` was reached over the first network now. The connection keeps what is
    /// returned.
    pub(super) fn reached(&self, addr: SocketAddr) -> Arc<InUse> {
        let mut state = self.lock();
        // The address is in use until the last of its connections ends, not until the newest does.
        let former = state.reached.get(&addr);
        let in_use = former.and_then(|former| former.in_use.upgrade());
        let in_use = in_use.unwrap_or_default();
        let reached = Reached {
            at: Instant::now(),
            in_use: Arc::downgrade(&in_use),
            failing_since: None,
            checked: None,
            fallback: Weak::new(),
            is_logged: false,
        };
        state.answered.remove(&addr);
        // A peer may state any port of its host.
        let of_host = hosts(&state.reached, addr);
        insert(&mut state.reached, addr, reached, |addr, reached| {
            let count = of_host.get(&Host::of(addr.ip())).copied().unwrap_or(0);
            let is_in_use = reached.in_use.strong_count() > 0;
            (!is_in_use).then_some((Reverse(count), reached.at))
        });
        in_use
    }

    /// Remembers that `addr` has answered a dial of the second network that was made at `dialled`, unless it was reached
    /// over the first.
    pub(super) fn answered_over_second(&self, addr: SocketAddr, dialled: Instant) {
        let mut state = self.lock();
        let known = state.answered.get(&addr);
        let is_known = known.is_some_and(|known| *known >= dialled);
        if !state.reached.contains_key(&addr) && !is_known && is_valid(dialled, Instant::now()) {
            insert(&mut state.answered, addr, dialled, |_, at| Some(*at));
        }
    }

    /// Notes a dial of the first network to `addr` that has begun at `since` and has failed.
    pub(super) fn failed(&self, addr: SocketAddr, since: Instant) {
        if let Some(reached) = self.lock().reached.get_mut(&addr) {
            reached.failing_since.get_or_insert(since);
        }
    }

    /// Returns whether an address may be dialled now to see whether the first network has failed, and notes
    /// it. It may not if it is connected, a late connection to it waits, or it was dialled for this a short
    /// time ago.
    pub(super) fn begin_check(&self, name: DialName) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let dials = state.late_dials.iter();
        let running = dials.filter(|(_, dial)| !dial.is_finished());
        let hosts = running.map(|(name, _)| Host::of(name.addr.ip()));
        let hosts: Vec<_> = hosts.collect();
        if !leaves_checks_to_others(&hosts, Host::of(name.addr.ip())) {
            return false;
        }
        // The task that holds the place of the check waits for it to be used, or drops it.
        if state.late.contains_key(&name) {
            return false;
        }
        let Some(reached) = state.reached.get_mut(&name.addr) else {
            return false;
        };
        let last = reached.checked;
        let is_early = last.is_some_and(|last| now.saturating_duration_since(last) < CHECK_EVERY);
        if is_early || reached.in_use.strong_count() > 0 {
            return false;
        }
        reached.checked = Some(now);
        true
    }

    /// Counts and logs that the second network is used for `addr`, which was reached over the first.
    /// All its connections share one [`Takeover`].
    pub(super) fn fall_back(&self, addr: SocketAddr) -> FallBack {
        self.counters.count_fallback();
        let mut state = self.lock();
        let Some(reached) = state.reached.get_mut(&addr) else {
            return FallBack::First(Arc::default());
        };
        if let Some(takeover) = reached.fallback.upgrade() {
            return FallBack::Again(takeover);
        }
        let takeover = Arc::default();
        reached.fallback = Arc::downgrade(&takeover);
        let failing = reached.failing_since.map(|since| since.elapsed());
        let is_logged = std::mem::replace(&mut reached.is_logged, true);
        drop(state);
        if !is_logged {
            tracing::warn!(
                %addr,
                ?failing,
                "a peer was reached over the preferred network, which fails: using the other one"
            );
        }
        FallBack::First(takeover)
    }

    /// Returns the counters.
    pub(super) fn counts(&self) -> EitherCounts {
        self.counters.counts()
    }

    /// Removes and returns the late connection of a dial, if there is one.
    pub(super) fn take_late(&self, name: DialName) -> Option<C> {
        self.lock().late.remove(&name).map(|(_, conn)| conn)
    }

    /// Stores the connection of a late dial until it is taken, or what is returned is dropped.
    pub(super) fn put_late(self: &Arc<Self>, name: DialName, conn: C) -> LateGuard<C> {
        let mut state = self.lock();
        state.late_count += 1;
        let id = state.late_count;
        let former = state.late.insert(name, (id, conn));
        drop(state);
        drop(former);
        let routes = Arc::downgrade(self);
        LateGuard { routes, name, id }
    }

    /// Returns whether a late dial is running, or its connection waits to be used.
    pub(super) fn is_dialled_late(&self, name: DialName) -> bool {
        let state = self.lock();
        let dial = state.late_dials.get(&name);
        dial.is_some_and(|dial| !dial.is_finished())
    }

    /// Keeps the task of a late dial until it has finished.
    pub(super) fn keep_late_dial(&self, name: DialName, dial: Task) {
        let mut finished = Vec::new();
        {
            let mut state = self.lock();
            finished.extend(state.late_dials.extract_if(|_, dial| dial.is_finished()));
            finished.extend(state.late_dials.insert(name, dial).map(|dial| (name, dial)));
        }
        // Dropped after the lock is released, because the drop of a task's values may take the
        // lock.
        drop(finished);
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock()
    }
}

/// Returns whether `host` may have one more dial beside the running ones: it has fewer than there is room for.
fn leaves_checks_to_others(running: &[Host], host: Host) -> bool {
    let own = running.iter().filter(|other| **other == host).count();
    own < MAX_BESIDE_CHECKS.saturating_sub(running.len())
}

/// Returns whether answers to a dial of the second network at `dialled` still tell how the peer is to be dialled.
fn is_valid(dialled: Instant, now: Instant) -> bool {
    now < dialled + SECOND_VALID_FOR
}

/// Returns whether an address must be forgotten before `addr` is inserted.
fn is_full<V>(table: &HashMap<SocketAddr, V>, addr: SocketAddr) -> bool {
    table.len() >= MAX_ADDRS && !table.contains_key(&addr)
}

/// Returns the number of addresses of each host, with `newcomer`, or nothing if there is room for it.
fn hosts<V>(table: &HashMap<SocketAddr, V>, newcomer: SocketAddr) -> HashMap<Host, usize> {
    let mut counts = HashMap::new();
    if is_full(table, newcomer) {
        for addr in table.keys().chain([&newcomer]) {
            *counts.entry(Host::of(addr.ip())).or_default() += 1;
        }
    }
    counts
}

/// Inserts `value`. If the table is full, forgets those with the lowest ranks first. Those without a rank are kept.
fn insert<V, R: Ord>(
    table: &mut HashMap<SocketAddr, V>,
    addr: SocketAddr,
    value: V,
    rank: impl Fn(&SocketAddr, &V) -> Option<R>,
) {
    if is_full(table, addr) {
        let ranks = table.iter();
        let ranks = ranks.filter_map(|(addr, value)| Some((rank(addr, value)?, *addr)));
        let mut ranks: Vec<_> = ranks.collect();
        let surplus = table.len() + 1 - MAX_ADDRS;
        if surplus < ranks.len() {
            ranks.select_nth_unstable(surplus);
        }
        for (_, lowest) in ranks.into_iter().take(surplus) {
            table.remove(&lowest);
        }
    }
    table.insert(addr, value);
}

impl<C> Default for Routes<C> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                reached: HashMap::new(),
                answered: HashMap::new(),
                late: HashMap::new(),
                late_count: 0,
                late_dials: HashMap::new(),
            }),
            counters: Counters::default(),
        }
    }
}

impl<C> fmt::Debug for Routes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Routes")
            .field("reached", &state.reached.len())
            .field("answered", &state.answered.len())
            .field("late", &state.late.len())
            .finish_non_exhaustive()
    }
}

/// A guard of a connection that was established late, held by the task that has established it. Without it nothing
/// would drop a connection that nobody uses, which the peer takes for one that is read.
pub(super) struct LateGuard<C> {
    // Weak, because the routes own the task.
    routes: Weak<Routes<C>>,
    name: DialName,
    id: u64,
}

impl<C> Drop for LateGuard<C> {
    fn drop(&mut self) {
        let Some(routes) = self.routes.upgrade() else {
            return;
        };
        let id = self.id;
        let mut state = routes.lock();
        let unused = match state.late.get(&self.name) {
            Some((own, _)) if *own == id => state.late.remove(&self.name),
            _ => None,
        };
        drop(state);
        drop(unused);
    }
}

/// A dial of the first network. Unless it succeeds, its end counts as a failure: at once if it fails, and
/// after [`HEAD_START`] if it is given up.
pub(super) struct Attempt<C> {
    // Weak, because the routes own tasks that hold an attempt.
    routes: Weak<Routes<C>>,
    addr: SocketAddr,
    since: Instant,
    has_ended: bool,
}

impl<C> Attempt<C> {
    pub(super) fn begin(routes: &Arc<Routes<C>>, addr: SocketAddr) -> Self {
        Self {
            routes: Arc::downgrade(routes),
            addr,
            since: Instant::now(),
            has_ended: false,
        }
    }

    /// Notes that the dial has failed.
    pub(super) fn failed(mut self) {
        self.note_failure();
    }

    /// Notes that the address was reached. The connection keeps what is returned.
    pub(super) fn succeeded(mut self) -> Arc<InUse> {
        self.has_ended = true;
        let routes = self.routes.upgrade();
        routes.map_or_else(|| Arc::new(InUse), |routes| routes.reached(self.addr))
    }

    fn note_failure(&mut self) {
        self.has_ended = true;
        if let Some(routes) = self.routes.upgrade() {
            routes.failed(self.addr, self.since);
        }
    }
}

impl<C> Drop for Attempt<C> {
    fn drop(&mut self) {
        if !self.has_ended && self.since.elapsed() > HEAD_START {
            self.note_failure();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        ([10, 0, (n >> 8) as u8, n as u8], 7000).into()
    }

    #[test]
    fn addresses_are_bounded_and_the_oldest_is_forgotten() {
        let routes = Routes::<()>::default();
        for n in 0..=MAX_ADDRS as u16 {
            routes.reached(addr(n));
        }
        assert_eq!(routes.route(addr(0)), Route::Unknown);
        assert_eq!(routes.route(addr(1)), Route::First);
        assert_eq!(routes.lock().reached.len(), MAX_ADDRS);
    }

    #[test]
    fn a_host_that_states_many_addresses_forgets_only_its_own() {
        let routes = Routes::<()>::default();
        let honest = addr(0);
        routes.reached(honest);
        let in_use = routes.reached(([10, 9, 9, 9], 1).into());
        for port in 2..MAX_ADDRS as u16 + 100 {
            routes.reached(([10, 9, 9, 9], port).into());
        }
        assert_eq!(routes.route(honest), Route::First);
        assert_eq!(routes.route(([10, 9, 9, 9], 1).into()), Route::First);
        assert_eq!(routes.lock().reached.len(), MAX_ADDRS);
        drop(in_use);
    }

    /// Someone may have a whole provider's network.
    #[test]
    fn nobody_can_make_an_address_that_is_in_use_be_forgotten() {
        let routes = Routes::<()>::default();
        // As behind a proxy: no host has more.
        let honest: Vec<SocketAddr> = (1..=20).map(|port| ([10, 9, 9, 9], port).into()).collect();
        let in_use: Vec<_> = honest.iter().map(|addr| routes.reached(*addr)).collect();
        for n in 0..MAX_ADDRS as u16 + 100 {
            let attacker = [0x2001, 0xdb8, 0, n, 0, 0, 0, 1];
            routes.reached((attacker, 7000).into());
        }
        for addr in &honest {
            assert_eq!(routes.route(*addr), Route::First, "{addr}");
        }
        assert_eq!(routes.lock().reached.len(), MAX_ADDRS);
        drop(in_use);
    }

    #[test]
    fn addresses_that_are_all_in_use_are_kept_until_their_connections_end() {
        let routes = Routes::<()>::default();
        let all = MAX_ADDRS as u16 + 20;
        let in_use: Vec<_> = (0..all).map(|n| routes.reached(addr(n))).collect();
        assert!((0..all).all(|n| routes.route(addr(n)) == Route::First));
        drop(in_use);
        routes.reached(addr(all));
        assert_eq!(routes.lock().reached.len(), MAX_ADDRS);
    }

    #[test]
    fn an_address_is_in_use_until_the_last_of_its_connections_ends() {
        let routes = Routes::<()>::default();
        let start = Instant::now();
        let later = start + HEAD_START + Duration::from_millis(1);
        let first = routes.reached(addr(1));
        // Another peer of the same host may state the same address.
        drop(routes.reached(addr(1)));
        routes.failed(addr(1), start);
        assert_eq!(routes.route_at(addr(1), later), Route::First);
        drop(first);
        assert_eq!(routes.route_at(addr(1), later), Route::FirstFails);
    }

    #[test]
    fn a_host_of_which_many_addresses_are_checked_leaves_checks_to_others() {
        let mut running = Vec::new();
        let mut begin = |host: u8| {
            let host = Host::of([10, 9, 9, host].into());
            let begins = leaves_checks_to_others(&running, host);
            running.extend(begins.then_some(host));
            begins
        };
        let of_one = (0..1_000).filter(|_| begin(1)).count();
        assert_eq!(of_one, MAX_BESIDE_CHECKS / 2);
        let of_others = (2..=255).filter(|host| begin(*host)).count();
        assert_eq!(of_others, MAX_BESIDE_CHECKS / 2);
    }

    #[test]
    fn answers_over_the_second_network_forget_none_of_the_first() {
        let routes = Routes::<()>::default();
        routes.reached(addr(0));
        for n in 0..=MAX_ADDRS as u16 {
            routes.answered_over_second(addr(n), Instant::now());
        }
        assert_eq!(routes.route(addr(0)), Route::First);
        assert_eq!(routes.lock().answered.len(), MAX_ADDRS);
        routes.reached(addr(2));
        assert_eq!(routes.route(addr(2)), Route::First);
        assert_eq!(routes.lock().answered.len(), MAX_ADDRS - 1);
    }

    #[test]
    fn an_answer_over_the_second_network_expires() {
        let routes = Routes::<()>::default();
        routes.reached(addr(2));
        routes.answered_over_second(addr(1), Instant::now());
        assert_eq!(routes.route(addr(1)), Route::Second);
        let later = Instant::now() + SECOND_VALID_FOR;
        assert_eq!(routes.route_at(addr(1), later), Route::Unknown);
        assert_eq!(routes.route_at(addr(2), later), Route::First);
    }

    #[test]
    fn later_answers_over_the_second_network_do_not_keep_a_peer_from_being_dialled_over_the_first()
    {
        let routes = Routes::<()>::default();
        let start = Instant::now();
        let long_ago = start.checked_sub(SECOND_VALID_FOR).unwrap();
        routes.answered_over_second(addr(1), long_ago);
        assert_eq!(routes.route(addr(1)), Route::Unknown);
        routes.answered_over_second(addr(1), start);
        routes.answered_over_second(addr(1), start);
        let later = start + SECOND_VALID_FOR;
        assert_eq!(routes.route_at(addr(1), later), Route::Unknown);
    }

    #[test]
    fn the_first_network_fails_once_its_dials_have_failed_for_the_head_start() {
        let routes = Routes::<()>::default();
        let start = Instant::now();
        routes.failed(addr(1), start);
        assert_eq!(routes.route(addr(1)), Route::Unknown);
        let in_use = routes.reached(addr(1));
        routes.failed(addr(1), start);
        routes.failed(addr(1), start + HEAD_START * 9);
        assert_eq!(routes.route_at(addr(1), start + HEAD_START), Route::First);
        let later = start + HEAD_START + Duration::from_millis(1);
        assert_eq!(routes.route_at(addr(1), later), Route::First);
        drop(in_use);
        assert_eq!(routes.route_at(addr(1), later), Route::FirstFails);
        routes.answered_over_second(addr(1), Instant::now());
        assert_eq!(routes.route_at(addr(1), later), Route::FirstFails);
        routes.reached(addr(1));
        assert_eq!(routes.route_at(addr(1), later), Route::First);
    }
}
