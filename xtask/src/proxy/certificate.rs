//! The certificate of the proxies, which browsers accept by the hash of its public key.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::host::command;

/// The name in the certificate, which only the browsers of the measurement resolve.
pub(crate) const NAME: &str = "gossip.test";

/// The files of a certificate.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The certificate, followed by the key.
    pub(crate) both: PathBuf,
}

impl Files {
    /// Returns the files of the certificate in `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            both: folder.join("both.pem"),
        }
    }
}

/// A key and a certificate for it.
#[derive(Debug)]
pub(crate) struct Certificate {
    openssl: PathBuf,
    folder: PathBuf,
    pub(crate) files: Files,
    /// The SHA-256 of the public key in base64.
    pub(crate) spki: String,
}

impl Certificate {
    /// Makes a key and a certificate for two days in `folder`, which only this user can read.
    pub(crate) fn make(openssl: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut certificate = Self {
            openssl: openssl.to_path_buf(),
            folder: folder.to_path_buf(),
            files: Files::of(folder),
            spki: String::new(),
        };
        certificate.run(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-out",
            "key.pem",
        ])?;
        certificate.renew()?;
        certificate.spki = certificate.hash()?;
        Ok(certificate)
    }

    /// Replaces the certificate by another one for the same key.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        let subject = format!("/CN={NAME}");
        let names = format!("subjectAltName=DNS:{NAME}");
        self.run(&[
            "req", "-x509", "-key", "key.pem", "-days", "2", "-subj", &subject, "-addext", &names,
            "-out", "cert.pem",
        ])?;
        let Files {
            certificate,
            key,
            both,
        } = &self.files;
        let parts = [std::fs::read(certificate)?, std::fs::read(key)?];
        std::fs::write(both, parts.concat()).context("cannot write the certificate")
    }

    /// Returns the hash of the public key.
    fn hash(&self) -> anyhow::Result<String> {
        self.run(&[
            "pkey",
            "-in",
            "key.pem",
            "-pubout",
            "-outform",
            "der",
            "-out",
            "public.der",
        ])?;
        self.run(&[
            "dgst",
            "-sha256",
            "-binary",
            "-out",
            "public.sha256",
            "public.der",
        ])?;
        let hash = std::fs::read(self.folder.join("public.sha256"));
        Ok(data_encoding::BASE64.encode(&hash.context("openssl wrote no hash")?))
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.openssl);
        command.args(args).current_dir(&self.folder);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command::run(&mut command)
    }
}
