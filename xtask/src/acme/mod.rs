//! `cargo xtask acme`: times the way from a bare node to a live tab over `wss://`.
//!
//! The node has an empty directory for its certificate, and a test authority on this machine as its only help. A headless
//! Chromium that trusts this authority, as if its user had imported it, opens the page by the name and by the IP address of the
//! node. Invariant: no certificate error is ignored, so a browser that does not trust the authority must be stopped by one.

mod authority;
mod node;
mod programs;
mod setup;
mod visitor;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::gossip_node::Profile;
use crate::host::skips::Skips;
use crate::host::{wait, workspace};
use authority::{Authority, free_port};
use node::Node;
use programs::Programs;
use setup::{NAME, Setup};
use visitor::Visitor;

/// Limit from opening the page until its tab is a live member.
const LIVE_WITHIN: Duration = Duration::from_secs(30);
/// Limit until a browser has shown an error.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Do it once, with a debug build, and fail if a program is missing and the environment variable CI is set
    #[arg(long)]
    check: bool,

    /// Number of rounds, each with another node and authority; the last line has their medians
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "check",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// How long each step took, from the start of the node on.
#[derive(Debug, Clone, Copy)]
struct Times {
    listening: Duration,
    certificate: Duration,
    live: Duration,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let skips = if options.check {
        Skips::here()
    } else {
        Skips::Allowed
    };
    let found = skips.or_skip("the way to an automatic certificate", Programs::ensure())?;
    let Some(programs) = found else {
        return Ok(());
    };
    let folder = workspace::private_folder("gossip-acme.")?;
    let profile = if options.check {
        Profile::Debug
    } else {
        Profile::Release
    };
    let setup = Setup::prepare(folder.path(), profile)?;
    let rounds = if options.check { 1 } else { options.rounds };
    let mut times = Vec::new();
    println!(
        "From the start of a bare node, in seconds: until it listens, has its certificate, and a tab is live over wss"
    );
    for round in 1..=rounds {
        let folder = folder.path().join(format!("round-{round}"));
        std::fs::create_dir(&folder)?;
        times.push(play(&programs, &setup, &folder).with_context(|| format!("round {round}"))?);
        println!("  {}", row(times.last().into_iter().copied().collect()));
    }
    if rounds > 1 {
        println!("  {}  medians", row(times));
    }
    Ok(())
}

/// Starts everything in `folder`, which is empty, and returns how long the node and the tab took.
fn play(programs: &Programs, setup: &Setup, folder: &Path) -> anyhow::Result<Times> {
    let port = free_port()?;
    let authority = Authority::start(programs, folder, port)?;
    let root = folder.join("root.pem");
    std::fs::write(&root, authority.root()?).context("cannot write the authority's certificate")?;
    let visitor = Visitor::start(programs, Some(&root), NAME)?;
    let url = |host: &str| format!("https://{host}:{port}/#invite={}", setup.secret.invite.word);

    let start = Instant::now();
    let mut node = Node::start(setup, &authority, folder, port)?;
    let listening = start.elapsed();
    node.wait_for_certificate()?;
    let certificate = start.elapsed();
    join(&mut node, &visitor, &url(NAME))?;
    let live = start.elapsed();

    // The certificate is for the address as well.
    join(&mut node, &visitor, &url("127.0.0.1"))?;
    refuse_to_show(&Visitor::start(programs, None, NAME)?, &url(NAME))?;
    Ok(Times {
        listening,
        certificate,
        live,
    })
}

/// Fails if a browser that does not trust the authority shows the page.
fn refuse_to_show(stranger: &Visitor, url: &str) -> anyhow::Result<()> {
    const ERROR: &str = "ERR_CERT_AUTHORITY_INVALID";
    // Some drivers report the error, and others only show its page.
    if let Err(error) = stranger.open(url) {
        let error = format!("{error:#}");
        anyhow::ensure!(
            error.contains(ERROR) || error.contains("insecure certificate"),
            "unexpected: {error}"
        );
        return Ok(());
    }
    wait::until(REFUSED_WITHIN, || {
        let text = stranger.text()?;
        Ok(if text.contains(ERROR) {
            Ok(())
        } else {
            Err(format!(
                "a browser that does not trust the authority shows: {text}"
            ))
        })
    })
}

/// Opens the page, and waits until its tab is live, as itself and the node see it.
fn join(node: &mut Node, visitor: &Visitor, url: &str) -> anyhow::Result<()> {
    visitor.open(url)?;
    wait::until(LIVE_WITHIN, || {
        node.check()?;
        let (state, tabs) = (visitor.state()?, node.tabs()?);
        Ok(match (&*state, tabs) {
            ("connected", 1) => Ok(()),
            _ => Err(format!(
                "the tab shows {state}, and the node {tabs} live tabs"
            )),
        })
    })
}

/// Returns the medians of each step.
fn row(times: Vec<Times>) -> String {
    let steps: [fn(&Times) -> Duration; 3] = [
        |times| times.listening,
        |times| times.certificate,
        |times| times.live,
    ];
    let medians = steps.map(|step| {
        let mut step: Vec<_> = times.iter().map(step).collect();
        step.sort_unstable();
        let median = step.get(step.len() / 2).copied().unwrap_or_default();
        format!("{:6.2}", median.as_secs_f64())
    });
    medians.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_of_each_step() {
        let times = |listening, certificate, live| Times {
            listening: Duration::from_millis(listening),
            certificate: Duration::from_millis(certificate),
            live: Duration::from_millis(live),
        };
        let rounds = vec![
            times(100, 3000, 4000),
            times(300, 1000, 9000),
            times(200, 2000, 5000),
        ];
        assert_eq!(row(rounds), "  0.20    2.00    5.00");
    }
}
