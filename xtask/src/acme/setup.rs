//! What all rounds share: the program of the node, its page and its secret.

use std::path::{Path, PathBuf};

use crate::demo_secret::DemoSecret;
use crate::host::command;
use crate::host::workspace::Workspace;
use crate::wasm::bundle;

/// The cluster's name.
pub(super) const CLUSTER: &str = "acme";
/// The name in the certificate, which only the authority and the browsers of a run resolve.
pub(super) const NAME: &str = "gossip.test";

/// How the node is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// As the tests and the demo build it, so that a check needs no other build.
    Debug,
    Release,
}

/// The files of the node.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) page: PathBuf,
    pub(super) secret: DemoSecret,
}

impl Setup {
    /// Builds the page and the node, and makes a secret in `folder`.
    pub(super) fn prepare(folder: &Path, profile: Profile) -> anyhow::Result<Self> {
        let workspace = Workspace::find()?;
        let built = bundle::build(&workspace)?;
        // A copy, since another run in this workspace may build the page again.
        let page = folder.join("page");
        std::fs::create_dir(&page)?;
        bundle::copy_files(&built, &page)?;
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
            page,
            secret,
        })
    }
}
