//! Against pebble, the certificate authority for tests of Let's Encrypt, which validates names and signatures. These tests
//! are skipped where it is not installed, and fail instead if the environment variable CI is set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gossip_transport::acme::{Acme, AcmeConfig, RunningAcme};
use gossip_transport::net::{AcceptFailure, NetIncomingRequest as _};
use gossip_transport::tcp::{TcpConfig, TcpConnection, TcpIncomingRequest, TlsRoots};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::store::Store;
use super::{SOON, names, until_failed, until_issued};
use crate::networks::tcp_listener::client::Server;
use crate::networks::tcp_listener::converse;
use crate::support::until;
use crate::tls::certificates::Ca;
use crate::tls::dial;

/// Pebble with its server of DNS, which answers 127.0.0.1 for every name.
struct Pebble {
    ca: Ca,
    directory: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dir: TempDir,
    processes: Vec<Child>,
}

/// Returns the path of a program, or `None` if the test is to be skipped.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|dir| dir.join(name).is_file());
    if found.is_none() {
        let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!is_ci, "{name} is missing: apt-get install pebble");
        println!("skipped: {name} is missing (apt-get install pebble)");
    }
    Some(found?.join(name))
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Pebble {
    /// Prepares one that validates at `port`, and issues certificates for `lifetime`. Returns `None` if there is no pebble.
    fn prepare(port: u16, lifetime: Duration) -> Option<Self> {
        program("pebble")?;
        program("pebble-challtestsrv")?;
        let this = Self {
            ca: Ca::new(),
            directory: free_port(),
            management: free_port(),
            dns: free_port(),
            dir: tempfile::tempdir().unwrap(),
            processes: Vec::new(),
        };
        let issued = this.ca.issue(&["localhost"]);
        let file = |name: &str, text: &str| {
            let path = this.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = serde_json::json!({ "pebble": {
            "listenAddress": this.directory.to_string(),
            "managementListenAddress": this.management.to_string(),
            "certificate": file("cert.pem", &issued.certificate),
            "privateKey": file("key.pem", &issued.key),
            "httpPort": 9,
            "tlsPort": port,
            "certificateValidityPeriod": lifetime.as_secs(),
        }});
        file("config.json", &config.to_string());
        Some(this)
    }

    /// Starts it.
    async fn run(&mut self) {
        let management = free_port().to_string();
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"]);
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        dns.args(["-dns01", &self.dns.to_string(), "-management", &management]);
        let mut pebble = Command::new("pebble");
        pebble
            .arg("-config")
            .arg(self.dir.path().join("config.json"));
        pebble.args(["-dnsserver", &self.dns.to_string()]);
        // It rejects many good nonces, as no real authority does, and validates each name each time.
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        pebble.env("PEBBLE_AUTHZREUSE", "0");
        pebble.env("PEBBLE_WFE_NONCEREJECT", "15");
        for command in [&mut dns, &mut pebble] {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            self.processes.push(command.spawn().unwrap());
        }
        for addr in [self.management, self.directory, self.dns] {
            until("pebble", async || TcpStream::connect(addr).await.is_ok()).await;
        }
    }

    async fn start(port: u16, lifetime: Duration) -> Option<Self> {
        let mut this = Self::prepare(port, lifetime)?;
        this.run().await;
        Some(this)
    }

    fn config(&self, of: &[&str]) -> AcmeConfig {
        AcmeConfig::new(names(of))
            .with_contact(vec!["mailto:admin@node.test".to_owned()])
            .with_directory(format!("https://localhost:{}/dir", self.directory.port()))
            .with_roots(self.ca.roots())
            .with_retry(SOON)
    }

    /// Returns the authorities by which it issues certificates.
    async fn roots(&self) -> TlsRoots {
        let connector = self.ca.connector(&rustls::version::TLS13, &[b"http/1.1"]);
        let stream = TcpStream::connect(self.management).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = "GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        TlsRoots::from_pem(&answer).unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Reads outcomes until a peer has connected. Returns it with the names that were validated before.
async fn accepted(server: &mut Server) -> (TcpConnection, Vec<String>) {
    let mut validated = Vec::new();
    loop {
        match server.outcome().await {
            Ok(connection) => return (connection, validated),
            Err(error) => {
                let failure = TcpIncomingRequest::failure(&error);
                assert_eq!(failure, Some(AcceptFailure::Validation), "{error:#}");
                let error = error.to_string();
                let name = error.split(' ').nth(7).unwrap();
                validated.push(name.to_owned());
            }
        }
    }
}

/// Starts a server with the certificate that `pebble` will issue for `of`.
async fn node(
    port: u16,
    pebble: &Pebble,
    of: &[&str],
    store: &Arc<Store>,
) -> (Server, RunningAcme) {
    let store: Arc<Store> = Arc::clone(store);
    let acme = Acme::open(pebble.config(of), store).await.unwrap();
    let config = TcpConfig::default().with_tls(Some(acme.identity().clone()));
    let server = Server::start_at(([127, 0, 0, 1], port).into(), config).await;
    (server, acme.start())
}

#[tokio::test]
async fn pebble_issues_a_certificate_for_names_and_addresses() {
    let port = free_port().port();
    let Some(pebble) = Pebble::start(port, Duration::from_secs(3600)).await else {
        return;
    };
    let store = Arc::default();
    let of = ["node.test", "localhost", "127.0.0.1"];
    let (mut server, acme) = node(port, &pebble, &of, &store).await;
    until_issued(&acme, 1).await;
    let roots = pebble.roots().await;
    let mut validated = Vec::new();
    for host in ["localhost", "127.0.0.1"] {
        let here = dial(&server, host, roots.clone()).await.unwrap();
        let (there, names) = accepted(&mut server).await;
        validated.extend(names);
        converse(&here, &there).await;
    }
    for name in ["node.test", "localhost", "1.0.0.127.in-addr.arpa"] {
        assert!(validated.iter().any(|found| found == name), "{validated:?}");
    }
    // The account and the certificate last, and nothing is ordered again.
    drop((acme, server));
    let (mut server, acme) = node(free_port().port(), &pebble, &of, &store).await;
    let here = dial(&server, "localhost", roots).await.unwrap();
    converse(&here, &accepted(&mut server).await.0).await;
    assert_eq!(acme.status().orders, 0);
}

#[tokio::test]
async fn a_renewal_drops_no_connection() {
    let port = free_port().port();
    let Some(mut pebble) = Pebble::prepare(port, Duration::from_secs(12)) else {
        return;
    };
    let store = Arc::default();
    let (mut server, acme) = node(port, &pebble, &["localhost"], &store).await;
    // It is not there yet.
    assert_eq!(until_failed(&acme).await, "unreachable");
    let error = dial(&server, "localhost", pebble.ca.roots())
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("refused the TLS handshake"),
        "{error:#}"
    );
    let error = server.outcome().await.unwrap_err();
    assert_eq!(
        TcpIncomingRequest::failure(&error),
        Some(AcceptFailure::Tls)
    );
    let error = format!("{error:#}");
    assert!(error.contains("no certificate for TLS yet"), "{error}");

    pebble.run().await;
    until_issued(&acme, 1).await;
    let roots = pebble.roots().await;
    let here = dial(&server, "localhost", roots.clone()).await.unwrap();
    let (there, _) = accepted(&mut server).await;
    converse(&here, &there).await;
    until_issued(&acme, 2).await;
    converse(&here, &there).await;
    let again = dial(&server, "localhost", roots).await.unwrap();
    converse(&again, &accepted(&mut server).await.0).await;
    converse(&here, &there).await;
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_named_with_what_the_authority_found() {
    // Nobody answers at the port that is validated.
    let Some(pebble) = Pebble::start(free_port().port(), Duration::from_secs(3600)).await else {
        return;
    };
    let (mut server, acme) =
        node(free_port().port(), &pebble, &["node.test"], &Arc::default()).await;
    assert_eq!(until_failed(&acme).await, "validation");
    let error = acme.status().last_error.unwrap().to_string();
    assert!(error.contains("could not validate node.test ("), "{error}");
    assert!(error.contains("Failed to connect to 127.0.0.1"), "{error}");
    assert!(error.contains("port 443 must lead to"), "{error}");
    drop(acme);
    let here = server.dial_raw().await.unwrap();
    converse(&here, &accepted(&mut server).await.0).await;
}
