//! Waiting for something that has no event to wait for: asked again until it holds.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::interrupt;

/// Between two looks: short against what is waited for, long against what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks `look` until it gives a value, at most for `limit`; returns the value.
///
/// `look` says in its inner `Err` what is still missing; its outer `Err` ends the wait at once.
pub(crate) fn until<T>(
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        match look()? {
            Ok(value) => return Ok(value),
            Err(missing) if start.elapsed() >= limit => {
                bail!("not within {:.1} s: {missing}", limit.as_secs_f64())
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}
