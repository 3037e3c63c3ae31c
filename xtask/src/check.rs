//! `cargo xtask demo --check`: proves in a headless browser what the demo promises.
//!
//! Two tabs and the nodes are watched from outside: the tabs by what their pages show, the nodes
//! by their `/status`. Each step waits for what it is about, with a limit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::browser::Browser;
use crate::cluster::{Cluster, GOSSIP_INTERVAL, Member, Node};
use crate::http::Client;
use crate::interrupt::Interrupted;
use crate::page::{Device, Page, Viewport};
use crate::workspace::Workspace;
use crate::{setup, wait};

/// From opening the tabs until everybody sees everybody.
const JOINED_WITHIN: Duration = Duration::from_secs(10);
/// A change reaches all in a handful of rounds; the rest is for a busy machine.
const SPREAD_WITHIN: Duration = Duration::from_secs(5);
/// A restarted member: the others' longest wait between dials (10 rounds), three heartbeats, and
/// the time for a busy machine.
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
/// Lines of each node's log to show with a failure.
const LAST_LINES: usize = 12;

/// Runs all steps; stops at the first that fails.
pub(crate) fn run(
    workspace: &Workspace,
    programs: &setup::Browser,
    mut cluster: Cluster,
) -> anyhow::Result<()> {
    let pictures = workspace.output(match cluster.is_upstream() {
        true => "demo-upstream",
        false => "demo",
    })?;
    for old in ["cluster.png", "cluster-phone.png", "failure.png"] {
        let _ = std::fs::remove_file(pictures.join(old));
    }
    println!("\nTwo tabs in headless {}:", programs.chrome.display());
    let browser = Browser::start(programs, &[])?;
    let first = Page::new(&browser.session, browser.session.window()?);
    let second = Page::new(&browser.session, browser.session.open_tab()?);
    let mut check = Check {
        cluster: &mut cluster,
        pages: [first, second],
        client: Client::new(),
    };
    let mut passed = 0;
    let outcome = check.steps(&mut passed, &pictures);
    if let Err(error) = &outcome
        && !error.is::<Interrupted>()
    {
        check.explain(&pictures.join("failure.png"));
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

struct Check<'a> {
    cluster: &'a mut Cluster,
    pages: [Page<'a>; 2],
    client: Client,
}

/// Somebody's view of the cluster, and whose it is.
struct View {
    of: String,
    members: Vec<Member>,
}

impl View {
    /// The live members of that name: one, unless something is wrong.
    fn live<'v>(&'v self, id: &'v str) -> impl Iterator<Item = &'v Member> {
        self.members
            .iter()
            .filter(move |member| member.live && member.id == id)
    }

    fn live_names(&self) -> Vec<&str> {
        let live = self.members.iter().filter(|member| member.live);
        let mut names: Vec<_> = live.map(|member| member.id.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn key<'v>(&'v self, id: &'v str, key: &str) -> Option<&'v str> {
        let mut live = self.live(id);
        live.find_map(|member| member.keys.get(key))
            .map(String::as_str)
    }
}

impl Check<'_> {
    fn steps(&mut self, passed: &mut u32, pictures: &Path) -> anyhow::Result<()> {
        let nodes = self.cluster.nodes().len();
        let url = self.cluster.page_url()?;
        let all = nodes + 2;
        let start = Instant::now();
        let who = match self.cluster.is_upstream() {
            true => format!("a bridge, {} upstream nodes", nodes - 1),
            false => format!("{nodes} nodes"),
        };
        let title = format!("{who} and 2 tabs: all {all} see {all} live members");
        step(passed, &title, || {
            for page in &self.pages {
                page.open(&url)?;
            }
            let left = JOINED_WITHIN.saturating_sub(start.elapsed());
            self.watch(left, |view| {
                let live = view.live_names();
                (live.len() == all)
                    .then_some(())
                    .ok_or_else(|| format!("sees {} live members: {}", live.len(), live.join(", ")))
            })
        })?;
        let joined = Instant::now();
        let tabs = [self_name(&self.pages[0])?, self_name(&self.pages[1])?];
        ensure!(tabs[0] != tabs[1], "both tabs have the name {}", tabs[0]);
        let everybody: Vec<String> = {
            let nodes = self.cluster.nodes().iter().map(|node| node.id.clone());
            nodes.chain(tabs.iter().cloned()).collect()
        };

        step(
            passed,
            "a key set in tab 1, through its form, is read by all",
            || {
                self.pages[0].set_key("mood", "sunny")?;
                self.everybody_reads(&tabs[0], "mood", Some("sunny"))
            },
        )?;
        step(
            passed,
            "a key set on a node shows in both pages, and on every node",
            || {
                let node = self.last_node()?;
                self.client.post(&node.key_url("load"), "0.42")?.check()?;
                self.everybody_reads(&node.id, "load", Some("0.42"))
            },
        )?;
        step(
            passed,
            "a changed value replaces the old one for all",
            || {
                self.pages[0].set_key("mood", "stormy")?;
                self.everybody_reads(&tabs[0], "mood", Some("stormy"))
            },
        )?;
        step(
            passed,
            "keys deleted in tab 1 and on a node disappear for all",
            || {
                let node = self.last_node()?;
                self.pages[0].delete_key("mood")?;
                self.client.delete(&node.key_url("load"))?.check()?;
                self.everybody_reads(&tabs[0], "mood", None)?;
                self.everybody_reads(&node.id, "load", None)
            },
        )?;

        let victim = self.last_node()?.id.clone();
        // What a newcomer has to be told of the dead one.
        let url = self.last_node()?.key_url("rack");
        self.client.post(&url, "7")?.check()?;
        self.everybody_reads(&victim, "rack", Some("7"))?;
        let limit = detection_limit(joined.elapsed(), all);
        println!(
            "     by the failure detector's formula a member that has been seen for {:.1} s is found dead within {:.1} s",
            joined.elapsed().as_secs_f64(),
            limit.as_secs_f64()
        );
        let title = format!("{victim} is killed: dead for all within that, the others stay live");
        step(passed, &title, || {
            self.cluster.kill(nodes - 1)?;
            self.everybody_sees_dead(&victim, &everybody, limit)
        })?;
        let title = format!("tab 2 reloads, and is told of {victim} and its key, as of a dead one");
        step(passed, &title, || {
            self.pages[1].reload()?;
            wait::until(BACK_WITHIN, || {
                let members = match self.pages[1].read() {
                    Ok(shown) => shown.members,
                    Err(error) => return Ok(Err(format!("{error:#}"))),
                };
                let dead = members.iter().find(|member| member.id == victim);
                let told = dead.is_some_and(|member| {
                    !member.live && member.keys.get("rack").is_some_and(|value| value == "7")
                });
                let live = members.iter().filter(|member| member.live).count();
                Ok((told && live == all - 1)
                    .then_some(())
                    .ok_or_else(|| format!("shows {live} live members, and {dead:?}")))
            })
        })?;
        let title = format!("{victim} restarts on its port: live for all, once");
        step(passed, &title, || {
            self.cluster.restart(nodes - 1)?;
            self.everybody_sees_live_once(&everybody, BACK_WITHIN)
        })?;

        let before = self.generations(&tabs[0])?;
        step(
            passed,
            "tab 1 reloads: the same member, live for all, in a new generation alone",
            || {
                self.pages[0].reload()?;
                wait::until(BACK_WITHIN, || {
                    Ok(match self_name(&self.pages[0]) {
                        Ok(name) if name == tabs[0] => Ok(()),
                        Ok(name) => bail!("after its reload tab 1 is {name}, not {}", tabs[0]),
                        Err(error) => Err(format!("{error:#}")),
                    })
                })?;
                // The page before said goodbye, or its generation is found dead in time.
                let limit = BACK_WITHIN.max(detection_limit(joined.elapsed(), all));
                self.everybody_sees_live_once(&everybody, limit)?;
                for (node, generation) in self.generations(&tabs[0])? {
                    let old = before.iter().find(|(id, _)| *id == node);
                    ensure!(
                        old.is_some_and(|(_, old)| generation > *old),
                        "{node} still has the generation {generation} of {}",
                        tabs[0]
                    );
                }
                Ok(())
            },
        )?;

        step(passed, "both tabs gossip on after all that", || {
            self.pages[0].set_key("mood", "sunny")?;
            self.pages[1].set_key("mood", "calm")?;
            self.everybody_reads(&tabs[0], "mood", Some("sunny"))?;
            self.everybody_reads(&tabs[1], "mood", Some("calm"))
        })?;
        step(passed, "screenshots", || {
            self.pages[0].screenshot(DESKTOP, &pictures.join("cluster.png"))?;
            self.pages[0].screenshot(PHONE, &pictures.join("cluster-phone.png"))
        })?;
        println!("     {}", pictures.join("cluster.png").display());
        Ok(())
    }

    fn last_node(&self) -> anyhow::Result<&Node> {
        self.cluster.nodes().last().context("no nodes")
    }

    /// Waits until all see `id`'s key at `value`, or not at all.
    fn everybody_reads(&self, id: &str, key: &str, value: Option<&str>) -> anyhow::Result<()> {
        self.watch(SPREAD_WITHIN, |view| {
            if view.live(id).next().is_none() {
                return Err(format!("does not see {id} live"));
            }
            let seen = view.key(id, key);
            (seen == value)
                .then_some(())
                .ok_or_else(|| format!("reads {id}'s {key} as {seen:?}, not {value:?}"))
        })
    }

    /// Waits until all see `id` dead; fails at once when anybody else is seen dead meanwhile.
    fn everybody_sees_dead(
        &self,
        id: &str,
        everybody: &[String],
        limit: Duration,
    ) -> anyhow::Result<()> {
        wait::until(limit, || {
            let mut missing = Vec::new();
            for view in views(self.cluster, &self.client, &self.pages)? {
                for other in everybody.iter().filter(|other| *other != id) {
                    ensure!(
                        view.live(other).next().is_some(),
                        "{} lost {other}, which runs",
                        view.of
                    );
                }
                if view.live(id).next().is_some() {
                    missing.push(view.of.clone());
                } else {
                    let shown = view.members.iter().any(|member| member.id == id);
                    ensure!(
                        shown,
                        "{} has forgotten {id} instead of showing it dead",
                        view.of
                    );
                }
            }
            Ok(if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{} still see {id} live", missing.join(", ")))
            })
        })
    }

    fn everybody_sees_live_once(&self, names: &[String], limit: Duration) -> anyhow::Result<()> {
        self.watch(limit, |view| {
            for name in names {
                match view.live(name).count() {
                    1 => {}
                    0 => return Err(format!("does not see {name} live")),
                    several => return Err(format!("sees {name} live {several} times over")),
                }
            }
            Ok(())
        })
    }

    /// The live generation of a member, as each node has it.
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

    /// Waits until what everybody sees is as `wanted`.
    fn watch(
        &self,
        limit: Duration,
        wanted: impl Fn(&View) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        wait::until(limit, || {
            let views = views(self.cluster, &self.client, &self.pages)?;
            let missing: Vec<_> = views
                .iter()
                .filter_map(|view| {
                    let missing = wanted(view).err()?;
                    Some(format!("{} {missing}", view.of))
                })
                .collect();
            Ok(if missing.is_empty() {
                Ok(())
            } else {
                Err(missing.join("; "))
            })
        })
    }

    /// After a failure: what everybody saw last, and what the nodes logged.
    fn explain(&mut self, picture: &Path) {
        if let Some(reason) = self.cluster.ended() {
            eprintln!("\n{reason}");
        }
        for (number, page) in (1..).zip(&self.pages) {
            match page.read() {
                Ok(shown) => eprintln!(
                    "\ntab {number} is {}: {}\n{}",
                    shown.state,
                    shown.words,
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
            eprintln!("its last log lines:\n{}", node.last_words(LAST_LINES));
        }
        match self.pages[0].screenshot(DESKTOP, picture) {
            Ok(()) => eprintln!("\ntab 1 as it looks now: {}", picture.display()),
            Err(error) => eprintln!("\nno picture of tab 1: {error:#}"),
        }
    }
}

/// Runs one step and says how long it took.
fn step(
    passed: &mut u32,
    title: &str,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    match work() {
        Ok(()) => {
            *passed += 1;
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

/// What every running node and every tab sees now.
fn views(cluster: &Cluster, client: &Client, pages: &[Page<'_>]) -> anyhow::Result<Vec<View>> {
    let mut views = Vec::new();
    for node in cluster.nodes().iter().filter(|node| node.is_running()) {
        views.push(View {
            of: node.id.clone(),
            members: node.status(client)?.members,
        });
    }
    for (number, page) in (1..).zip(pages) {
        views.push(View {
            of: format!("tab {number}"),
            members: page.read()?.members,
        });
    }
    Ok(views)
}

fn self_name(page: &Page<'_>) -> anyhow::Result<String> {
    let shown = page.read()?;
    let me = shown.members.iter().find(|member| member.myself);
    let me = me.with_context(|| format!("a tab is not a member: {}", shown.words))?;
    Ok(me.id.clone())
}

fn list(members: &[Member]) -> String {
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

/// Within what time a member that stops is found dead, by the phi-accrual detector's own formula.
///
/// It is dead once its silence exceeds `threshold` times the mean interval between heartbeats,
/// where the mean starts from a prior of 5 intervals of 5 rounds each (upstream's constants, which
/// a node scales with the gossip interval): with `n` intervals seen in the time `age`, the mean is
/// `(5 * prior + age) / (5 + n)`. A heartbeat arrives about once a round; half of that is assumed
/// here, for a busy machine. Added are the rounds in which its last heartbeat still travels, a
/// logarithm of the members, and two for looking and showing.
fn detection_limit(age: Duration, members: usize) -> Duration {
    const THRESHOLD: f64 = 8.0;
    const PRIOR_WEIGHT: f64 = 5.0;
    const PRIOR_ROUNDS: f64 = 5.0;
    let round = GOSSIP_INTERVAL.as_secs_f64();
    let prior = PRIOR_ROUNDS * round;
    let age = age.as_secs_f64();
    let intervals = age / (2.0 * round);
    let mean = PRIOR_WEIGHT.mul_add(prior, age) / (PRIOR_WEIGHT + intervals);
    let travel = GOSSIP_INTERVAL * (2 + members.max(1).ilog2());
    Duration::from_secs_f64(THRESHOLD * mean) + travel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_member_is_found_dead_sooner() {
        let young = detection_limit(Duration::ZERO, 5);
        let old = detection_limit(Duration::from_secs(3600), 5);
        // 8 * 5 rounds, and 2 and 2; 8 * 2 rounds, and 2 and 2.
        assert_eq!(young, GOSSIP_INTERVAL * 44);
        assert!(old > GOSSIP_INTERVAL * 20 && old < GOSSIP_INTERVAL * 21);
    }
}
