//! Builds of the program `gossip-node`, which the demo and the measurements start.

use std::path::PathBuf;

use crate::host::command;
use crate::host::workspace::Workspace;

/// How the node is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the tests and the demo build it, so that a check needs no other build.
    Debug,
    Release,
}

/// Builds the node, and returns the path of the program.
pub(crate) fn build(workspace: &Workspace, profile: Profile) -> anyhow::Result<PathBuf> {
    println!("Building the node");
    let mut cargo = workspace.cargo(&["build", "--quiet", "--package", "gossip-node"]);
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    command::run(&mut cargo)?;
    let file = format!("gossip-node{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace.target.join(folder).join(file))
}
