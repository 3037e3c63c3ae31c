//! The node: a process that has nothing but a secret when it starts.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use serde_json::Value;

use super::authority::Authority;
use super::setup::{CLUSTER, NAME, Setup};
use crate::demo::node::Status;
use crate::host::http::Client;
use crate::host::process::Process;
use crate::host::{wait, workspace};

/// Limit from the start of the node until its ports are bound.
const LISTENING_WITHIN: Duration = Duration::from_secs(10);
/// Limit for the certificate. The authority of this machine takes about two seconds.
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(60);

/// The node, which listens on one port of 127.0.0.1 with TLS only. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Node {
    process: Process,
    log: PathBuf,
    http: SocketAddr,
    client: Client,
}

/// The content of the ready file.
#[derive(Debug, Deserialize)]
struct Ready {
    http: SocketAddr,
}

impl Node {
    /// Starts the node with its files in `folder`, and returns once its ports are bound.
    pub(super) fn start(
        setup: &Setup,
        authority: &Authority,
        folder: &Path,
        port: u16,
    ) -> anyhow::Result<Self> {
        let log = folder.join("node.log");
        let ready = folder.join("ready.json");
        let mut command = Command::new(&setup.program);
        command
            .args(["--cluster", CLUSTER, "--id", "node"])
            .arg("--secret")
            .arg(&setup.secret.file)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--tls-only"])
            .args(["--acme", "admin@gossip.test", "--acme-forwarded"])
            .args(["--domain", NAME, "--domain", "127.0.0.1"])
            .arg("--acme-dir")
            .arg(folder.join("acme"))
            .args(["--acme-directory", &authority.directory])
            .arg("--acme-ca")
            .arg(&authority.https_ca)
            .arg("--http-on-gossip-port")
            .arg("--web-root")
            .arg(&setup.page)
            // For this program. The page is on the gossip port.
            .args(["--http", "127.0.0.1:0"])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let mut process = Process::spawn(&mut command)?;
        let ready: Ready = wait::until(LISTENING_WITHIN, || {
            if let Some(status) = process.ended() {
                bail!(
                    "the node ended at once ({status}): {}",
                    workspace::tail(&log, 5)
                );
            }
            // The node moves the finished file into place.
            match std::fs::read(&ready) {
                Ok(text) => Ok(Ok(serde_json::from_slice(&text)?)),
                Err(_) => Ok(Err("the node has not bound its ports".to_owned())),
            }
        })?;
        Ok(Self {
            process,
            log,
            http: ready.http,
            client: Client::new(),
        })
    }

    /// Waits until the node has its certificate.
    pub(super) fn wait_for_certificate(&self) -> anyhow::Result<()> {
        wait::until(CERTIFICATE_WITHIN, || {
            let status: Value = self.status()?;
            let certificate = status.pointer("/tls/certificate");
            Ok(match certificate.filter(|it| !it.is_null()) {
                Some(_) => Ok(()),
                None => Err(format!("no certificate: {}", workspace::tail(&self.log, 3))),
            })
        })
    }

    /// Returns the number of live members that are no nodes.
    pub(super) fn tabs(&self) -> anyhow::Result<usize> {
        let status: Status = self.status()?;
        let tabs = status.members.iter();
        Ok(tabs.filter(|member| member.live && !member.myself).count())
    }

    /// Fails if the node has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended() {
            Some(status) => bail!(
                "the node has ended ({status}): {}",
                workspace::tail(&self.log, 5)
            ),
            None => Ok(()),
        }
    }

    fn status<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        let url = format!("http://{}/status", self.http);
        self.client.get(&url)?.json()
    }
}
