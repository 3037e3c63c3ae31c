//! The secret of a cluster for one run, and an invite to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

use crate::host::command;

/// A secret that was made for one run.
#[derive(Debug)]
pub(crate) struct DemoSecret {
    pub(crate) file: PathBuf,
    /// An invite for tabs, which is valid for a day.
    pub(crate) invite: Invite,
}

/// An invite as `gossip-node invite --json` prints it.
#[derive(Debug, Deserialize)]
pub(crate) struct Invite {
    /// What it is revoked by.
    pub(crate) id: String,
    /// What its holders need.
    pub(crate) word: String,
}

impl DemoSecret {
    /// Has `gossip-node` make a secret in `folder`, and an invite to the cluster `cluster`.
    pub(crate) fn make(program: &Path, folder: &Path, cluster: &str) -> anyhow::Result<Self> {
        let file = folder.join("secret");
        let mut make = Command::new(program);
        make.arg("--make-secret").arg(&file);
        command::run(make.stderr(Stdio::null()))?;
        let invite = invite(program, &file, cluster)?;
        Ok(Self { file, invite })
    }

    /// Returns the secret itself, in its printed form.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(&self.file).context("the node wrote no secret")?;
        Ok(text.trim().to_owned())
    }
}

/// Has `gossip-node` issue an invite to the cluster `cluster` with the secret in `file`. It is valid for a day.
pub(crate) fn invite(program: &Path, file: &Path, cluster: &str) -> anyhow::Result<Invite> {
    let mut invite = Command::new(program);
    invite.arg("invite").arg("--secret").arg(file);
    invite.args(["--for", "24h", "--cluster", cluster, "--json"]);
    let invite = command::run_for_output(&mut invite)?;
    serde_json::from_str(&invite).context("the node issued no invite")
}
