//! One native node of the demo: its process, its addresses and its HTTP interface.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::host::http::Client;
use crate::host::process::Process;
use crate::host::workspace;

/// The part of `/status` that the demo reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) members: Vec<MemberStatus>,
}

/// A member of the cluster as a node's status or a tab's page shows it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct MemberStatus {
    pub(crate) id: String,
    /// 0 if a page shows it, since pages do not show generations.
    #[serde(default)]
    pub(crate) generation: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) live: bool,
    #[serde(rename = "self")]
    pub(crate) myself: bool,
    pub(crate) keys: std::collections::BTreeMap<String, String>,
}

/// A node that runs or has been stopped.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) gossip: SocketAddr,
    pub(crate) http: SocketAddr,
    /// The file of its log.
    pub(crate) log: PathBuf,
    /// `None` while it is stopped.
    pub(crate) process: Option<Process>,
}

impl Node {
    /// Asks the node for its view of the cluster.
    pub(crate) fn status(&self, client: &Client) -> anyhow::Result<Status> {
        let url = format!("http://{}/status", self.http);
        client.get(&url)?.json()
    }

    /// Returns the URL under which one of the node's own keys is set and deleted.
    pub(crate) fn key_url(&self, key: &str) -> String {
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
