//! The native nodes on the inner network, each a process of its own.
//!
//! Dropping the nodes ends them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::demo::node::MemberStatus;
use crate::demo_secret::DemoSecret;
use crate::gossip_node::{self, Profile};
use crate::host::command;
use crate::host::http::Client;
use crate::host::process::Process;
use crate::host::wait;
use crate::host::workspace::{self, Workspace};
use crate::proxy::membership_log;
use crate::proxy::namespaces::Namespace;
use crate::proxy::network::{self, NodeAddress};

/// Limit until a node that was started answers.
const LISTENING_WITHIN: Duration = Duration::from_secs(10);
/// The cluster's name.
pub(crate) const CLUSTER: &str = "proxy";

/// What all nodes of a cluster share.
#[derive(Debug)]
pub(crate) struct Setup {
    program: PathBuf,
    pub(crate) secret: DemoSecret,
    /// The folder of the page's files, which each node serves.
    page: PathBuf,
    pub(crate) gossip_interval: Duration,
}

impl Setup {
    /// Builds the node and makes a secret in `folder`.
    pub(crate) fn prepare(
        workspace: &Workspace,
        profile: Profile,
        page: PathBuf,
        folder: &Path,
        gossip_interval: Duration,
    ) -> anyhow::Result<Self> {
        let program = gossip_node::build(workspace, profile)?;
        let secret = DemoSecret::make(&program, folder, CLUSTER)?;
        Ok(Self {
            program,
            secret,
            page,
            gossip_interval,
        })
    }

    pub(crate) fn page(&self) -> &Path {
        &self.page
    }
}

/// The running nodes of a cluster.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    inner: &'a Namespace,
    setup: &'a Setup,
    nodes: Vec<Node>,
    client: Client,
}

/// How a node is started.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its place among all nodes of the network, from 0.
    pub(crate) index: u8,
    /// The places of its seeds.
    pub(crate) seeds: Vec<u8>,
    pub(crate) gossip_interval: Duration,
    /// Further arguments.
    pub(crate) args: Vec<String>,
}

#[derive(Debug)]
struct Node {
    id: String,
    plan: Plan,
    addr: NodeAddress,
    log: PathBuf,
    /// The socket for commands to the node.
    admin: PathBuf,
    /// `None` while it is stopped.
    process: Option<Process>,
}

/// The part of a node's status that the measurement reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) members: Vec<MemberStatus>,
    pub(crate) stats: Stats,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Stats {
    dials_failed: u64,
    pub(crate) connections: Vec<ConnectionStatus>,
    /// How many incoming connections were refused, by reason.
    pub(crate) accept_failures: BTreeMap<String, u64>,
}

/// An open connection of a node.
#[derive(Debug, Deserialize)]
pub(crate) struct ConnectionStatus {
    /// The address under which the peer is known.
    pub(crate) remote_addr: SocketAddr,
    pub(crate) age_seconds: f64,
}

/// An open connection, as the command about connections shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    /// The address under which the peer is known.
    pub(crate) addr: SocketAddr,
    /// The other end on the network, as the node sees it.
    pub(crate) network_addr: SocketAddr,
    /// The node's own end.
    pub(crate) local_addr: SocketAddr,
}

/// How far the nodes' logs and counters were at some moment.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Vec<NodeMark>);

#[derive(Debug, Clone, Copy)]
struct NodeMark {
    log_bytes: usize,
    dials_failed: u64,
}

impl<'a> Nodes<'a> {
    /// Starts `count` nodes with their logs in `folder`, and waits until all answer. The seeds of each are the nodes
    /// before it. Tabs reach all of them at `public_url`, if there is one.
    pub(crate) fn start(
        setup: &'a Setup,
        inner: &'a Namespace,
        folder: &Path,
        count: u8,
        public_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let args = public_url.map(|url| format!("--public-url={url}"));
        let plans = (0..count).map(|index| Plan {
            index,
            seeds: (0..index).collect(),
            gossip_interval: setup.gossip_interval,
            args: args.iter().cloned().collect(),
        });
        Self::start_planned(setup, inner, folder, plans)
    }

    /// Starts nodes with their logs in `folder`, and waits until all answer.
    pub(crate) fn start_planned(
        setup: &'a Setup,
        inner: &'a Namespace,
        folder: &Path,
        plans: impl IntoIterator<Item = Plan>,
    ) -> anyhow::Result<Self> {
        let nodes = plans.into_iter().map(|plan| {
            let id = format!("node-{}", plan.index + 1);
            let log = folder.join(format!("{id}.log"));
            File::create(&log)?;
            Ok(Node {
                addr: network::node(plan.index),
                admin: folder.join(format!("{id}.admin")),
                id,
                plan,
                log,
                process: None,
            })
        });
        let mut nodes = Self {
            inner,
            setup,
            nodes: nodes.collect::<anyhow::Result<_>>()?,
            client: Client::new(),
        };
        nodes.start_stopped()?;
        Ok(nodes)
    }

