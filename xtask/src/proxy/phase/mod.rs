//! What was observed in one phase of the measurement, and what was expected.
//!
//! Plain values only.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// A change that takes longer counts as lost.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(20);
/// The limit for each change after the proxy was restarted.
pub(crate) const LATE_AFTER: Duration = Duration::from_secs(5);
/// The limit for each change of a tab that has come back: it notices that it is online again, and does not
/// wait for the end of a backoff, which is as long as 10 rounds.
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// How much longer a change may take through the proxy than directly.
const FACTOR: u32 = 15;
const FACTOR_OF: u32 = 10;
/// Added to the limit: the uncertainty of the observer, and what the encryption and the hop of the
/// proxy take on a busy machine.
const ALLOWANCE: Duration = Duration::from_millis(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes, with nodes that the tabs reach directly.
    Direct,
    /// Changes through the proxy.
    Proxied,
    /// Changes through the proxy that was restarted at the beginning.
    Restarted,
    /// Changes by a tab whose host was off its network.
    Offline,
    /// Changes by a tab that was frozen on a host off its network, while the proxy was restarted.
    Asleep,
    /// No changes, many tabs.
    Rest,
}

/// Whether the members of a cluster saw each other before the first phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Complete,
    /// Not within the time limit.
    Incomplete,
}

impl Kind {
    /// Returns whether a tab was away for a while, so that others rightly saw it dead, and it them.
    pub(crate) fn has_absence(self) -> bool {
        matches!(self, Self::Offline | Self::Asleep)
    }

    /// Returns whether tabs could not reach the proxy for a while.
    fn has_interruption(self) -> bool {
        self == Self::Restarted || self.has_absence()
    }
}

/// The observations of a phase in which no member stopped, except for a tab that was away.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    pub(crate) kind: Kind,
    pub(crate) start: Start,
    pub(crate) nodes: u8,
    pub(crate) tabs: usize,
    pub(crate) took: Duration,
    /// The time of each change until all nodes had it. At most [`LOST_AFTER`].
    pub(crate) spreads: Vec<Duration>,
    /// How exact the times are: the median over the changes.
    pub(crate) uncertainty: Duration,
    pub(crate) counts: Counts,
    /// The mean number of threads that wanted to run, over a minute, at the end.
    pub(crate) load: f64,
}

/// Numbers of things that should not happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Members that a node declared dead, except for a tab that was away.
    pub(crate) deaths_at_nodes: u64,
    /// Members that a tab declared dead.
    pub(crate) deaths_at_tabs: u64,
    /// Changes of liveness at the tabs: deaths, and dead members that came back.
    pub(crate) flips_at_tabs: u64,
    /// Errors on the tabs' consoles, without those of the next field.
    pub(crate) console_errors: u64,
    /// Errors on the tabs' consoles about the proxy's URL, which are right while it is down.
    pub(crate) proxy_errors: u64,
    /// Dials by tabs of addresses that they cannot reach.
    pub(crate) foreign_dials: u64,
    /// Dials by nodes that failed.
    pub(crate) failed_node_dials: u64,
}

impl Phase {
    /// Returns the time that `percent` of the changes took at most.
    pub(crate) fn percentile(&self, percent: usize) -> Option<Duration> {
        percentile(&self.spreads, percent)
    }

    /// Returns the number of changes.
    pub(crate) fn changes(&self) -> u64 {
        self.spreads.iter().map(|_| 1).sum()
    }

    /// Returns the number of changes that took longer than [`LATE_AFTER`].
    pub(crate) fn late(&self) -> u64 {
        self.longer_than(LATE_AFTER)
    }

    /// Returns the number of changes that took [`LOST_AFTER`].
    pub(crate) fn lost(&self) -> u64 {
        self.longer_than(LOST_AFTER.saturating_sub(Duration::from_nanos(1)))
    }

