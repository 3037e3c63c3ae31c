//! The native nodes on the inner network, each a process of its own.
//!
//! Dropping the nodes ends them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::demo::node::MemberStatus;
use crate::demo_secret::DemoSecret;
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
const CLUSTER: &str = "proxy";

/// How the nodes are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the tests and the demo build them, so that a check needs no other build.
    Debug,
    Release,
}

/// What all nodes of a cluster share.
#[derive(Debug)]
pub(crate) struct Setup {
    program: PathBuf,
    pub(crate) secret: DemoSecret,
    /// The folder of the page's files, which the first node serves.
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
        println!("Building the node");
        let mut cargo = workspace.cargo(&["build", "--quiet", "--package", "gossip-node"]);
        let folder_of_profile = match profile {
            Profile::Debug => "debug",
            Profile::Release => {
                cargo.arg("--release");
                "release"
            }
        };
        command::run(&mut cargo)?;
        let program = workspace.target.join(folder_of_profile).join("gossip-node");
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
    program: &'a Path,
    nodes: Vec<Node>,
    client: Client,
}

#[derive(Debug)]
struct Node {
    id: String,
    addr: NodeAddress,
    log: PathBuf,
    /// The socket for commands to the node.
    admin: PathBuf,
    process: Process,
}

/// The part of a node's status that the measurement reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) members: Vec<MemberStatus>,
    stats: Stats,
}

#[derive(Debug, Deserialize)]
struct Stats {
    dials_failed: u64,
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
    /// before it. Tabs are told to use `public_url`, if there is one, and the addresses of the nodes otherwise.
    pub(crate) fn start(
        setup: &'a Setup,
        inner: &'a Namespace,
        folder: &Path,
        count: u8,
        public_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut nodes = Self {
            inner,
            program: &setup.program,
            nodes: Vec::new(),
            client: Client::new(),
        };
        for index in 0..count {
            let id = format!("node-{}", index + 1);
            let log = folder.join(format!("{id}.log"));
            let addr = network::node(index);
            let admin = folder.join(format!("{id}.admin"));
            let mut command = Command::new(&setup.program);
            command
                .args(["--cluster", CLUSTER, "--id", &id])
                .args(["--listen", &addr.gossip.to_string()])
                .args(["--http", &addr.http.to_string()])
                .arg("--gossip-interval")
                .arg(format!("{}ms", setup.gossip_interval.as_millis()))
                .arg("--secret")
                .arg(&setup.secret.file)
                .arg("--admin")
                .arg(&admin)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&log)?)
                .env_remove("RUST_LOG");
            if let Some(url) = public_url {
                command.args(["--public-url", url]);
            }
            if index == 0 {
                command.arg("--web-root").arg(&setup.page);
            }
            for before in 0..index {
                command.args(["--seed", &network::node(before).gossip.to_string()]);
            }
            let process = inner.run(|| Process::spawn(&mut command))??;
            nodes.nodes.push(Node {
                id,
                addr,
                log,
                admin,
                process,
            });
        }
        // A node that has just been started may not listen yet.
        wait::until(LISTENING_WITHIN, || {
            let answers = nodes.statuses();
            Ok(answers.map(|_| ()).map_err(|error| format!("{error:#}")))
        })?;
        Ok(nodes)
    }

    pub(crate) fn addresses(&self) -> Vec<NodeAddress> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    /// Sets a key of the node with an index from 0.
    pub(crate) fn set_key(&self, index: usize, key: &str, value: &str) -> anyhow::Result<()> {
        let node = self.nodes.get(index).context("no such node")?;
        let mut command = Command::new(self.program);
        command.args(["set", key, value]).arg("--admin");
        command::run(command.arg(&node.admin).stdout(Stdio::null()))
    }

    /// Reads the status of every node. Fails if a node has ended.
    pub(crate) fn statuses(&mut self) -> anyhow::Result<Vec<(String, Status)>> {
        for node in &mut self.nodes {
            if let Some(status) = node.process.ended() {
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
            let statuses = nodes.iter().map(|node| {
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

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        // Signals all nodes first; each process's own drop then waits for its exit.
        for node in &mut self.nodes {
            node.process.terminate();
        }
    }
}
