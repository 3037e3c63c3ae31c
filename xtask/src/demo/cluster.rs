//! The demo's native nodes on loopback, each a process of its own, with a secret made for this run.
//!
//! Dropping the cluster ends every node and removes the secret. Invariant: a node is restarted on
//! the ports that it had before.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::authority::{Authority, Files};
use crate::demo::node::{KeyAccess, Node};
use crate::demo::ports::{LOOPBACK, Ports};
use crate::demo_secret::{self, DemoSecret, Invite};
use crate::gossip_node::{self, Profile};
use crate::host::process::Process;
use crate::host::workspace::{self, Workspace};
use crate::host::{command, wait};

/// Time between gossip rounds: a quarter of the default, so that a viewer need not wait.
/// Nodes scale their failure detector with it.
pub(crate) const GOSSIP_INTERVAL: Duration = Duration::from_millis(250);

/// The cluster's name.
pub(crate) const NAME: &str = "demo";

/// The node that serves the page.
const PAGE_SERVER: &str = "node-1";
/// Limit from the start of a process until its ports are bound.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The program that all nodes but the first run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherNodes {
    /// `gossip-node`, as the first.
    Ours,
    /// An unmodified node of the published chitchat crate, on UDP. The first node is then a bridge
    /// between these and the tabs.
    Upstream,
}

/// How the first node serves the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    /// On its gossip port, with a certificate that an authority of this run issues.
    Https,
}

/// The name under which the page is opened over https.
const TLS_NAME: &str = "localhost";
/// All names in the certificate.
const TLS_NAMES: [&str; 3] = [TLS_NAME, "127.0.0.1", "::1"];

/// The certificate of the first node, and the authority that has issued it.
#[derive(Debug)]
struct Tls {
    authority: Authority,
    files: Files,
}

impl Tls {
    fn make(folder: &Path) -> anyhow::Result<Self> {
        let authority = Authority::make(folder, &TLS_NAMES)?;
        let files = authority.issue(folder)?;
        Ok(Self { authority, files })
    }
}

/// The content of a node's ready file.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Ready {
    gossip: SocketAddr,
    http: SocketAddr,
}

/// The nodes and what they share.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Dropped before the folder, which the nodes use.
    nodes: Vec<Node>,
    pub(crate) secret: DemoSecret,
    program: PathBuf,
    /// The program of an upstream node, if all nodes but the first run it.
    upstream: Option<PathBuf>,
    web_root: Option<PathBuf>,
    tls: Option<Tls>,
    /// Holds the secret, the keys and the logs. Only this user can read it.
    dir: TempDir,
}

impl Cluster {
    /// Builds the programs and makes a secret. Starts no node.
    pub(crate) fn prepare(
        workspace: &Workspace,
        web_root: Option<&Path>,
        others: OtherNodes,
        scheme: Scheme,
    ) -> anyhow::Result<Self> {
        let program = gossip_node::build(workspace, Profile::Debug)?;
        let upstream = match others {
            OtherNodes::Ours => None,
            OtherNodes::Upstream => Some(build_upstream_node(workspace)?),
        };
        let dir = workspace::private_folder("gossip-demo.")?;
        let secret = DemoSecret::make(&program, dir.path(), NAME)?;
        let tls = match scheme {
            Scheme::Http => None,
            Scheme::Https => Some(Tls::make(dir.path())?),
        };
        Ok(Self {
            nodes: Vec::new(),
            secret,
            program,
            upstream,
            web_root: web_root.map(Path::to_path_buf),
            tls,
            dir,
        })
    }

