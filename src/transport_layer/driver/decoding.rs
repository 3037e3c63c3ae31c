//! The turns in which messages that take long are decoded.
//!
//! A compressed message of 2 KB can take a tenth of a second to decode. Readers decode what is cheap whenever
//! they are polled. For the rest, the readers of a socket take turns, one at a time, and the turn ends only
//! after a pause that is longer than the work. Nothing is decoded here. Invariant: decoding such messages
//! takes at most half of a core, whatever all peers together send, and each reader that waits gets one turn
//! before any other gets two.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::rt;
use crate::rt::sync::{Mutex, Ticket, WaitList};

/// The work, in bytes that are looked at, which a reader may do without a turn and without a pause: a few digests
/// of a thousand members. It takes 2 ms on a usual machine.
const FREE_WORK: usize = 256 << 10;
/// The pause after some work, in multiples of the time that it has taken.
const PAUSE: u32 = 2;
/// A shorter pause is not worth a timer.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// The longest pause. A process that was stopped during the work has not worked for so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The turns of the readers of one socket.
#[derive(Debug, Default)]
pub(super) struct DecodingTurns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    line: WaitList,
}

impl DecodingTurns {
    /// Waits for a turn. Cancel-safe: a place in line is given up when the future is dropped.
    pub(super) async fn take(&self) -> Turn<'_> {
        let mut place = TicketGuard {
            turns: self,
            ticket: None,
        };
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if !state.is_taken && state.line.may_pass(place.ticket) {
                state.line.leave(&mut place.ticket);
                state.is_taken = true;
                return Poll::Ready(());
            }
            state.line.join(&mut place.ticket, cx.waker());
            Poll::Pending
        })
        .await;
        Turn(self)
    }

    fn wake_first(&self, change: impl FnOnce(&mut State)) {
        let first = {
            let mut state = self.0.lock();
            change(&mut state);
            state.line.first()
        };
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

/// A place in line, which is given up when this is dropped.
struct TicketGuard<'a> {
    turns: &'a DecodingTurns,
    ticket: Ticket,
}

impl Drop for TicketGuard<'_> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.turns.wake_first(|state| {
                state.line.leave(&mut self.ticket);
            });
        }
    }
}

/// A turn, which ends when it is dropped.
pub(super) struct Turn<'a>(&'a DecodingTurns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.wake_first(|state| state.is_taken = false);
    }
}

/// The work of one reader since its last turn.
#[derive(Debug, Default)]
pub(super) struct Work {
    bytes: u32,
    took_nanos: u32,
}

impl Work {
    /// Returns whether a message whose decoding looks at `bytes` bytes needs a turn.
    pub(super) fn needs_turn(&self, bytes: usize) -> bool {
        bytes > 0 && (self.bytes as usize).saturating_add(bytes) > FREE_WORK
    }

    /// Counts a message that was decoded.
    pub(super) fn note(&mut self, bytes: usize, took: Duration) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let took_nanos = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.took_nanos = self.took_nanos.saturating_add(took_nanos);
    }

    /// Pauses for the work since the last turn, if it was long, and forgets it.
    pub(super) async fn pause(&mut self) {
        let work = std::mem::take(self);
        let took = Duration::from_nanos(work.took_nanos.into());
        let pause = took.saturating_mul(PAUSE).min(LONGEST_PAUSE);
        if pause >= SHORTEST_PAUSE {
            rt::sleep(pause).await;
        }
    }
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_turn_goes_to_the_one_that_has_waited_longest_and_past_one_that_gave_up() {
        let turns = DecodingTurns::default();
        let turn = turns.take().now_or_never().unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(turns.take())).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        assert!(turns.take().now_or_never().is_none());
        drop(turn);
        assert!(waiting[1].as_mut().now_or_never().is_none());
        assert!(turns.take().now_or_never().is_none());
        drop(waiting.remove(0));
        let turn = waiting[0].as_mut().now_or_never().unwrap();
        assert!(waiting[1].as_mut().now_or_never().is_none());
        drop(turn);
        assert!(waiting[1].as_mut().now_or_never().is_some());
        assert!(turns.take().now_or_never().is_some());
    }

    #[test]
    fn cheap_messages_need_no_turn_and_costly_ones_do() {
        let mut work = Work::default();
        assert!(!work.needs_turn(FREE_WORK) && work.needs_turn(FREE_WORK + 1));
        work.note(FREE_WORK, Duration::ZERO);
        // A message that is not compressed is cheap, whatever came before.
        assert!(!work.needs_turn(0) && work.needs_turn(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_longer_than_the_work_and_has_a_limit() {
        for (took_ms, pause_ms) in [(0, 0), (100, 200), (10_000, 1000)] {
            let mut work = Work::default();
            work.note(FREE_WORK, Duration::from_millis(took_ms));
            let began = tokio::time::Instant::now();
            work.pause().await;
            assert_eq!(began.elapsed(), Duration::from_millis(pause_ms));
            assert!(!work.needs_turn(1));
        }
    }
}
