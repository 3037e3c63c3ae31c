//! How long a tab that joins takes to receive a large state, and how long a small change takes meanwhile.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Deserialize;

use crate::host::wait;
use crate::host::wait::pause;
use crate::proxy::observer::KEY;
use crate::proxy::phase::percentile;
use crate::proxy::stage::Stage;

/// The number of keys of each node, and the length of a value. With three nodes these are 9.9 MB.
const KEYS: usize = 66;
const VALUE_LEN: usize = 50_000;
/// Limit for the nodes among themselves.
const SPREAD_WITHIN: Duration = Duration::from_secs(30);
/// After this time a newcomer is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(70);
/// The time from the opening of a newcomer until the small change.
const CHANGE_AFTER: Duration = Duration::from_millis(700);
/// The expected times.
const STATE_WITHIN: Duration = Duration::from_secs(3);
const CHANGE_WITHIN: Duration = Duration::from_millis(200);

/// The times of several newcomers.
#[derive(Debug, Default)]
pub(crate) struct CaughtUp {
    bytes: usize,
    /// From the start of the navigation until a tab had the whole state.
    states: Vec<Duration>,
    /// From the change of a key in another tab until the newcomer had it.
    changes: Vec<Duration>,
}

impl CaughtUp {
    /// Returns the expectations that are not met, one sentence each.
    pub(crate) fn broken(&self) -> Vec<String> {
        let late = |times: &[Duration], limit, what: &str| {
            let late = times.iter().filter(|took| **took > limit).count();
            (late > 0).then(|| format!("catching up: {late} {what} took more than {limit:?}"))
        };
        let states = late(&self.states, STATE_WITHIN, "newcomers");
        states
            .into_iter()
            .chain(late(&self.changes, CHANGE_WITHIN, "small changes"))
            .collect()
    }

    /// Describes the times in a sentence.
    pub(crate) fn text(&self) -> String {
        let times = |times: &[Duration]| {
            let of = |percent| percentile(times, percent).unwrap_or_default().as_millis();
            format!("{} ms ({}..{})", of(50), of(0), of(100))
        };
        format!(
            "{} tabs joined a cluster with {:.1} MB of state: all of it after {}, a small change meanwhile after {}",
            self.states.len(),
            self.bytes as f64 / 1e6,
            times(&self.states),
            times(&self.changes)
        )
    }
}

/// What the script in a newcomer has noted, in milliseconds since 1970.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Noted {
    start: f64,
    bytes: usize,
    all_at: Option<f64>,
    change_at: Option<f64>,
}

impl Stage<'_> {
    /// Sets a large state on the nodes, and opens `newcomers` tabs on the second host, one after the other.
    pub(crate) fn catch_up(&mut self, newcomers: usize) -> anyhow::Result<CaughtUp> {
        let nodes = usize::from(self.members.nodes);
        let bytes = nodes * KEYS * VALUE_LEN;
        let value: String = "0123456789".chars().cycle().take(VALUE_LEN).collect();
        for node in 0..nodes {
            for key in 0..KEYS {
                self.nodes.set_key(node, &format!("large-{key}"), &value)?;
            }
        }
        wait::until(SPREAD_WITHIN, || {
            let statuses = self.nodes.statuses()?;
            let missing = statuses.iter().filter(|(_, status)| {
                let keys = status.members.iter().flat_map(|member| member.keys.keys());
                keys.filter(|key| key.starts_with("large-")).count() < nodes * KEYS
            });
            let missing = missing.count();
            Ok((missing == 0)
                .then_some(())
                .ok_or_else(|| format!("{missing} nodes lack a part of the large state")))
        })?;
        let mut caught_up = CaughtUp {
            bytes,
            ..CaughtUp::default()
        };
        for _ in 0..newcomers {
            let (state, change) = self.newcomer(bytes)?;
            caught_up.states.push(state);
            caught_up.changes.push(change);
        }
        println!("  {}", caught_up.text());
        Ok(caught_up)
    }

    /// Opens one tab and closes it again. Returns how long the state and the change took.
    fn newcomer(&mut self, bytes: usize) -> anyhow::Result<(Duration, Duration)> {
        self.changes_made += 1;
        let number = self.changes_made;
        let url = self.url.clone();
        let [first, second] = self.hosts.as_mut_slice() else {
            anyhow::bail!("there are not two hosts");
        };
        let seen = first.read()?;
        let changer = &seen.first().context("the first host has no tab")?.id;
        let script = format!(
            "window.gossipWanted = {bytes}; window.gossipChanger = {};\n{}",
            serde_json::Value::from(changer.as_str()),
            include_str!("catch_up.js")
        );
        first.select_first_tab()?;
        second.open_tab_with(&url, Some(&script))?;
        pause(CHANGE_AFTER)?;
        let changed = first.set_key(KEY, &number.to_string())?;
        let read = format!(
            "const {{ bytes, allAt, changes }} = window.gossipCaughtUp;
             return {{ start: performance.timeOrigin, bytes, allAt, changeAt: changes['{number}'] ?? null }};"
        );
        let noted = wait::until(GIVEN_UP_AFTER, || {
            let noted: Noted = serde_json::from_value(second.execute_in_last_tab(&read)?)
                .context("the script in the newcomer has an unexpected form")?;
            Ok(match (noted.all_at, noted.change_at) {
                (Some(all), Some(change)) => Ok((noted.start, all, change)),
                (None, _) => Err(format!("the newcomer has {} bytes", noted.bytes)),
                (_, None) => Err("the newcomer lacks the small change".to_owned()),
            })
        });
        second.close_last_tab()?;
        let (start, all, change) = noted?;
        let since = |from: SystemTime, at: f64| -> anyhow::Result<Duration> {
            let at = time(at)?;
            Ok(at.duration_since(from).unwrap_or_default())
        };
        Ok((since(time(start)?, all)?, since(changed, change)?))
    }
}

fn time(millis: f64) -> anyhow::Result<SystemTime> {
    Ok(UNIX_EPOCH + Duration::try_from_secs_f64(millis / 1000.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_the_limits_break_an_expectation() {
        let caught_up = |states: &[u64], changes: &[u64]| CaughtUp {
            bytes: 9_900_000,
            states: states.iter().copied().map(Duration::from_millis).collect(),
            changes: changes.iter().copied().map(Duration::from_millis).collect(),
        };
        assert_eq!(caught_up(&[3_000], &[200]).broken(), [""; 0]);
        assert_eq!(caught_up(&[3_001, 2], &[1]).broken().len(), 1);
        assert_eq!(caught_up(&[3_001], &[201]).broken().len(), 2);
        assert!(
            caught_up(&[1, 2, 3], &[4])
                .text()
                .contains("after 2 ms (1..3)")
        );
    }
}
