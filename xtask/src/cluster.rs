//! Native nodes on loopback, each a process of its own, with a secret made for this run.
//!
//! Dropping the cluster ends every node and removes the secret. Invariant: a node is restarted on
//! the ports that it had.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::http::Client;
use crate::process::Process;
use crate::workspace::{self, Workspace};
use crate::{command, wait};

/// Time between gossip rounds: four times as fast as the default, so that what happens can be
/// watched. A node scales its failure detector by it.
pub(crate) const GOSSIP_INTERVAL: Duration = Duration::from_millis(250);

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const CLUSTER: &str = "demo";
/// The node that serves the page.
const PAGE_SERVER: &str = "node-1";
/// From the start of the process until its ports are bound.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Where the nodes listen: `port`, `port + 1`, ... or any free port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    base: Option<u16>,
}

impl Ports {
    pub(crate) fn new(base: Option<u16>) -> Self {
        Self { base }
    }

    /// A clear word before anything is built, rather than from within the last node.
    pub(crate) fn check_free(self, nodes: u16) -> anyhow::Result<()> {
        for index in 0..nodes {
            for port in [self.http(index)?, self.gossip(index)?] {
                // Port 0 is any free one.
                TcpListener::bind((LOOPBACK, port)).map_err(|error| {
                    anyhow!("port {port} on {LOOPBACK} cannot be used ({error}); choose others with --port")
                })?;
            }
        }
        Ok(())
    }

    fn http(self, index: u16) -> anyhow::Result<u16> {
        self.port(u32::from(index) * 2)
    }

    fn gossip(self, index: u16) -> anyhow::Result<u16> {
        self.port(u32::from(index) * 2 + 1)
    }

    fn port(self, offset: u32) -> anyhow::Result<u16> {
        match self.base {
            None | Some(0) => Ok(0),
            Some(base) => u16::try_from(u32::from(base) + offset)
                .ok()
                .with_context(|| format!("--port {base} leaves too few ports above it")),
        }
    }
}

/// What a node writes once it is bound.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Ready {
    gossip: SocketAddr,
    http: SocketAddr,
}

/// The part of `/status` that is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) members: Vec<Member>,
}

/// A member as somebody sees it: a node in its status, or a tab in its page.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// Not shown by the page.
    #[serde(default)]
    pub(crate) generation: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) live: bool,
    #[serde(rename = "self")]
    pub(crate) myself: bool,
    pub(crate) keys: std::collections::BTreeMap<String, String>,
}

/// One node; it may be down.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) gossip: SocketAddr,
    pub(crate) http: SocketAddr,
    log: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// The node's own view.
    pub(crate) fn status(&self, client: &Client) -> anyhow::Result<Status> {
        let url = format!("http://{}/status", self.http);
        client.get(&url)?.json()
    }

    /// The address of one of the node's own keys.
    pub(crate) fn key_url(&self, key: &str) -> String {
        format!("http://{}/keys/{key}", self.http)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The last lines that it logged.
    pub(crate) fn last_words(&self, lines: usize) -> String {
        workspace::tail(&self.log, lines)
    }
}

/// The nodes, and what they share.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Before the folder: the nodes go before what they use.
    nodes: Vec<Node>,
    pub(crate) secret: String,
    program: PathBuf,
    /// What all but the first run instead: an unmodified node of upstream's.
    upstream: Option<PathBuf>,
    web_root: Option<PathBuf>,
    /// The secret, keys and logs; readable to this user alone.
    dir: TempDir,
}

impl Cluster {
    /// Builds the node, and makes a secret; starts nothing yet.
    ///
    /// With `upstream` the first node is a bridge, and the others are unmodified nodes of the
    /// published chitchat crate, on UDP.
    pub(crate) fn prepare(
        workspace: &Workspace,
        web_root: Option<&Path>,
        upstream: bool,
    ) -> anyhow::Result<Self> {
        println!("Building the node");
        let mut cargo = workspace.cargo(&["build", "--quiet", "--package", "gossip-node"]);
        command::run(&mut cargo)?;
        let upstream = upstream.then(|| upstream_node(workspace)).transpose()?;
        let program = workspace
            .target
            .join("debug")
            .join(format!("gossip-node{}", std::env::consts::EXE_SUFFIX));

        let dir = private_folder().context("cannot make a temporary folder")?;
        let file = dir.path().join("secret");
        let mut make = Command::new(&program);
        make.arg("--make-secret").arg(&file).stderr(Stdio::null());
        command::run(&mut make)?;
        let secret = std::fs::read_to_string(&file).context("the node wrote no secret")?;
        Ok(Self {
            nodes: Vec::new(),
            secret: secret.trim().to_owned(),
            program,
            upstream,
            web_root: web_root.map(Path::to_path_buf),
            dir,
        })
    }

