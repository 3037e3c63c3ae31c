//! `cargo xtask demo`: a cluster on this machine, and a page whose tabs join it.

pub(crate) mod cluster;
mod crowd;
mod detection;
mod lies;
pub(crate) mod node;
pub(crate) mod ports;
mod proof;
mod tab;
mod view;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::authority;
use crate::browser::home::Certutil;
use crate::browser::programs::Programs;
use crate::demo::cluster::{Cluster, GOSSIP_INTERVAL, OtherNodes, Scheme};
use crate::demo::ports::Ports;
use crate::demo::proof::Tools;
use crate::host::interrupt;
use crate::host::skips::Skips;
use crate::host::workspace::Workspace;
use crate::wasm::bundle;

/// Time between two checks for a request to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

const NODES: u16 = 3;
/// A bridge and five upstream nodes.
const UPSTREAM_NODES: u16 = 6;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of native nodes to start [default: 3, or 6 with --upstream]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: Option<u16>,

    /// Port of the page; the nodes' other ports follow it [default: any free ones]
    #[arg(long, value_name = "P")]
    port: Option<u16>,

    /// Run unmodified nodes of the published chitchat crate, on UDP, except for the first node,
    /// which bridges them to the tabs
    #[arg(long)]
    upstream: bool,

    /// Serve the page over https, on the gossip port of the first node, with a certificate by an authority that is made
    /// for this run
    #[arg(long)]
    tls: bool,

    /// Prove in a headless browser that tabs and nodes form one cluster, then exit
    #[arg(long)]
    check: bool,

    /// Open and close so many tabs in a headless browser [default: 200], and check that they leave no trace
    #[arg(
        long,
        value_name = "TABS",
        num_args = 0..=1,
        default_missing_value = "200",
        conflicts_with_all = ["check", "upstream", "tls"]
    )]
    crowd: Option<usize>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let ports = Ports::new(options.port);
    let (others, default_nodes) = if options.upstream {
        (OtherNodes::Upstream, UPSTREAM_NODES)
    } else {
        (OtherNodes::Ours, NODES)
    };
    let nodes = options.nodes.unwrap_or(default_nodes);
    ports.check_free(nodes)?;
    // First, so that a browser that cannot be installed is reported before the long build.
    let is_automatic = options.check || options.crowd.is_some();
    let browser = is_automatic.then(Programs::ensure).transpose()?;
    let mut certutil = None;
    if options.tls && options.check {
        certutil = Skips::here().or_skip("the page over https", Certutil::ensure())?;
        if certutil.is_none() {
            return Ok(());
        }
    }
    let web_root = bundle::build(&workspace)?;
    let scheme = if options.tls {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let mut cluster = Cluster::prepare(&workspace, Some(&web_root), others, scheme)?;
    cluster.start(nodes, ports)?;
    announce(&cluster, start.elapsed())?;
    match (browser, options.crowd) {
        (Some(browser), Some(tabs)) => crowd::run(&browser, &cluster, tabs),
        (Some(browser), None) => proof::run(&workspace, &Tools { browser, certutil }, cluster),
        (None, _) => watch(cluster),
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
    if cluster.other_nodes() == OtherNodes::Upstream {
        println!(
            "All but the first are unmodified nodes of the published chitchat crate, on UDP. The first bridges them to the tabs."
        );
    }
    println!(
        "The gossip interval is {} ms, a quarter of the default, so failures are detected four times as fast.",
        GOSSIP_INTERVAL.as_millis()
    );
    println!("\n  {}\n", cluster.page_url()?);
    println!(
        "Ready after {:.1} s. Every tab that opens this address joins the cluster. It contains an invite, which expires in a day: share it with those who may join.",
        took.as_secs_f64()
    );
    if let Some(file) = cluster.authority() {
        announce_tls(file);
    }
    let id = &cluster.secret.invite.id;
    let mut nodes = cluster.nodes().iter();
    if let Some(line) = nodes.find_map(|node| node.how_to_revoke(id)) {
        println!("End the invite before that:  {line}");
    }
    Ok(())
}

/// Says what a browser shows that does not trust the authority with the certificate in `file`, and how it comes to.
fn announce_tls(file: &Path) {
    let (name, file) = (authority::NAME, file.display());
    println!(
        "No browser knows the authority that has issued the certificate, so each shows a warning instead of the page \
         (\"Your connection is not private\", NET::ERR_CERT_AUTHORITY_INVALID) until you go on from there."
    );
    println!(
        "To see none, import this file in the browser's settings as an authority for websites, and delete \"{name}\" there later:\n  {file}"
    );
    println!("Chromium on Linux also takes it from the command line:");
    println!("  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n '{name}' -i {file}");
    println!(
        "The authority vouches for this machine only (localhost), for two days, and its key is in no file."
    );
}

/// Waits until the user stops the demo. Fails if a node exits before that.
fn watch(mut cluster: Cluster) -> anyhow::Result<()> {
    if let Some(node) = cluster.nodes().last() {
        println!(
            "Set a key on {}:  {}",
            node.id,
            node.how_to_set("mood", "sunny")
        );
    }
    println!("Ctrl-C stops everything.");
    while !interrupt::is_requested() {
        if let Some(reason) = cluster.ended() {
            bail!("{reason}");
        }
        thread::sleep(POLL_INTERVAL);
    }
    println!("\nStopping");
    drop(cluster);
    println!("Stopped: no process and no port is left");
    Ok(())
}
