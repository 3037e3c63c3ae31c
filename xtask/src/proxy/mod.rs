//! `cargo xtask proxy`: measures a cluster whose tabs reach it only through a TLS proxy.
//!
//! Real nodes, a real nginx and real browsers run in network namespaces of their own, so that
//! nothing but the proxy can be reached from the tabs' hosts. The same cluster is measured with a
//! router in place of the proxy, for comparison.

mod catch_up;
mod certificate;
mod console;
mod host;
mod kinds;
mod measure;
mod membership_log;
mod namespaces;
mod network;
mod nginx;
mod nodes;
mod observer;
mod phase;
mod poll;
mod programs;
mod report;
mod server;
mod spread;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::demo::cluster::GOSSIP_INTERVAL;
use crate::gossip_node::Profile;
use crate::host::skips::Skips;
use crate::host::workspace::{self, Workspace};
use crate::proxy::host::Absence;
use crate::proxy::kinds::Comparison;
use crate::proxy::network::Network;
use crate::proxy::nodes::Setup;
use crate::proxy::phase::Phase;
use crate::proxy::programs::Programs;
use crate::proxy::stage::{Access, Context, Members, Stage};
use crate::wasm::bundle;

/// The sizes of the clusters.
const SMALL: u8 = 3;
const LARGE: u8 = 12;
/// Tabs in the phases with changes: one on each host.
const FEW_TABS: usize = 2;
/// Tabs in the phase at rest.
const MANY_TABS: usize = 14;

/// Tabs that join a cluster with a large state.
const NEWCOMERS: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure less, with debug builds, and fail if an expectation is not met
    #[arg(long)]
    check: bool,

    /// Fail if a program is missing or namespaces cannot be created, instead of skipping the
    /// measurement; always so with --check and --kinds if the environment variable CI is set
    #[arg(long)]
    require: bool,

    /// Compare nginx, Caddy and HAProxy, with the configurations in docs/proxies: what each does to connections,
    /// and how fast changes are behind it; always a part of --check
    #[arg(long, conflicts_with_all = ["rounds", "catch_up"])]
    kinds: bool,

    /// Number of rounds; each prints a table, and the last table holds medians of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,

    /// Measure only how long tabs take to receive a large state
    #[arg(long, conflicts_with_all = ["check", "rounds"])]
    catch_up: bool,

    /// Time between gossip rounds in milliseconds
    #[arg(long, value_name = "MS", default_value_t = default_interval_ms(),
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    gossip_interval: u64,
}

fn default_interval_ms() -> u64 {
    u64::try_from(GOSSIP_INTERVAL.as_millis()).unwrap_or(u64::MAX)
}

impl Options {
    /// Returns whether anything may be left out. `here` says so of checks.
    fn skips(&self, here: Skips) -> Skips {
        match (self.require, self.check || self.kinds) {
            (true, _) => Skips::Refused,
            (false, true) => here,
            (false, false) => Skips::Allowed,
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let ready = Programs::ensure().and_then(|programs| {
        let create = |name| {
            let network = Network::create(&programs.ip, name, LARGE);
            network.context("cannot create network namespaces")
        };
        let networks = [create("main")?, create("quiet")?];
        Ok((programs, networks))
    });
    let skips = options.skips(Skips::here());
    let Some((programs, [network, quiet])) = skips.or_skip("tabs behind proxies", ready)? else {
        return Ok(());
    };
    let workspace = Workspace::find()?;
    let built = bundle::build(&workspace)?;
    let folder = workspace::private_folder("gossip-proxy.")?;
    // A copy, since another run in this workspace may build the page again.
    let page = folder.path().join("page");
    std::fs::create_dir(&page)?;
    bundle::copy_files(&built, &page)?;
    let interval = Duration::from_millis(options.gossip_interval);
    let profile = if options.check {
        Profile::Debug
    } else {
        Profile::Release
    };
    let setup = Setup::prepare(&workspace, profile, page, folder.path(), interval)?;
    let context = Context {
        programs: &programs,
        network: &network,
        setup: &setup,
        folder: folder.path(),
    };
    let comparison = Comparison {
        context: &context,
        quiet: &Context {
            network: &quiet,
            ..context
        },
        skips,
        rounds: rounds_of_kinds(options),
    };
    if options.kinds {
        return kinds::run(comparison, || Ok(()));
    }
    if options.catch_up {
        let mut stage = Stage::start(&context, few_tabs(Access::Proxy, SMALL))?;
        let broken = stage.catch_up(NEWCOMERS)?.broken();
        anyhow::ensure!(broken.is_empty(), "{}", broken.join("; "));
        return Ok(());
    }
    if options.check {
        return kinds::run(comparison, || rounds(options, &context));
    }
    rounds(options, &context)
}

/// Measures the cluster behind one nginx, and prints tables. Fails if an expectation of a check is not met.
fn rounds(options: &Options, context: &Context<'_>) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        println!(
            "\nRound {round} of {}: gossip interval {} ms, load {:.1}",
            options.rounds,
            options.gossip_interval,
            measure::load()
        );
        let start = Instant::now();
        let phases = if options.check {
            short(context)?
        } else {
            full(context)?
        };
        let sentences = phase::broken(&phases).into_iter();
        broken.extend(sentences.map(|sentence| format!("round {round}: {sentence}")));
        let notes = report::notes(&phases);
        let table = report::table(std::slice::from_ref(&phases));
        println!("\n{table}\n\n{notes}");
        println!("{:.0} s in all", start.elapsed().as_secs_f64());
        rounds.push(phases);
    }
    if rounds.len() > 1 {
        println!("\nAll rounds:\n\n{}\n", report::table(&rounds));
    }
    for sentence in &broken {
        println!("not as expected: {sentence}");
    }
    if options.check && !broken.is_empty() {
        bail!("{} expectations are not met", broken.len());
    }
    Ok(())
}

