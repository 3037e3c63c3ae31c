//! Who speaks what, by what has answered, and dials that came through late.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::rt::sync::{Mutex, MutexGuard};
use crate::rt::{Instant, Task};

/// Addresses that are remembered; beyond it the one that answered longest ago goes.
const MOST_REMEMBERED: usize = 10_000;
/// How long an answer over the second network keeps a peer from being dialled by the first.
const SECOND_COUNTS_FOR: Duration = Duration::from_secs(60);
/// How long a connection that came late waits to be taken.
pub(super) const LATE_WAITS_FOR: Duration = Duration::from_secs(5);

/// One of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

/// What is known of peers. `C` is a connection of the first network.
pub(super) struct Peers<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    answered: HashMap<SocketAddr, (Side, Instant)>,
    late: HashMap<SocketAddr, C>,
    /// Dials of the first network that the second has overtaken, one for each address.
    trials: HashMap<SocketAddr, Task>,
}

impl<C> Peers<C> {
    /// The network that `addr` has answered by.
    pub(super) fn speaks(&self, addr: SocketAddr) -> Option<Side> {
        self.speaks_at(addr, Instant::now())
    }

    fn speaks_at(&self, addr: SocketAddr, now: Instant) -> Option<Side> {
        let state = self.lock();
        let (side, at) = state.answered.get(&addr)?;
        let counts = *side == Side::First || now < *at + SECOND_COUNTS_FOR;
        counts.then_some(*side)
    }

    pub(super) fn note(&self, addr: SocketAddr, side: Side) {
        let mut state = self.lock();
        let answered = &mut state.answered;
        if answered.len() >= MOST_REMEMBERED && !answered.contains_key(&addr) {
            let oldest = answered.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(addr, _)| *addr) {
                answered.remove(&oldest);
            }
        }
        answered.insert(addr, (side, Instant::now()));
    }

    /// It does not answer any more, by whatever it did.
    pub(super) fn forget(&self, addr: SocketAddr) {
        self.lock().answered.remove(&addr);
    }

    pub(super) fn take_late(&self, addr: SocketAddr) -> Option<C> {
        self.lock().late.remove(&addr)
    }

    pub(super) fn put_late(&self, addr: SocketAddr, conn: C) {
        self.lock().late.insert(addr, conn);
    }

    /// Whether a dial of the first network is under way, or waits to be taken.
    pub(super) fn tries(&self, addr: SocketAddr) -> bool {
        let state = self.lock();
        state.trials.get(&addr).is_some_and(|t| !t.is_finished())
    }

    /// Keeps `trial` until it is finished.
    pub(super) fn keep(&self, addr: SocketAddr, trial: Task) {
        let mut finished = Vec::new();
        {
            let mut state = self.lock();
            finished.extend(state.trials.extract_if(|_, trial| trial.is_finished()));
            finished.extend(state.trials.insert(addr, trial).map(|trial| (addr, trial)));
        }
        // Dropped without the lock: what a task owns may want it.
        drop(finished);
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock()
    }
}

impl<C> Default for Peers<C> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                answered: HashMap::new(),
                late: HashMap::new(),
                trials: HashMap::new(),
            }),
        }
    }
}

impl<C> fmt::Debug for Peers<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Peers")
            .field("answered", &state.answered.len())
            .field("late", &state.late.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        ([10, 0, (n >> 8) as u8, n as u8], 7000).into()
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let peers = Peers::<()>::default();
        for n in 0..=MOST_REMEMBERED as u16 {
            peers.note(addr(n), Side::First);
        }
        assert_eq!(peers.speaks(addr(0)), None);
        assert_eq!(peers.speaks(addr(1)), Some(Side::First));
        assert_eq!(peers.lock().answered.len(), MOST_REMEMBERED);
        peers.forget(addr(1));
        assert_eq!(peers.speaks(addr(1)), None);
    }

    #[test]
    fn an_answer_by_the_second_network_counts_for_a_while() {
        let peers = Peers::<()>::default();
        peers.note(addr(1), Side::Second);
        peers.note(addr(2), Side::First);
        assert_eq!(peers.speaks(addr(1)), Some(Side::Second));
        let later = Instant::now() + SECOND_COUNTS_FOR;
        assert_eq!(peers.speaks_at(addr(1), later), None);
        assert_eq!(peers.speaks_at(addr(2), later), Some(Side::First));
    }
}
