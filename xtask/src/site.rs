//! Builds the page: gossip-web for the browser, its JavaScript, and the static files beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::module::{self, Optimisers};
use crate::workspace::Workspace;

/// The page's folder under `target`. Not `web`: there cargo keeps what it builds for the profile.
const FOLDER: &str = "page";

/// Builds the page into `target/page` and returns that folder.
///
/// It is put together beside its place and moved there, so that a node that serves it never sees
/// half of it.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    println!("Building the page");
    let optimisers = Optimisers::ensure()
        .inspect_err(|error| println!("The page will be half as large again: {error:#}"))
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

/// Copies what is in a folder, with its folders.
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
