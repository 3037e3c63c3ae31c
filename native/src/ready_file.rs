//! The file that tells a script that the node is ready, and on which ports it listens.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use gossip_transport::Identity;
use serde::Serialize;

/// The content of the file, written as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    /// The bound address for gossip.
    pub(crate) gossip: SocketAddr,
    /// The bound address for HTTP, if there is one.
    pub(crate) http: Option<SocketAddr>,
    /// The public key.
    #[serde(serialize_with = "display")]
    pub(crate) identity: Identity,
    /// The id of this process.
    pub(crate) pid: u32,
}

impl Ready {
    /// Writes the file under a temporary name and renames it, so that it is never read incomplete.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be written to.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut name = path
            .file_name()
            .context("--ready-file must name a file")?
            .to_owned();
        name.push(format!(".{}.tmp", self.pid));
        let temporary = path.with_file_name(name);
        std::fs::write(&temporary, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&temporary, path))
            .with_context(|| format!("cannot write the ready file {}", path.display()))
    }
}

fn display<S: serde::Serializer>(value: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
