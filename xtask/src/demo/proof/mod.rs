//! `cargo xtask demo --check`: proves in a headless browser what the demo promises.
//!
//! Two tabs and the nodes are observed from outside: the tabs by what their pages show, the nodes
//! by their `/status`. Each step waits for its condition, with a limit.

mod https;
mod restarts;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::browser::home::{Certutil, Home};
use crate::browser::programs::Programs;
use crate::browser::{Browser, Console, Settings};
use crate::demo::cluster::{Cluster, OtherNodes};
use crate::demo::detection;
use crate::demo::lies;
use crate::demo::node::{MemberStatus, Node};
use crate::demo::tab::{Device, Tab, Viewport};
use crate::demo::view::Observers;
use crate::host::http::Client;
use crate::host::interrupt::Interrupted;
use crate::host::wait;
use crate::host::workspace::Workspace;

/// Limit from opening the tabs until every member sees every other one.
const JOINED_WITHIN: Duration = Duration::from_secs(10);
/// A change reaches all members within a few rounds; the rest is for a busy machine.
const SPREAD_WITHIN: Duration = Duration::from_secs(5);
/// Limit for a restarted member: the longest backoff of the others (10 rounds), three heartbeats,
/// and some time for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(10);

const DESKTOP: Viewport = Viewport {
    width: 1280,
    height: 900,
    device: Device::Desktop,
};
const PHONE: Viewport = Viewport {
    width: 390,
    height: 844,
    device: Device::Phone,
};
/// Lines of each node's log that are shown with a failure.
const LOG_LINES: usize = 12;

/// The programs of the check.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) browser: Programs,
    /// Needed for a page over https.
    pub(crate) certutil: Option<Certutil>,
}

impl Tools {
    /// Returns a home folder for a browser that trusts the authority of the cluster, if it has one.
    fn home(&self, cluster: &Cluster) -> anyhow::Result<Option<Home>> {
        let Some(authority) = cluster.authority() else {
            return Ok(None);
        };
        let certutil = self.certutil.as_ref().context("certutil is missing")?;
        Home::trusting(certutil, authority).map(Some)
    }
}

/// Runs all steps. Stops at the first one that fails.
pub(crate) fn run(
    workspace: &Workspace,
    tools: &Tools,
    mut cluster: Cluster,
) -> anyhow::Result<()> {
    let programs = &tools.browser;
    let is_https = cluster.authority().is_some();
    let pictures = workspace.output(match (cluster.other_nodes(), is_https) {
        (OtherNodes::Upstream, false) => "demo-upstream",
        (OtherNodes::Upstream, true) => "demo-upstream-tls",
        (OtherNodes::Ours, false) => "demo",
        (OtherNodes::Ours, true) => "demo-tls",
    })?;
    for old in ["cluster.png", "cluster-phone.png", "failure.png"] {
        let _ = std::fs::remove_file(pictures.join(old));
    }
    println!("\nTwo tabs in headless {}:", programs.chrome.display());
    let home = tools.home(&cluster)?;
    let settings = Settings {
        console: Console::Recorded,
        home: home.as_ref(),
        ..Settings::default()
    };
    let browser = Browser::start(programs, settings)?;
    let first = Tab::new(&browser.session, browser.session.window()?);
    let second = Tab::new(&browser.session, browser.session.open_tab()?);
    if is_https {
        first.record_sockets()?;
        second.record_sockets()?;
    }
    let mut proof = Proof {
        programs,
        cluster: &mut cluster,
        tabs: [first, second],
        client: Client::new(),
        passed: 0,
    };
    let outcome = proof.steps(workspace, &pictures);
    let passed = proof.passed;
    if let Err(error) = &outcome
        && !error.is::<Interrupted>()
    {
        proof.explain(&pictures.join("failure.png"));
    }
    drop(browser);
    drop(cluster);
    if outcome
        .as_ref()
        .is_err_and(|error| error.is::<Interrupted>())
    {
        return outcome;
    }
    println!("{passed} passed, {} failed", u8::from(outcome.is_err()));
    outcome
}

struct Proof<'a> {
    programs: &'a Programs,
    cluster: &'a mut Cluster,
    tabs: [Tab<'a>; 2],
    client: Client,
    /// Number of steps that have passed.
    passed: u32,
}

/// The members whose views and presence the later steps check.
struct Joined {
    /// When all had seen each other.
    at: Instant,
    /// The ids of the two tabs.
    tabs: [String; 2],
    /// The address of tab 1, which has the key that the browser stores.
    kept_addr: SocketAddr,
    /// The ids of all nodes and tabs.
    all: Vec<String>,
}

impl Joined {
    /// Limit within which a member that stops now is found dead.
    fn detection_limit(&self) -> Duration {
        detection::limit(self.at.elapsed(), self.all.len())
    }
}

