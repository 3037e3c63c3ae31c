//! Polling, for conditions that send no event.

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
