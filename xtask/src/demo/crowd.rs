//! `cargo xtask demo --crowd`: real tabs come and go, and a minute later the nodes send no more than before.
//!
//! One tab stays all the time, and holds the identity that the browser stores. So each of the others is a member of its
//! own, with a new name and a new key.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::browser::programs::Programs;
use crate::browser::{Browser, Settings};
use crate::demo::cluster::Cluster;
use crate::demo::tab::Tab;
use crate::host::http::Client;
use crate::host::wait;

/// The number of tabs of the crowd that are open at a time.
const AT_ONCE: usize = 10;
/// The time for which each of them stays once it is connected.
const STAY: Duration = Duration::from_secs(3);
/// The time until the cluster is at rest: at first, and after the crowd.
const SETTLE: Duration = Duration::from_secs(60);
/// The time in which traffic at rest is measured: 160 rounds of each member.
const REST: Duration = Duration::from_secs(40);
/// How much more traffic there may be than in a cluster that never saw the crowd.
const LIMIT: f64 = 1.2;
/// Limit from the load of a page until it is connected, on a busy machine.
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);

/// Loads `loads` pages, and compares the traffic at rest before and after. Fails if there is more than 1.2 times as
/// much, or if a node still knows one of them.
pub(crate) fn run(programs: &Programs, cluster: &Cluster, loads: usize) -> anyhow::Result<()> {
    println!("\nA crowd in headless {}:", programs.chrome.display());
    let browser = Browser::start(programs, Settings::default())?;
    let url = cluster.page_url()?;
    let crowd = Crowd {
        cluster,
        stays: Tab::new(&browser.session, browser.session.window()?),
        client: Client::new(),
        url: &url,
    };
    crowd.stays.open(&url)?;
    is_connected(&crowd.stays)?;
    wait::pause(SETTLE)?;
    let before = crowd.bytes_at_rest()?;
    println!("  before the crowd, {before:.0} bytes per second");

    let start = Instant::now();
    let most = crowd.come_and_go(loads)?;
    println!(
        "  {loads} tabs were opened and closed in {:.0} s, {AT_ONCE} at a time; a node knew at most {most} members at once",
        start.elapsed().as_secs_f64()
    );
    wait::pause(SETTLE)?;
    let known = crowd.members()?;
    let after = crowd.bytes_at_rest()?;
    let ratio = after / before;
    println!("  a minute after it, {after:.0} bytes per second: {ratio:.2} times as many");
    let expected = cluster.nodes().len() + 1;
    ensure!(
        known == expected,
        "a node knows {known} members a minute after the crowd, not {expected}"
    );
    ensure!(
        ratio <= LIMIT,
        "traffic at rest is {ratio:.2} times that before the crowd, more than {LIMIT}"
    );
    is_connected(&crowd.stays)
}

struct Crowd<'a> {
    cluster: &'a Cluster,
    /// The tab that stays.
    stays: Tab<'a>,
    client: Client,
    url: &'a str,
}

impl<'a> Crowd<'a> {
    /// Opens and closes tabs. Returns the largest number of members that a node has known at a time.
    fn come_and_go(&self, loads: usize) -> anyhow::Result<usize> {
        let mut open: VecDeque<(Tab<'a>, Instant)> = VecDeque::new();
        let mut most = 0;
        for number in 0..loads {
            if open.len() == AT_ONCE
                && let Some((tab, since)) = open.pop_front()
            {
                wait::pause(STAY.saturating_sub(since.elapsed()))?;
                most = most.max(self.members()?);
                end(tab, number)?;
            }
            let tab = self.stays.open_another()?;
            tab.open(self.url)?;
            is_connected(&tab).with_context(|| format!("tab {number} of the crowd"))?;
            open.push_back((tab, Instant::now()));
        }
        for (number, (tab, since)) in open.into_iter().enumerate() {
            wait::pause(STAY.saturating_sub(since.elapsed()))?;
            end(tab, number)?;
        }
        Ok(most)
    }

    /// Returns the largest number of members that a node knows, dead ones included.
    fn members(&self) -> anyhow::Result<usize> {
        let mut most = 0;
        for node in self.cluster.nodes() {
            most = most.max(node.status(&self.client)?.members.len());
        }
        Ok(most)
    }

    /// Returns the bytes per second that all nodes together send and receive.
    fn bytes_at_rest(&self) -> anyhow::Result<f64> {
        let (start, before) = (Instant::now(), self.bytes()?);
        wait::pause(REST)?;
        let bytes = self.bytes()? - before;
        Ok(bytes / start.elapsed().as_secs_f64())
    }

    /// Returns the bytes that all nodes together have sent and received so far.
    fn bytes(&self) -> anyhow::Result<f64> {
        let mut bytes = 0.0;
        for node in self.cluster.nodes() {
            for name in ["gossip_sent_bytes_total", "gossip_received_bytes_total"] {
                bytes += node.metric(&self.client, name)?;
            }
        }
        Ok(bytes)
    }
}

fn is_connected(tab: &Tab<'_>) -> anyhow::Result<()> {
    wait::until(CONNECTED_WITHIN, || {
        let shown = tab.read()?;
        Ok((shown.state == "connected").then_some(()).ok_or(shown.text))
    })
}

/// Closes a tab, or has it leave the page first, in turn.
fn end(tab: Tab<'_>, number: usize) -> anyhow::Result<()> {
    if number.is_multiple_of(2) {
        tab.open("about:blank")?;
    }
    tab.close()
}
