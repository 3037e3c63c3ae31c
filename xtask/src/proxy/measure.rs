//! The phases of the measurement: changes one by one, changes after a restart of the proxy, rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;

use crate::host::wait::pause;
use crate::proxy::console;
use crate::proxy::host::{Absence, Host};
use crate::proxy::observer::KEY;
use crate::proxy::phase::{Counts, Kind, LOST_AFTER, Phase, percentile};
use crate::proxy::spread::Done;
use crate::proxy::stage::{Access, Stage};

/// Time between two looks at the observer. It does not affect the times that are measured.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Stage<'_> {
    /// Makes `count` changes, on the hosts in turn, each at a random moment of the gossip round after
    /// the one before has arrived.
    pub(crate) fn changes(&mut self, count: usize) -> anyhow::Result<Phase> {
        let kind = match self.members.access {
            Access::Direct => Kind::Direct,
            Access::Proxy => Kind::Proxied,
        };
        self.phase(kind, |stage, changes| {
            for index in 0..count {
                pause(stage.gossip_interval.mul_f64(2.0 * fastrand::f64()))?;
                let host = index % stage.hosts.len().max(1);
                changes.make(stage, host)?;
                changes.wait(stage)?;
            }
            Ok(())
        })
    }

    /// Restarts the proxy and makes `count` changes at random moments of the `time` after that, all on
    /// one host, since numbers of changes that overlap tell nothing unless one member makes them.
    pub(crate) fn changes_after_restart(
        &mut self,
        count: usize,
        time: Duration,
    ) -> anyhow::Result<Phase> {
        self.phase(Kind::Restarted, |stage, changes| {
            stage.restart_proxy()?;
            changes.make_within(time, count, stage)
        })
    }

    /// Takes the first host off its network for `away`, and makes `count` changes in its tab at random moments
    /// of the `time` after that. The first one is made at once.
    pub(crate) fn changes_after_absence(
        &mut self,
        absence: Absence,
        away: Duration,
        count: usize,
        time: Duration,
    ) -> anyhow::Result<Phase> {
        let kind = match absence {
            Absence::Offline => Kind::Offline,
            Absence::Asleep => Kind::Asleep,
        };
        self.phase(kind, |stage, changes| {
            stage.first_host()?.go_away(absence)?;
            pause(away / 2)?;
            if absence == Absence::Asleep {
                // What the tab knows of its connection is out of date when it wakes up.
                stage.restart_proxy()?;
            }
            pause(away / 2)?;
            stage.first_host()?.come_back(absence)?;
            changes.make(stage, 0)?;
            changes.make_within(time, count.saturating_sub(1), stage)
        })
    }

    fn first_host(&self) -> anyhow::Result<&Host<'_>> {
        self.hosts.first().context("there is no host")
    }

    fn restart_proxy(&mut self) -> anyhow::Result<()> {
        let nginx = self.nginx.as_mut().context("there is no proxy")?;
        nginx.restart()
    }

    /// Changes nothing for a while.
    pub(crate) fn rest(&mut self, time: Duration) -> anyhow::Result<Phase> {
        self.phase(Kind::Rest, |_, _| pause(time))
    }

    /// Runs `work` and returns what was observed meanwhile.
    fn phase(
        &mut self,
        kind: Kind,
        work: impl FnOnce(&mut Self, &mut Changes) -> anyhow::Result<()>,
    ) -> anyhow::Result<Phase> {
        let mark = self.nodes.mark()?;
        let tabs = self.read_tabs()?.into_iter();
        let away = tabs.map(|tab| tab.id).next().filter(|_| kind.has_absence());
        for host in &self.hosts {
            host.console()?;
            host.select_first_tab()?;
        }
        let start = Instant::now();
        let mut changes = Changes::default();
        work(self, &mut changes)?;
        let took = start.elapsed();

        let mut deaths = self.nodes.deaths_since(&mark)?;
        if let Some(away) = away {
            deaths.retain(|(member, _), _| *member != away);
        }
        let mut counts = Counts {
            failed_node_dials: self.nodes.failed_dials_since(&mark)?,
            deaths_at_nodes: deaths.values().sum(),
            ..Counts::default()
        };
        for seen in self.read_tabs()? {
            counts.deaths_at_tabs += count(&seen.events, |event| event == "died");
            counts.flips_at_tabs += count(&seen.events, |event| event == "died" || event == "back");
            counts.foreign_dials += count(&seen.dials, |url| !self.reachable.contains(url));
        }
        let mut messages = Vec::new();
        for host in &self.hosts {
            messages.extend(host.console()?);
        }
        let errors = console::Errors::of(&messages);
        counts.console_errors = errors.others;
        counts.proxy_errors = errors.about_proxy;
        let phase = Phase {
            kind,
            start: self.start,
            nodes: self.members.nodes,
            tabs: self.members.tabs,
            took,
            spreads: changes.spreads(),
            uncertainty: changes.uncertainty(),
            counts,
            load: load(),
        };
        println!("  {}: {:.0} s", phase.name(), took.as_secs_f64());
        for example in errors.examples {
            println!("    console: {example}");
        }
        if !deaths.is_empty() {
            let deaths = deaths
                .iter()
                .map(|((member, addr), times)| format!("{member} at {addr} {times} times"));
            println!(
                "    dead at nodes: {}",
                deaths.collect::<Vec<_>>().join(", ")
            );
        }
        Ok(phase)
    }
}

