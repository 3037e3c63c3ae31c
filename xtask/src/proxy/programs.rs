//! The programs that the measurement needs besides the workspace's own: nginx, `ip` and openssl,
//! and a browser.

use std::path::PathBuf;

use crate::browser;
use crate::host::apt::{self, Apt, Unavailable};
use crate::host::tools;

/// The programs, with Debian's package of each.
const PROGRAMS: [(&str, &str); 3] = [
    ("nginx", "nginx-light"),
    ("ip", "iproute2"),
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
        let missing: Vec<_> = PROGRAMS
            .iter()
            .filter(|(program, _)| find(program).is_none())
            .map(|(_, package)| *package)
            .collect();
        if !missing.is_empty() {
            match Apt::find() {
                Ok(apt) => {
                    let _lock = tools::lock(&tools::cache()?)?;
                    apt.install(&missing, "a few MB")?;
                }
                Err(Unavailable::NoAptGet | Unavailable::NotRoot) => {
                    anyhow::bail!("install {}", missing.join(", "));
                }
            }
        }
        let path = |program: &str| {
            find(program).ok_or_else(|| anyhow::anyhow!("{program} is not on PATH"))
        };
        Ok(Self {
            nginx: path("nginx")?,
            ip: path("ip")?,
            openssl: path("openssl")?,
            browser: browser::programs::Programs::ensure()?,
        })
    }
}

fn find(program: &str) -> Option<PathBuf> {
    tools::find_program(program).or_else(|| {
        let mut folders = SYSTEM_FOLDERS.iter();
        folders.find_map(|folder| {
            Some(PathBuf::from(folder).join(program)).filter(|path| path.is_file())
        })
    })
}