    /// Starts `count` nodes one after the other. The seeds of each are the nodes before it.
    pub(crate) fn start(&mut self, count: u16, ports: Ports) -> anyhow::Result<()> {
        for index in 0..count {
            let id = format!("node-{}", index + 1);
            let mut node = Node {
                log: self.dir.path().join(format!("{id}.log")),
                keys: self.key_access(&id),
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

    /// Starts a stopped node on its previous ports.
    pub(crate) fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        ensure!(index < self.nodes.len(), "there is no node {index}");
        let mut node = self.nodes.remove(index);
        let outcome = self.start_node(&mut node);
        self.nodes.insert(index, node);
        outcome
    }

    fn start_node(&self, node: &mut Node) -> anyhow::Result<()> {
        let ready = self.file(node, "ready");
        let _ = std::fs::remove_file(&ready);
        let mut process = Process::spawn(&mut self.command(node, &ready)?)?;
        let bound = wait::until(READY_WITHIN, || {
            if let Some(status) = process.ended() {
                bail!(
                    "{} ended at once ({status}): {}",
                    node.id,
                    node.last_log_lines(5)
                );
            }
            // The node moves the finished file into place, so it is never read half written.
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

    /// Returns the command that starts a node.
    fn command(&self, node: &Node, ready: &Path) -> anyhow::Result<Command> {
        let log = File::options().create(true).append(true).open(&node.log)?;
        let interval = GOSSIP_INTERVAL.as_millis();
        let mut command = match (&node.keys, &self.upstream) {
            (KeyAccess::Http, Some(upstream)) => {
                let mut command = Command::new(upstream);
                command.args(["--gossip-interval-ms", &interval.to_string()]);
                command
            }
            (_, upstream) => {
                let mut command = Command::new(&self.program);
                if let KeyAccess::Admin { path, .. } = &node.keys {
                    command.arg("--admin").arg(path);
                }
                command
                    .args(["--gossip-interval", &format!("{interval}ms")])
                    .arg("--secret")
                    .arg(&self.secret.file)
                    .arg("--key")
                    .arg(self.file(node, "key"));
                if upstream.is_some() {
                    command.arg("--udp");
                }
                command
            }
        };
        command
            .args(["--cluster", NAME, "--id", &node.id])
            .args(["--listen", &node.gossip.to_string()])
            .args(["--http", &node.http.to_string()])
            .arg("--ready-file")
            .arg(ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if node.id == PAGE_SERVER {
            if let Some(web_root) = &self.web_root {
                command.arg("--web-root").arg(web_root);
            }
            if let Some(Tls { files, .. }) = &self.tls {
                command.arg("--http-on-gossip-port");
                command.arg("--tls-cert").arg(&files.certificate);
                command.arg("--tls-key").arg(&files.key);
            }
        }
        for other in &self.nodes {
            command.args(["--seed", &other.gossip.to_string()]);
        }
        Ok(command)
    }

    /// Returns how the keys of the node `id` are changed.
    fn key_access(&self, id: &str) -> KeyAccess {
        match self.upstream {
            Some(_) if id != PAGE_SERVER => KeyAccess::Http,
            _ => KeyAccess::Admin {
                program: self.program.clone(),
                path: self.dir.path().join(format!("{id}.admin")),
            },
        }
    }

    fn file(&self, node: &Node, kind: &str) -> PathBuf {
        self.dir.path().join(format!("{}.{kind}", node.id))
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

    /// Returns which program all nodes but the first run.
    pub(crate) fn other_nodes(&self) -> OtherNodes {
        match self.upstream {
            Some(_) => OtherNodes::Upstream,
            None => OtherNodes::Ours,
        }
    }

    /// Returns the page's address. Its fragment, which browsers never send to a server, is an invite.
    pub(crate) fn page_url(&self) -> anyhow::Result<String> {
        self.page_url_with(&self.secret.invite.word)
    }

    /// Returns the page's address with another invite.
    pub(crate) fn page_url_with(&self, invite: &str) -> anyhow::Result<String> {
        Ok(format!("{}/#invite={invite}", self.origin()?))
    }

    /// Returns the page's origin.
    pub(crate) fn origin(&self) -> anyhow::Result<String> {
        let first = self.nodes.first().context("no node serves the page")?;
        Ok(match self.tls {
            Some(_) => format!("https://{TLS_NAME}:{}", first.gossip.port()),
            None => format!("http://{}", first.http),
        })
    }

    /// Returns the file with the certificate of the authority, if the page is served over https.
    pub(crate) fn authority(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| &*tls.authority.file)
    }

    /// Returns another invite than that of the other tabs.
    pub(crate) fn another_invite(&self) -> anyhow::Result<Invite> {
        demo_secret::invite(&self.program, &self.secret.file, NAME)
    }

    /// Returns what is known of a node that has exited by itself, if there is one.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.nodes.iter_mut().find_map(|node| {
            let status = node.process.as_mut()?.ended()?;
            Some(format!(
                "{} has ended ({status}): {}",
                node.id,
                node.last_log_lines(10)
            ))
        })
    }
}

fn build_upstream_node(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    const EXAMPLE: &str = "upstream_node";
    println!("Building an unmodified chitchat node");
    let mut cargo = workspace.cargo(&["build", "--quiet", "--package", "gossip-node"]);
    cargo.args(["--example", EXAMPLE]);
    command::run(&mut cargo)?;
    let file = format!("{EXAMPLE}{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace.target.join("debug").join("examples").join(file))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Signals all nodes first; each process's own drop then waits for its exit.
        for process in self
            .nodes
            .iter_mut()
            .filter_map(|node| node.process.as_mut())
        {
            process.terminate();
        }
    }
}
