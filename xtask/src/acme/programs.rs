//! The programs that a run needs besides the workspace's own: pebble, certutil and openssl, and a browser.

use std::path::PathBuf;

use crate::browser;
use crate::browser::home::Certutil;
use crate::host::packages;

/// The programs, with Debian's package of each.
const PROGRAMS: [(&str, &str); 3] = [
    ("pebble", "pebble"),
    ("pebble-challtestsrv", "pebble"),
    ("openssl", "openssl"),
];

/// The paths of the programs.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) browser: browser::programs::Programs,
    pub(super) pebble: PathBuf,
    /// Pebble's server of DNS.
    pub(super) dns: PathBuf,
    pub(super) certutil: Certutil,
    pub(super) openssl: PathBuf,
}

impl Programs {
    /// Finds the programs. Installs those that are missing if this is Debian or a derivative.
    ///
    /// # Errors
    ///
    /// Fails with what to install if one is missing and cannot be installed.
    pub(super) fn ensure() -> anyhow::Result<Self> {
        let certutil = Certutil::ensure()?;
        packages::install(&PROGRAMS)?;
        let [pebble, dns, openssl] = PROGRAMS.map(|(program, _)| packages::found(program));
        Ok(Self {
            pebble: pebble?,
            dns: dns?,
            certutil,
            openssl: openssl?,
            browser: browser::programs::Programs::ensure()?,
        })
    }
}
