//! The order in which WebSockets to one host are opened.
//!
//! A client has at most one WebSocket to an IP address in the state CONNECTING (RFC 6455, section 4.1).
//! Firefox keeps to that, whatever the ports, so a peer that accepts a connection and never answers delays
//! all others of its host, such as those behind one proxy. This file decides; `transport` opens and
//! closes. Invariants: a WebSocket gives way at once if its peer was not reached the last time and another
//! one to the host is opened; and one that holds up others is given up after a few seconds.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};

use crate::rt::sync::{Epoch, Mutex};
use crate::rt::{self, Instant};

/// The time for which the first WebSocket in line may be opening while others wait, if its peer was reached
/// the last time. It doubles with each failure, so that a slow network lets it through at last.
const FIRST_TURN: Duration = Duration::from_secs(2);

/// The most targets of which failures are remembered.
const MAX_FAILURES: usize = 256;

/// The WebSockets of one transport that are opening. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Openings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    changes: Epoch,
}

/// A WebSocket that is to be opened. Dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Opening {
    shared: Arc<Shared>,
    id: u64,
    limit: Duration,
}

/// What has become of a WebSocket.
#[derive(Debug)]
pub(super) enum Outcome<T> {
    /// It is open, or has failed.
    Ended(T),
    /// It must be closed, and opened again at its next turn.
    GiveWay,
    /// It did not open in its time.
    TimedOut,
}

impl Openings {
    /// Enters the line for `host`. `target` is what is dialled there, and may be opening for `limit`.
    pub(super) fn enter(&self, host: String, target: &str, limit: Duration) -> Opening {
        let shared = Arc::clone(&self.0);
        let id = shared.line.lock().enter(host, target);
        Opening { shared, id, limit }
    }
}

impl Opening {
    /// Waits until the WebSocket may be created.
    pub(super) async fn turn(&self) {
        loop {
            let epoch = self.shared.changes.current();
            if self.shared.line.lock().may_begin(self.id) {
                self.shared.changes.advance();
                return;
            }
            self.shared.changes.later_than(epoch).await;
        }
    }

    /// Waits for `opened`, for as long as the WebSocket may be opening.
    pub(super) async fn wait<T>(&self, opened: impl Future<Output = T>) -> Outcome<T> {
        let mut opened = pin!(opened);
        loop {
            let epoch = self.shared.changes.current();
            let now = Instant::now();
            let next = self.shared.line.lock().next(self.id, self.limit, now);
            let left = match next {
                OpeningStep::Wait(until) => until.map(|until| until.saturating_duration_since(now)),
                OpeningStep::GiveWay => {
                    self.shared.changes.advance();
                    return Outcome::GiveWay;
                }
                OpeningStep::TimedOut => return Outcome::TimedOut,
            };
            let time = async {
                match left {
                    Some(left) => rt::sleep(left).await,
                    None => pending().await,
                }
            };
            let changed = self.shared.changes.later_than(epoch);
            let (changed, time) = (pin!(changed), pin!(time));
            let news = select(changed, time);
            if let Either::Left((output, _)) = select(opened.as_mut(), news).await {
                return Outcome::Ended(output);
            }
        }
    }

    /// Leaves the line. Records whether the target was reached.
    pub(super) fn ended(self, reached: bool) {
        self.shared.line.lock().record(self.id, reached);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.shared.line.lock().leave(self.id);
        self.shared.changes.advance();
    }
}

/// Next step of a WebSocket that is opening.
enum OpeningStep {
    /// Go on, until this time; `None` is never.
    Wait(Option<Instant>),
    GiveWay,
    TimedOut,
}

/// All WebSockets that are opening or wait for their turn. Those that are opening are in the order in
/// which they began.
#[derive(Debug, Default)]
struct Line {
    next_id: u64,
    places: Vec<LineEntry>,
    /// Targets that were not reached the last time, and how often in a row. The last one is the latest.
    failures: VecDeque<(String, u32)>,
}

/// A WebSocket that is opening, or waits for its turn.
#[derive(Debug)]
struct LineEntry {
    id: u64,
    host: String,
    target: String,
    /// How often in a row the target was not reached.
    failures: u32,
    is_opening: bool,
    /// When it became the first in line, which alone can make progress in some browsers.
    first_since: Option<Instant>,
}

impl Line {
    fn enter(&mut self, host: String, target: &str) -> u64 {
        self.next_id += 1;
        let mut failures = self.failures.iter();
        let failures = failures.find(|(failed, _)| failed == target);
        self.places.push(LineEntry {
            id: self.next_id,
            host,
            target: target.to_owned(),
            failures: failures.map_or(0, |(_, failures)| *failures),
            is_opening: false,
            first_since: None,
        });
        self.next_id
    }

    fn leave(&mut self, id: u64) {
        self.places.retain(|place| place.id != id);
    }

    fn record(&mut self, id: u64, reached: bool) {
        let Some(place) = self.places.iter().find(|place| place.id == id) else {
            return;
        };
        self.failures.retain(|(target, _)| *target != place.target);
        if reached {
            return;
        }
        if self.failures.len() >= MAX_FAILURES {
            self.failures.pop_front();
        }
        let failures = place.failures.saturating_add(1);
        self.failures.push_back((place.target.clone(), failures));
    }

    /// Returns whether the WebSocket may be created, and puts it at the end of the line if so.
    fn may_begin(&mut self, id: u64) -> bool {
        let Some(index) = self.places.iter().position(|place| place.id == id) else {
            return true;
        };
        let mut place = self.places.remove(index);
        let is_busy = |other: &LineEntry| other.host == place.host && other.is_opening;
        let may = place.failures == 0 || !self.places.iter().any(is_busy);
        place.is_opening = may;
        let index = if may { self.places.len() } else { index };
        self.places.insert(index, place);
        may
    }

    /// Decides about one that is opening.
    fn next(&mut self, id: u64, limit: Duration, now: Instant) -> OpeningStep {
        let Some(place) = self.places.iter().find(|place| place.id == id) else {
            return OpeningStep::TimedOut;
        };
        let (failures, host) = (place.failures, place.host.clone());
        let at_host = || self.places.iter().filter(|place| place.host == host);
        let has_better = at_host().any(|place| place.failures == 0 && place.id != id);
        let is_alone = at_host().count() == 1;
        let first = at_host().find(|place| place.is_opening);
        let is_first = first.is_some_and(|first| first.id == id);
        let Some(place) = self.places.iter_mut().find(|place| place.id == id) else {
            return OpeningStep::TimedOut;
        };
        if failures > 0 && has_better {
            place.is_opening = false;
            place.first_since = None;
            return OpeningStep::GiveWay;
        }
        if !is_first {
            return OpeningStep::Wait(None);
        }
        let turn = FIRST_TURN.saturating_mul(1 << failures.min(16));
        let turn = if is_alone { limit } else { limit.min(turn) };
        let since = *place.first_since.get_or_insert(now);
        match since.checked_add(turn) {
            Some(end) if end <= now => OpeningStep::TimedOut,
            end => OpeningStep::Wait(end),
        }
    }
}
