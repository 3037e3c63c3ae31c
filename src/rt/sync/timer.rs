//! A timer for a deadline that moves.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::rt::{self, Instant};

/// The longest sleep that is requested in one piece. Browsers refuse timers of more than 24.8 days.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// A timer that is reused from one wait to the next.
///
/// Most deadlines move into the future before they pass. A timer that is armed for an earlier time
/// therefore stays armed and is armed anew only when it fires, instead of once for each message.
#[derive(Default)]
pub(crate) struct Timer {
    armed: Option<(Instant, rt::BoxFuture<'static, ()>)>,
}

impl Timer {
    /// Completes once `deadline` has passed.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.armed {
                Some((at, sleep)) if *at <= deadline => {
                    ready!(sleep.as_mut().poll(cx));
                    self.armed = None;
                }
                _ => {
                    // The deadline may have passed since the caller checked. A timer armed for now
                    // would be later than the deadline and be armed again without end.
                    let now = Instant::now();
                    let wait = deadline.saturating_duration_since(now);
                    if wait.is_zero() {
                        return Poll::Ready(());
                    }
                    let wait = wait.min(LONGEST_SLEEP);
                    let at = now.checked_add(wait).unwrap_or(deadline);
                    self.armed = Some((at, Box::pin(rt::sleep(wait))));
                }
            }
        }
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let armed = self.armed.as_ref().map(|(at, _)| at);
        f.debug_struct("Timer").field("armed", &armed).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Models a task that reads its deadline and is delayed before it waits.
    #[test]
    fn a_deadline_that_passes_before_it_is_waited_for_is_over_at_once() {
        let passed = Instant::now();
        while Instant::now() <= passed {}
        let mut cx = Context::from_waker(Waker::noop());
        // Setting a timer would need a runtime, and there is none here.
        assert!(Timer::default().poll(passed, &mut cx).is_ready());
    }

    #[cfg(not(target_family = "wasm"))]
    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_kept_also_if_it_has_moved() {
        let start = Instant::now();
        let secs = Duration::from_secs;
        // When the timer is set for what deadline, and when it fires, in seconds.
        let cases: [(&[(u64, u64)], u64); 4] = [
            (&[(0, 10)], 10),
            (&[(0, 10), (5, 20)], 20),
            (&[(0, 20), (5, 10)], 10),
            // Longer than the longest sleep.
            (&[(0, 10_000)], 10_000),
        ];
        let mut timer = Timer::default();
        for (index, (deadlines, fires)) in cases.into_iter().enumerate() {
            let start = start + secs(100_000 * index as u64);
            for (at, deadline) in deadlines {
                tokio::time::sleep_until(start + secs(*at)).await;
                let polled = std::future::poll_fn(|cx| {
                    Poll::Ready(timer.poll(start + secs(*deadline), cx).is_ready())
                });
                assert!(!polled.await, "{deadlines:?}");
            }
            let last = deadlines
                .last()
                .map_or(start, |(_, last)| start + secs(*last));
            std::future::poll_fn(|cx| timer.poll(last, cx)).await;
            let late = Instant::now() - (start + secs(fires));
            assert!(late < Duration::from_millis(10), "{deadlines:?}: {late:?}");
        }
    }
}
