//! `cargo xtask proxy --kinds`: nginx, Caddy and HAProxy in front of nodes, each with the configuration that the
//! documentation prints (`docs/proxies`).
//!
//! All proxies run side by side, in front of the same cluster. A second set of them has connections on which nothing
//! is sent for 75 s meanwhile.
//!
//! | file | contents |
//! |---|---|
//! | `kind`, `template` | the proxies and their configurations |
//! | `front` | a proxy that runs |
//! | `stage` | nodes, proxies and tabs |
//! | `latency` | the times of changes |
//! | `checks` | reloads, restarts, nodes that are lost, addresses of clients |
//! | `silence`, `sockets` | connections on which nothing is sent |
//! | `sheet` | what was found |

mod checks;
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

use crate::host::interrupt::Interrupted;
use crate::proxy::certificate::Certificate;
use crate::proxy::kinds::kind::Kind;
use crate::proxy::kinds::sheet::{DIRECT, Sheet};
use crate::proxy::kinds::silence::Silence;
use crate::proxy::kinds::stage::{Programs, Stage};
use crate::proxy::measure;
use crate::proxy::namespaces::Forwarding;
use crate::proxy::stage::Context;

/// Whether a proxy may be left out because its program is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skips {
    Allowed,
    Refused,
}

/// Checks all proxies, and prints a table. `rounds` is the number of changes in each tab.
pub(crate) fn run(context: &Context<'_>, skips: Skips, rounds: usize) -> anyhow::Result<()> {
    let start = Instant::now();
    let found = find(skips)?;
    if found.is_empty() {
        return Ok(());
    }
    println!("\nProxies: load {:.1}", measure::load());
    let certificate = Certificate::make(&context.programs.openssl, context.folder)?;
    context.network.set_forwarding(Forwarding::On)?;
    let mut sheet = Sheet::default();
    let mut stage = Stage::start(context, certificate, &found)?;
    for tab in &stage.tabs {
        let name = tab.kind.map_or(DIRECT, Kind::name);
        sheet.put(name, sheet::JOINED, Ok(sheet::millis(tab.joined)));
    }
    println!("  joined after {:.0} s", start.elapsed().as_secs_f64());
    let silence = Silence::begin(context, &stage.certificate, &found)?;
    // Its own thread, since the tabs must be woken before they are given up.
    let silent = thread::scope(|scope| {
        let silence = scope.spawn(|| silence.end(context));
        check(context, &mut stage, rounds, &mut sheet)?;
        let silent = silence.join();
        silent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    for (name, column, check) in silent {
        sheet.put(name, column, check);
    }
    println!(
        "\n{}\n\n{rounds} changes in each tab; {:.0} s in all, load {:.1}",
        sheet.table(),
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
    stage: &mut Stage<'_>,
    rounds: usize,
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let say = |what| println!("  {what} after {:.0} s", start.elapsed().as_secs_f64());
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
    Ok(())
}

/// Finds or installs the programs. Says which are missing.
fn find(skips: Skips) -> anyhow::Result<Programs> {
    let mut found = Programs::new();
    for kind in Kind::ALL {
        match kind.ensure() {
            Ok(program) => found.push((kind, program)),
            Err(error) if error.is::<Interrupted>() || skips == Skips::Refused => {
                return Err(error);
            }
            Err(error) => println!("skipped: {}: {error:#}", kind.name()),
        }
    }
    Ok(found)
}
