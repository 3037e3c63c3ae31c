//! A certificate authority on this machine: pebble, which is made for tests of ACME clients, with its server of DNS.
//!
//! It validates names as a public one does, except that it connects to a port of choice instead of port 443. Dropping it ends
//! both processes.

use std::fs::File;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::programs::Programs;
use crate::host::process::Process;
use crate::host::{wait, workspace};

/// Limit until pebble answers.
const LISTENING_WITHIN: Duration = Duration::from_secs(10);
/// The lifetime of its certificates: six days, as those that public authorities issue for IP addresses.
const LIFETIME: Duration = Duration::from_secs(6 * 24 * 3600);
/// What surrounds a certificate in PEM.
const PEM: (&str, &str) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----\n");

/// The authority. It answers HTTPS with a certificate of another one, since it cannot issue one before it runs.
#[derive(Debug)]
pub(super) struct Authority {
    /// The URL of its directory.
    pub(super) directory: String,
    /// The certificate with which it answers HTTPS, as a file of authorities.
    pub(super) https_ca: PathBuf,
    management: u16,
    openssl: PathBuf,
    _processes: [Process; 2],
}

impl Authority {
    /// Starts one with its files in `folder`, which validates names by a connection to `port` of 127.0.0.1.
    pub(super) fn start(programs: &Programs, folder: &Path, port: u16) -> anyhow::Result<Self> {
        let (directory, management, dns) = (free_port()?, free_port()?, free_port()?);
        let of_server = crate::authority::Authority::make(folder, &["localhost"])?;
        let files = of_server.issue(folder)?;
        let https_ca = of_server.file;
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": files.certificate,
            "privateKey": files.key,
            // Nobody validates in this way here.
            "httpPort": 9,
            "tlsPort": port,
            "certificateValidityPeriod": LIFETIME.as_secs(),
        }});
        let file = folder.join("pebble.json");
        std::fs::write(&file, config.to_string()).context("cannot configure pebble")?;

        let log = folder.join("pebble.log");
        let mut resolver = Command::new(&programs.dns);
        resolver.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        resolver.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        resolver.args(["-dns01", &format!("127.0.0.1:{dns}")]);
        resolver.args(["-management", &format!("127.0.0.1:{}", free_port()?)]);
        let resolver = spawn(&mut resolver, &log)?;
        let mut pebble = Command::new(&programs.pebble);
        pebble.arg("-config").arg(&file);
        pebble.args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        // It waits for up to 15 s before each validation, and rejects some requests by chance, unless it is told not to.
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        pebble.env("PEBBLE_WFE_NONCEREJECT", "0");
        let mut pebble = spawn(&mut pebble, &log)?;
        wait::until(LISTENING_WITHIN, || {
            if let Some(status) = pebble.ended() {
                anyhow::bail!("pebble has ended ({status}): {}", workspace::tail(&log, 5));
            }
            let mut ports = [directory, management, dns].into_iter();
            let closed = ports.find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err());
            Ok(closed.map_or(Ok(()), |port| {
                Err(format!("pebble does not listen on port {port}"))
            }))
        })?;
        Ok(Self {
            directory: format!("https://localhost:{directory}/dir"),
            https_ca,
            management,
            openssl: programs.openssl.clone(),
            _processes: [pebble, resolver],
        })
    }

    /// Returns the certificate by which it issues others, as PEM. It makes another one at each start.
    pub(super) fn root(&self) -> anyhow::Result<String> {
        let mut client = Command::new(&self.openssl);
        client
            .args(["s_client", "-quiet", "-verify_return_error"])
            .args(["-verify_hostname", "localhost", "-servername", "localhost"])
            .args(["-connect", &format!("127.0.0.1:{}", self.management)])
            .arg("-CAfile")
            .arg(&self.https_ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut client = client.spawn().context("cannot start openssl")?;
        let mut request = client.stdin.take().context("openssl has no input")?;
        request.write_all(b"GET /roots/0 HTTP/1.0\r\n\r\n")?;
        let answer = client.wait_with_output()?;
        drop(request);
        let answer = String::from_utf8_lossy(&answer.stdout);
        let start = answer.find(PEM.0);
        let rest = start.and_then(|start| answer.get(start..));
        let root = rest.and_then(|rest| rest.get(..rest.find(PEM.1)? + PEM.1.len()));
        let root = root.with_context(|| format!("pebble has not told its root: {answer}"))?;
        Ok(root.to_owned())
    }
}

/// Returns a port of 127.0.0.1 that is free now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Process> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    Process::spawn(command)
}
