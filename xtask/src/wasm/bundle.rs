//! The live page as a folder of files: gossip-web for the browser, its JavaScript, and the static
//! files of `web/page`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::host::workspace::Workspace;
use crate::wasm::module::{self, Optimisers};

/// The page's folder under `target`. Cargo uses `target/web` for the profile of that name.
const FOLDER: &str = "page";

/// Builds the page into `target/page` and returns that folder.
///
/// The files are collected in a temporary folder, which then replaces `target/page`, so that a node
/// that serves it never sees a partial page.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    println!("Building the page");
    let optimisers = Optimisers::ensure()
        .inspect_err(|error| println!("The page will be 50 % larger: {error:#}"))
        .ok();
    let outputs = workspace.output("")?;
    let fresh = tempfile::Builder::new()
        .prefix("page.")
        .tempdir_in(&outputs)
        .with_context(|| format!("cannot write to {}", outputs.display()))?;
    let module = module::PARTICIPANT;
    module.build(workspace, optimisers.as_ref(), &fresh.path().join("pkg"))?;
    copy_files(&workspace.root.join("web/page"), fresh.path())?;

    let place = outputs.join(FOLDER);
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::rename(fresh.keep(), &place)
        .with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}

/// Copies the contents of a folder recursively.
pub(crate) fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
