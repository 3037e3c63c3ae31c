//! The cluster as one node or one tab sees it.

use std::time::Duration;

use anyhow::ensure;

use crate::demo::node::{MemberStatus, Node};
use crate::demo::tab::Tab;
use crate::host::http::Client;
use crate::host::wait;

/// The members that one node or tab shows.
pub(crate) struct View {
    /// The node's id, or "tab 1" or "tab 2".
    of: String,
    members: Vec<MemberStatus>,
}

impl View {
    /// Returns the live members with the id `id`. There is at most one unless something is wrong.
    pub(crate) fn live<'v>(&'v self, id: &'v str) -> impl Iterator<Item = &'v MemberStatus> {
        self.members
            .iter()
            .filter(move |member| member.live && member.id == id)
    }

    pub(crate) fn live_ids(&self) -> Vec<&str> {
        let live = self.members.iter().filter(|member| member.live);
        let mut ids: Vec<_> = live.map(|member| member.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the value of a key of a live member.
    pub(crate) fn key<'v>(&'v self, id: &'v str, key: &str) -> Option<&'v str> {
        let mut live = self.live(id);
        live.find_map(|member| member.keys.get(key))
            .map(String::as_str)
    }
}

/// Everything in the cluster that has a view: the running nodes and the tabs.
pub(crate) struct Observers<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) tabs: &'a [Tab<'a>],
    pub(crate) client: &'a Client,
}

impl Observers<'_> {
    /// Reads all views.
    fn views(&self) -> anyhow::Result<Vec<View>> {
        let mut views = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            views.push(View {
                of: node.id.clone(),
                members: node.status(self.client)?.members,
            });
        }
        for (number, tab) in (1..).zip(self.tabs) {
            views.push(View {
                of: format!("tab {number}"),
                members: tab.read()?.members,
            });
        }
        Ok(views)
    }

    /// Waits until `wanted` accepts every view. Its error says what is missing in a view.
    pub(crate) fn wait_until_all(
        &self,
        limit: Duration,
        wanted: impl Fn(&View) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        wait::until(limit, || {
            let missing: Vec<_> = self
                .views()?
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

    /// Waits until every view shows `id` as dead. Fails at once if a view shows another of `ids` as
    /// dead meanwhile, or no longer shows `id` at all.
    pub(crate) fn wait_until_dead(
        &self,
        limit: Duration,
        id: &str,
        ids: &[String],
    ) -> anyhow::Result<()> {
        wait::until(limit, || {
            let mut missing = Vec::new();
            for view in self.views()? {
                for other in ids.iter().filter(|other| *other != id) {
                    ensure!(
                        view.live(other).next().is_some(),
                        "{} does not see {other} live, which runs",
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
}
