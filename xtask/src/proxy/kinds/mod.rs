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

use std::time::Instant;

use anyhow::bail;

use crate::host::interrupt::Interrupted;
use crate::proxy::certificate::Certificate;
use crate::proxy::kinds::kind::Kind;
use crate::proxy::kinds::sheet::{DIRECT, Sheet};
use crate::proxy::kinds::silence::Silence;
use crate::proxy::kinds::stage::{Found, Stage};
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
    let say = |what| println!("  {what} after {:.0} s", start.elapsed().as_secs_f64());
    say("joined");
    let silence = Silence::begin(context, &stage.certificate, &found)?;
    say("silence has begun");
    let times = latency::measure(&mut stage, context.setup.gossip_interval, rounds)?;
    let names = stage.tabs.iter().map(|tab| tab.kind.map_or(DIRECT, Kind::name));
    sheet.put_times(&names.zip(times).collect::<Vec<_>>());
    say("changes made");
    checks::reload(&mut stage, &mut sheet)?;
    say("reloaded");
    checks::restart(&mut stage, &mut sheet)?;
    say("restarted");
    checks::lose_nodes(&mut stage, &mut sheet)?;
    say("nodes killed and started");
    checks::addresses(&mut stage, context.network, &mut sheet)?;
    say("addresses compared");
    silence.end(context, &mut sheet)?;
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

/// Finds or installs the programs. Says which are missing.
fn find(skips: Skips) -> anyhow::Result<Found> {
    let mut found = Found::new();
    for kind in Kind::ALL {
        match kind.ensure() {
            Ok(program) => found.push((kind, program)),
            Err(error) if error.is::<Interrupted>() || skips == Skips::Refused => return Err(error),
            Err(error) => println!("skipped: {}: {error:#}", kind.name()),
        }
    }
    Ok(found)
}
