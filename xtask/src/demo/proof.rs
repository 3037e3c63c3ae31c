//! `cargo xtask demo --check`: proves in a headless browser what the demo promises.
//!
//! Two tabs and the nodes are observed from outside: the tabs by what their pages show, the nodes
//! by their `/status`. Each step waits for its condition, with a limit.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::browser::programs::Programs;
use crate::browser::{Browser, Console};
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
/// Limit from the load of a page whose tab was a member before, until the page is connected. A node may
/// have to find out that the previous connection is gone, which takes a second.
const RELOADED_WITHIN: Duration = Duration::from_secs(2);
/// Number of reloads in a row, each as soon as the page is connected.
const RELOADS: usize = 3;
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
/// Limit until all nodes show that a page which is closed has left.
const LEFT_WITHIN: Duration = Duration::from_millis(300);
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
    let browser = Browser::start(programs, &[], Console::Recorded)?;
    let first = Tab::new(&browser.session, browser.session.window()?);
    let second = Tab::new(&browser.session, browser.session.open_tab()?);
    let mut proof = Proof {
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

    fn crash_and_restart(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let all = joined.all.len();
        let index = self.cluster.nodes().len() - 1;
        let victim = self.last_node()?.id.clone();
        // A key of the dead member, which a member that joins later must receive.
        self.last_node()?.set_key(&self.client, "rack", "7")?;
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
        let title = format!(
            "tab 1 reloads {RELOADS} times in a row: each time connected as the same member at the same address, and live on all nodes in a new generation, within {} s",
            RELOADED_WITHIN.as_secs()
        );
        self.step(&title, |proof| {
            for _ in 0..RELOADS {
                let before = proof.newest_at_nodes(&joined.tabs[0])?;
                let start = Instant::now();
                proof.tabs[0].reload()?;
                proof.tab_1_is_back(joined, RELOADED_WITHIN)?;
                let left = RELOADED_WITHIN.saturating_sub(start.elapsed());
                proof.has_restarted(joined, &before, left)?;
            }
            Ok(())
        })?;
        let title = "the generations of tab 1 before its reloads are not live any more";
        self.step(title, |proof| {
            let limit = BACK_WITHIN.max(joined.detection_limit());
            proof.all_see_live_once(&joined.all, limit)
        })
    }

    /// Waits until all nodes see a newer generation of tab 1 than `before` live, at the same address.
    fn has_restarted(
        &self,
        joined: &Joined,
        before: &[MemberStatus],
        limit: Duration,
    ) -> anyhow::Result<()> {
        let (id, addr) = (&joined.tabs[0], joined.kept_addr);
        wait::until(limit, || {
            // Between two generations it has left.
            let now = match self.newest_at_nodes(id) {
                Ok(now) => now,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            for (now, before) in now.iter().zip(before) {
                ensure!(now.addr == addr, "{id} is at {}, not {addr}", now.addr);
                if now.generation <= before.generation {
                    return Ok(Err(format!("a node has no new generation of {id}")));
                }
            }
            Ok(Ok(()))
        })
    }

    fn reopen(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let url = self.cluster.page_url()?;
        let title = "tab 1 is closed and another tab is opened: it is the member that tab 1 was";
        self.step(title, |proof| {
            proof.tabs[0].replace(&url)?;
            proof.tab_1_is_back(joined, BACK_WITHIN)?;
            let limit = BACK_WITHIN.max(joined.detection_limit());
            proof.all_see_live_once(&joined.all, limit)
        })
    }

    fn reload_without_locks(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let title = "tab 2 reloads in a browser without locks: it has its name and a new key";
        self.step(title, |proof| {
            let tab = &proof.tabs[1];
            let before = own_member(tab)?;
            tab.disable_locks()?;
            tab.reload()?;
            wait::until(BACK_WITHIN, || {
                let shown = tab.read()?;
                let Some(me) = shown.members.iter().find(|member| member.myself) else {
                    return Ok(Err(shown.text));
                };
                ensure!(me.id == before.id, "tab 2 is {}", me.id);
                ensure!(
                    me.addr != before.addr && me.addr != joined.kept_addr,
                    "tab 2 still has the address {}",
                    me.addr
                );
                let is_connected = shown.state == "connected";
                Ok(is_connected.then_some(()).ok_or(shown.text))
            })
        })
    }

    /// Checks that the pages have logged no errors, except those of the browser about WebSockets to the
    /// node that was killed.
    fn departure(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let title = format!(
            "tab 2 leaves its page: all nodes show that it has left within {} ms",
            LEFT_WITHIN.as_millis()
        );
        let id = &joined.tabs[1];
        let url = self.cluster.page_url()?;
        self.step(&title, |proof| {
            proof.tabs[1].open("about:blank")?;
            // The page has told the nodes before the browser says that it is gone.
            let start = Instant::now();
            wait::until(LEFT_WITHIN, || {
                for node in proof.cluster.nodes() {
                    let status = node.status(&proof.client)?;
                    let mut own = status.members.iter().filter(|member| member.id == *id);
                    if own.clone().any(|member| member.live) || !own.any(|member| member.left) {
                        return Ok(Err(format!("{} does not show that {id} has left", node.id)));
                    }
                }
                Ok(Ok(()))
            })?;
            println!(
                "     seen by all nodes {} ms after",
                start.elapsed().as_millis()
            );
            proof.tabs[1].open(&url)?;
            proof.all_see_live_once(&joined.all, BACK_WITHIN)
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

    /// Waits until tab 1 is connected as the member that it was before, at the same address.
    fn tab_1_is_back(&self, joined: &Joined, limit: Duration) -> anyhow::Result<()> {
        let (id, addr) = (&joined.tabs[0], joined.kept_addr);
        wait::until(limit, || {
            let shown = self.tabs[0].read()?;
            let Some(me) = shown.members.iter().find(|member| member.myself) else {
                return Ok(Err(format!("tab 1 is not a member: {}", shown.text)));
            };
            ensure!(
                me.id == *id && me.addr == addr,
                "tab 1 is {} at {}, not {id} at {addr}",
                me.id,
                me.addr
            );
            let is_connected = shown.state == "connected";
            Ok(is_connected.then_some(()).ok_or(shown.text))
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

    /// Returns the newest live generation of a member as each node sees it.
    fn newest_at_nodes(&self, id: &str) -> anyhow::Result<Vec<MemberStatus>> {
        let nodes = self.cluster.nodes().iter();
        nodes
            .map(|node| {
                let members = node.status(&self.client)?.members.into_iter();
                members
                    .filter(|member| member.live && member.id == id)
                    .max_by_key(|member| member.generation)
                    .with_context(|| format!("{} does not see {id} live", node.id))
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
