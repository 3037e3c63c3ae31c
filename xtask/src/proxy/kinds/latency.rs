//! The time of a change until all nodes have it, through each proxy and without one in turn.

use std::time::{Duration, Instant};

use crate::host::wait::pause;
use crate::proxy::kinds::stage::Stage;
use crate::proxy::observer::KEY;
use crate::proxy::phase::LOST_AFTER;

/// Time between two looks at the observer. It does not affect the times that are measured.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Makes `rounds` changes in each tab, in an order of each round's own, and each at a random moment of the gossip round
/// after the one before has arrived. Returns the times by tab. A change that is lost has [`LOST_AFTER`].
pub(crate) fn measure(
    stage: &mut Stage<'_>,
    gossip_interval: Duration,
    rounds: usize,
) -> anyhow::Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); stage.tabs.len()];
    let mut number = 0;
    let mut order: Vec<_> = (0..times.len()).collect();
    for _ in 0..rounds {
        fastrand::shuffle(&mut order);
        for tab in &order {
            pause(gossip_interval.mul_f64(fastrand::f64()))?;
            number += 1;
            let time = change(stage, *tab, number)?;
            times
                .get_mut(*tab)
                .into_iter()
                .for_each(|times| times.push(time));
        }
    }
    Ok(times)
}

/// Makes the change with a number in a tab, and waits until all nodes have it.
fn change(stage: &Stage<'_>, tab: usize, number: u64) -> anyhow::Result<Duration> {
    stage.host.select_tab(tab)?;
    // Before the change, which may be everywhere before the browser has answered.
    stage.observer.expect(number);
    let at = stage.host.set_key(KEY, &number.to_string())?;
    let start = Instant::now();
    while start.elapsed() < LOST_AFTER {
        let (done, _) = stage.observer.progress()?;
        if let Some(done) = done.iter().find(|done| done.number == number) {
            return Ok(done.at.duration_since(at).unwrap_or_default());
        }
        pause(POLL_INTERVAL)?;
    }
    Ok(LOST_AFTER)
}
