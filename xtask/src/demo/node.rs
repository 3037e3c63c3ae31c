//! One native node of the demo: its process, its addresses, and how it is asked and told from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

use crate::host::command;
use crate::host::http::Client;
use crate::host::process::Process;
use crate::host::workspace;

/// The part of `/status` that the demo reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) members: Vec<MemberStatus>,
    /// How often the node has refused what peers have said about members, by reason. Upstream nodes refuse nothing.
    #[serde(default)]
    pub(crate) denied: BTreeMap<String, u64>,
}

/// A member of the cluster as a node's status or a tab's page shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct MemberStatus {
    pub(crate) id: String,
    /// 0 if a page shows it, since pages do not show generations.
    #[serde(default)]
    pub(crate) generation: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) live: bool,
    /// Whether it has left; pages do not show members that have.
    #[serde(default)]
    pub(crate) left: bool,
    #[serde(rename = "self")]
    pub(crate) myself: bool,
    pub(crate) keys: BTreeMap<String, String>,
}

/// A node that runs or has been stopped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) gossip: SocketAddr,
    pub(crate) http: SocketAddr,
    /// The file of its log.
    pub(crate) log: PathBuf,
    pub(crate) keys: KeyAccess,
    /// `None` while it is stopped.
    pub(crate) process: Option<Process>,
}

/// How a node's own keys are changed from outside.
#[derive(Debug)]
pub(crate) enum KeyAccess {
    /// By subcommands of the node's program, over the admin port at `path`.
    Admin { program: PathBuf, path: PathBuf },
    /// Over HTTP, which the upstream nodes of the demo offer.
    Http,
}

impl Node {
    /// Asks the node for its view of the cluster.
    pub(crate) fn status(&self, client: &Client) -> anyhow::Result<Status> {
        let url = format!("http://{}/status", self.http);
        client.get(&url)?.json()
    }

    /// Returns the value of a metric of the node that has no labels.
    pub(crate) fn metric(&self, client: &Client, name: &str) -> anyhow::Result<f64> {
        let answer = client.get(&format!("http://{}/metrics", self.http))?;
        answer.check()?;
        let mut lines = answer.body.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("{} has no metric {name}", self.id))?;
        value
            .parse()
            .with_context(|| format!("{name} of {} is {value}", self.id))
    }

    /// Sets one of the node's own keys.
    pub(crate) fn set_key(&self, client: &Client, key: &str, value: &str) -> anyhow::Result<()> {
        match self.subcommand(&["set", key, value]) {
            Some(mut command) => command::run(command.stdout(Stdio::null())),
            None => client.post(&self.key_url(key), value)?.check(),
        }
    }

    /// Deletes one of the node's own keys.
    pub(crate) fn delete_key(&self, client: &Client, key: &str) -> anyhow::Result<()> {
        match self.subcommand(&["delete", key]) {
            Some(mut command) => command::run(command.stdout(Stdio::null())),
            None => client.delete(&self.key_url(key))?.check(),
        }
    }

    /// Revokes the invite with this id in the whole cluster.
    pub(crate) fn revoke(&self, id: &str) -> anyhow::Result<()> {
        let command = self.subcommand(&["revoke", id]);
        let mut command = command.context("a node without an admin port revokes no invites")?;
        command::run(command.stdout(Stdio::null()))
    }

    /// Returns the command line with which a user sets one of the node's own keys.
    pub(crate) fn how_to_set(&self, key: &str, value: &str) -> String {
        match &self.keys {
            KeyAccess::Admin { program, path } => {
                let (program, path) = (program.display(), path.display());
                format!("{program} set {key} {value} --admin {path}")
            }
            KeyAccess::Http => format!("curl -d {value} {}", self.key_url(key)),
        }
    }

    /// Returns the command line with which a user revokes the invite with this id, if the node has an admin port.
    pub(crate) fn how_to_revoke(&self, id: &str) -> Option<String> {
        let KeyAccess::Admin { program, path } = &self.keys else {
            return None;
        };
        let (program, path) = (program.display(), path.display());
        Some(format!("{program} revoke {id} --admin {path}"))
    }

    fn subcommand(&self, words: &[&str]) -> Option<Command> {
        let KeyAccess::Admin { program, path } = &self.keys else {
            return None;
        };
        let mut command = Command::new(program);
        command.args(words).arg("--admin").arg(path);
        Some(command)
    }

    fn key_url(&self, key: &str) -> String {
        format!("http://{}/keys/{key}", self.http)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Returns the last lines of the node's log.
    pub(crate) fn last_log_lines(&self, lines: usize) -> String {
        workspace::tail(&self.log, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_an_admin_port_says_how_an_invite_is_revoked() {
        let node = |keys| Node {
            id: "node-1".to_owned(),
            gossip: ([127, 0, 0, 1], 1).into(),
            http: ([127, 0, 0, 1], 2).into(),
            log: PathBuf::new(),
            keys,
            process: None,
        };
        let admin = node(KeyAccess::Admin {
            program: "gossip-node".into(),
            path: "node-1.admin".into(),
        });
        let line = admin.how_to_revoke("aaaa");
        let expected = "gossip-node revoke aaaa --admin node-1.admin";
        assert_eq!(line.as_deref(), Some(expected));
        assert_eq!(node(KeyAccess::Http).how_to_revoke("aaaa"), None);
    }
}
