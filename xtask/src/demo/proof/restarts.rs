//! Members that stop, restart, reload and leave.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{BACK_WITHIN, Joined, Proof, own_member};
use crate::demo::node::MemberStatus;
use crate::host::wait;

/// Limit from the load of a page whose tab was a member before, until the page is connected. A node may
/// have to find out that the previous connection is gone, which takes a second.
const RELOADED_WITHIN: Duration = Duration::from_secs(2);
/// Number of reloads in a row, each as soon as the page is connected.
const RELOADS: usize = 3;
/// Limit until all nodes show that a page which is closed has left.
const LEFT_WITHIN: Duration = Duration::from_millis(300);

impl Proof<'_> {
    pub(super) fn crash_and_restart(&mut self, joined: &Joined) -> anyhow::Result<()> {
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

    pub(super) fn reload(&mut self, joined: &Joined) -> anyhow::Result<()> {
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

    pub(super) fn reopen(&mut self, joined: &Joined) -> anyhow::Result<()> {
        let url = self.cluster.page_url()?;
        let title = "tab 1 is closed and another tab is opened: it is the member that tab 1 was";
        self.step(title, |proof| {
            proof.tabs[0].replace(&url)?;
            proof.tab_1_is_back(joined, BACK_WITHIN)?;
            let limit = BACK_WITHIN.max(joined.detection_limit());
            proof.all_see_live_once(&joined.all, limit)
        })
    }

    pub(super) fn reload_without_locks(&mut self, joined: &Joined) -> anyhow::Result<()> {
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

    pub(super) fn departure(&mut self, joined: &Joined) -> anyhow::Result<()> {
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
}
