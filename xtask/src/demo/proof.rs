//! `cargo xtask demo --check`: proves in a headless browser what the demo promises.
//!
//! Two tabs and the nodes are observed from outside: the tabs by what their pages show, the nodes
//! by their `/status`. Each step waits for its condition, with a limit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::browser::programs::Programs;
use crate::browser::{Browser, Console};
use crate::demo::cluster::{Cluster, OtherNodes};
use crate::demo::detection;
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

/// Runs all steps. Stops at the first one that fails.
pub(crate) fn run(
    workspace: &Workspace,
    programs: &Programs,
    mut cluster: Cluster,
) -> anyhow::Result<()> {
    let pictures = workspace.output(match cluster.other_nodes() {
        OtherNodes::Upstream => "demo-upstream",
        OtherNodes::Ours => "demo",
    })?;
    for old in ["cluster.png", "cluster-phone.png", "failure.png"] {
        let _ = std::fs::remove_file(pictures.join(old));
    }
    println!("\nTwo tabs in headless {}:", programs.chrome.display());
    let browser = Browser::start(programs, &[], Console::Ignored)?;
    let first = Tab::new(&browser.session, browser.session.window()?);
    let second = Tab::new(&browser.session, browser.session.open_tab()?);
    let mut proof = Proof {
        cluster: &mut cluster,
        tabs: [first, second],
        client: Client::new(),
        passed: 0,
    };
    let outcome = proof.steps(&pictures);
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
    fn steps(&mut self, pictures: &Path) -> anyhow::Result<()> {
        let joined = self.join()?;
        self.keys(&joined)?;
        self.crash_and_restart(&joined)?;
        self.reload(&joined)?;
        self.step("both tabs still gossip after all that", |proof| {
            proof.tabs[0].set_key("mood", "sunny")?;
            proof.tabs[1].set_key("mood", "calm")?;
            proof.all_read(&joined.tabs[0], "mood", Some("sunny"))?;
            proof.all_read(&joined.tabs[1], "mood", Some("calm"))
        })?;
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
        let tabs = [own_id(&self.tabs[0])?, own_id(&self.tabs[1])?];
        ensure!(tabs[0] != tabs[1], "both tabs have the id {}", tabs[0]);
        let nodes = self.cluster.nodes().iter().map(|node| node.id.clone());
        let all = nodes.chain(tabs.iter().cloned()).collect();
        Ok(Joined { at, tabs, all })
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
                proof.client.post(&node.key_url("load"), "0.42")?.check()?;
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
            proof.client.delete(&node.key_url("load"))?.check()?;
            proof.all_read(tab, "mood", None)?;
            proof.all_read(&node.id, "load", None)
        })
    }

    fn crash_and_restart(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let all = joined.all.len();
        let index = self.cluster.nodes().len() - 1;
        let victim = self.last_node()?.id.clone();
        // A key of the dead member, which a member that joins later must receive.
        let url = self.last_node()?.key_url("rack");
        self.client.post(&url, "7")?.check()?;
        self.all_read(&victim, "rack", Some("7"))?;
        let limit = joined.detection_limit();
        println!(
            "     by the failure detector's formula a member that has been seen for {:.1} s is found dead within {:.1} s",
            joined.at.elapsed().as_secs_f64(),
            limit.as_secs_f64()
        );
        let title =
            format!("{victim} is killed: all show it dead within that time, and no other member");
        self.step(&title, |proof| {
            proof.cluster.kill(index)?;
            let observers = proof.observers();
            observers.wait_until_dead(limit, &victim, &joined.all)
        })?;
        let title = format!("tab 2 reloads and shows the dead {victim} with its key");
        self.step(&title, |proof| {
            proof.tabs[1].reload()?;
            wait::until(BACK_WITHIN, || {
                let members = match proof.tabs[1].read() {
                    Ok(shown) => shown.members,
                    Err(error) => return Ok(Err(format!("{error:#}"))),
                };
                let dead = members.iter().find(|member| member.id == victim);
                let is_shown = dead.is_some_and(|member| {
                    !member.live && member.keys.get("rack").is_some_and(|value| value == "7")
                });
                let live = members.iter().filter(|member| member.live).count();
                Ok((is_shown && live == all - 1)
                    .then_some(())
                    .ok_or_else(|| format!("shows {live} live members, and {dead:?}")))
            })
        })?;
        let title = format!("{victim} restarts on its port: all show it live, once");
        self.step(&title, |proof| {
            proof.cluster.restart(index)?;
            proof.all_see_live_once(&joined.all, BACK_WITHIN)
        })
    }

    fn reload(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let tab = &joined.tabs[0];
        let before = self.generations(tab)?;
        let title = "tab 1 reloads: the same member, live everywhere, only in a new generation";
        self.step(title, |proof| {
            proof.tabs[0].reload()?;
            wait::until(BACK_WITHIN, || {
                Ok(match own_id(&proof.tabs[0]) {
                    Ok(id) if id == *tab => Ok(()),
                    Ok(id) => bail!("after its reload tab 1 is {id}, not {tab}"),
                    Err(error) => Err(format!("{error:#}")),
                })
            })?;
            // Either the old page said goodbye, or its generation is found dead in time.
            let limit = BACK_WITHIN.max(joined.detection_limit());
            proof.all_see_live_once(&joined.all, limit)?;
            for (node, generation) in proof.generations(tab)? {
                let old = before.iter().find(|(id, _)| *id == node);
                ensure!(
                    old.is_some_and(|(_, old)| generation > *old),
                    "{node} still has the generation {generation} of {tab}"
                );
            }
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

    /// Returns the live generation of a member as each node sees it.
    fn generations(&self, id: &str) -> anyhow::Result<Vec<(String, u64)>> {
        let nodes = self.cluster.nodes().iter();
        nodes
            .map(|node| {
                let members = node.status(&self.client)?.members;
                let member = members.iter().find(|member| member.live && member.id == id);
                let member =
                    member.with_context(|| format!("{} does not see {id} live", node.id))?;
                Ok((node.id.clone(), member.generation))
            })
            .collect()
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

/// Returns the id of the member that a tab is.
fn own_id(tab: &Tab<'_>) -> anyhow::Result<String> {
    let shown = tab.read()?;
    let me = shown.members.iter().find(|member| member.myself);
    let me = me.with_context(|| format!("a tab is not a member: {}", shown.text))?;
    Ok(me.id.clone())
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
