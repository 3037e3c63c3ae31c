//! The toolchain's target for browsers.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::host::workspace::Workspace;
use crate::host::{command, tools};

/// The target's name.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Adds the target to the toolchain if it is missing.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<()> {
    let installed = || {
        let folder = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", WASM])
            .current_dir(&workspace.root)
            .output();
        folder.is_ok_and(|output| {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
        })
    };
    if installed() {
        return Ok(());
    }
    let by_hand = format!("rustup target add {WASM}");
    if tools::find_program("rustup").is_none() {
        bail!("the Rust toolchain lacks {WASM}, and there is no rustup to add it: {by_hand}");
    }
    println!("Adding the target {WASM} to the Rust toolchain");
    let mut add = Command::new("rustup");
    add.args(["target", "add", WASM])
        .current_dir(&workspace.root);
    command::run(&mut add).with_context(|| format!("by hand: {by_hand}"))
}
