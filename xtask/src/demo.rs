//! `cargo xtask demo`: a cluster on this machine, and a page whose tabs join it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::check;
use crate::cluster::{Cluster, GOSSIP_INTERVAL, Ports};
use crate::workspace::Workspace;
use crate::{interrupt, setup, site};

/// Between two looks whether the user wants to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const NODES: u16 = 3;
/// A bridge, and five of upstream's.
const UPSTREAM_NODES: u16 = 6;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many native nodes to start [default: 3, or 6 with --upstream]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: Option<u16>,

    /// Port of the page; the nodes' other ports follow it [default: any free ones]
    #[arg(long, value_name = "P")]
    port: Option<u16>,

    /// Let all nodes but the first be unmodified nodes of the published chitchat crate, on UDP; the
    /// first is their bridge to the tabs
    #[arg(long)]
    upstream: bool,

    /// Prove in a headless browser that tabs and nodes are one cluster, and end
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let ports = Ports::new(options.port);
    let nodes = options.nodes.unwrap_or(match options.upstream {
        true => UPSTREAM_NODES,
        false => NODES,
    });
    ports.check_free(nodes)?;
    // Before anything is built: what cannot be installed is better said at once.
    let browser = options.check.then(setup::browser).transpose()?;
    let web_root = site::build(&workspace)?;
    let mut cluster = Cluster::prepare(&workspace, Some(&web_root), options.upstream)?;
    cluster.start(nodes, ports)?;
    announce(&cluster, start.elapsed())?;
    match browser {
        Some(browser) => check::run(&workspace, &browser, cluster),
        None => watch(cluster),
    }
}

fn announce(cluster: &Cluster, took: Duration) -> anyhow::Result<()> {
    println!();
    for node in cluster.nodes() {
        println!(
            "{}  gossip {}  status http://{}/status  pid {}",
            node.id,
            node.gossip,
            node.http,
            node.pid().unwrap_or_default()
        );
    }
    if cluster.is_upstream() {
        println!(
            "All but the first are unmodified nodes of the published chitchat crate, on UDP; the first bridges them to the tabs."
        );
    }
    println!(
        "Gossip rounds are {} ms apart, a quarter of the default; failures are noticed as much sooner.",
        GOSSIP_INTERVAL.as_millis()
    );
    println!("\n  {}\n", cluster.page_url()?);
    println!(
        "Ready after {:.1} s. Every tab that opens this address joins the cluster; whoever has it can.",
        took.as_secs_f64()
    );
    Ok(())
}

/// Runs until the user stops it.
fn watch(mut cluster: Cluster) -> anyhow::Result<()> {
    if let Some(node) = cluster.nodes().last() {
        println!(
            "Set a key on {}:  curl -d sunny {}",
            node.id,
            node.key_url("mood")
        );
    }
    println!("Ctrl-C stops it all.");
    while !interrupt::is_requested() {
        if let Some(reason) = cluster.ended() {
            bail!("{reason}");
        }
        thread::sleep(LOOK_EVERY);
    }
    println!("\nStopping");
    drop(cluster);
    println!("Stopped: no process and no port is left");
    Ok(())
}
