//! The programs that the measurement needs besides the workspace's own: nginx, `ip`, `ss` and
//! openssl, and a browser.

use std::path::PathBuf;

use crate::browser;
use crate::host::apt::{self, Apt, Unavailable};
use crate::host::tools;

/// The programs, with Debian's package of each.
const PROGRAMS: [(&str, &str); 4] = [
    ("nginx", "nginx-light"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("openssl", "openssl"),
];
/// Folders that are not on every user's PATH.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The paths of the programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) browser: browser::programs::Programs,
    pub(crate) nginx: PathBuf,
    pub(crate) ip: PathBuf,
    pub(crate) ss: PathBuf,
    pub(crate) openssl: PathBuf,
}

impl Programs {
    /// Finds the programs. Installs those that are missing if this is Debian or a derivative.
    ///
    /// # Errors
    ///
    /// Fails with what is missing if the measurement cannot run on this machine.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        anyhow::ensure!(
            cfg!(target_os = "linux"),
            "network namespaces exist on Linux only"
        );
        anyhow::ensure!(
            apt::is_root(),
            "network namespaces can be created by root only"
        );
        install(&PROGRAMS)?;
        Ok(Self {
            nginx: found("nginx")?,
            ip: found("ip")?,
            ss: found("ss")?,
            openssl: found("openssl")?,
            browser: browser::programs::Programs::ensure()?,
        })
    }
}

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

/// Installs the packages of the programs that are missing.
fn install(programs: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing = programs
        .iter()
        .filter(|(program, _)| find(program).is_none());
    let missing: Vec<_> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    match Apt::find() {
        Ok(apt) => {
            let _lock = tools::lock(&tools::cache()?)?;
            apt.install(&missing, "some MB")
        }
        Err(Unavailable::NoAptGet | Unavailable::NotRoot) => {
            anyhow::bail!("install {}", missing.join(", "))
        }
    }
}

fn found(program: &str) -> anyhow::Result<PathBuf> {
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
