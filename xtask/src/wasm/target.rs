//! The toolchain's target for browsers.

use std::path::{Path, PathBuf};
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
    add(workspace, "target", WASM)
}

/// Adds the sources of the standard library to the toolchain if they are missing.
pub(crate) fn ensure_sources(workspace: &Workspace) -> anyhow::Result<()> {
    let mut sysroot = Command::new("rustc");
    sysroot
        .args(["--print", "sysroot"])
        .current_dir(&workspace.root);
    let sysroot = command::run_for_output(&mut sysroot)?;
    let lock = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
    if lock.is_file() {
        return Ok(());
    }
    add(workspace, "component", "rust-src")
}

/// Adds a part to the toolchain.
fn add(workspace: &Workspace, kind: &str, name: &str) -> anyhow::Result<()> {
    let by_hand = format!("rustup {kind} add {name}");
    if tools::find_program("rustup").is_none() {
        bail!("the Rust toolchain lacks {name}, and there is no rustup to add it: {by_hand}");
    }
    println!("Adding the {kind} {name} to the Rust toolchain");
    let mut add = Command::new("rustup");
    add.args([kind, "add", name]).current_dir(&workspace.root);
    command::run(&mut add).with_context(|| format!("by hand: {by_hand}"))
}
