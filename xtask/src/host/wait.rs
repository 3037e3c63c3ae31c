//! Waiting that a signal ends: polling, for conditions that send no event, and pauses.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::host::interrupt;

/// Time between two polls: short compared with what is waited for, long compared with what a poll
/// costs.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Calls `poll` until it returns a value, and returns that value.
///
/// The inner `Err` of `poll` says what is still missing; it becomes the error once `limit` has
/// passed. The outer `Err` ends the wait at once, as a signal does.
pub(crate) fn until<T>(
    limit: Duration,
    mut poll: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        match poll()? {
            Ok(value) => return Ok(value),
            Err(missing) if start.elapsed() >= limit => {
                bail!("not within {:.1} s: {missing}", limit.as_secs_f64())
            }
            Err(_) => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Sleeps for `time`. Fails as soon as a signal arrives.
pub(crate) fn pause(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}
