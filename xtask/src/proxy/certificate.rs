//! The certificate of the proxies, and the authority that issues it, which the browsers of the measurement trust.

use std::path::{Path, PathBuf};

use crate::authority::{Authority, Files};

/// The name in the certificate, which only the browsers of the measurement resolve.
pub(crate) const NAME: &str = "gossip.test";
/// Another name in it, of the host of the browsers.
pub(crate) const FORGER: &str = "localhost";

/// A key and a certificate for it.
#[derive(Debug)]
pub(crate) struct Certificate {
    authority: Authority,
    folder: PathBuf,
    pub(crate) files: Files,
}

impl Certificate {
    /// Makes an authority, and has it issue a certificate in `folder`, which only this user can read.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let authority = Authority::make(folder, &[NAME, FORGER])?;
        Ok(Self {
            files: authority.issue(folder)?,
            authority,
            folder: folder.to_path_buf(),
        })
    }

    /// Replaces the certificate and its key by others.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        self.authority.issue(&self.folder).map(|_| ())
    }

    /// Returns the file of the authority's own certificate.
    pub(crate) fn authority(&self) -> &Path {
        &self.authority.file
    }
}
