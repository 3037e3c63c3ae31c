//! The workspace's folders, cargo commands in it, and the versions in its Cargo.lock.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::host::command;

/// The workspace that contains this package.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The folder that contains the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's build output.
    pub(crate) target: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo for the workspace of this package.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let metadata = command::output(
            cargo_program(),
            &[
                "metadata",
                "--format-version=1",
                "--no-deps",
                "--manifest-path",
                manifest,
            ],
        )
        .context("`cargo metadata` failed")?;
        let metadata: Metadata = serde_json::from_str(&metadata)?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
        })
    }

    /// Returns a cargo command that runs in the workspace's root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_program());
        command.args(args).current_dir(&self.root);
        command
    }

    /// Returns a folder for the output of a command, after creating it if it is missing. It is
    /// always in `target` under the workspace's root, wherever cargo builds, since documents and the
    /// test runner's server expect it there.
    pub(crate) fn output(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join("target").join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Returns the version of a package in Cargo.lock.
    pub(crate) fn locked_version(&self, package: &str) -> anyhow::Result<String> {
        let path = self.root.join("Cargo.lock");
        let lock = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        locked_version(&lock, package)
    }
}

/// Returns the cargo that runs this program, or else the one on PATH.
fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn locked_version(lock: &str, package: &str) -> anyhow::Result<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if line == name {
            let version = lines
                .next()
                .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
            return version
                .map(ToOwned::to_owned)
                .context("Cargo.lock has an unexpected form");
        }
    }
    bail!("Cargo.lock does not contain {package}")
}

/// Returns the last `count` lines of a file, to show with a failure.
pub(crate) fn tail(path: &Path, count: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Creates a temporary folder that only this user can read, since a secret will be in it.
pub(crate) fn private_folder(prefix: &str) -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder
        .tempdir()
        .context("cannot create a temporary folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_the_one_below_the_exact_name() {
        let lock = "[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked_version(lock, "a").unwrap(), "2.0.0");
        assert_eq!(locked_version(lock, "a-b").unwrap(), "1.0.0");
        assert!(locked_version(lock, "b").is_err());
    }
}
