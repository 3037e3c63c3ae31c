//! Programs of Debian's packages: found on this machine, or installed if that needs no question to the user.

use std::path::PathBuf;

use crate::host::apt::{self, Apt, Unavailable};
use crate::host::tools;

/// Folders that are not on every user's PATH.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Returns the path of a program of Debian's `package`. Installs it if it is missing and this is Debian or a
/// derivative.
///
/// # Errors
///
/// Fails with what to install if it is missing.
pub(crate) fn ensure(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    install(&[(program, package)])?;
    found(program)
}

/// Installs the packages of the programs that are missing. Each program has the package beside it.
///
/// # Errors
///
/// Fails with what to install if that cannot be done.
pub(crate) fn install(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing = programs
        .iter()
        .filter(|(program, _)| find(program).is_none());
    let mut missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    match Apt::find() {
        Ok(apt) => {
            let _lock = tools::lock(&tools::cache()?)?;
            apt.install(&missing, "some MB")
        }
        Err(Unavailable::NoAptGet | Unavailable::NotRoot) => {
            anyhow::bail!(
                "install {} (on Debian: {})",
                missing.join(", "),
                apt::by_hand(&missing)
            )
        }
    }
}

/// Returns the path of a program. Fails if it is missing.
pub(crate) fn found(program: &str) -> anyhow::Result<PathBuf> {
    find(program).ok_or_else(|| anyhow::anyhow!("{program} is not on PATH"))
}

fn find(program: &str) -> Option<PathBuf> {
    tools::find_program(program).or_else(|| {
        let mut folders = SYSTEM_FOLDERS.iter();
        folders.find_map(|folder| {
            Some(PathBuf::from(folder).join(program)).filter(|path| path.is_file())
        })
    })
}
