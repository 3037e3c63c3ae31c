//! Debian packages, installed only where that needs no question to the user.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::host::{command, tools};

/// The program apt-get, on a machine where this process may use it.
#[derive(Debug)]
pub(crate) struct Apt(PathBuf);

/// The reason for which packages cannot be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// This is not Debian or a derivative.
    NoAptGet,
    /// apt-get would ask for a password.
    NotRoot,
}

impl Apt {
    pub(crate) fn find() -> Result<Self, Unavailable> {
        let apt = tools::find_program("apt-get").ok_or(Unavailable::NoAptGet)?;
        if !is_root() {
            return Err(Unavailable::NotRoot);
        }
        Ok(Self(apt))
    }

    /// Installs `packages`, of which `note` says to the user how large they are.
    pub(crate) fn install(&self, packages: &[&str], note: &str) -> anyhow::Result<()> {
        println!(
            "Installing {} with apt-get ({note}, once)",
            packages.join(" and ")
        );
        self.run(&["update"], packages)?;
        let install = ["install", "-y", "--no-install-recommends"];
        self.run(&[&install, packages].concat(), packages)
    }

    fn run(&self, args: &[&str], packages: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.0);
        command
            // Another apt-get may be running, for example on a machine that has just booted.
            .args(["-o", "DPkg::Lock::Timeout=300", "-qq"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command::run(&mut command).with_context(|| format!("by hand: {}", by_hand(packages)))
    }
}

/// Returns whether this process runs as root.
pub(crate) fn is_root() -> bool {
    command::output("id", &["-u"]).as_deref() == Some("0")
}

/// Returns the command line with which a user installs `packages`.
pub(crate) fn by_hand(packages: &[&str]) -> String {
    format!(
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    )
}
