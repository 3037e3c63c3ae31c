//! A running proxy in front of nodes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::host::process::{Signal, signal};
use crate::host::{command, wait};
use crate::proxy::certificate::{Certificate, NAME};
use crate::proxy::kinds::kind::{Kind, Place};
use crate::proxy::namespaces::Namespace;
use crate::proxy::programs::Programs;
use crate::proxy::server::Server;

/// Limit from a reload until new connections see the certificate that has changed.
const RELOADED_WITHIN: Duration = Duration::from_secs(10);

/// Returns the URL at which tabs reach the nodes behind the proxy with a port.
pub(crate) fn url(port: u16) -> String {
    format!("wss://{NAME}:{port}/")
}

/// A proxy. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Front<'a> {
    pub(crate) kind: Kind,
    openssl: PathBuf,
    server: Server<'a>,
}

impl<'a> Front<'a> {
    /// Starts `program` with the documented configuration for `place`.
    pub(crate) fn start(
        kind: Kind,
        program: &Path,
        programs: &Programs,
        namespace: &'a Namespace,
        place: Place<'_>,
    ) -> anyhow::Result<Self> {
        let launch = kind.configure(program, programs, place)?;
        let server = Server::start(namespace, launch);
        Ok(Self {
            kind,
            openssl: programs.openssl.clone(),
            server: server.with_context(|| format!("cannot start {}", kind.name()))?,
        })
    }

    /// Returns the URL at which tabs reach the nodes.
    pub(crate) fn url(&self) -> String {
        url(self.port())
    }

    /// Returns the URL of the page that the nodes serve.
    pub(crate) fn page(&self) -> String {
        format!("https://{NAME}:{}/", self.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.launch().port
    }

    /// Ends the proxy, and with it all connections through it, and starts it again.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.server.restart()
    }

    /// Has the proxy read its files again, as the package's unit for systemd does.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let launch = self.server.launch();
        match self.kind {
            Kind::Nginx => signal(self.server.id()?, Signal::Hangup),
            Kind::HaProxy | Kind::HaProxyTcp => signal(self.server.id()?, Signal::User2),
            Kind::Caddy => {
                let mut reload = Command::new(&launch.program);
                reload
                    .args(Kind::caddy_reload(&launch.folder))
                    .env("HOME", &launch.folder)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                self.server.within(|| command::run(&mut reload))??;
            }
        }
        Ok(())
    }

    /// Waits until new connections see the certificate as it is now in its file.
    pub(crate) fn wait_until_reloaded(&self, certificate: &Certificate) -> anyhow::Result<()> {
        let file = &certificate.files.certificate;
        let new = std::fs::read_to_string(file).context("there is no certificate")?;
        let addr = format!("127.0.0.1:{}", self.port());
        let args = ["s_client", "-servername", NAME, "-connect", &addr];
        wait::until(RELOADED_WITHIN, || {
            let shown = self
                .server
                .within(|| command::output(&self.openssl, &args))?;
            let is_new = shown.is_some_and(|shown| shown.contains(new.trim()));
            Ok(is_new
                .then_some(())
                .ok_or_else(|| format!("{} shows its old certificate", self.kind.name())))
        })
    }
}