    /// Returns how many deaths the tabs may see because one of them was away. A tab that was offline sees all
    /// others dead; one that was asleep sees none, and each other tab sees it dead.
    fn right_deaths_at_tabs(&self) -> u64 {
        match self.kind {
            Kind::Offline => u64::MAX,
            Kind::Asleep => u64::try_from(self.tabs).map_or(0, |tabs| tabs.saturating_sub(1)),
            _ => 0,
        }
    }

    fn longer_than(&self, limit: Duration) -> u64 {
        let longer = self.spreads.iter().map(|took| u64::from(*took > limit));
        longer.sum()
    }

    /// Names the phase in a table.
    pub(crate) fn name(&self) -> String {
        let Self { nodes, tabs, .. } = self;
        match self.kind {
            Kind::Direct => format!("{nodes} nodes, {tabs} tabs, direct"),
            Kind::Proxied => format!("{nodes} nodes, {tabs} tabs, proxy"),
            Kind::Restarted => format!("{nodes} nodes, {tabs} tabs, proxy restarted"),
            Kind::Offline => format!("{nodes} nodes, {tabs} tabs, proxy, one was offline"),
            Kind::Asleep => format!("{nodes} nodes, {tabs} tabs, proxy, one was asleep"),
            Kind::Rest => format!("{nodes} nodes, {tabs} tabs, proxy, at rest"),
        }
    }
}

/// Returns the value that `percent` of `values` do not exceed.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Returns the expectations that the phases do not meet, one sentence each.
pub(crate) fn broken(phases: &[Phase]) -> Vec<String> {
    let mut broken = Vec::new();
    for phase in phases {
        let name = phase.name();
        let direct = phases
            .iter()
            .find(|other| other.kind == Kind::Direct && other.nodes == phase.nodes);
        if let (Kind::Proxied, Some(direct)) = (phase.kind, direct) {
            broken.extend(slower(phase, direct));
        }
        let limit_exceeded = match phase.kind {
            Kind::Restarted => phase.late(),
            Kind::Offline | Kind::Asleep => phase.longer_than(BACK_WITHIN),
            _ => phase.lost(),
        };
        let Counts {
            deaths_at_nodes,
            deaths_at_tabs,
            foreign_dials,
            failed_node_dials,
            console_errors,
            ..
        } = phase.counts;
        let deaths_at_tabs = deaths_at_tabs.saturating_sub(phase.right_deaths_at_tabs());
        let none = [
            (limit_exceeded, "changes were late or lost"),
            (deaths_at_nodes, "false deaths at nodes"),
            (deaths_at_tabs, "false deaths at tabs"),
            (foreign_dials, "dials of unreachable addresses by tabs"),
            (failed_node_dials, "failed dials by nodes"),
            (console_errors, "errors on the console"),
        ];
        for (count, what) in none {
            if count > 0 {
                broken.push(format!("{name}: {count} {what}"));
            }
        }
        if phase.start == Start::Incomplete {
            broken.push(format!(
                "{name}: the members did not see each other in time"
            ));
        }
        if !phase.kind.has_interruption() && phase.counts.proxy_errors > 0 {
            let count = phase.counts.proxy_errors;
            broken.push(format!(
                "{name}: {count} errors on the console about the proxy"
            ));
        }
    }
    broken
}

/// Returns how long a change may take through a proxy if it takes `base` directly.
pub(crate) fn limit(base: Duration) -> Duration {
    base * FACTOR / FACTOR_OF + ALLOWANCE
}

fn slower(phase: &Phase, direct: &Phase) -> Vec<String> {
    let mut broken = Vec::new();
    for percent in [50, 90] {
        if let (Some(took), Some(base)) = (phase.percentile(percent), direct.percentile(percent)) {
            let limit = limit(base);
            if took > limit {
                broken.push(format!(
                    "{}: p{percent} is {} ms, more than {} ms (1.5 times {} ms directly, and {} ms)",
                    phase.name(),
                    took.as_millis(),
                    limit.as_millis(),
                    base.as_millis(),
                    ALLOWANCE.as_millis()
                ));
            }
        }
    }
    broken
}
