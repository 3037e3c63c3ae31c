//! The known ways to reach each address.
//!
//! It stores answers and dials; it dials nothing. Invariant: at most [`MAX_ANSWERS`] answers are
//! remembered, and at most one dial of the first network is kept for each address.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::rt::sync::{Mutex, MutexGuard};
use crate::rt::{Instant, Task};

/// At most this many addresses have an answer remembered. One more forgets the oldest answer.
const MAX_ANSWERS: usize = 10_000;
/// An answer over the second network keeps a peer from being dialled over the first for this time.
const SECOND_VALID_FOR: Duration = Duration::from_secs(60);

/// One of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

/// The network over which each address is reached. `C` is a connection of the first network.
pub(super) struct Routes<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    answers: HashMap<SocketAddr, Answer>,
    /// Connections of the first network that were established late and wait to be used.
    late: HashMap<SocketAddr, C>,
    /// Dials of the first network that continue after the second network was dialled.
    late_dials: HashMap<SocketAddr, Task>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    side: Side,
    at: Instant,
}

impl<C> Routes<C> {
    /// Returns the network over which `addr` has answered last, unless that was too long ago.
    pub(super) fn answered_by(&self, addr: SocketAddr) -> Option<Side> {
        self.answered_by_at(addr, Instant::now())
    }

    fn answered_by_at(&self, addr: SocketAddr, now: Instant) -> Option<Side> {
        let state = self.lock();
        let answer = state.answers.get(&addr)?;
        let is_valid = answer.side == Side::First || now < answer.at + SECOND_VALID_FOR;
        is_valid.then_some(answer.side)
    }

    /// Remembers that `addr` has answered over `side` now.
    pub(super) fn answered(&self, addr: SocketAddr, side: Side) {
        let mut state = self.lock();
        let answers = &mut state.answers;
        if answers.len() >= MAX_ANSWERS && !answers.contains_key(&addr) {
            let oldest = answers.iter().min_by_key(|(_, answer)| answer.at);
            if let Some(oldest) = oldest.map(|(addr, _)| *addr) {
                answers.remove(&oldest);
            }
        }
        let at = Instant::now();
        answers.insert(addr, Answer { side, at });
    }

    /// Forgets the answer of `addr`, which does not answer over that network any more.
    pub(super) fn forget(&self, addr: SocketAddr) {
        self.lock().answers.remove(&addr);
    }

    /// Removes and returns the late connection to `addr`, if there is one.
    pub(super) fn take_late(&self, addr: SocketAddr) -> Option<C> {
        self.lock().late.remove(&addr)
    }

    /// Stores a late connection to `addr`.
    pub(super) fn put_late(&self, addr: SocketAddr, conn: C) {
        self.lock().late.insert(addr, conn);
    }

    /// Returns whether a late dial of `addr` is running, or its connection waits to be used.
    pub(super) fn is_dialled_late(&self, addr: SocketAddr) -> bool {
        let state = self.lock();
        let dial = state.late_dials.get(&addr);
        dial.is_some_and(|dial| !dial.is_finished())
    }

    /// Keeps the task of a late dial of `addr` until it has finished.
    pub(super) fn keep_late_dial(&self, addr: SocketAddr, dial: Task) {
        let mut finished = Vec::new();
        {
            let mut state = self.lock();
            finished.extend(state.late_dials.extract_if(|_, dial| dial.is_finished()));
            finished.extend(state.late_dials.insert(addr, dial).map(|dial| (addr, dial)));
        }
        // Dropped after the lock is released, because the drop of a task's values may take the
        // lock.
        drop(finished);
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock()
    }
}

impl<C> Default for Routes<C> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                answers: HashMap::new(),
                late: HashMap::new(),
                late_dials: HashMap::new(),
            }),
        }
    }
}

impl<C> fmt::Debug for Routes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Routes")
            .field("answers", &state.answers.len())
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
    fn answers_are_bounded_and_the_oldest_is_forgotten() {
        let routes = Routes::<()>::default();
        for n in 0..=MAX_ANSWERS as u16 {
            routes.answered(addr(n), Side::First);
        }
        assert_eq!(routes.answered_by(addr(0)), None);
        assert_eq!(routes.answered_by(addr(1)), Some(Side::First));
        assert_eq!(routes.lock().answers.len(), MAX_ANSWERS);
        routes.forget(addr(1));
        assert_eq!(routes.answered_by(addr(1)), None);
    }

    #[test]
    fn an_answer_over_the_second_network_expires() {
        let routes = Routes::<()>::default();
        routes.answered(addr(1), Side::Second);
        routes.answered(addr(2), Side::First);
        assert_eq!(routes.answered_by(addr(1)), Some(Side::Second));
        let later = Instant::now() + SECOND_VALID_FOR;
        assert_eq!(routes.answered_by_at(addr(1), later), None);
        assert_eq!(routes.answered_by_at(addr(2), later), Some(Side::First));
    }
}
