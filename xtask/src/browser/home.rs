//! The home folder of a browser's user, which decides what authorities the browser trusts.
//!
//! Chromium on Linux trusts those in the NSS database `.pki/nssdb` of that folder, besides the public ones that it knows
//! itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::host::{command, packages};

/// A home folder for one browser. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

/// The program that changes NSS databases.
#[derive(Debug)]
pub(crate) struct Certutil(PathBuf);

impl Certutil {
    /// Finds the program, or installs it as [`packages::ensure`] does.
    ///
    /// # Errors
    ///
    /// Fails with what to install if it is missing, or if browsers of this system do not use NSS.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        anyhow::ensure!(
            cfg!(target_os = "linux"),
            "only on Linux, Chromium trusts the authorities of a folder"
        );
        packages::ensure("certutil", "libnss3-tools").map(Self)
    }
}

impl Home {
    /// Creates an empty folder: its browsers trust public authorities only.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gossip-home.").tempdir();
        Ok(Self(folder.context("cannot create a temporary folder")?))
    }

    /// Creates a folder whose browsers also trust the authority with the certificate in `file`.
    pub(crate) fn trusting(certutil: &Certutil, file: &Path) -> anyhow::Result<Self> {
        let home = Self::new()?;
        let database = home.path().join(".pki/nssdb");
        std::fs::create_dir_all(&database).context("cannot create a temporary folder")?;
        let database = format!("sql:{}", database.display());
        let run = |args: &[&str]| {
            let mut command = Command::new(&certutil.0);
            command::run(command.args(["-d", &database]).args(args))
        };
        run(&["-N", "--empty-password"])?;
        let file = file.display().to_string();
        run(&["-A", "-n", "authority", "-t", "C,,", "-i", &file])?;
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