impl Proof<'_> {
    fn steps(&mut self, workspace: &Workspace, pictures: &Path) -> anyhow::Result<()> {
        let joined = self.join()?;
        let is_https = self.cluster.authority().is_some();
        if is_https {
            self.https()?;
        }
        self.keys(&joined)?;
        self.crash_and_restart(&joined)?;
        self.reload(&joined)?;
        self.reopen(&joined)?;
        self.reload_without_locks(&joined)?;
        if self.cluster.other_nodes() == OtherNodes::Ours {
            self.departure(&joined)?;
            self.lies(workspace)?;
            self.revocation()?;
        }
        self.step("both tabs still gossip after all that", |proof| {
            proof.tabs[0].set_key("mood", "sunny")?;
            proof.tabs[1].set_key("mood", "calm")?;
            proof.all_read(&joined.tabs[0], "mood", Some("sunny"))?;
            proof.all_read(&joined.tabs[1], "mood", Some("calm"))
        })?;
        if is_https {
            self.https_until_the_end()?;
        }
        self.consoles()?;
        self.step("screenshots", |proof| {
            proof.tabs[0].screenshot(DESKTOP, &pictures.join("cluster.png"))?;
            proof.tabs[0].screenshot(PHONE, &pictures.join("cluster-phone.png"))
        })?;
        println!("     {}", pictures.join("cluster.png").display());
        Ok(())
    }

    fn join(&mut self) -> anyhow::Result<Joined> {
        let nodes = self.cluster.nodes().len();
        let url = self.cluster.page_url()?;
        let all = nodes + 2;
        let start = Instant::now();
        let natives = match self.cluster.other_nodes() {
            OtherNodes::Upstream => format!("a bridge, {} upstream nodes", nodes - 1),
            OtherNodes::Ours => format!("{nodes} nodes"),
        };
        let title = format!("{natives} and 2 tabs: all {all} see {all} live members");
        self.step(&title, |proof| {
            for tab in &proof.tabs {
                tab.open(&url)?;
            }
            let left = JOINED_WITHIN.saturating_sub(start.elapsed());
            proof.observers().wait_until_all(left, |view| {
                let live = view.live_ids();
                (live.len() == all)
                    .then_some(())
                    .ok_or_else(|| format!("sees {} live members: {}", live.len(), live.join(", ")))
            })
        })?;
        let at = Instant::now();
        let [first, second] = [own_member(&self.tabs[0])?, own_member(&self.tabs[1])?];
        ensure!(first.id != second.id, "both tabs have the id {}", first.id);
        ensure!(
            first.addr != second.addr,
            "both tabs have the address {}",
            first.addr
        );
        for tab in [&first, &second] {
            ensure!(
                tab.addr.to_string().starts_with("[2001:2"),
                "{} has the address {}, which is not that of a key",
                tab.id,
                tab.addr
            );
        }
        let kept_addr = first.addr;
        let tabs = [first.id, second.id];
        let nodes = self.cluster.nodes().iter().map(|node| node.id.clone());
        let all = nodes.chain(tabs.iter().cloned()).collect();
        Ok(Joined {
            at,
            tabs,
            kept_addr,
            all,
        })
    }

    fn keys(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let tab = &joined.tabs[0];
        self.step("all members read a key set through tab 1's form", |proof| {
            proof.tabs[0].set_key("mood", "sunny")?;
            proof.all_read(tab, "mood", Some("sunny"))
        })?;
        self.step(
            "both pages and all nodes show a key set on a node",
            |proof| {
                let node = proof.last_node()?;
                node.set_key(&proof.client, "load", "0.42")?;
                proof.all_read(&node.id, "load", Some("0.42"))
            },
        )?;
        self.step("a changed value replaces the old one everywhere", |proof| {
            proof.tabs[0].set_key("mood", "stormy")?;
            proof.all_read(tab, "mood", Some("stormy"))
        })?;
        let title = "keys deleted in tab 1 and on a node disappear everywhere";
        self.step(title, |proof| {
            let node = proof.last_node()?;
            proof.tabs[0].delete_key("mood")?;
            node.delete_key(&proof.client, "load")?;
            proof.all_read(tab, "mood", None)?;
            proof.all_read(&node.id, "load", None)
        })
    }

    fn lies(&mut self, workspace: &Workspace) -> anyhow::Result<()> {
        let title = "a leaf lies about all members: it is refused, and nothing changes";
        self.step(title, |proof| {
            lies::change_nothing(workspace, proof.cluster, &proof.client)
        })
    }

    /// Revokes the invite of a third tab, which is a member.
    fn revocation(&mut self) -> anyhow::Result<()> {
        let title = "the invite of another tab is revoked: its page shows that, and what to do";
        self.step(title, |proof| {
            let invite = proof.cluster.another_invite()?;
            let tab = proof.tabs[1].open_another()?;
            tab.open(&proof.cluster.page_url_with(&invite.word)?)?;
            wait::until(JOINED_WITHIN, || {
                let shown = tab.read()?;
                let is_connected = shown.state == "connected";
                Ok(is_connected.then_some(()).ok_or(shown.text))
            })?;
            proof.last_node()?.revoke(&invite.id)?;
            wait::until(BACK_WITHIN, || {
                let shown = tab.read()?;
                let says_why = ["(revoked)", "the invite has been revoked; use a new one"]
                    .iter()
                    .all(|part| shown.text.contains(part));
                let is_shown = shown.state == "disconnected" && says_why;
                Ok(is_shown.then_some(()).ok_or(shown.text))
            })?;
            tab.close()
        })
    }

    /// Checks that the pages have logged no errors, except those of the browser about WebSockets to the
    /// node that was killed.
    fn consoles(&mut self) -> anyhow::Result<()> {
        let killed = format!("'ws://{}/'", self.last_node()?.gossip);
        self.step("no page has an error on its console", |proof| {
            let errors = proof.tabs[0].console_errors()?;
            let unexpected: Vec<_> = errors
                .iter()
                .filter(|error| !(error.contains("WebSocket") && error.contains(&killed)))
                .collect();
            ensure!(unexpected.is_empty(), "{unexpected:#?}");
            Ok(())
        })
    }

    /// Runs one step and prints how long it took.
    fn step(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        match work(self) {
            Ok(()) => {
                self.passed += 1;
                println!("  ok {title} ({:.2} s)", start.elapsed().as_secs_f64());
                Ok(())
            }
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) => {
                println!("FAIL {title} ({:.2} s)", start.elapsed().as_secs_f64());
                Err(error.context(title.to_owned()))
            }
        }
    }

    fn observers(&self) -> Observers<'_> {
        Observers {
            nodes: self.cluster.nodes(),
            tabs: &self.tabs,
            client: &self.client,
        }
    }

    fn last_node(&self) -> anyhow::Result<&Node> {
        self.cluster.nodes().last().context("no nodes")
    }

    /// Waits until all views show the key of `id` with `value`, or without the key for `None`.
    fn all_read(&self, id: &str, key: &str, value: Option<&str>) -> anyhow::Result<()> {
        self.observers().wait_until_all(SPREAD_WITHIN, |view| {
            if view.live(id).next().is_none() {
                return Err(format!("does not see {id} live"));
            }
            let seen = view.key(id, key);
            (seen == value)
                .then_some(())
                .ok_or_else(|| format!("reads {id}'s {key} as {seen:?}, not {value:?}"))
        })
    }

    /// Waits until all views show each of `ids` live in exactly one generation.
    fn all_see_live_once(&self, ids: &[String], limit: Duration) -> anyhow::Result<()> {
        self.observers().wait_until_all(limit, |view| {
            for id in ids {
                match view.live(id).count() {
                    1 => {}
                    0 => return Err(format!("does not see {id} live")),
                    several => return Err(format!("sees {id} live {several} times")),
                }
            }
            Ok(())
        })
    }

    /// Prints what every tab and node saw last and what the nodes logged, after a failure.
    fn explain(&mut self, picture: &Path) {
        if let Some(reason) = self.cluster.ended() {
            eprintln!("\n{reason}");
        }
        for (number, tab) in (1..).zip(&self.tabs) {
            match tab.read() {
                Ok(shown) => eprintln!(
                    "\ntab {number} is {}: {}\n{}",
                    shown.state,
                    shown.text,
                    list(&shown.members)
                ),
                Err(error) => eprintln!("\ntab {number}: {error:#}"),
            }
        }
        for node in self.cluster.nodes() {
            match node.status(&self.client) {
                Ok(status) => eprintln!("\n{} sees\n{}", node.id, list(&status.members)),
                Err(error) => eprintln!("\n{}: {error:#}", node.id),
            }
            eprintln!("its last log lines:\n{}", node.last_log_lines(LOG_LINES));
        }
        match self.tabs[0].screenshot(DESKTOP, picture) {
            Ok(()) => eprintln!("\nscreenshot of tab 1: {}", picture.display()),
            Err(error) => eprintln!("\nno screenshot of tab 1: {error:#}"),
        }
    }
}

/// Returns the member that a tab is.
fn own_member(tab: &Tab<'_>) -> anyhow::Result<MemberStatus> {
    let shown = tab.read()?;
    let me = shown.members.iter().find(|member| member.myself);
    let me = me.with_context(|| format!("a tab is not a member: {}", shown.text))?;
    Ok(me.clone())
}

fn list(members: &[MemberStatus]) -> String {
    let lines = members.iter().map(|member| {
        format!(
            "  {} {} {}{} {:?}",
            member.id,
            member.addr,
            if member.live { "live" } else { "dead" },
            if member.myself { " (self)" } else { "" },
            member.keys
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