/// The changes of a phase.
#[derive(Debug, Default)]
struct Changes {
    made: BTreeMap<u64, SystemTime>,
    done: BTreeMap<u64, Done>,
    last: Option<Instant>,
}

impl Changes {
    fn make(&mut self, stage: &mut Stage<'_>, host: usize) -> anyhow::Result<()> {
        stage.changes_made += 1;
        let number = stage.changes_made;
        // Before the change, which may be everywhere before the browser has answered.
        stage.observer.expect(number);
        let host = stage.hosts.get(host).context("no such host")?;
        let at = host.set_key(KEY, &number.to_string())?;
        self.made.insert(number, at);
        self.last = Some(Instant::now());
        self.take(stage)?;
        Ok(())
    }

    /// Makes `count` changes on the first host at random moments of the next `time`, and waits for all.
    fn make_within(
        &mut self,
        time: Duration,
        count: usize,
        stage: &mut Stage<'_>,
    ) -> anyhow::Result<()> {
        let mut moments: Vec<_> = (0..count).map(|_| time.mul_f64(fastrand::f64())).collect();
        moments.sort_unstable();
        let start = Instant::now();
        for moment in moments {
            pause(moment.saturating_sub(start.elapsed()))?;
            self.make(stage, 0)?;
        }
        pause(time.saturating_sub(start.elapsed()))?;
        self.wait(stage)
    }

    /// Waits until all changes have arrived, or the last one is lost.
    fn wait(&mut self, stage: &Stage<'_>) -> anyhow::Result<()> {
        let last = self.last.unwrap_or_else(Instant::now);
        while self.take(stage)? > 0 && last.elapsed() < LOST_AFTER {
            pause(POLL_INTERVAL)?;
        }
        Ok(())
    }

    /// Takes what the observer has found. Returns how many changes have not arrived.
    fn take(&mut self, stage: &Stage<'_>) -> anyhow::Result<usize> {
        let (done, open) = stage.observer.progress()?;
        self.done
            .extend(done.into_iter().map(|done| (done.number, done)));
        Ok(open)
    }

    fn spreads(&self) -> Vec<Duration> {
        let spread = |(number, at): (&u64, &SystemTime)| {
            let done = self.done.get(number);
            let took = done.map(|done| done.at.duration_since(*at).unwrap_or_default());
            took.map_or(LOST_AFTER, |took| took.min(LOST_AFTER))
        };
        self.made.iter().map(spread).collect()
    }

    fn uncertainty(&self) -> Duration {
        let all: Vec<_> = self.done.values().map(|done| done.uncertainty).collect();
        percentile(&all, 50).unwrap_or_default()
    }
}

fn count<T>(values: &[T], is_counted: impl Fn(&T) -> bool) -> u64 {
    values
        .iter()
        .map(|value| u64::from(is_counted(value)))
        .sum()
}

/// Returns the load average over a minute, or 0 if it cannot be read.
pub(crate) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
