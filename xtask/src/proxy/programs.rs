//! The programs that the measurement needs besides the workspace's own: nginx, `ip`, `ss`, openssl and
//! certutil, and a browser.

use std::path::PathBuf;

use crate::browser;
use crate::browser::home::Certutil;
use crate::host::apt;
use crate::host::packages::{self, found};

/// The programs, with Debian's package of each.
const PROGRAMS: [(&str, &str); 4] = [
    ("nginx", "nginx-light"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("openssl", "openssl"),
];

/// The paths of the programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) browser: browser::programs::Programs,
    pub(crate) nginx: PathBuf,
    pub(crate) ip: PathBuf,
    pub(crate) ss: PathBuf,
    pub(crate) openssl: PathBuf,
    pub(crate) certutil: Certutil,
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
        packages::install(&PROGRAMS)?;
        Ok(Self {
            nginx: found("nginx")?,
            ip: found("ip")?,
            ss: found("ss")?,
            openssl: found("openssl")?,
            certutil: Certutil::ensure()?,
            browser: browser::programs::Programs::ensure()?,
        })
    }
}
