//! What all rounds share: the program of the node, its page and its secret.

use std::path::{Path, PathBuf};

use crate::demo_secret::DemoSecret;
use crate::gossip_node::{self, Profile};
use crate::host::workspace::Workspace;
use crate::wasm::bundle;

/// The cluster's name.
pub(super) const CLUSTER: &str = "acme";
/// The name in the certificate, which only the authority and the browsers of a run resolve.
pub(super) const NAME: &str = "gossip.test";

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
        let program = gossip_node::build(&workspace, profile)?;
        let secret = DemoSecret::make(&program, folder, CLUSTER)?;
        Ok(Self {
            program,
            page,
            secret,
        })
    }
}
