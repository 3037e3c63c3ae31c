//! The faults between hosts.
//!
//! It stores faults and draws losses; it delays and drops nothing itself. Invariant: the order of
//! calls and the seed alone decide which messages are lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::rt::sync::{Epoch, Mutex};

/// The faults in one direction between two hosts. By default there are none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Faults {
    /// The time that a message is in transit.
    pub delay: Duration,
    /// The share of messages that are lost, from 0 to 1. A real connection would fail instead; this
    /// tests protocols that must tolerate loss.
    pub loss: f64,
    /// Whether delivery is suspended. Messages wait, within the limits of the connection, until it
    /// is lifted. To the sender this looks like a peer that accepts a connection and never reads.
    pub stalled: bool,
    /// The effect on dials.
    pub dial: DialFault,
}

impl Faults {
    /// Returns faults that delay each message by `delay`.
    pub fn delayed(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Returns faults that lose a share of the messages, from 0 to 1.
    pub fn lossy(loss: f64) -> Self {
        Self {
            loss,
            ..Self::default()
        }
    }

    /// Returns faults that suspend delivery.
    pub fn stalled() -> Self {
        Self {
            stalled: true,
            ..Self::default()
        }
    }

    /// Returns the faults of a cut network: delivery is suspended, and dials get no answer.
    pub fn cut() -> Self {
        Self {
            stalled: true,
            dial: DialFault::Ignored,
            ..Self::default()
        }
    }

    /// Returns faults that affect dials only.
    pub fn dialing(fault: DialFault) -> Self {
        Self {
            dial: fault,
            ..Self::default()
        }
    }
}

/// The effect of a fault on a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DialFault {
    /// The dial proceeds.
    #[default]
    None,
    /// The dial gets no answer, as if its first packet were lost. It proceeds once the fault is
    /// lifted.
    Ignored,
    /// The connection is accepted, and its handshake is never answered.
    HandshakeUnanswered,
    /// The dial is refused, even if there is a listener.
    Refused,
}

/// The faults of a network.
#[derive(Debug)]
pub(super) struct FaultTable {
    state: Mutex<State>,
    changed: Epoch,
}

#[derive(Debug)]
struct State {
    by_direction: BTreeMap<(IpAddr, IpAddr), Faults>,
    rng: fastrand::Rng,
}

impl FaultTable {
    /// Returns a table without faults, whose losses are drawn from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                by_direction: BTreeMap::new(),
                rng: fastrand::Rng::with_seed(seed),
            }),
            changed: Epoch::default(),
        }
    }

    /// Sets the faults of each of the directions, and wakes tasks that wait for a change.
    pub(super) fn set(&self, directions: &[(IpAddr, IpAddr)], faults: Faults) {
        {
            let mut state = self.state.lock();
            for direction in directions {
                state.by_direction.insert(*direction, faults);
            }
        }
        self.changed.advance();
    }

    /// Removes all faults, and wakes tasks that wait for a change.
    pub(super) fn clear(&self) {
        self.state.lock().by_direction.clear();
        self.changed.advance();
    }

    /// Returns the faults from one host to another.
    pub(super) fn get(&self, from: IpAddr, to: IpAddr) -> Faults {
        let state = self.state.lock();
        let faults = state.by_direction.get(&(from, to));
        faults.copied().unwrap_or_default()
    }

    /// Draws whether the next message from one host to another is lost.
    pub(super) fn draw_loss(&self, from: IpAddr, to: IpAddr) -> bool {
        let mut state = self.state.lock();
        let faults = state.by_direction.get(&(from, to));
        let loss = faults.map_or(0.0, |faults| faults.loss);
        loss > 0.0 && state.rng.f64() < loss
    }

    /// Returns the epoch that advances when faults change.
    pub(super) fn changed(&self) -> &Epoch {
        &self.changed
    }
}