    /// Starts `count` nodes, one after the other; each knows those before it.
    pub(crate) fn start(&mut self, count: u16, ports: Ports) -> anyhow::Result<()> {
        for index in 0..count {
            let id = format!("node-{}", index + 1);
            let mut node = Node {
                log: self.dir.path().join(format!("{id}.log")),
                id,
                gossip: (LOOPBACK, ports.gossip(index)?).into(),
                http: (LOOPBACK, ports.http(index)?).into(),
                process: None,
            };
            let outcome = self.start_node(&mut node);
            self.nodes.push(node);
            outcome?;
        }
        Ok(())
    }

    /// Starts a node that is down, on its ports.
    pub(crate) fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        ensure!(index < self.nodes.len(), "there is no node {index}");
        let mut node = self.nodes.remove(index);
        let outcome = self.start_node(&mut node);
        self.nodes.insert(index, node);
        outcome
    }

    fn start_node(&self, node: &mut Node) -> anyhow::Result<()> {
        let file = |kind: &str| self.dir.path().join(format!("{}.{kind}", node.id));
        let ready = file("ready");
        let _ = std::fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(&node.log)?;
        let interval = GOSSIP_INTERVAL.as_millis();
        let mut command = match &self.upstream {
            Some(upstream) if node.id != PAGE_SERVER => {
                let mut command = Command::new(upstream);
                command.args(["--gossip-interval-ms", &interval.to_string()]);
                command
            }
            upstream => {
                let mut command = Command::new(&self.program);
                command
                    .arg("--http-write")
                    .args(["--gossip-interval", &format!("{interval}ms")])
                    .arg("--secret")
                    .arg(self.dir.path().join("secret"))
                    .arg("--key")
                    .arg(file("key"));
                if upstream.is_some() {
                    command.arg("--udp");
                }
                command
            }
        };
        command
            .args(["--cluster", CLUSTER, "--id", &node.id])
            .args(["--listen", &node.gossip.to_string()])
            .args(["--http", &node.http.to_string()])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(web_root) = self.web_root.as_ref().filter(|_| node.id == PAGE_SERVER) {
            command.arg("--web-root").arg(web_root);
        }
        for other in &self.nodes {
            command.args(["--seed", &other.gossip.to_string()]);
        }
        let mut process = Process::spawn(&mut command)?;
        let bound = wait::until(READY_WITHIN, || {
            if let Some(status) = process.ended() {
                bail!(
                    "{} ended at once ({status}): {}",
                    node.id,
                    node.last_words(5)
                );
            }
            // It is moved into place whole.
            match std::fs::read(&ready) {
                Ok(text) => Ok(Ok(serde_json::from_slice::<Ready>(&text)?)),
                Err(_) => Ok(Err(format!("{} has not bound its ports", node.id))),
            }
        })?;
        node.gossip = bound.gossip;
        node.http = bound.http;
        node.process = Some(process);
        Ok(())
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ends a node with SIGKILL, as a crash would.
    pub(crate) fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(index);
        let node = node.with_context(|| format!("there is no node {index}"))?;
        if let Some(process) = node.process.take() {
            process.kill();
        }
        Ok(())
    }

    /// Whether all nodes but the first, their bridge, are upstream's.
    pub(crate) fn is_upstream(&self) -> bool {
        self.upstream.is_some()
    }

    /// The cluster's name.
    #[expect(
        clippy::unused_self,
        reason = "callers need not know that it is always the same"
    )]
    pub(crate) fn name(&self) -> &'static str {
        CLUSTER
    }

    /// The page's address; its fragment, which no browser sends to a server, is the secret.
    pub(crate) fn page_url(&self) -> anyhow::Result<String> {
        let first = self.nodes.first().context("no node serves the page")?;
        Ok(format!("http://{}/#secret={}", first.http, self.secret))
    }

    /// A node that has ended without being told to.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.nodes.iter_mut().find_map(|node| {
            let status = node.process.as_mut()?.ended()?;
            Some(format!(
                "{} has ended ({status}): {}",
                node.id,
                node.last_words(10)
            ))
        })
    }
}

fn upstream_node(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    const NAME: &str = "upstream_node";
    println!("Building an unmodified node of upstream's");
    let mut cargo = workspace.cargo(&["build", "--quiet", "--package", "gossip-node"]);
    cargo.args(["--example", NAME]);
    command::run(&mut cargo)?;
    let file = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace.target.join("debug").join("examples").join(file))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All at once; then each is waited for.
        for process in self
            .nodes
            .iter_mut()
            .filter_map(|node| node.process.as_mut())
        {
            process.terminate();
        }
    }
}

#[cfg(unix)]
fn private_folder() -> std::io::Result<TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix("gossip-demo.")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
}

#[cfg(not(unix))]
fn private_folder() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("gossip-demo.").tempdir()
}