/// Returns how many changes are made in each tab where proxies are compared.
fn rounds_of_kinds(options: &Options) -> usize {
    if options.check { 20 } else { 60 }
}

/// The measurement for tables.
fn full(context: &Context<'_>) -> anyhow::Result<Vec<Phase>> {
    const CHANGES: usize = 40;
    const CHANGES_AFTER_RESTART: usize = 42;
    const RESTART: Duration = Duration::from_secs(20);
    const REST: Duration = Duration::from_secs(30);
    let mut phases = Vec::new();
    for nodes in [SMALL, LARGE] {
        for access in [Access::Direct, Access::Proxy] {
            let mut stage = Stage::start(context, few_tabs(access, nodes))?;
            phases.push(stage.changes(CHANGES)?);
            if access == Access::Proxy {
                let count = CHANGES_AFTER_RESTART;
                phases.push(stage.changes_after_restart(count, RESTART)?);
                phases.extend(absences(&mut stage)?);
            }
        }
    }
    phases.push(Stage::start(context, MANY)?.rest(REST)?);
    Ok(phases)
}

/// The measurement for a check.
fn short(context: &Context<'_>) -> anyhow::Result<Vec<Phase>> {
    const CHANGES: usize = 20;
    const RESTART: Duration = Duration::from_secs(10);
    const REST: Duration = Duration::from_secs(15);
    let mut stage = Stage::start(context, few_tabs(Access::Direct, LARGE))?;
    let mut phases = vec![stage.changes(CHANGES)?];
    drop(stage);
    let mut stage = Stage::start(context, few_tabs(Access::Proxy, LARGE))?;
    phases.push(stage.changes(CHANGES)?);
    phases.push(stage.changes_after_restart(CHANGES, RESTART)?);
    phases.extend(absences(&mut stage)?);
    drop(stage);
    phases.push(Stage::start(context, MANY)?.rest(REST)?);
    Ok(phases)
}

/// A tab that is offline for a while, and one that also sleeps.
fn absences(stage: &mut Stage<'_>) -> anyhow::Result<[Phase; 2]> {
    const AWAY: Duration = Duration::from_secs(20);
    const AFTER: Duration = Duration::from_secs(5);
    const CHANGES: usize = 10;
    let mut after = |absence| stage.changes_after_absence(absence, AWAY, CHANGES, AFTER);
    Ok([after(Absence::Offline)?, after(Absence::Asleep)?])
}

const fn few_tabs(access: Access, nodes: u8) -> Members {
    Members {
        access,
        nodes,
        tabs: FEW_TABS,
    }
}

/// The cluster at rest.
const MANY: Members = Members {
    access: Access::Proxy,
    nodes: LARGE,
    tabs: MANY_TABS,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_skipped_except_in_ci_and_where_it_is_required() {
        let skips = |require, check, kinds, here| {
            let options = Options {
                check,
                require,
                kinds,
                rounds: 1,
                catch_up: false,
                gossip_interval: 250,
            };
            options.skips(here)
        };
        use Skips::{Allowed, Refused};
        assert_eq!(skips(false, true, false, Refused), Refused);
        assert_eq!(skips(false, false, true, Refused), Refused);
        assert_eq!(skips(false, false, false, Refused), Allowed);
        assert_eq!(skips(false, true, true, Allowed), Allowed);
        assert_eq!(skips(true, false, false, Allowed), Refused);
    }
}
