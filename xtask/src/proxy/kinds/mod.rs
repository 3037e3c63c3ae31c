//! `cargo xtask proxy --kinds`: nginx, Caddy and HAProxy in front of nodes, each with the configuration that the
//! documentation prints (`docs/proxies`).
//!
//! All proxies run side by side, in front of the same cluster. A second set of them, in a network of its own, has
//! connections on which nothing is sent for 75 s meanwhile, and which therefore cost nothing.
//!
//! | file | contents |
//! |---|---|
//! | `kind`, `template` | the proxies and their configurations |
//! | `front` | a proxy that runs |
//! | `forger` | a client that states another address than its own |
//! | `stage` | nodes, proxies and tabs |
//! | `latency` | the times of changes |
//! | `checks` | pages of nodes, reloads, restarts, nodes that are lost, addresses of clients |
//! | `silence`, `sockets` | connections on which nothing is sent |
//! | `sheet` | what was found |

mod checks;
mod forger;
mod front;
mod kind;
mod latency;
mod sheet;
mod silence;
mod sockets;
mod stage;
mod template;

use std::thread;
use std::time::Instant;

use anyhow::bail;

use crate::host::skips::Skips;
use crate::proxy::certificate::Certificate;
use crate::proxy::kinds::kind::Kind;
use crate::proxy::kinds::sheet::{DIRECT, Sheet};
use crate::proxy::kinds::silence::Silence;
use crate::proxy::kinds::stage::{Programs, Stage};
use crate::proxy::measure;
use crate::proxy::namespaces::Forwarding;
use crate::proxy::stage::Context;

/// How the proxies are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison<'a> {
    pub(crate) context: &'a Context<'a>,
    /// A copy of `context` with another network, on which nothing else happens.
    pub(crate) quiet: &'a Context<'a>,
    pub(crate) skips: Skips,
    /// The number of changes in each tab.
    pub(crate) rounds: usize,
}

/// Checks all proxies, and prints a table. Calls `first` while connections are silent, before anything else.
pub(crate) fn run(
    comparison: Comparison<'_>,
    first: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Comparison {
        context,
        quiet,
        skips,
        rounds,
    } = comparison;
    let found = find(skips)?;
    let silence = Silence::begin(quiet, &found)?;
    // Its own thread, since the tabs must be woken before they are given up.
    thread::scope(|scope| {
        let silence = scope.spawn(|| silence.end(quiet));
        first()?;
        let start = Instant::now();
        println!("\nProxies: load {:.1}", measure::load());
        let mut sheet = Sheet::default();
        check(context, &found, rounds, &mut sheet)?;
        let silent = silence.join();
        let silent = silent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        for (name, column, check) in silent {
            sheet.put(name, column, check);
        }
        report(&sheet, rounds, start)
    })
}

/// Prints the table. Fails if an expectation is not met.
fn report(sheet: &Sheet, rounds: usize, start: Instant) -> anyhow::Result<()> {
    println!(
        "\n{}\n\n{}\n\n{rounds} changes in each tab; {:.0} s in all, load {:.1}",
        sheet.table(sheet::TIMES),
        sheet.table(sheet::CONNECTIONS),
        start.elapsed().as_secs_f64(),
        measure::load()
    );
    let broken = sheet.broken();
    for sentence in &broken {
        println!("not as expected: {sentence}");
    }
    if !broken.is_empty() {
        bail!("{} expectations about proxies are not met", broken.len());
    }
    Ok(())
}

/// Checks everything but silence.
fn check(
    context: &Context<'_>,
    found: &Programs,
    rounds: usize,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let say = |what| println!("  {what} after {:.0} s", start.elapsed().as_secs_f64());
    context.network.set_forwarding(Forwarding::On)?;
    let stage = &mut Stage::start(context, Certificate::make(context.folder)?, found)?;
    for tab in &stage.tabs {
        let name = tab.kind.map_or(DIRECT, Kind::name);
        sheet.put(name, sheet::JOINED, Ok(sheet::millis(tab.joined)));
    }
    checks::pages(stage, sheet)?;
    say("joined");
    let times = latency::measure(stage, context.setup.gossip_interval, rounds)?;
    let names = stage
        .tabs
        .iter()
        .map(|tab| tab.kind.map_or(DIRECT, Kind::name));
    sheet.put_times(&names.zip(times).collect::<Vec<_>>());
    say("changes made");
    checks::reload(stage, sheet)?;
    say("reloaded");
    checks::restart(stage, sheet)?;
    say("restarted");
    checks::lose_nodes(stage, sheet)?;
    say("nodes killed and started");
    checks::addresses(stage, context.network, sheet)?;
    say("addresses compared");
    checks::silent_node(stage, context.network, sheet)?;
    say("joined beside nodes that do not answer");
    Ok(())
}

/// Finds or installs the programs of the proxies.
fn find(skips: Skips) -> anyhow::Result<Programs> {
    let mut found = Programs::new();
    for kind in Kind::ALL {
        let program = skips.or_skip(kind.name(), kind.ensure())?;
        found.extend(program.map(|program| (kind, program)));
    }
    Ok(found)
}