    /// Starts the nodes that are stopped, and waits until they answer.
    pub(crate) fn start_stopped(&mut self) -> anyhow::Result<()> {
        let stopped = self.nodes.iter_mut().filter(|node| node.process.is_none());
        for node in stopped {
            let mut command = node.command(self.setup)?;
            node.process = Some(self.inner.run(|| Process::spawn(&mut command))??);
        }
        // A node that has just been started may not listen yet.
        wait::until(LISTENING_WITHIN, || {
            let answers = self.statuses();
            Ok(answers.map(|_| ()).map_err(|error| format!("{error:#}")))
        })
    }

    /// Ends a node as a crash does. `index` is its place among these nodes.
    pub(crate) fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        node.process.take().context("the node is stopped")?.kill();
        Ok(())
    }

    pub(crate) fn addresses(&self) -> Vec<NodeAddress> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    /// Sets a key of the node with an index from 0.
    pub(crate) fn set_key(&self, index: usize, key: &str, value: &str) -> anyhow::Result<()> {
        let node = self.nodes.get(index).context("no such node")?;
        let mut command = Command::new(&self.setup.program);
        command.args(["set", key, value]).arg("--admin");
        command::run(command.arg(&node.admin).stdout(Stdio::null()))
    }

    /// Returns the open connections of all nodes that run.
    pub(crate) fn connections(&self) -> anyhow::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            let mut command = Command::new(&self.setup.program);
            command.args(["connections", "--json", "--admin"]);
            let text = command::run_for_output(command.arg(&node.admin))?;
            for line in text.lines() {
                listed.push(serde_json::from_str(line).context("an unexpected connection")?);
            }
        }
        Ok(listed)
    }

    /// Reads the status of every node that is not stopped. Fails if one has ended by itself.
    pub(crate) fn statuses(&mut self) -> anyhow::Result<Vec<(String, Status)>> {
        for node in &mut self.nodes {
            if let Some(status) = node.process.as_mut().and_then(Process::ended) {
                let last = workspace::tail(&node.log, 5);
                bail!("{} has ended ({status}): {last}", node.id);
            }
        }
        let Self {
            inner,
            nodes,
            client,
            ..
        } = self;
        inner.run(|| {
            let running = nodes.iter().filter(|node| node.process.is_some());
            let statuses = running.map(|node| {
                let status = client.get(&format!("http://{}/status", node.addr.http))?;
                Ok((node.id.clone(), status.json()?))
            });
            statuses.collect()
        })?
    }

    /// Returns the present position of logs and counters.
    pub(crate) fn mark(&mut self) -> anyhow::Result<Mark> {
        let statuses = self.statuses()?;
        let marks = self.nodes.iter().zip(statuses).map(|(node, (_, status))| {
            Ok(NodeMark {
                log_bytes: std::fs::read(&node.log)?.len(),
                dials_failed: status.stats.dials_failed,
            })
        });
        marks.collect::<anyhow::Result<_>>().map(Mark)
    }

    /// Returns the members that the nodes have declared dead since `mark`, by name and address, each with
    /// how often.
    pub(crate) fn deaths_since(
        &self,
        mark: &Mark,
    ) -> anyhow::Result<BTreeMap<(String, String), u64>> {
        let mut deaths = BTreeMap::new();
        for (node, mark) in self.nodes.iter().zip(&mark.0) {
            let log = std::fs::read(&node.log)?;
            let new = log.get(mark.log_bytes..).unwrap_or_default();
            for (member, addr) in membership_log::deaths(&String::from_utf8_lossy(new)) {
                let member = (member.to_owned(), addr.to_owned());
                *deaths.entry(member).or_default() += 1;
            }
        }
        Ok(deaths)
    }

    /// Returns the number of dials that have failed on all nodes since `mark`.
    pub(crate) fn failed_dials_since(&mut self, mark: &Mark) -> anyhow::Result<u64> {
        let statuses = self.statuses()?;
        let failed = statuses
            .iter()
            .zip(&mark.0)
            .map(|((_, status), mark)| status.stats.dials_failed.saturating_sub(mark.dials_failed));
        Ok(failed.sum())
    }
}

impl Node {
    /// Returns the command that starts it. It appends to its log.
    fn command(&self, setup: &Setup) -> anyhow::Result<Command> {
        let Plan {
            seeds,
            gossip_interval,
            args,
            ..
        } = &self.plan;
        let mut command = Command::new(&setup.program);
        command
            .args(["--cluster", CLUSTER, "--id", &self.id])
            .args(["--listen", &self.addr.gossip.to_string()])
            .args(["--http", &self.addr.http.to_string()])
            .arg("--gossip-interval")
            .arg(format!("{}ms", gossip_interval.as_millis()))
            .arg("--secret")
            .arg(&setup.secret.file)
            .arg("--admin")
            .arg(&self.admin)
            .arg("--web-root")
            .arg(&setup.page)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().append(true).open(&self.log)?)
            .env_remove("RUST_LOG");
        for seed in seeds {
            command.args(["--seed", &network::node(*seed).gossip.to_string()]);
        }
        Ok(command)
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        // Signals all nodes first; each process's own drop then waits for its exit.
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                process.terminate();
            }
        }
    }
}
